"""What a purchase will cost: from like answers where there are enough, else from the caps."""

from collections.abc import Callable

import pytest

from ledger.prompts import Prompt
from ledger.store import Ledger
from router.engine import Forecast, GenerateConfig, Request, buy, forecast, sampling_of, together
from router.teachers import Teacher
from tests.faults.server import Call, FaultServer, Reply, completion, payload

MakeTeacher = Callable[..., Teacher]
PRICE = {"input_usd_per_million": 0.0, "output_usd_per_million": 1000.0}  # 0.001 USD a token
SETTINGS = GenerateConfig(max_tokens=100, deadline_s=5.0, budget_usd=100.0)
SAMPLING = sampling_of(SETTINGS)


def lengths(call: Call) -> Reply:
    """An answer of 10 to 30 tokens."""
    answer = completion("x")
    answer["usage"]["completion_tokens"] = 10 + len(call.prompt) * 7 % 21
    return payload(answer)


def requests(first: int, count: int, task: str = "maths") -> list[Request]:
    words = [f"prompt {i} {'word ' * (i % 21)}" for i in range(first, first + count)]
    return [Request(Prompt.of(text), "t", task=task) for text in words]


def order(ledger: Ledger, teacher: Teacher, asked: list[Request]) -> float:
    """Buys, and says what it cost."""
    ledger.put_all([row for request in asked for row in request.prompt.rows("test")])
    return buy(
        asked, {"t": teacher}, ledger, SAMPLING, SETTINGS, stage="generate", run="r"
    ).cost_usd


def test_caps_where_the_ledger_knows_nothing(
    server: FaultServer, ledger: Ledger, http_teacher: MakeTeacher
) -> None:
    teacher = http_teacher(server, price=PRICE)
    found = forecast(ledger, requests(0, 10), {"t": teacher}, SAMPLING)
    assert found.lo == 0.0
    assert found.usd == found.hi == found.worst == pytest.approx(10 * 100 * 0.001)
    assert found.basis.startswith("from the caps")


def test_like_answers_give_an_interval_that_holds(
    server: FaultServer, ledger: Ledger, http_teacher: MakeTeacher
) -> None:
    server.rule, teacher = lengths, http_teacher(server, price=PRICE)
    order(ledger, teacher, requests(0, 60))
    held = 0
    for place in range(20):
        asked = requests(100 + 30 * place, 30)
        found = forecast(ledger, asked, {"t": teacher}, SAMPLING)
        assert found.usd is not None
        assert found.worst is not None
        assert found.usd < 0.4 * found.worst
        assert found.basis.startswith("from what")
        held += (found.lo or 0.0) <= order(ledger, teacher, asked) <= (found.hi or 0.0)
    assert held >= 18


def test_another_task_and_another_price_are_taken_into_account(
    server: FaultServer, ledger: Ledger, http_teacher: MakeTeacher
) -> None:
    server.rule, teacher = lengths, http_teacher(server, price=PRICE)
    order(ledger, teacher, requests(0, 60))
    other = forecast(ledger, requests(100, 30, "code"), {"t": teacher}, SAMPLING)
    assert other.measured == 30  # by the teacher's answers to other tasks
    double = {"input_usd_per_million": 0.0, "output_usd_per_million": 2000.0}
    dearer = http_teacher(server, price=double)
    assert dearer.key == teacher.key
    same = forecast(ledger, requests(100, 30), {"t": teacher}, SAMPLING)
    found = forecast(ledger, requests(100, 30), {"t": dearer}, SAMPLING)
    assert found.usd == pytest.approx(2 * (same.usd or 0.0))
    free = http_teacher(server)
    assert forecast(ledger, requests(100, 30), {"t": free}, SAMPLING).usd == 0.0


def test_parts_without_a_price_leave_the_whole_without_one() -> None:
    known = Forecast(1.0, 0.5, 1.5, 2.0, 10, 10, 50)
    both = Forecast(2.0, 1.5, 2.5, 4.0, 20, 10, 70)
    assert together([known, both]) == Forecast(3.0, 2.0, 4.0, 6.0, 30, 20, 70)
    assert "20 of 30 requests" in together([known, both]).basis
    assert together([known, Forecast(None, None, None, None, 5, 0, 0)]).usd is None
    assert together([]).basis == ""
