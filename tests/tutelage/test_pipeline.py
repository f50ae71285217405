"""The whole loop on real models: it runs, records, resumes, and does nothing twice."""

import json
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import yaml
from typer.testing import CliRunner

from ledger.errors import InputError
from ledger.keys import content_key
from ledger.mixes import read_manifest
from ledger.store import Ledger
from router.teachers import TeacherUnavailable
from tests.tutelage.small_run import TASKS, small_fields, write_small
from tutelage import (
    advise,
    ask,
    audit_sample,
    audit_sql,
    audit_student,
    audit_teacher,
    compare_runs,
    explain_route,
    gate_run,
    plan_recipe,
    preview_mix,
    run_recipe,
    run_status,
    write_report,
)
from tutelage.cli import app
from tutelage.pipeline import STAGE_NAMES
from tutelage.pools import load_pools
from tutelage.recipe import load_recipe
from tutelage.testitems import read_items
from tutelage.timing import speed_of
from tutelage.watch import Watch
from tutelage.workspace import open_run


class Recorder(Watch):
    """Notes which stages worked and which had nothing to do."""

    def __init__(self) -> None:
        self.worked: list[str] = []
        self.idle: list[str] = []

    def stage_ends(self, name: str, summary: str, seconds: float) -> None:
        self.worked.append(name)

    def stage_is_done(self, name: str, summary: str) -> None:
        self.idle.append(name)


@pytest.fixture(scope="module")
def home(folder_of_module: Path) -> Path:
    """A folder in which the small recipe has run once; the working directory while it is used."""
    run_recipe(write_small(folder_of_module))
    return folder_of_module


@pytest.fixture(scope="module")
def result(home: Path) -> dict[str, Any]:
    return dict(json.loads((home / "runs/small/result.json").read_text()))


def test_the_result_names_teachers_scores_and_verdict_for_every_task(result: dict) -> None:
    assert tuple(result["tasks"]) == TASKS
    chosen = {name: task["chosen"] for name, task in result["tasks"].items()}
    assert chosen == {"caesar_cipher": "decoder", "chain_sum": "adder", "spell_backward": "speller"}
    for task in result["tasks"].values():
        for estimate in (task["baseline"], task["student"], *task["teachers"].values()):
            assert 0 <= estimate["lo"] <= estimate["mean"] <= estimate["hi"] <= 1
            assert estimate["n"] == 12
        assert len(task["teachers"]) == 2
        assert task["verdict"] in ("yes", "no", "not enough data")
    assert set(result["stages_s"]) == set(STAGE_NAMES) - {"report"}


def test_a_second_run_finds_nothing_to_do(home: Path) -> None:
    watch = Recorder()
    run_recipe(home / "small.yaml", watch=watch)
    assert watch.worked == []
    assert tuple(watch.idle) == STAGE_NAMES


def test_a_looser_filter_buys_nothing_again(home: Path) -> None:
    requests = "SELECT count(*) FROM request"
    ledger = Ledger(Path("runs/ledger"))
    before = ledger.rows(requests)
    mix = {**small_fields()["mix"], "drop": ["empty"]}
    watch = Recorder()
    run_recipe(write_small(home, mix=mix, run="runs/looser"), until="mix", watch=watch)
    write_small(home)
    assert ledger.rows(requests) == before
    assert "mix" in watch.worked


def test_no_reference_reaches_mix_lock_or_training(tmp_path: Path, home: Path) -> None:
    """Every reference is replaced by a marker that no model writes; the trainer's own rows are read."""
    loaded = load_recipe(home / "small.yaml")
    pools = load_pools(loaded.recipe, loaded.base)
    rows = [
        {
            "prompt": i.prompt.text,
            "task": i.task,
            "reference": f"MARKER-{content_key(i.prompt.key)}",
        }
        for i in (*pools.train, *pools.examples, *pools.probes, *pools.test)
    ]
    prompts = tmp_path / "prompts.jsonl"
    prompts.write_text("".join(json.dumps(row) + "\n" for row in rows))
    path = write_small(
        tmp_path,
        prompts=[{"file": str(prompts), "licence": "Apache-2.0"}],
        probes={"hold_out": 30, "scorer": "exact"},
        run="runs/marked",
    )
    result = run_recipe(path, until="train")
    mix = Path("runs/marked", result["stages"]["mix"]["folder"])
    trained = _trained_texts(mix, loaded.base / loaded.recipe.student.base)
    for text in (*trained, *(file.read_text("utf-8") for file in mix.glob("*.json"))):
        assert "MARKER-" not in text
    for file in mix.glob("*.parquet"):
        assert "MARKER-" not in str(pq.read_table(file).to_pylist())
    student = Path("runs/marked", result["stages"]["train"]["folder"])
    assert all(b"MARKER-" not in file.read_bytes() for file in student.iterdir())


def _trained_texts(mix: Path, base: Path) -> list[str]:
    """What the trainer's batches hold, decoded."""
    from trainer.base import open_tokenizer
    from trainer.data import read_data
    from trainer.signals.hard import ChatFormat

    tokenizer = open_tokenizer(str(base), Path())
    data = read_data(mix, 1, ChatFormat(tokenizer), 128)
    samples = zip(data.offsets, data.offsets[1:], strict=False)
    return [tokenizer.decode(data.ids[start:stop].tolist()) for start, stop in samples]


def test_the_mix_is_the_same_bytes_in_another_ledger(home: Path, tmp_path: Path) -> None:
    first = read_manifest(
        Path(json.loads(Path("runs/small/result.json").read_text())["paths"]["mix"])
    )
    path = write_small(tmp_path, run=str(tmp_path / "runs" / "again"))
    again = run_recipe(path, until="mix")["stages"]["mix"]
    assert read_manifest(tmp_path / "runs" / "again" / again["folder"]) == first


def test_audits_go_from_sample_to_student_and_back(home: Path) -> None:
    student = audit_student(home / "small.yaml")[0]
    assert {row["teacher"] for row in student["teachers"]} == {"speller", "adder", "decoder"}
    assert all(row["licence"] == "Apache-2.0" for row in student["teachers"])
    columns, rows = audit_sql(
        Path("runs/small"), "SELECT s.key FROM consumed c JOIN sample s ON c.sample = s.id"
    )
    assert columns == ["key"]
    words = ["audit", "sql", "runs/small", "SELECT 1 AS n, '=2' AS text", "--csv", "out.csv"]
    assert "1 rows -> out.csv" in CliRunner().invoke(app, words).output
    assert Path("out.csv").read_text().split() == ["n,text", "1,'=2"]
    story = audit_sample(Path("runs/small"), rows[0][0][:12])
    assert story["students"][0]["weights_sha"] == student["weights_sha"]
    assert story["requests"][0]["cost_usd"] == 0
    asked = audit_teacher(Path("runs/small"), "generalist")[0]
    assert {row["stage"] for row in asked["requests"]} == {"probe", "evaluate"}
    Ledger(Path("runs/ledger")).verify()


def test_a_run_folder_is_enough_from_any_working_directory(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert audit_student(home / "runs/small")[0]["teachers"]
    assert write_report(home / "runs/small") == home / "runs/small" / "report.html"


def test_status_report_preview_and_plan_read_a_finished_run(home: Path) -> None:
    status = run_status(Path("runs/small"))
    assert all(stage.seconds is not None for stage in status.stages)
    assert status.holder is None
    page = write_report(Path("runs/small"))
    assert page.read_text("utf-8").lower().startswith("<!doctype html>")
    for place in (home / "small.yaml", Path("runs/small")):
        assert preview_mix(place).blend.samples == 90
    assert {stage.state for stage in plan_recipe(home / "small.yaml").stages} == {"done"}


def test_route_and_ask_explain_a_new_prompt(home: Path) -> None:
    question = "Spell this word backward (example: sun -> nus): garden"
    explained = explain_route(Path("runs/small"), question).explanation
    assert explained.label.best_task == "spell_backward"
    assert explained.route.teacher == "speller"
    asked = ask(Path("runs/small"), question)
    assert asked.answers["teacher speller"] == "nedrag"
    assert set(asked.answers) == {"student", "teacher speller", "baseline"}


def test_the_test_items_are_kept_for_gates_and_comparisons(home: Path, result: dict) -> None:
    run = Path("runs/small")
    items = read_items(open_run(run))
    assert len(items) == sum(task["student"]["n"] for task in result["tasks"].values())
    for task, found in result["tasks"].items():
        scores = [item.student.score for item in items if item.task == task and item.student]
        assert sum(scores) / len(scores) == pytest.approx(found["student"]["mean"])
        assert {item.routed for item in items if item.task == task} == set(found["routed"])
    gate = gate_run(run, "within=5%,regress=0")
    assert gate.conditions["within"] == (result["verdict"] == "yes")
    same = compare_runs([run, home / "small.yaml"])
    assert all(task.differences[0].p_value == 1.0 for task in same.tasks)


def test_what_to_do_next_is_a_patch_with_reasons(home: Path, result: dict) -> None:
    advice = advise(Path("runs/small"))
    behind = {step.task for step in advice.steps if "larger share" in step.what}
    assert behind >= {task for task, found in result["tasks"].items() if found["verdict"] == "no"}
    assert not behind & {t for t, found in result["tasks"].items() if found["verdict"] == "yes"}
    assert not any("\n" in line for line in advice.lines())
    assert advice.patch is not None
    patch = yaml.safe_load(Path(advice.patch).read_text())
    assert patch == advice.changes
    recipe = yaml.safe_load((home / "small.yaml").read_text())
    for section, fields in patch.items():
        recipe[section] |= fields
    changed = home / "changed.yaml"
    changed.write_text(yaml.safe_dump(recipe))
    load_recipe(changed)


def test_the_student_is_a_plain_folder_that_names_its_teachers(home: Path, result: dict) -> None:
    folder = Path(result["paths"]["student"])
    card = (folder / "README.md").read_text()
    for word in ("speller", "adder", "decoder", "Apache-2.0", result["mix"]["lock_sha"][:12]):
        assert word in card
    assert (folder / "model.safetensors").is_file()
    assert (folder / "tokenizer.json").is_file()


def test_a_finished_run_is_read_without_its_teachers_and_keys(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Everything but asking the teacher goes by what the run recorded."""
    teachers = small_fields()["teachers"]
    for name, teacher in teachers.items():
        moved = tmp_path / name
        shutil.copytree(teacher["local"], moved)
        teacher["local"] = str(moved)
    path = write_small(tmp_path, teachers=teachers, run="runs/away")
    run_recipe(path, until="evaluate")
    for name in teachers:
        shutil.rmtree(tmp_path / name)
    run = Path("runs/away")
    assert write_report(run).is_file()
    assert (
        explain_route(
            run, "State the final answer to the following arithmetic problem: 31 + 12 ="
        ).explanation.route.teacher
        == "adder"
    )
    assert audit_teacher(run, "adder")
    with pytest.raises(TeacherUnavailable, match="teacher `adder`: there is no folder"):
        ask(run, "State the final answer to the following arithmetic problem: 31 + 12 =")


def test_an_edited_prompt_file_is_noticed_by_whoever_reads_the_run(
    home: Path, tmp_path: Path
) -> None:
    loaded = load_recipe(home / "small.yaml")
    pools = load_pools(loaded.recipe, loaded.base)
    everything = (*pools.train, *pools.examples, *pools.probes, *pools.test)
    lines = [
        json.dumps({"prompt": i.prompt.text, "task": i.task, "reference": i.reference}) + "\n"
        for i in everything
    ]
    (tmp_path / "prompts.jsonl").write_text("".join(lines))
    source = {"file": str(tmp_path / "prompts.jsonl"), "licence": "Apache-2.0"}
    probes = {"hold_out": 30, "scorer": "exact"}
    run_recipe(
        write_small(tmp_path, prompts=[source], probes=probes, run="runs/filed"), until="generate"
    )
    run = Path("runs/filed")
    assert (
        explain_route(
            run, "State the final answer to the following arithmetic problem: 31 + 12 ="
        ).explanation.route.teacher
        == "adder"
    )
    (tmp_path / "prompts.jsonl").write_text("".join(lines[3:]))
    for look in (
        preview_mix,
        lambda place: explain_route(
            place, "State the final answer to the following arithmetic problem: 31 + 12 ="
        ),
    ):
        with pytest.raises(InputError, match="a file that it reads was edited"):
            look(run)


def test_a_preview_of_a_finished_run_is_its_mix(home: Path, result: dict) -> None:
    blend = preview_mix(Path("runs/small")).blend
    assert (blend.samples, blend.tokens) == (result["mix"]["samples"], result["mix"]["tokens"])


def test_audits_keep_the_licences_of_the_day_the_mix_was_made(home: Path) -> None:
    teachers = small_fields()["teachers"]
    teachers["adder"]["licence"] = "proprietary"
    prompts = [{**source, "licence": "CC-BY-NC-4.0"} for source in small_fields()["prompts"]]
    path = write_small(home, teachers=teachers, prompts=prompts, run="runs/other")
    run_recipe(path, until="route")
    write_small(home)
    student = audit_student(Path("runs/small"))[0]
    licences = {row["licence"] for row in (*student["teachers"], *student["sources"])}
    assert licences == {"Apache-2.0"}
    run_recipe(path := write_small(home, teachers=teachers, prompts=prompts, run="runs/other"))
    write_small(home)
    sources = audit_student(Path("runs/other"))[0]["sources"]
    assert {row["licence"] for row in sources} == {"CC-BY-NC-4.0"}


def test_the_report_is_written_again_when_only_the_recipes_words_change(home: Path) -> None:
    path = write_small(home)
    path.write_text(path.read_text() + "# a remark\n")
    watch = Recorder()
    run_recipe(path, watch=watch)
    assert watch.worked == ["report"]
    assert "# a remark" in (home / "runs/small/report.html").read_text("utf-8")
    write_small(home)
    run_recipe(path)


def test_a_renamed_teacher_buys_nothing_and_is_found_by_its_new_name(home: Path) -> None:
    teachers = small_fields()["teachers"]
    teachers["summer"] = teachers.pop("adder")
    ledger = Ledger(Path("runs/ledger"))
    before = ledger.rows("SELECT count(*) FROM request")
    run_recipe(write_small(home, teachers=teachers, run="runs/renamed"), until="mix")
    write_small(home)
    assert ledger.rows("SELECT count(*) FROM request") == before
    found = audit_teacher(Path("runs/renamed"), "summer")
    assert [one["teacher_id"] for one in found] == [
        one["teacher_id"] for one in audit_teacher(Path("runs/small"), "adder")
    ]


def test_an_edited_recipe_shows_in_status_and_in_what_is_left_to_do(home: Path) -> None:
    path = write_small(home, run="runs/edited")
    run_recipe(path, until="mix")
    before = {stage.name: stage for stage in run_status(Path("runs/edited")).stages}
    assert before["mix"].current
    write_small(home, run="runs/edited", probes={"hold_out": 20, "scorer": "reasoning_gym"})
    assert run_status(path).edited
    run_recipe(path, until="route")
    after = {stage.name: stage for stage in run_status(path).stages}
    write_small(home)
    assert after["probe"].current
    assert after["mix"].seconds is not None
    assert not after["mix"].current
    with pytest.raises(InputError, match="has not come through `evaluate` with its recipe"):
        write_report(Path("runs/edited"))


def test_a_preview_says_what_is_still_to_be_bought(home: Path) -> None:
    path = write_small(home, run="runs/routed", seed=11)
    run_recipe(path, until="route")
    with pytest.raises(InputError, match=r"prompts of \w+ are not answered yet: `tutelage run"):
        preview_mix(path)
    write_small(home)


def test_a_test_item_too_long_for_the_student_stops_before_anything_is_bought(
    home: Path, tmp_path: Path
) -> None:
    loaded = load_recipe(home / "small.yaml")
    pools = load_pools(loaded.recipe, loaded.base)
    texts = [f"{item.prompt.text} Please." for item in pools.test]
    texts[0] += " Word." * 600
    rows = [
        {"prompt": text, "task": i.task, "reference": i.reference, "meta": i.meta}
        for text, i in zip(texts, pools.test, strict=True)
    ]
    items = tmp_path / "items.jsonl"
    items.write_text("".join(json.dumps(row) + "\n" for row in rows))
    path = write_small(tmp_path, evaluate={"file": str(items)}, run="runs/long", seed=12)
    with pytest.raises(InputError, match="1 of 36 test items cannot be answered by the student"):
        run_recipe(path)
    assert not Path("runs/long").exists()


def test_a_base_without_a_chat_template_is_asked_as_its_student_will_be(
    home: Path, tmp_path: Path
) -> None:
    base = tmp_path / "base"
    shutil.copytree(small_fields()["student"]["base"], base)
    (base / "chat_template.jinja").unlink()
    student = {**small_fields()["student"], "base": str(base)}
    evaluate = {"hold_out": 12, "speed": {"prompts": 2, "max_tokens": 4, "repeats": 1}}
    path = write_small(tmp_path, student=student, evaluate=evaluate, run="runs/bare")
    found = run_recipe(path, until="baseline")["stages"]["baseline"]
    assert found["tasks"]["chain_sum"]["n"] == 12
    workspace = open_run(Path("runs/bare"))
    assert speed_of(workspace, Watch(), [workspace.baseline])["baseline"]["tokens"] == 8


def start(home: Path, *more: str) -> subprocess.Popen:
    """The command in a process of its own, as a person would start it."""
    return subprocess.Popen(
        [sys.executable, "-m", "tutelage", "run", "small.yaml", *more],
        cwd=home,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        bufsize=1,
    )


def wait_for(child: subprocess.Popen, words: str) -> None:
    assert child.stdout is not None
    for line in child.stdout:
        if words in line:
            return
    raise AssertionError(f"{words!r} was never said: {child.communicate()[1]}")


def test_ctrl_c_says_how_to_go_on(tmp_path: Path) -> None:
    write_small(tmp_path)
    child = start(tmp_path, "--until", "probe")
    wait_for(child, "classify")
    time.sleep(1)
    child.send_signal(signal.SIGINT)
    _, said = child.communicate(timeout=120)
    # A shell shows 130 for both. Python ends by the signal where that fell into an `exec` of an import.
    assert child.returncode in (130, -signal.SIGINT), said
    assert "Go on with: tutelage run small.yaml" in said
    assert "Traceback" not in said
