"""Answers of several teachers to one prompt: graded, and the best or only verified ones kept."""

from collections import Counter
from pathlib import Path

from ledger.store import Ledger
from tests.tutelage.small_run import small_fields, write_small
from tutelage.asking import explain_route
from tutelage.pipeline import run_recipe
from tutelage.planning import plan_recipe
from tutelage.previewing import preview_mix

MEMBERS = """
SELECT p.key, t.name, s.value FROM mix_member b JOIN mix m ON b.mix = m.id JOIN sample a ON b.sample = a.id
JOIN prompt p ON a.prompt = p.id JOIN teacher t ON a.teacher = t.id LEFT JOIN score s ON s.sample = a.id
WHERE m.run = ?
"""


def _mixed(
    folder_of_module: Path, run: str, drop: list[str], policy: str
) -> list[tuple[str, str, float]]:
    mix = {"unit": "samples", "total": 60, "drop": drop}
    path = write_small(folder_of_module, run=f"runs/{run}", mix=mix, route={"policy": policy})
    run_recipe(path, until="mix")
    return Ledger(Path("runs/ledger")).rows(MEMBERS, [run])


def test_of_every_teachers_answers_the_best_one_is_kept(folder_of_module: Path) -> None:
    members = _mixed(folder_of_module, "best", ["not_best"], "all")
    assert max(Counter(key for key, _, _ in members).values()) == 1
    assert len(members) == 60
    asked = Ledger(Path("runs/ledger")).rows(
        "SELECT p.key, count(*) FROM request r JOIN prompt p ON r.prompt = p.id "
        "WHERE r.stage = 'generate' GROUP BY 1"
    )
    assert {count for _, count in asked} == {4}, "every teacher was asked, of every prompt"
    told = explain_route(Path("runs/best"), "What is 3 + 4?").beside
    assert told.endswith("answer too (`route.policy`)")
    assert told.count(",") == 2
    fewer = {"unit": "samples", "total": 58, "drop": ["not_best"]}
    path = write_small(folder_of_module, run="runs/best", mix=fewer, route={"policy": "all"})
    assert preview_mix(path).blend.samples == 58
    scores = dict(
        Ledger(Path("runs/ledger")).rows(
            "SELECT p.key, max(s.value) FROM score s JOIN sample a ON s.sample = a.id "
            "JOIN prompt p ON a.prompt = p.id GROUP BY 1"
        )
    )
    assert all(score == scores[key] for key, _, score in members)


def test_only_verified_answers_are_kept_and_missing_ones_are_bought(folder_of_module: Path) -> None:
    fields = small_fields()
    one = {"generalist": fields["teachers"]["generalist"]}
    mix = {"unit": "samples", "total": 60, "drop": ["unverified"]}
    path = write_small(folder_of_module, run="runs/verified", mix=mix, teachers=one)
    result = run_recipe(path, until="mix")
    members = Ledger(Path("runs/ledger")).rows(MEMBERS, ["verified"])
    assert [score for _, _, score in members] == [1.0] * 60
    taken = sum(result["stages"]["generate"]["taken"].values())
    assert taken > 60, "answers that were dropped are made up for"
    score = result["stages"]["score"]
    assert score["answers"] == taken
    assert 0 < score["tasks"]["chain_sum"]["generalist"]["mean"] < 1


def test_plan_counts_every_teacher(tmp_path: Path) -> None:
    mix = {"unit": "samples", "total": 30, "drop": ["not_best"]}
    run = str(tmp_path / "runs" / "planned")
    path = write_small(tmp_path, run=run, mix=mix, route={"policy": "all"})
    assert next(s for s in plan_recipe(path).stages if s.name == "generate").calls == 120
