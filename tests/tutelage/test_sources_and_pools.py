"""Prompt files are read strictly, and no prompt stands in two of the four sets."""

import json
from pathlib import Path
from typing import Any

import pytest

from ledger.errors import InputError
from tests.tutelage.recipes import rows, write_recipe, write_rows
from tutelage.pools import Pools, load_pools
from tutelage.recipe import load_recipe
from tutelage.sources import BadRow, PromptSource, read_file, read_source


def pools_of(path: Path, **overrides: Any) -> Pools:
    loaded = load_recipe(path, **overrides)
    return load_pools(loaded.recipe, loaded.base)


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b"{broken", "file.jsonl:2"),
        (b"[1, 2]", "must be a JSON object"),
        (b'{"text": "x"}', "needs either `prompt`"),
        (b'{"prompt": "x", "messages": []}', "needs either `prompt`"),
        (b'{"prompt": "  "}', "not empty"),
        (b'{"prompt": 7}', "not empty"),
        (b'{"messages": []}', "not empty"),
        (b'{"messages": [{"role": "robot", "content": "x"}]}', "`role`"),
        (b'{"messages": [{"role": "user", "content": null}]}', "`content`"),
        (b'{"messages": [{"role": "assistant", "content": "x"}]}', "where an answer is due"),
        (b'{"prompt": "x", "task": 3}', "`task` must be"),
        (b'{"prompt": "x", "meta": [1]}', "`meta` must be"),
        (b'{"prompt": "x", "weight": 0}', "`weight` must be a number above 0"),
        (b'{"prompt": "x", "weight": true}', "`weight` must be a number above 0"),
        (b'{"prompt": "x", "tools": 5}', "`tools` must be a list of objects"),
        (b'{"prompt": "x", "tools": "abc"}', "`tools` must be a list of objects"),
        (b'{"prompt": "x", "tools": ["abc"]}', "`tools` must be a list of objects"),
        (b'{"prompt": ' + b"[" * 200_000, "nested too deeply"),
        (b'{"prompt": "half \\ud83d"}', "lone surrogate"),
        (b'{"prompt": "x", "reference": NaN}', "NaN"),
        (b'{"prompt": "\xff"}', "utf-8"),
        (json.dumps({"prompt": "x" * 1_000_001}).encode(), "1,000,001 characters"),
        (json.dumps({"prompt": "x" * 10_000_000}).encode(), "10,000,0"),
    ],
)
def test_a_broken_line_is_named_and_stops_or_is_counted(
    tmp_path: Path, line: bytes, reason: str
) -> None:
    path = tmp_path / "file.jsonl"
    path.write_bytes(b'{"prompt": "fine"}\n' + line + b"\n")
    with pytest.raises(BadRow) as error:
        read_file(path, "s", "MIT", None)
    assert "file.jsonl:2" in str(error.value)
    assert reason in str(error.value)
    assert "on_bad_row: skip" in str(error.value)


def test_skipping_counts_what_it_leaves_out(tmp_path: Path) -> None:
    prompts: list[Any] = [*rows(), {"prompt": ""}, {"prompt": 3}]
    pools = pools_of(write_recipe(tmp_path, prompts, on_bad_row="skip"))
    assert pools.skipped.count == 2
    assert "prompts.jsonl:45" in pools.skipped.reasons[0]


@pytest.mark.parametrize("content", [b"", b"\n\n"])
def test_an_empty_file_is_an_error(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "e.jsonl").write_bytes(content)
    with pytest.raises(InputError, match="holds no prompt"):
        read_file(tmp_path / "e.jsonl", "s", "MIT", None)


def test_a_missing_file_is_an_error_that_names_it(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"absent\.jsonl: cannot be read"):
        read_file(tmp_path / "absent.jsonl", "s", "MIT", None)


def test_the_four_sets_share_no_prompt(tmp_path: Path) -> None:
    pools = pools_of(write_recipe(tmp_path))
    sets = [pools.train, pools.examples, pools.probes, pools.test]
    keys = [item.prompt.key for items in sets for item in items]
    assert len(keys) == len(set(keys)) == 44
    assert [len(items) for items in sets[1:]] == [10, 4, 4]
    assert pools.tasks == ["blue", "red"]


def test_another_seed_holds_out_other_prompts(tmp_path: Path) -> None:
    path = write_recipe(tmp_path)
    first, again, other = pools_of(path), pools_of(path), pools_of(path, seed=8)
    assert first.fingerprint("test") == again.fingerprint("test") != other.fingerprint("test")


def test_a_prompt_that_differs_in_case_leaves_with_the_one_held_out(tmp_path: Path) -> None:
    doubled = [
        row | {"prompt": variant(row["prompt"])} for row in rows(8) for variant in (str, str.upper)
    ]
    pools = pools_of(write_recipe(tmp_path, doubled))
    held = {i.prompt.text.casefold() for i in (*pools.examples, *pools.probes, *pools.test)}
    assert not held & {item.prompt.text.casefold() for item in pools.train}


def test_probes_that_overlap_the_test_set_are_refused(tmp_path: Path) -> None:
    path = write_recipe(tmp_path, probes={"file": "probes.jsonl"}, evaluate={"file": "test.jsonl"})
    probes = [
        {"prompt": f"{t} probe {i}", "task": t, "reference": "x"}
        for t in ("red", "blue")
        for i in range(3)
    ]
    write_rows(tmp_path / "probes.jsonl", probes)
    test = [{**row, "prompt": row["prompt"].replace("probe", "test")} for row in probes]
    write_rows(tmp_path / "test.jsonl", [*test, {**probes[0], "prompt": "  RED probe 0"}])
    with pytest.raises(InputError, match=r"evaluate and probes share 1 prompts"):
        pools_of(path)
    write_rows(tmp_path / "test.jsonl", [*test, {**rows()[0]}])
    with pytest.raises(InputError, match=r"evaluate and prompts share 1 prompts"):
        pools_of(path)
    write_rows(tmp_path / "test.jsonl", test)
    assert len(pools_of(path).probes) == 6


@pytest.mark.parametrize(
    ("probe", "reason"),
    [
        ({"prompt": "p", "reference": "r"}, "needs a `task`"),
        ({"prompt": "p", "task": "red"}, "needs a `reference`"),
        ({"prompt": "p", "task": "green", "reference": "r"}, "task green has no examples"),
        ({"prompt": "p", "task": "red", "reference": "r"}, "task blue has no item"),
    ],
)
def test_probes_must_carry_task_and_reference(tmp_path: Path, probe: dict, reason: str) -> None:
    path = write_recipe(tmp_path, probes={"file": "probes.jsonl"})
    write_rows(tmp_path / "probes.jsonl", [probe])
    with pytest.raises(InputError, match=reason):
        pools_of(path)


def test_holding_out_more_than_there_is_says_so(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"300 of blue asked for, but only 22"):
        pools_of(write_recipe(tmp_path, evaluate={"hold_out": 300}))
    unlabelled = [{"prompt": f"p {i}"} for i in range(9)]
    with pytest.raises(InputError, match="carries both a task and a reference"):
        pools_of(write_recipe(tmp_path, unlabelled))


def family(seed: int, **fields: Any) -> list:
    source = PromptSource(reasoning_gym="chain_sum", licence="Apache-2.0", **fields)
    return read_source(source, Path(), seed, None)


def test_a_family_gives_different_prompts_in_the_order_of_the_seed() -> None:
    config = {"min_terms": 2, "max_terms": 2, "min_digits": 2, "max_digits": 2}
    first, again, other = (family(seed, config=config, count=50) for seed in (1, 1, 2))
    assert [i.prompt.key for i in first] == [i.prompt.key for i in again]
    assert len({i.prompt.key for i in first}) == 50
    shared = {i.prompt.key for i in first} & {i.prompt.key for i in other}
    assert len(shared) < 5
    assert first[0].task == "chain_sum"
    assert first[0].meta["entry"]["answer"] == first[0].reference


def test_a_family_that_runs_dry_ends_instead_of_looping() -> None:
    config = {"min_terms": 2, "max_terms": 2, "min_digits": 1, "max_digits": 1}
    assert 0 < len(family(1, config=config, count=300)) <= 200


def test_excepted_prompts_are_never_drawn(tmp_path: Path) -> None:
    config = {"min_terms": 2, "max_terms": 2, "min_digits": 1, "max_digits": 1}
    drawn = family(1, config=config, count=40)
    write_rows(tmp_path / "seen.jsonl", [{"prompt": i.prompt.text} for i in drawn[:20]])
    source = PromptSource(
        reasoning_gym="chain_sum", config=config, count=40, except_="seen.jsonl", licence="x"
    )
    again = read_source(source, tmp_path, 1, None)
    assert not {i.prompt.key for i in again} & {i.prompt.key for i in drawn[:20]}


@pytest.mark.parametrize(("name", "config"), [("no_such_family", {}), ("chain_sum", {"bogus": 1})])
def test_an_unknown_family_or_setting_is_an_input_error(name: str, config: dict) -> None:
    source = PromptSource(reasoning_gym=name, config=config, count=3, licence="x")
    with pytest.raises(InputError, match="cannot be used"):
        read_source(source, Path(), 1, None)
