"""`signal: logit` from prompts to the report, on the quickstart's teachers; what was captured stays."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from ledger.store import Ledger
from router.teachers import TeacherConfig, open_teacher
from router.teachers.opening import open_local
from tests.trainer.support import character_tokenizer, fill_ledger, make_rows
from tests.tutelage.small_run import RECIPES, small_fields, write_small
from trainer.base import open_tokenizer
from trainer.config import LogitConfig
from trainer.run import records_head
from trainer.signals.hard import ChatFormat, Example
from tutelage import plan_recipe, run_recipe
from tutelage.foretelling import Learner, source_of
from tutelage.watch import Watch
from tutelage.workspace import open_run


def write_logit(folder: Path, run: str = "runs/small", **logit: Any) -> Path:
    student = small_fields()["student"] | {"signal": "logit", "logit": {"top_k": 16, **logit}}
    return write_small(folder, student=student, run=run)


@pytest.fixture(scope="module")
def home(folder_of_module: Path) -> Path:
    """A folder in which the small recipe has run once, by distributions."""
    run_recipe(write_logit(folder_of_module))
    return folder_of_module


def test_every_mixed_sample_has_its_teachers_distributions(home: Path) -> None:
    workspace = open_run(home / "runs/small")
    captured = workspace.outputs["capture"]
    by_teacher = captured["teachers"]
    assert set(by_teacher) == {"adder", "decoder", "speller"}
    assert sum(found["samples"] for found in by_teacher.values()) == 90
    for found in by_teacher.values():
        assert found["covered"] == found["tokens"] > 0
    files = list((home / "runs/small" / captured["folder"]).iterdir())
    assert sum(pq.read_metadata(path).num_rows for path in files) == 90
    assert workspace.outputs["evaluate"]["overall"]["reason"]
    assert (home / "runs/small/report.html").is_file()


def test_the_ledger_says_by_which_signal_the_student_learnt(home: Path) -> None:
    ((settings,),) = Ledger(home / "runs/ledger").rows("SELECT settings FROM student_run")
    assert json.loads(settings)["signal"] == ["logit"]


def test_captured_files_stay_and_lost_ones_come_again(home: Path) -> None:
    class Recorder(Watch):
        def __init__(self) -> None:
            self.worked: list[str] = []

        def stage_ends(self, name: str, summary: str, seconds: float) -> None:
            self.worked.append(name)

    path = home / "small.yaml"
    run_recipe(path, watch=(idle := Recorder()))
    assert idle.worked == []
    folder = next((home / "runs/small/capture").iterdir())
    lost, *kept = sorted(folder.iterdir())
    was = {kept_path: kept_path.stat().st_mtime_ns for kept_path in kept}
    data = lost.read_bytes()
    lost.unlink()
    run_recipe(path, watch=(again := Recorder()))
    assert again.worked == ["capture"]
    assert lost.read_bytes() == data
    assert {kept_path: kept_path.stat().st_mtime_ns for kept_path in kept} == was


def test_another_temperature_is_captured_beside_the_first(home: Path) -> None:
    run_recipe(write_logit(home, temperature=2.0), until="train")
    assert len(list((home / "runs/small/capture").iterdir())) == 2
    assert len(list((home / "runs/small/student").iterdir())) == 2


def test_the_plan_says_what_is_captured(home: Path) -> None:
    by_logits = plan_recipe(write_logit(home, run="runs/planned"))
    by_text = plan_recipe(write_small(home, run="runs/planned"))
    found = [
        next(stage.what for stage in plan.stages if stage.name == "capture")
        for plan in (by_logits, by_text)
    ]
    assert "top 16 tokens" in found[0]
    assert "does not learn from distributions" in found[1]


def test_teachers_with_other_tokenizers_are_aligned(folder_of_module: Path) -> None:
    """Two of the teachers with two tokens swapped in their vocabulary, and weights that go with it."""
    fields = small_fields(run="runs/foreign")
    for name in ("adder", "speller"):
        folder = folder_of_module / "teachers" / name
        shutil.copytree(RECIPES / "quickstart" / name, folder, dirs_exist_ok=True)
        swap_tokens(folder, "q", "z")
        fields["teachers"][name]["local"] = str(folder)
    fields["student"] |= {"signal": "logit"}
    run_recipe(write_small(folder_of_module, **fields))
    captured = open_run(folder_of_module / "runs/foreign").outputs["capture"]["teachers"]
    hows = {name: found["how"] for name, found in captured.items()}
    assert hows["decoder"] == "its own tokens"
    assert hows["adder"] == hows["speller"] == "aligned from its tokenizer"
    for found in captured.values():
        assert found["covered"] == found["tokens"] > 0


def test_two_names_of_one_model_have_their_own_distributions(folder_of_module: Path) -> None:
    fields = small_fields(run="runs/twins")
    twin = {**fields["teachers"]["generalist"], "licence": "MIT"}
    fields["teachers"] = {"one": fields["teachers"]["generalist"], "two": twin}
    fields["route"] = {"policy": "fixed", "to": {
        "caesar_cipher": "one", "chain_sum": "two", "spell_backward": "two"}}  # fmt: skip
    fields["student"] |= {"signal": "logit"}
    run_recipe(write_small(folder_of_module, **fields), until="capture")
    made = open_run(folder_of_module / "runs/twins")
    folder = made.folder / made.outputs["capture"]["folder"]
    rows = sorted(pq.read_metadata(file).num_rows for file in folder.glob("*.parquet"))
    captured = made.outputs["capture"]["teachers"]
    assert rows == sorted(found["samples"] for found in captured.values())
    assert all(found["covered"] == found["tokens"] for found in captured.values())


def swap_tokens(folder: Path, first: str, second: str) -> None:
    """The same model by another numbering of its tokens."""
    from safetensors.torch import load_file, save_file

    config = json.loads((folder / "tokenizer.json").read_text())
    vocabulary = config["model"]["vocab"]
    vocabulary[first], vocabulary[second] = vocabulary[second], vocabulary[first]
    (folder / "tokenizer.json").write_text(json.dumps(config))
    (path,) = folder.glob("*.safetensors")
    weights = load_file(path)
    rows = [vocabulary[first], vocabulary[second]]
    for name, matrix in weights.items():
        if "embed" in name or "lm_head" in name:
            matrix[rows] = matrix[rows[::-1]].clone()
            weights[name] = matrix
    save_file(weights, path, {"format": "pt"})


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    made = Ledger(tmp_path / "ledger")
    with made.writing("test"):
        made.fold()
    return made


def test_a_model_with_its_tokens_renumbered_foretells_the_same(
    tmp_path: Path, ledger: Ledger
) -> None:
    """Aligned and unaligned distributions of one model are one; its own tokens, an accent and an emoji."""
    quickstart = RECIPES / "quickstart"
    renumbered = tmp_path / "renumbered"
    shutil.copytree(quickstart / "speller", renumbered)
    for pair in ("qz", "ab", "eo"):
        swap_tokens(renumbered, *pair)
    student = open_tokenizer("base", quickstart)
    learner = Learner(ChatFormat(student), records_head(LogitConfig(top_k=16), student))
    words = ("stun", "zebra", "queue", "naïve 🙂")
    examples = {
        word: Example(
            [{"role": "user", "content": f"Spell this word backward: {word}"}], word[::-1]
        )
        for word in words
    }
    found = []
    for folder in (quickstart / "speller", renumbered):
        source = source_of(open_local("speller", folder), examples, learner, ledger)
        assert not isinstance(source, str)
        found.append((source.how, source.foretell(list(words))))
    (own, direct), (other, aligned) = found
    assert (own, other) == ("its own tokens", "aligned from its tokenizer")
    for (ids, p), (again, q) in zip(direct, aligned, strict=True):
        seen = p > 1e-4
        assert (ids[seen] == again[seen]).all()
        assert q[seen] == pytest.approx(p[seen], rel=1e-3)


def test_a_teacher_without_distributions_says_what_would_give_them(
    tmp_path: Path, ledger: Ledger
) -> None:
    config = TeacherConfig(http="m", url="http://127.0.0.1:9/v1", licence="unknown")
    teacher = open_teacher("far", config, tmp_path, tmp_path)
    tokenizer = character_tokenizer()
    learner = Learner(ChatFormat(tokenizer), records_head(LogitConfig(), tokenizer))
    example = Example([{"role": "user", "content": "a"}], "b")
    why = source_of(teacher, {"s": example}, learner, ledger)
    assert isinstance(why, str)
    assert "set `generate: top_logprobs`" in why


def test_what_came_with_hosted_answers_is_aligned_by_its_bytes(
    tmp_path: Path, ledger: Ledger
) -> None:
    """A provider's tokens of two bytes, one of them half of an accent, for a student of single bytes."""
    rows = make_rows(2)
    fill = {row["sample"]: row for row in rows}
    with ledger.writing("test"):
        fill_ledger(ledger, rows)
        told = [([110, 97], -0.1), ([195], -0.2), ([175, 118], -0.3), ([101], -0.4)]
        content = [
            {"token": "?", "bytes": piece, "logprob": p, "top_logprobs": [
                {"token": "?", "bytes": piece, "logprob": p},
                {"token": "zz", "bytes": None, "logprob": -3.0},
            ]}
            for piece, p in told
        ]  # fmt: skip
        raw = json.dumps({"choices": [{"logprobs": {"content": content}}]})
        first, second = fill
        texts = [(first, raw), (second, json.dumps({"choices": [{"logprobs": None}]}))]
        ledger.put_all([
            ("sample_text", [{"sample": key, "text": "naïve", "reasoning": None, "tool_calls": None, "raw": r}])
            for key, r in texts
        ])  # fmt: skip
        ledger.fold()
    config = TeacherConfig(http="m", url="http://127.0.0.1:9/v1", licence="unknown")
    tokenizer = character_tokenizer()
    learner = Learner(ChatFormat(tokenizer), records_head(LogitConfig(), tokenizer))
    examples = {key: Example([{"role": "user", "content": "a"}], "naïve") for key in fill}
    source = source_of(open_teacher("far", config, tmp_path, tmp_path), examples, learner, ledger)
    assert not isinstance(source, str)
    assert source.how == "as its answers came with"
    (ids, p), (_, nothing) = source.foretell([first, second])
    assert tokenizer.decode(ids[:6, 0].tolist()) == "naïve"
    assert p[:, 0][[0, 2, 5]] == pytest.approx(np.exp([-0.1, -0.2, -0.4]), rel=1e-5)
    assert (p[:, 0] > 0).tolist() == [True] * 6 + [False]
    assert not nothing.any()
