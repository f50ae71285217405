"""A built mix: same content, same bytes; and the same figures wherever they are shown."""

import json
import random
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from ledger.keys import file_hash, request_key, teacher_key
from ledger.mixes import read_manifest, training_order
from ledger.schema import TABLES
from ledger.store import Ledger
from mixer import Candidate, InfeasibleMix, MixConfig, build, preview, read_blend

TASKS = ["code", "maths"]
TEACHER = teacher_key(model="m", revision="r", kind="local")


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    with Ledger(tmp_path / "ledger").writing("test") as opened:
        yield opened


@pytest.fixture
def config(mix: Any) -> MixConfig:
    basics = {"maths": {"share": 0.75, "max_repeats": 3}, "code": 0.25}
    return mix(
        total=40,
        stages=[
            {"name": "basics", "until": 0.3, "shares": basics, "order": "length"},
            {"name": "all", "shares": {"maths": 0.5, "code": 0.5}},
        ],
    )


@pytest.fixture
def pool(answers: Any) -> list[Candidate]:
    """20 usable answers of maths, 25 of code; two duplicates, one cut off."""
    maths = answers("maths", 20, list(range(1, 21)))
    code = answers("code", 25, 30, teacher="bob", licence="MIT")
    twins = answers("maths", 2, teacher="bob", licence="MIT")
    cut = [replace(answers("code", 26)[25], state="truncated")]
    return [*maths, *code, *twins, *cut]


def row(table: str, **fields: Any) -> tuple[str, list[dict[str, Any]]]:
    names = [column.name for column in TABLES[table].columns]
    return table, [dict.fromkeys(names) | fields]


def fill(ledger: Ledger, pool: list[Candidate]) -> None:
    """Buys the answers: teacher, prompts, requests and samples, in the order given."""
    batch = [row("teacher", key=TEACHER, name="m", kind="local")]
    for c in pool:
        request = request_key(c.prompt_key, TEACHER, {"teacher": c.teacher}, 0)
        ids = {"prompt": c.prompt_key, "teacher": TEACHER}
        messages = json.dumps(list(c.messages))
        batch += [
            row("prompt", key=c.prompt_key, source=c.source),
            row("prompt_text", prompt=c.prompt_key, messages=messages, tools=c.tools),
            row("request", key=request, state=c.state, **ids),
            row("sample", key=c.sample, request=request, **ids),
            row("sample_text", sample=c.sample, text=c.answer),
        ]
    ledger.put_all(batch)
    ledger.fold()


def read(ledger: Ledger, pool: list[Candidate]) -> list[Candidate]:
    """The candidates as the ledger gives them back, in whatever order its rows have."""
    rows = ledger.rows(
        "SELECT sample.key, prompt.key, source, messages, text FROM sample "
        "JOIN prompt ON sample.prompt = prompt.id "
        "JOIN prompt_text ON prompt_text.prompt = prompt.id "
        "JOIN sample_text ON sample_text.sample = sample.id"
    )
    known = {c.sample: c for c in pool}
    return [
        replace(
            known[sample],
            prompt_key=prompt,
            source=source,
            messages=tuple(json.loads(messages)),
            answer=text,
        )
        for sample, prompt, source, messages, text in rows
    ]


def contents(folder: Path) -> dict[str, str]:
    return {path.name: file_hash(path) for path in sorted(folder.iterdir())}


def test_two_ledgers_filled_in_another_order_give_the_same_bytes(
    tmp_path: Path, config: MixConfig, pool: list[Candidate]
) -> None:
    made = []
    for name, number in (("first", 1), ("elsewhere/second", 2)):
        shuffled = random.Random(number).sample(pool, len(pool))
        with Ledger(tmp_path / name / "ledger").writing("test") as ledger:
            fill(ledger, shuffled)
            candidates = read(ledger, pool)
            assert [c.sample for c in candidates] != [c.sample for c in pool]
            folder = tmp_path / name / "mix"
            build(
                config,
                candidates,
                folder,
                tasks=TASKS,
                seed=7,
                ledger=ledger,
                run=name,
                key=str(number),
            )
        made.append(contents(folder))
    assert made[0] == made[1]
    assert len(made[0]) == 4


def test_preview_lock_and_files_show_the_same_figures(
    tmp_path: Path, config: MixConfig, pool: list[Candidate], ledger: Ledger
) -> None:
    seen = preview(config, pool, tasks=TASKS, seed=7)
    fill(ledger, pool)
    folder = tmp_path / "mix"
    manifest = build(config, pool, folder, tasks=TASKS, seed=7, ledger=ledger, run="r", key="k")
    assert read_blend(folder) == seen
    assert read_manifest(folder) == manifest
    assert (manifest.samples, manifest.distinct) == (seen.samples, seen.distinct) == (40, 37)
    assert manifest.tokens == seen.tokens
    assert seen.dropped == {"duplicate": 2, "truncated": 1}
    assert [(s.name, s.start, s.stop, s.order) for s in manifest.stages] == [
        ("basics", 0, 12, "length"),
        ("all", 12, 40, "shuffled"),
    ]
    samples = pq.read_table(folder / "samples.parquet").to_pylist()
    order = pq.read_table(folder / "order.parquet").to_pylist()
    cells: Counter[tuple[str, str, str]] = Counter()
    tokens: Counter[tuple[str, str, str]] = Counter()
    for place in order:
        row = samples[place["row"]]
        cells[place["stage"], row["task"], row["teacher"]] += 1
        tokens[place["stage"], row["task"], row["teacher"]] += row["tokens"]
    assert cells == {(c.stage, c.task, c.teacher): c.samples for c in seen.cells}
    assert tokens == {(c.stage, c.task, c.teacher): c.tokens for c in seen.cells}
    assert sum(place["repeat"] > 0 for place in order) == seen.repeats == 3
    assert len(training_order(folder, epochs=2)) == 80


def test_the_parquet_holds_prompts_and_answers_as_they_are(
    tmp_path: Path, mix: Any, answers: Any, ledger: Ledger
) -> None:
    tools = '[{"name": "add"}]'
    chat = ({"role": "system", "content": "Söy\0"}, {"role": "user", "content": " 1+1\n"})
    (only,) = answers("maths", 1, messages=chat, answer=" ２\t", tools=tools)
    fill(ledger, [only])
    folder = tmp_path / "mix"
    config = mix(total=1, shares={"maths": 1})
    build(config, [only], folder, tasks=TASKS, seed=7, ledger=ledger, run="r", key="k")
    (row,) = pq.read_table(folder / "samples.parquet").to_pylist()
    assert row["prompt"] == list(chat)
    assert row["completion"] == [{"role": "assistant", "content": " ２\t"}]
    assert row["tools"] == tools
    assert (row["sample"], row["teacher"], row["licence"]) == (only.sample, "ada", "Apache-2.0")


def test_the_lock_says_what_the_mix_stands_on_and_nothing_of_time_or_place(
    tmp_path: Path, config: MixConfig, pool: list[Candidate], ledger: Ledger
) -> None:
    fill(ledger, pool)
    folder = tmp_path / "mix"
    manifest = build(config, pool, folder, tasks=TASKS, seed=7, ledger=ledger, run="r", key="k")
    lock = json.loads((folder / "lock.json").read_text())
    assert lock["recipe"]["total"] == 40
    assert lock["seed"] == 7
    assert lock["plan_sha"] == manifest.plan_sha
    assert lock["files"] == {
        name: file_hash(folder / name) for name in ("samples.parquet", "order.parquet")
    }
    assert lock["licences"]["sources"] == {"prompts.jsonl": ["CC-BY-4.0"]}
    assert {"ada": ["Apache-2.0"], "bob": ["MIT"]}.items() <= lock["licences"]["teachers"].items()
    for path in folder.iterdir():
        assert str(tmp_path).encode() not in path.read_bytes()


def test_the_ledger_knows_members_and_reasons_once_even_after_a_second_build(
    tmp_path: Path, config: MixConfig, pool: list[Candidate], ledger: Ledger
) -> None:
    fill(ledger, pool)
    folder = tmp_path / "mix"
    for _ in range(2):
        manifest = build(config, pool, folder, tasks=TASKS, seed=7, ledger=ledger, run="r", key="k")
        ledger.fold()
    assert ledger.rows("SELECT key, run, lock_sha, plan_sha, samples, tokens FROM mix") == [
        ("k", "r", manifest.lock_sha, manifest.plan_sha, 40, manifest.tokens)
    ]
    samples = pq.read_table(folder / "samples.parquet")["sample"].to_pylist()
    order = pq.read_table(folder / "order.parquet").to_pylist()
    assert ledger.rows(
        "SELECT position, stage, sample.key, repeat FROM mix_member "
        "JOIN sample ON mix_member.sample = sample.id ORDER BY position"
    ) == [(o["position"], o["stage"], samples[o["row"]], o["repeat"]) for o in order]
    flags = ledger.rows("SELECT filter, count(*), min(mix) FROM flag GROUP BY ALL ORDER BY ALL")
    assert flags == [("duplicate", 2, "k"), ("truncated", 1, "k")]


def test_an_infeasible_mix_writes_nothing(
    tmp_path: Path, mix: Any, pool: list[Candidate], ledger: Ledger
) -> None:
    config = mix(total=400, shares={"maths": 1})
    with pytest.raises(InfeasibleMix):
        build(config, pool, tmp_path / "mix", tasks=TASKS, seed=7, ledger=ledger, run="r", key="k")
    assert not (tmp_path / "mix").exists()
    assert ledger.rows("SELECT count(*) FROM mix") == [(0,)]


def test_the_figures_are_json(mix: Any, pool: list[Candidate]) -> None:
    blend = preview(mix(total=10), pool, tasks=TASKS, seed=7)
    assert json.loads(json.dumps(blend.as_dict())) == asdict(blend)
