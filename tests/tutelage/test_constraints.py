"""Where prompts may not go: too long for a teacher, of another licence; and where a lot sends them."""

from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from ledger.store import Ledger
from tests.tutelage.small_run import small_fields, write_small
from tutelage.asking import explain_route
from tutelage.pipeline import run_recipe
from tutelage.planning import plan_recipe
from tutelage.recipe import RecipeError, load_recipe

MIXED = """
SELECT p.key, t.name FROM mix_member b JOIN mix m ON b.mix = m.id JOIN sample a ON b.sample = a.id
JOIN prompt p ON a.prompt = p.id JOIN teacher t ON a.teacher = t.id WHERE m.run = ?
"""
ROUTED = """
SELECT p.key, t.name, r.evidence->>'because', r.reason FROM route r JOIN prompt p ON r.prompt = p.id
JOIN teacher t ON r.teacher = t.id WHERE r.run = ?
"""
TASK_OF = "SELECT p.key, p.source FROM prompt p"


def _teachers(**changes: dict[str, Any]) -> dict[str, Any]:
    teachers = small_fields()["teachers"]
    return {name: {**fields, **changes.get(name, {})} for name, fields in teachers.items()}


def test_prompts_that_are_too_long_for_their_teacher_go_to_the_best_that_can(
    folder_of_module: Path,
) -> None:
    teachers = _teachers(speller={"context": 34})  # 24 of it for the answer
    route = {"policy": "fixed", "to": {"spell_backward": "speller"}}
    path = write_small(folder_of_module, run="runs/long", teachers=teachers, route=route)
    result = run_recipe(path, until="evaluate")
    assert result["stages"]["probe"]["states"].keys() == {"done"}
    assert result["stages"]["generate"]["states"].keys() == {"done"}
    because = result["stages"]["route"]["because"]
    assert because.keys() == {"unable"}
    ledger = Ledger(Path("runs/ledger"))
    stand_ins = {key: (name, reason) for key, name, _, reason in ledger.rows(ROUTED, ["long"])}
    assert {name for name, _ in stand_ins.values()} == {"generalist"}
    assert all("the teacher's context is 34" in reason for _, reason in stand_ins.values())
    mixed, sources = dict(ledger.rows(MIXED, ["long"])), dict(ledger.rows(TASK_OF))
    spelled = Counter(name for key, name in mixed.items() if "spell" in sources[key])
    assert spelled["speller"] > 5
    assert spelled["generalist"] > 5
    told = explain_route(
        Path("runs/long"), "Spell this word backward (example: sun -> nus): strengthened"
    )
    assert told.explanation.teacher == "generalist"
    assert "speller cannot take it" in told.explanation.reason


def test_prompts_are_not_routed_to_a_licence_that_the_mix_refuses(folder_of_module: Path) -> None:
    fields = small_fields()
    prompts = [{**source, "licence": "MIT"} for source in fields["prompts"]]
    teachers = _teachers(adder={"licence": "MIT"}, generalist={"licence": "MIT"})
    mix = {**fields["mix"], "from": {"licences": ["MIT"]}}
    path = write_small(
        folder_of_module, run="runs/mit", prompts=prompts, teachers=teachers, mix=mix
    )
    assert any("speller is not asked" in note for note in plan_recipe(path).notes)
    result = run_recipe(path, until="mix")
    assert result["stages"]["probe"]["strengths"].keys() == {"adder", "generalist"}
    names = {name for _, name in Ledger(Path("runs/ledger")).rows(MIXED, ["mit"])}
    assert names == {"adder", "generalist"}


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        (
            {"from": {"licences": ["MIT"]}},
            "mix.from: takes the answers of no teacher of this recipe",
        ),
        ({"from": {"teachers": ["adder"]}}, "`mix: from:` does not take the answers of speller"),
    ],
)
def test_a_mix_that_takes_nobody_is_told_with_its_line(
    tmp_path: Path, changes: dict[str, Any], told: str
) -> None:
    mix = {**small_fields()["mix"], **changes}
    route = {"policy": "fixed", "to": {"spell_backward": "speller"}}
    with pytest.raises(RecipeError, match=told):
        load_recipe(write_small(tmp_path, mix=mix, route=route))


def test_a_share_of_the_training_prompts_explores(folder_of_module: Path) -> None:
    path = write_small(folder_of_module, run="runs/lots", route={"explore": 0.3})
    result = run_recipe(path, until="mix")
    explored = result["stages"]["route"]["because"]["explored"]
    of = result["stages"]["route"]["prompts"]
    assert 0.2 < explored / of < 0.4
    ledger = Ledger(Path("runs/ledger"))
    rows = ledger.rows(ROUTED, ["lots"])
    assert len(rows) == explored, "no test item is given away"
    assert all("by lot" in reason for *_, reason in rows)
    mixed, teacher_of = dict(ledger.rows(MIXED, ["lots"])), {key: name for key, name, *_ in rows}
    both = mixed.keys() & teacher_of.keys()
    assert both
    assert all(mixed[key] == teacher_of[key] for key in both)
    graded = result["stages"]["score"]["tasks"]["spell_backward"]
    assert len(graded) > 2, "the score tells how the others did"
    assert graded["speller"]["mean"] > graded["adder"]["mean"]


def test_explore_has_nothing_to_do_where_all_answer(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="`explore:` has nothing to do under `policy: all`"):
        load_recipe(write_small(tmp_path, route={"policy": "all", "explore": 0.1}))
