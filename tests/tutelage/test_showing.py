"""What a person sees of a purchase while it goes on: every teacher in a line of its own."""

import io

from rich.console import Console

from router.engine import Progress, TeacherProgress
from router.engine.progress import Failure
from tutelage.buying import show_progress
from tutelage.terminal import Terminal


def progress() -> Progress:
    """Two teachers under way: one held back and near its cap, one paused."""
    busy = TeacherProgress(
        total=100, done=40, failed=2, in_flight=8, held_s=31.0, tokens=2000, cost_usd=0.5,
        cap_usd=2.0, left_usd=0.75, failures={"empty": Failure("maths", "invalid", 2, "nothing")},
    )  # fmt: skip
    paused = TeacherProgress(total=1200, done=3, paused="its key was refused")
    return Progress({"maths": busy, "code": paused}, reused=0)


def shown(*, terminal: bool) -> str:
    out = io.StringIO()
    watch = Terminal(Console(file=out, force_terminal=terminal, width=140, highlight=False))
    watch.stage_begins("generate", "answers")
    watch._said -= 60.0  # a plain line is due
    show_progress(watch, progress())
    if watch._live is not None:
        watch._live.refresh()
    watch.stop()
    return out.getvalue()


def test_live_view_has_a_line_for_each_teacher() -> None:
    text = shown(terminal=True)
    for cell in (
        "45/1,300 answers",
        "42/100",
        "1.2500 of 2.00",
        "2 empty",
        "held back for 31 s",
        "paused",
    ):
        assert cell in text


def test_plain_lines_say_what_there_is_to_say() -> None:
    lines = shown(terminal=False).splitlines()
    assert lines[1].startswith("generate    3% 45/1,300 answers")
    assert "maths: 42/100 done, 8 in flight" in lines[2]
    assert "1.2500 of 2.00 USD" in lines[2]
    assert lines[3].strip().startswith("code: 3/1,200 done")
    assert lines[3].endswith("paused")


def test_rates_and_time_left_are_those_of_the_last_seconds() -> None:
    part = TeacherProgress(total=100)
    assert part.rates == (0.0, 0.0)
    assert part.eta_s is None
    part.mark()
    part._lately[0] = (part._lately[0][0] - 10.0, 0, 0)
    part.done, part.tokens = 20, 400
    part.mark()
    assert [round(rate) for rate in part.rates] == [2, 40]
    assert part.eta_s is not None
    assert round(part.eta_s) == 40


def test_names_and_texts_of_others_move_no_terminal() -> None:
    out = io.StringIO()
    watch = Terminal(Console(file=out, force_terminal=False, width=140, highlight=False))
    odd = "ma\x1b[31mths \u202e[bold]"
    watch.stage_is_done("route", odd)
    watch.stage_ends("route", odd, 1.0)
    watch.table(odd, ["teacher", odd], [["adder", odd]])
    watch.note(odd)
    text = out.getvalue()
    assert not {"\x1b", "\u202e"} & set(text)
    assert text.count(r"ma\x1b[31mths \u202e[bold]") == 6
