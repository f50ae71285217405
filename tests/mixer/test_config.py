"""The `mix:` section: what it accepts, and what it says about the rest."""

from typing import Any

import pytest
from pydantic import ValidationError

from mixer import MixConfig
from mixer.config import as_written


def refusal(**section: Any) -> str:
    with pytest.raises(ValidationError) as refused:
        MixConfig.model_validate({"unit": "samples", "total": 100, **section})
    return str(refused.value)


def stages(*ends: float | None, **more: Any) -> list[dict[str, Any]]:
    return [{"name": f"s{n}", "until": end, **more} for n, end in enumerate(ends)]


def test_a_share_means_its_value_whether_it_is_written_1_or_1_0(mix: Any) -> None:
    written = [mix(total=5, shares={"maths": share}) for share in (1, 1.0, {"share": 1})]
    assert written[0] == written[1]
    assert as_written(written[0]) == as_written(written[2])


@pytest.mark.parametrize("shares", [{"maths": 0.7, "code": 0.2}, {"maths": 0.5, "code": 0.4}, {}])
def test_shares_that_do_not_sum_to_one_are_refused_with_their_sum(shares: dict) -> None:
    message = refusal(shares=shares)
    assert "shares must sum to 1" in message
    assert f"= {sum(shares.values()):.6g}" in message


def test_rounded_thirds_are_close_enough(mix: Any) -> None:
    mix(total=9, shares={"a": 0.3333333, "b": 0.3333333, "c": 0.3333333})
    assert "0.9999" in refusal(shares={"a": 0.3333, "b": 0.3333, "c": 0.3333})


def test_errors_point_at_the_key_that_is_wrong() -> None:
    def places(section: dict[str, Any]) -> set[tuple]:
        with pytest.raises(ValidationError) as refused:
            MixConfig.model_validate({"unit": "samples", "total": 9, **section})
        return {error["loc"] for error in refused.value.errors()}

    assert places({"shares": {"maths": "half"}}) == {("shares", "maths")}
    assert places({"shares": {"maths": 0.5}}) == {("shares",)}
    assert places({"stages": stages(0.5, 0.3)}) == {("stages",)}
    assert places({"stages": stages(None, shares={"maths": 2})}) == {
        ("stages", 0, "shares", "maths", "share")
    }


@pytest.mark.parametrize("share", ["0.5", True, None, -0.1, 1.5, float("nan"), float("inf")])
def test_a_share_that_is_no_number_from_0_to_1_is_refused(share: object) -> None:
    assert "shares" in refusal(shares={"maths": share})


@pytest.mark.parametrize(
    ("ends", "says"),
    [
        ((0.5, 0.3, None), "must rise"),
        ((0.5, 0.5, 1.0), "must rise"),
        ((1.0, None), "must rise"),
        ((0.3, 0.9), "must end at 1, not 0.9"),
        ((None, 1.0), "needs `until`"),
        ((0.0, 1.0), "greater than 0"),
        ((0.5, 1.1), "less than or equal to 1"),
    ],
)
def test_stages_must_rise_strictly_and_end_at_one(ends: tuple, says: str) -> None:
    assert says in refusal(stages=stages(*ends))


def test_the_last_stage_may_say_that_it_ends_at_one(mix: Any) -> None:
    assert len(mix(total=9, stages=stages(0.3, 1.0)).curriculum) == 2
    assert len(mix(total=9, stages=stages(0.3, None)).curriculum) == 2


def test_stages_of_one_name_are_refused() -> None:
    twins = [{"name": "same", "until": 0.5}, {"name": "same"}]
    assert "share a name" in refusal(stages=twins)


def test_shares_and_stages_exclude_each_other() -> None:
    assert "not both" in refusal(shares={"maths": 1.0}, stages=stages(None))


def test_a_length_limit_and_its_filter_come_together(mix: Any) -> None:
    assert "`max_tokens` does nothing without `too_long`" in refusal(max_tokens=5)
    assert "`too_short` does nothing without `min_tokens`" in refusal(drop=["too_short"])
    assert "above" in refusal(drop=["too_short", "too_long"], min_tokens=9, max_tokens=5)
    assert mix(total=9, drop=["too_long"], max_tokens=5).max_tokens == 5


def test_a_cap_holds_over_the_whole_mix_and_is_said_once(mix: Any) -> None:
    first = {"name": "a", "until": 0.5, "shares": {"maths": {"share": 1, "max_repeats": 3}}}
    config = mix(total=9, stages=[first, {"name": "b", "shares": {"maths": 1}}])
    assert config.max_repeats("maths") == 3
    assert config.max_repeats("code") == 1
    assert config.max_samples("maths") is None
    other = {"name": "b", "shares": {"maths": {"share": 1, "max_repeats": 2}}}
    assert "max_repeats 2 and 3" in refusal(stages=[first, other])


def test_the_section_with_its_defaults_reads_back_as_itself(mix: Any) -> None:
    config = mix(
        total=9,
        stages=[
            {"name": "a", "until": 0.5, "shares": {"maths": {"share": 1, "max_repeats": 3}}},
            {"name": "b", "shares": {"maths": 0.5, "code": 0.5}, "order": "length"},
        ],
        **{"from": {"teachers": ["ada"]}},
    )
    assert MixConfig.model_validate(as_written(config)) == config


def test_unknown_keys_and_filters_are_refused() -> None:
    assert "max_sample" in refusal(shares={"maths": {"share": 1, "max_sample": 3}})
    assert "dedup" in refusal(drop=["dedup"])
