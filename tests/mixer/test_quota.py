"""Shares become whole numbers exactly, and `needs` asks for what the mix can use and no more."""

from fractions import Fraction
from math import ceil, floor
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ledger.errors import InputError
from mixer import InfeasibleMix, Need, UnknownTask, apportion, needs, quotas

weights = st.dictionaries(st.text(min_size=1), st.integers(1, 1000), min_size=1, max_size=8)


@settings(max_examples=50, deadline=None)
@given(total=st.integers(0, 10**9), weights=weights)
def test_apportioned_counts_sum_to_the_total_and_are_off_by_less_than_one(
    total: int, weights: dict[str, int]
) -> None:
    counts = apportion(total, weights)
    whole = sum(weights.values())
    assert sum(counts.values()) == total
    for name, count in counts.items():
        exact = Fraction(total * weights[name], whole)
        assert floor(exact) <= count <= ceil(exact)


@settings(max_examples=50, deadline=None)
@given(total=st.integers(0, 10**6), weights=weights)
def test_largest_remainders_are_served_first(total: int, weights: dict[str, int]) -> None:
    counts = apportion(total, weights)
    whole = sum(weights.values())
    exact = {name: Fraction(total * weight, whole) for name, weight in weights.items()}
    up = [exact[n] - floor(exact[n]) for n in counts if counts[n] > exact[n]]
    down = [exact[n] - floor(exact[n]) for n in counts if counts[n] < exact[n]]
    assert not up or not down or min(up) >= max(down)


@settings(max_examples=50, deadline=None)
@given(weights=weights)
def test_the_order_in_which_shares_are_written_changes_nothing(weights: dict[str, int]) -> None:
    backwards = dict(reversed(weights.items()))
    assert apportion(17, weights) == apportion(17, backwards)


def test_a_share_is_the_decimal_that_is_written() -> None:
    assert apportion(10, {"a": 0.1, "b": 0.2, "c": 0.7}) == {"a": 1, "b": 2, "c": 7}
    assert apportion(1000, {"a": 0.29, "b": 0.71}) == {"a": 290, "b": 710}


def test_stages_and_tasks_get_whole_numbers_that_add_up(mix: Any) -> None:
    config = mix(
        total=7901,
        stages=[
            {"name": "basics", "until": 0.3, "shares": {"maths": 0.7, "code": 0.3}},
            {"name": "all", "shares": {"maths": 0.5, "code": 0.5}},
        ],
    )
    basics, rest = quotas(config, ["maths", "code"])
    assert (basics.amount, rest.amount) == (2370, 5531)
    assert basics.amounts == {"maths": 1659, "code": 711}
    assert rest.amounts == {"maths": 2765, "code": 2766}


def test_without_shares_tasks_count_equally_and_unsure_is_left_out(mix: Any) -> None:
    (quota,) = quotas(mix(total=10), ["maths", "code", "chat", "unsure"])
    assert quota.amounts == {"chat": 4, "code": 3, "maths": 3}
    with pytest.raises(InputError, match="no task to share"):
        quotas(mix(total=10), ["unsure"])


def test_an_unknown_task_is_named_with_its_neighbour(mix: Any) -> None:
    with pytest.raises(UnknownTask, match=r"'mahts'.* code, maths; did you mean 'maths'\?"):
        needs(mix(total=10, shares={"mahts": 0.5, "code": 0.5}), ["maths", "code"])


def test_a_stage_that_rounds_to_nothing_is_refused(mix: Any) -> None:
    stages = [{"name": "tiny", "until": 0.01}, {"name": "rest"}]
    with pytest.raises(InputError, match="'tiny' is 0.01 of 10 samples"):
        quotas(mix(total=10, stages=stages), ["maths"])


def test_needs_are_the_distinct_answers_that_the_mix_can_use(mix: Any) -> None:
    config = mix(
        total=100,
        stages=[
            {"name": "a", "until": 0.5, "shares": {"maths": 0.5, "code": 0.5}},
            {"name": "b", "shares": {"maths": {"share": 1, "max_samples": 30, "max_repeats": 4}}},
        ],
    )
    assert needs(config, ["maths", "code", "chat"]) == {
        "code": Need(samples=25, tokens=None, at_least=25),
        "maths": Need(samples=30, tokens=None, at_least=19),
    }


def test_needs_in_tokens_become_answers_by_their_mean_length(mix: Any) -> None:
    shares = {"maths": {"share": 0.5, "max_repeats": 2}, "code": {"share": 0.5, "max_samples": 7}}
    need = needs(mix(unit="tokens", total=1001, shares=shares), ["maths", "code"])
    assert need["maths"] == Need(samples=None, tokens=500, at_least=250)
    assert need["code"] == Need(samples=7, tokens=501, at_least=501)
    assert need["maths"].answers(tokens_each=30) == 17
    assert need["code"].answers(tokens_each=30) == 7


def test_caps_that_forbid_a_share_are_found_before_anything_is_bought(mix: Any) -> None:
    shares = {"maths": {"share": 0.5, "max_samples": 20, "max_repeats": 2}, "code": 0.5}
    with pytest.raises(InfeasibleMix) as refused:
        needs(mix(total=100, shares=shares), ["maths", "code"])
    (gap,) = refused.value.shortfalls
    assert (gap.stage, gap.task, gap.asked, gap.available) == ("all", "maths", 50, 40)
    assert gap.binding == "max_samples"
    assert "max_samples 20 and max_repeats 2 bind" in str(gap)
    for way in ("a higher max_samples", "max_repeats 3", "share of at most 0.4", "total of 80"):
        assert way in str(gap)
