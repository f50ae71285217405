"""What `evaluate` measures beside the verdict: what was forgotten, and the teachers' own variation."""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

import pytest

from evals.stats import PairedTest
from ledger.errors import InputError
from tests.tutelage.small_run import small_fields, write_small
from tutelage import check_recipe, plan_recipe, run_recipe
from tutelage.result import general_line

SPEED = {"prompts": 0}


def evaluate_with(**general: object) -> dict[str, object]:
    return {"hold_out": 12, "speed": SPEED, "general": {"file": "general.jsonl", **general}}


def write_general(folder: Path, lines: Sequence[Mapping[str, object]]) -> None:
    (folder / "general.jsonl").write_text("\n".join(map(json.dumps, lines)))


def test_both_answer_the_general_set_and_teachers_the_test_twice(folder_of_module: Path) -> None:
    echo = [{"prompt": f"Say {word}", "reference": word} for word in ("ab", "cd", "ef", "gh")]
    hard = [{"prompt": f"Sort {n}", "reference": "@", "task": "sorting"} for n in range(3)]
    write_general(folder_of_module, echo + hard)
    drawn = {**small_fields().get("generate", {}), "temperature": 0.7}
    evaluate = {**evaluate_with(scorer="exact"), "cluster_by": "family"}  # one for all of a task
    path = write_small(folder_of_module, evaluate=evaluate, run="runs/general", generate=drawn)
    plan = {stage.name: stage.what for stage in plan_recipe(path).stages}
    assert "7 items of the general set" in plan["evaluate"]
    assert "chosen teacher (twice, for its own variation)" in plan["evaluate"]
    result = run_recipe(path)
    assert set(result["general"]) == {"general", "sorting"}
    sorting = result["general"]["sorting"]
    assert (sorting["student"]["n"], sorting["student"]["mean"]) == (3, 0)
    assert sorting["test"]["adjusted"] == 1
    assert result["general_line"] == "nothing beyond noise on general, sorting"
    for found in result["tasks"].values():
        assert found["likeness"]["teacher"]["tokens"]["n"] == 12
        assert found["student"]["hi"] - found["student"]["lo"] > 0.7
    page = (folder_of_module / "runs/general/report.html").read_text()
    assert re.search(r'id="general".*?>sorting<.*?not beyond noise', page, re.DOTALL)
    assert "its teacher, asked twice" in page
    assert "<code>family</code> count as one cluster" in page


def test_a_loss_beyond_noise_is_named_with_both_scores() -> None:
    def standing(mean: float) -> dict[str, float]:
        return {"mean": mean, "lo": 0, "hi": 1, "n": 60}

    test = asdict(PairedTest(5, 35, 20, 0.001, 0.001, "McNemar"))
    found = {"world": {"student": standing(0.25), "baseline": standing(0.75), "test": test}}
    assert general_line(found) == "worse than before training on world (0.750 -> 0.250)"
    assert general_line({}) is None


@pytest.mark.parametrize(
    ("lines", "general", "told"),
    [
        ([{"prompt": "a"}], {}, r"every line needs a `reference`; 'a' has none"),
        (
            [{"prompt": "a", "reference": "b", "task": "t"}],
            {"scorer": {"u": "exact"}},
            r"^evaluate.general: `scorer` names no scorer for task t; add it",
        ),
        (
            [{"prompt": "a", "reference": "b"}],
            {"scorer": "judge"},
            r"small.yaml:\d+: evaluate.general.scorer: .* other scorers than `judge`",
        ),
    ],
    ids=["reference", "task", "judge"],
)
def test_a_bad_general_set_is_refused_with_its_place(
    tmp_path: Path, lines: list[dict[str, object]], general: dict[str, object], told: str
) -> None:
    write_general(tmp_path, lines)
    with pytest.raises(InputError, match=told):
        check_recipe(write_small(tmp_path, evaluate=evaluate_with(**general)))


def test_a_cluster_that_no_item_has_is_refused(tmp_path: Path) -> None:
    evaluate = {"hold_out": 12, "cluster_by": "passage"}
    told = "evaluate.cluster_by: no test item has 'passage' in its `meta`"
    with pytest.raises(InputError, match=told):
        check_recipe(write_small(tmp_path, evaluate=evaluate))
