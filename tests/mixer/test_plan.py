"""The plan keeps every promise of the recipe: shares, caps, stages, order; or says what binds."""

from collections import Counter
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mixer import (
    Candidate,
    InfeasibleMix,
    MixConfig,
    Need,
    apply_filters,
    needs,
    preview,
    quotas,
    still_needed,
)
from mixer.plan import Plan, make_plan

TASKS = ["chat", "code", "maths"]


def plan(config: MixConfig, pool: list[Candidate], seed: int = 1) -> Plan:
    return make_plan(config, apply_filters(config, pool), tasks=TASKS, seed=seed)


def order(plan: Plan) -> list[list[tuple[str, int]]]:
    """Per stage, (sample, repeat) in order."""
    return [
        [
            (plan.samples[row].sample, repeat)
            for row, repeat in zip(stage.members, stage.repeats, strict=True)
        ]
        for stage in plan.stages
    ]


@st.composite
def sections(draw: st.DrawFn, unit: str) -> dict[str, Any]:
    """A `mix:` section with one to three stages and caps, and token counts per task."""
    n = draw(st.integers(1, 3))
    ends = sorted(draw(st.sets(st.integers(1, 9), min_size=n - 1, max_size=n - 1)))
    caps = {
        task: {
            "max_samples": draw(st.none() | st.integers(1, 40)),
            "max_repeats": draw(st.integers(1, 4)),
        }
        for task in TASKS
    }
    stages = []
    for number, end in enumerate([*ends, 10]):
        cut = sorted(draw(st.lists(st.integers(0, 10), min_size=2, max_size=2)))
        parts = [cut[0], cut[1] - cut[0], 10 - cut[1]]
        shares = {
            task: {"share": part / 10, **caps[task]}
            for task, part in zip(TASKS, parts, strict=True)
        }
        stages.append(
            {
                "name": f"s{number}",
                "until": end / 10,
                "shares": shares,
                "order": draw(st.sampled_from(["shuffled", "length"])),
            }
        )
    total = draw(st.integers(10, 60)) * (20 if unit == "tokens" else 1)
    return {"unit": unit, "total": total, "stages": stages}


token_counts = st.fixed_dictionaries(
    {task: st.just([]) | st.lists(st.integers(1, 40), min_size=12, max_size=60) for task in TASKS}
)


@settings(max_examples=80, deadline=None)
@given(section=sections("samples"), tokens=token_counts, seed=st.integers(0, 5))
def test_shares_in_samples_are_exact_and_caps_hold_or_the_mix_is_infeasible(
    mix: Any, answers: Any, section: dict, tokens: dict[str, list[int]], seed: int
) -> None:
    config = mix(**section)
    pool = [c for task in TASKS for c in answers(task, len(tokens[task]), tokens[task])]
    stages = quotas(config, TASKS)
    wanted = Counter({t: sum(q.amounts[t] for q in stages) for t in TASKS})
    usable = {t: min(len(tokens[t]), config.max_samples(t) or len(tokens[t])) for t in TASKS}
    feasible = all(wanted[t] <= usable[t] * config.max_repeats(t) for t in TASKS)
    if not feasible:
        with pytest.raises(InfeasibleMix):
            plan(config, pool, seed)
        return
    made = plan(config, pool, seed)
    task_of = {c.sample: c.task for c in pool}
    for quota, members in zip(stages, order(made), strict=True):
        counts = Counter(task_of[sample] for sample, _ in members)
        assert counts == Counter({t: n for t, n in quota.amounts.items() if n})
    uses = [use for members in order(made) for use in members]
    assert len(uses) == len(set(uses)) == config.total
    by_sample = Counter(sample for sample, _ in uses)
    for task in TASKS:
        mine = {s: n for s, n in by_sample.items() if task_of[s] == task}
        assert len(mine) == min(wanted[task], usable[task])  # distinct ones first
        assert all(wanted[task] // len(mine) <= n for n in mine.values())
        assert all(n <= config.max_repeats(task) for n in mine.values())
    assert {use for use in uses if use[1] == 0} == {(s, 0) for s in by_sample}


@settings(max_examples=80, deadline=None)
@given(section=sections("tokens"), tokens=token_counts, seed=st.integers(0, 5))
def test_shares_in_tokens_are_met_to_within_one_sample(
    mix: Any, answers: Any, section: dict, tokens: dict[str, list[int]], seed: int
) -> None:
    config = mix(**section)
    pool = [c for task in TASKS for c in answers(task, len(tokens[task]), tokens[task])]
    try:
        blend = preview(config, pool, tasks=TASKS, seed=seed)
    except InfeasibleMix as error:
        for gap in error.shortfalls:
            assert gap.available < gap.needed <= gap.whole
        return
    for stage in blend.stages:
        for cell in stage.tasks:
            assert abs(cell.tokens - cell.asked) <= max(tokens[cell.task], default=0)
    for task in TASKS:
        parts = [cell for stage in blend.stages for cell in stage.tasks if cell.task == task]
        off = abs(sum(p.tokens for p in parts) - sum(p.asked for p in parts))
        assert off <= max(tokens[task], default=0) / 2


@settings(max_examples=40, deadline=None)
@given(section=sections("samples"), tokens=token_counts)
def test_figures_are_conserved(
    mix: Any, answers: Any, section: dict, tokens: dict[str, list[int]]
) -> None:
    for stage in section["stages"]:
        for share in stage["shares"].values():
            share.update(max_samples=None, max_repeats=1000)
    config = mix(**section)
    pool = [
        c
        for task in TASKS
        for teacher in ("ada", "bob")
        for c in answers(task, len(tokens[task]) + 1, [7, *tokens[task]], teacher=teacher)
    ]
    blend = preview(config, pool, tasks=TASKS, seed=3)
    assert blend.samples == config.total == sum(c.samples for c in blend.cells)
    assert blend.tokens == sum(c.tokens for c in blend.cells) == sum(s.tokens for s in blend.stages)
    assert blend.repeats == sum(c.repeats for c in blend.cells) == blend.samples - blend.distinct
    used = sum(sum(counts.values()) for counts in blend.teachers.values())
    assert used == sum(sum(counts.values()) for counts in blend.sources.values()) == blend.distinct
    for task, found in blend.found.items():  # ada's and bob's answers are the same: half go
        assert blend.drops[task] == {"duplicate": found // 2}
    assert sum(blend.found.values()) == (
        blend.distinct + sum(blend.unused.values()) + sum(blend.dropped.values())
    )


@settings(max_examples=50, deadline=None)
@given(data=st.data(), seed=st.integers(0, 3))
def test_the_plan_depends_on_content_and_seed_not_on_the_order_of_rows(
    mix: Any, answers: Any, data: Any, seed: int
) -> None:
    config = mix(total=8, shares={"maths": 0.5, "code": 0.5})
    pool = answers("maths", 9) + answers("code", 9)
    shuffled = data.draw(st.permutations(pool))
    assert order(plan(config, shuffled, seed)) == order(plan(config, pool, seed))


def test_another_seed_chooses_and_orders_otherwise(mix: Any, answers: Any) -> None:
    config = mix(total=20, shares={"maths": 1})
    pool = answers("maths", 40)
    one, two = order(plan(config, pool, 1))[0], order(plan(config, pool, 2))[0]
    assert one != two
    assert set(one) != set(two)


def test_one_more_answer_moves_few_others(mix: Any, answers: Any) -> None:
    config = mix(total=50, shares={"maths": 1})
    before = set(order(plan(config, answers("maths", 100)))[0])
    after = set(order(plan(config, answers("maths", 101)))[0])
    assert len(before - after) <= 1


def test_stages_share_no_sample_until_every_sample_is_used(mix: Any, answers: Any) -> None:
    shares = {"maths": {"share": 1, "max_repeats": 2}}
    ends = [{"name": f"s{n}", "until": n / 4, "shares": shares} for n in (1, 2, 3, 4)]
    members = order(plan(mix(total=40, stages=ends), answers("maths", 25)))
    used = [{sample for sample, _ in stage} for stage in members]
    assert not used[0] & used[1]
    assert [repeat for _, repeat in members[0] + members[1]] == [0] * 20
    assert Counter(repeat for _, repeat in members[2]) == {0: 5, 1: 5}
    assert {repeat for _, repeat in members[3]} == {1}


def test_a_length_stage_goes_from_short_to_long_and_ties_by_key(mix: Any, answers: Any) -> None:
    pool = answers("maths", 30, [3, 1, 2] * 10)
    stage = {"name": "s", "shares": {"maths": {"share": 1, "max_repeats": 2}}, "order": "length"}
    made = plan(mix(total=60, stages=[stage]), pool)
    tokens = {c.sample: c.tokens for c in pool}
    (members,) = order(made)
    assert members == sorted(members, key=lambda use: (tokens[use[0]], *use))


def test_an_infeasible_mix_names_what_binds_and_its_ways_out_work(mix: Any, answers: Any) -> None:
    def section(total: int, share: float, repeats: int) -> MixConfig:
        first = {"maths": {"share": share, "max_repeats": repeats}, "code": round(1 - share, 4)}
        basics = {"name": "basics", "until": 0.25, "shares": {"maths": 0.2, "code": 0.8}}
        return mix(total=total, stages=[basics, {"name": "all", "shares": first}])

    pool = answers("maths", 40) + answers("code", 200)
    pool += answers("maths", 10, teacher="bob") + answers("maths", 40, state="truncated")[10:15]
    pool = list({c.sample: c for c in pool}.values())
    with pytest.raises(InfeasibleMix) as refused:
        plan(section(200, 0.5, 1), pool)
    (gap,) = refused.value.shortfalls
    assert (gap.stage, gap.task, gap.binding) == ("all", "maths", "answers")
    assert (gap.asked, gap.needed, gap.found) == (75, 85, 50)
    assert gap.drops == {"duplicate": 10, "truncated": 5}
    assert gap.available == 35
    assert str(gap) == (
        "mix stage 'all' asks for 75 samples of task 'maths' (share 0.5 of 150) after the 10 of "
        "earlier stages, but the task can give 35 in all: 35 distinct answers (50 found, dropped "
        "10 as duplicate and 5 as truncated) under max_repeats 1. Ways out: more prompts of this "
        "task, max_repeats 3, a share of at most 0.1666, or a total of 82."
    )
    plan(section(200, 0.5, 3), pool)
    plan(section(200, 0.1666, 1), pool)
    plan(section(82, 0.5, 1), pool)
    with pytest.raises(InfeasibleMix):
        plan(section(200, 0.5, 2), pool)


def test_every_infeasible_task_is_named_at_once(mix: Any, answers: Any) -> None:
    config = mix(total=40, shares={"maths": 0.5, "code": 0.25, "chat": 0.25})
    with pytest.raises(InfeasibleMix) as refused:
        plan(config, answers("maths", 19) + answers("code", 10))
    assert [gap.task for gap in refused.value.shortfalls] == ["chat", "maths"]
    assert "0 distinct answers (none dropped) under max_repeats 1" in str(refused.value)
    assert "Ways out: more prompts of this task.\n" in str(refused.value)


def test_max_samples_binds_where_there_are_more_answers(mix: Any, answers: Any) -> None:
    shares = {"maths": {"share": 1, "max_samples": 3, "max_repeats": 2}}
    config = mix(unit="tokens", total=100, shares=shares)
    with pytest.raises(InfeasibleMix, match="max_samples 3 and max_repeats 2 bind") as refused:
        plan(config, answers("maths", 20, 5))
    assert refused.value.shortfalls[0].binding == "max_samples"


@settings(max_examples=50, deadline=None)
@given(have=st.integers(0, 12), unit=st.sampled_from(["samples", "tokens"]))
def test_what_is_still_needed_makes_the_mix_feasible(
    mix: Any, answers: Any, have: int, unit: str
) -> None:
    total = 10 if unit == "samples" else 97
    config = mix(unit=unit, total=total, shares={"maths": 1})
    missing = still_needed(config, answers("maths", have), tasks=TASKS)
    more = missing["maths"].answers(tokens_each=10) if missing else 0
    assert have + more == max(10, have)
    plan(config, answers("maths", have + more))


def test_nothing_is_needed_beyond_the_caps(mix: Any, answers: Any) -> None:
    shares = {"maths": {"share": 1, "max_samples": 4, "max_repeats": 5}}
    config = mix(total=20, shares=shares)
    assert needs(config, TASKS)["maths"] == Need(samples=4, tokens=None, at_least=4)
    assert still_needed(config, answers("maths", 3), tasks=TASKS)["maths"].samples == 1
    assert still_needed(config, answers("maths", 4), tasks=TASKS) == {}
