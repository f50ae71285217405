"""Rate-limit headers of several providers are read, and nonsense is ignored."""

from datetime import UTC, datetime, timedelta

import pytest

from router.teachers.allowance import Allowance, Quota, allowance


@pytest.mark.parametrize(
    ("reset", "seconds"),
    [
        ("1s", 1.0),
        ("6m0s", 360.0),
        ("20ms", 0.02),
        ("1h2m3.5s", 3723.5),
        ("12", 12.0),
        ("0.5", 0.5),
    ],
)
def test_openai_headers(reset: str, seconds: float) -> None:
    headers = dict({"x-ratelimit-remaining-requests": "59", "x-ratelimit-reset-requests": reset})
    assert allowance(headers) == Allowance(Quota(59, seconds), None)


def test_anthropic_headers() -> None:
    until = (datetime.now(UTC) + timedelta(seconds=30)).isoformat().replace("+00:00", "Z")
    headers = dict(
        {
            "anthropic-ratelimit-tokens-remaining": "0",
            "anthropic-ratelimit-tokens-reset": until,
        }
    )
    found = allowance(headers)
    assert found is not None
    assert found.requests is None
    assert found.tokens is not None
    assert found.tokens.left == 0
    assert 28 < found.tokens.reset_s <= 30


def test_draft_headers() -> None:
    headers = dict({"ratelimit-remaining": "3", "ratelimit-reset": "9"})
    assert allowance(headers) == Allowance(Quota(3, 9.0), None)


@pytest.mark.parametrize("reset", ["", "soon", "-4", "nan", "inf", "1x", "2026-01-01T00:00:00"])
def test_nonsense_is_ignored(reset: str) -> None:
    headers = {"x-ratelimit-remaining-requests": "0", "x-ratelimit-reset-requests": reset}
    nothing = Allowance(None, None)
    assert allowance(headers) == nothing
    assert allowance({"x-ratelimit-remaining-requests": "-1"}) == nothing
    assert allowance({}) is None
