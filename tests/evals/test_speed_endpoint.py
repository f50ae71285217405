"""Speed of servers that stream: times as scripted, so many calls at once, tokens counted, failures told."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from evals.speed import OnProgress, Speed, SpeedProgress
from evals.speed_endpoint import measure_endpoints, worst_usd
from ledger.prompts import Prompt
from router.teachers import TeacherConfig, open_teacher
from router.teachers.errors import CallError
from router.teachers.http import HttpTeacher
from router.teachers.streaming import Streamed, read_stream
from tests.evals.streaming import FIRST_S, PIECES, StreamServer

PROMPTS = [Prompt.of(f"say {n}") for n in range(6)]


@pytest.fixture
def streaming() -> Iterator[StreamServer]:
    server = StreamServer()
    yield server
    server.close()


def teacher_at(url: str, name: str = "far", **fields: Any) -> HttpTeacher:
    config = {"http": "m", "url": url, "licence": "MIT", **fields}
    teacher = open_teacher(name, TeacherConfig.model_validate(config), Path())
    assert isinstance(teacher, HttpTeacher)
    return teacher


def timed(
    *teachers: HttpTeacher, on_progress: OnProgress | None = None
) -> tuple[dict[str, Speed], dict[str, str]]:
    failures: dict[str, str] = {}
    found = measure_endpoints(
        teachers,
        PROMPTS,
        9,
        concurrency=[3, 1],
        repeats=2,
        on_failure=failures.__setitem__,
        on_progress=on_progress,
    )
    return found, failures


def test_a_piece_came_when_the_last_of_its_bytes_did() -> None:
    """By hand: the first piece is whole in the first arrival, the second but for three bytes in the second."""
    event = b'data: {"choices":[{"delta":{"content":"x"}}]}\n\n'
    body = event * 2 + b"data: [DONE]\n\n"
    first, second = len(event), 2 * len(event)
    arrivals = [(10.5, first + 5), (11.0, second - 3), (11.25, len(body))]
    assert read_stream(body, arrivals, asked_at=10.0) == ([0.5, 1.25], {})
    assert Streamed(0.5, 1.5, 3, 5, 0, None).steps_s == [0.5, 0.25, 0.25, 0.25, 0.25]
    assert Streamed(0.5, 1.5, 3, 105, 100, None).steps_s == [0.5, 0.25, 0.25, 0.25, 0.25]
    assert Streamed(0.5, 0.5, 1, 9, 0, None).steps_s == [0.5]


@pytest.mark.parametrize(
    ("body", "told"),
    [
        (b'data: {"choices": 5}\n\n', "without a streamed piece"),
        (b"data: " + b"[" * 100_000 + b"\n\n", "not JSON"),
        (b"data: {\n\n", "not JSON"),
        (b'data: {"error": {"message": "gone"}}\n\n', "broke off"),
    ],
)
def test_a_broken_stream_is_told(body: bytes, told: str) -> None:
    with pytest.raises(CallError, match=told):
        read_stream(body, [(1.0, len(body))], 0.0)


def test_an_event_may_have_several_lines() -> None:
    body = b'data: {"choices":\ndata: [{"delta": {"content": "x"}}]}\n\n'
    assert read_stream(body, [(1.0, len(body))], 0.0) == ([1.0], {})


def test_times_come_from_the_stream_with_so_many_calls_at_once(streaming: StreamServer) -> None:
    seen: list[SpeedProgress] = []
    found, failures = timed(teacher_at(streaming.url), on_progress=seen.append)
    assert failures == {}
    speed = found["far"]
    assert set(speed.paces) == {"1", "3"}
    assert all(pace.first_token.median >= FIRST_S for pace in speed.paces.values())
    assert (speed.answers, speed.tokens, speed.usd, speed.peak_rss_mib) == (6, 54, 0, None)
    assert streaming.most == 3
    assert len(streaming.bodies) == 1 + 2 * (2 + 6)
    assert (seen[-1].rounds, seen[-1].rounds_total) == (5, 5)
    assert streaming.bodies[0]["stream_options"] == {"include_usage": True}


def test_without_counts_and_with_other_line_ends_pieces_are_counted(
    streaming: StreamServer,
) -> None:
    streaming.usage, streaming.ends = None, "\r\n\r\n"
    found, _ = timed(teacher_at(streaming.url))
    assert found["far"].tokens == 6 * PIECES


def test_what_it_costs_is_known_before_and_counted_after(streaming: StreamServer) -> None:
    price = {"input_usd_per_million": 1.0, "output_usd_per_million": 1000.0}
    teacher = teacher_at(streaming.url, price=price)
    found, _ = timed(teacher)
    worst = worst_usd(teacher, PROMPTS, 9, [1, 3], 2)
    assert found["far"].usd == pytest.approx(17 * (10e-6 + 9e-3))
    assert worst is not None
    assert 17 * (10e-6 + 9e-3) <= worst < 0.2


@pytest.mark.parametrize(
    ("says", "told"),
    [
        ({"error": {"message": "out of memory"}}, "the server broke off"),
        ({"choices": [{"message": {"content": "all at once"}}]}, "without a streamed piece"),
    ],
)
def test_a_server_that_fails_is_told_and_the_others_are_timed(
    streaming: StreamServer, says: dict[str, Any], told: str
) -> None:
    broken = StreamServer()
    broken.says = lambda n: says
    found, failures = timed(teacher_at(broken.url, "broken"), teacher_at(streaming.url))
    broken.close()
    assert set(found) == {"far"}
    assert told in failures["broken"]


def test_what_a_server_cost_until_it_failed_is_told(streaming: StreamServer) -> None:
    well, ill = streaming.says, {"error": {"message": "out of memory"}}
    streaming.says = lambda n: well(n) if len(streaming.bodies) < 2 else ill
    price = {"input_usd_per_million": 1.0, "output_usd_per_million": 1000.0}
    _, failures = timed(teacher_at(streaming.url, price=price))
    assert failures["far"].endswith("; until then it cost $0.0090")


def test_nobody_there_is_told() -> None:
    found, failures = timed(teacher_at("http://127.0.0.1:9/v1"))
    assert found == {}
    assert "no connection" in failures["far"]
