"""What a person sees in the terminal: stages, progress, tables, the closing screen.

With a terminal there is a live bar; without one (a log file, CI) plain lines, a few per stage.
"""

import sys
import time
from collections.abc import Sequence
from typing import Any

from rich.console import Console, Group
from rich.live import Live
from rich.markup import escape
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from tutelage.visible import visible
from tutelage.watch import TEACHER_COLUMNS, Watch

PLAIN_LINE_S = 5.0
LONG_STAGE_S, LONG_STAGE_LINE_S = 120.0, 30.0
VERDICT_STYLE = {"yes": "green", "no": "red", "not enough data": "yellow"}


class Terminal(Watch):
    """Draws a run on a console."""

    def __init__(self, console: Console | None = None) -> None:
        self.console = console or stdout_console()
        self._live: Live | None = None
        self._bar: Progress | None = None
        self._task: TaskID | None = None
        self._began = 0.0
        self._stage = ""
        self._said = 0.0
        # When and how far a stage's first progress was.
        self._first: tuple[float, float] | None = None

    def stage_begins(self, name: str, what: str) -> None:
        self._stage = name
        self._began = self._said = time.monotonic()
        self._first = None
        if not self.console.is_terminal:
            self._line(f"{name:<9} {what} …")
            return
        self._bar = Progress(
            TextColumn(f"[bold]{name:<9}[/bold]"),
            BarColumn(bar_width=24),
            TextColumn("{task.description}"),
            TimeRemainingColumn(compact=True),
            console=self.console,
        )
        self._task = self._bar.add_task(shown(what), total=None)
        self._live = Live(self._bar, console=self.console, transient=True)
        self._live.start()

    def progress(
        self, done: float, total: float, text: str, teachers: Sequence[Sequence[str]] = ()
    ) -> None:
        if self._live is not None and self._bar is not None and self._task is not None:
            self._bar.update(self._task, completed=done, total=total, description=shown(text))
            if teachers:
                self._live.update(Group(self._bar, as_table("", TEACHER_COLUMNS, teachers)))
        elif time.monotonic() - self._said > self._plain_line_s:
            self._said = time.monotonic()
            share = f"{done / total:4.0%} " if total else ""
            self._line(f"{self._stage:<9} {share}{shown(text)}{self._time_left(done, total)}")
            for cells in teachers if len(teachers) > 1 else ():
                self._line(f"          {shown(_plain_cells(cells))}")

    @property
    def _plain_line_s(self) -> float:
        """Seconds between two plain lines: more, once a stage takes long."""
        long = time.monotonic() - self._began > LONG_STAGE_S
        return LONG_STAGE_LINE_S if long else PLAIN_LINE_S

    def _time_left(self, done: float, total: float) -> str:
        """By the pace since the first progress of this stage; nothing where that says too little."""
        if self._first is None or done < self._first[1]:
            self._first = (time.monotonic(), done)
        began, before = self._first
        elapsed, gained = time.monotonic() - began, done - before
        if elapsed < PLAIN_LINE_S or not gained:
            return ""
        left_s = elapsed / gained * (total - done)
        return f", {left_s / 60:.0f} min left" if left_s >= 90 else f", {left_s:.0f} s left"

    def stage_ends(self, name: str, summary: str, seconds: float) -> None:
        self._stop_bar()
        self._line(f"[bold]{name:<9}[/bold] {shown(summary)} [dim]({seconds:.1f} s)[/dim]")

    def stage_is_done(self, name: str, summary: str) -> None:
        self._line(f"[bold]{name:<9}[/bold] [dim]nothing to do:[/dim] {shown(summary)}")

    def note(self, text: str) -> None:
        for line in text.splitlines():
            self._line(f"          {shown(line)}")

    def table(self, title: str, header: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
        self.console.print(as_table(title, header, rows))

    def closing(self, result: dict[str, Any]) -> None:
        for line in closing_lines(result):
            self.console.print(line, soft_wrap=True)

    def stop(self) -> None:
        """Takes the live bar away, so that an error message stands alone."""
        self._stop_bar()

    def _stop_bar(self) -> None:
        if self._live is not None:
            self._live.stop()
            self._live = self._bar = self._task = None

    def _line(self, text: str) -> None:
        self.console.print(text, soft_wrap=True)


def _plain_cells(cells: Sequence[str]) -> str:
    """A teacher's cells in a line: those that say something."""
    name, *rest = cells
    named = zip(TEACHER_COLUMNS[1:], rest, strict=True)
    return f"{name}: " + ", ".join(
        f"{value} {column}".strip() for column, value in named if value not in ("", "0", "-")
    )


def shown(text: Any) -> str:
    """Text that a terminal and its markup show and do not obey."""
    return escape(visible(text))


def as_table(title: str, header: Sequence[str], rows: Sequence[Sequence[str]]) -> Table:
    """A small table; the first column is left-aligned, a cell ending in ` *` is marked."""
    whole = Text(visible(title), style="table.title", no_wrap=True, overflow="ignore")
    table = Table(title=whole if title else None, title_justify="left", box=None, pad_edge=False)
    for index, name in enumerate(header):
        # In a narrow terminal the others give way to the first two.
        table.add_column(shown(name), justify="left" if index == 0 else "right", no_wrap=index < 2)
    for row in rows:
        table.add_row(*(_marked(cell) for cell in row))
    return table


def _marked(cell: str) -> str:
    return f"[bold green]{shown(cell)}[/bold green]" if cell.endswith(" *") else shown(cell)


def estimate(value: dict[str, Any] | None) -> str:
    """A mean with its 95 % interval: `0.985 [.963, .994]`."""
    if value is None:
        return "-"
    lo, hi = (f"{value[end]:.3f}".removeprefix("0") for end in ("lo", "hi"))
    return f"{value['mean']:.3f} [{lo}, {hi}]"


def closing_lines(result: dict[str, Any]) -> list[Any]:
    """The last screen of a run, at most 20 lines of 80 columns for three tasks."""
    within = f"within {result['within']:.0%}"
    table = as_table("", ["task", "teacher", "baseline", "student", "its teacher", within], [])
    for column in table.columns[:-1]:
        column.no_wrap = True
    for name, task in result["tasks"].items():
        style = VERDICT_STYLE[task["verdict"]]
        first, *others = sorted(task["routed"], key=lambda name: -task["routed"][name])
        table.add_row(
            shown(name),
            shown(f"{first} + {len(others)}" if others else first),
            f"{task['baseline']['mean']:.2f} ->",
            estimate(task["student"]),
            estimate(task["teacher"]),
            f"[{style}]{task['verdict']}[/{style}]",
        )
    style = VERDICT_STYLE[result["verdict"]]
    facts = {
        "Gained": result["recovery_line"],
        "Forgot": result["general_line"],
        "Judge": result["judge_line"],
        "Cost": result["cost_line"],
        "Speed": result["speed_line"],
        "Report": result["paths"]["report"],
        "Student": result["paths"]["student"],
    }
    return [
        "",
        table,
        "",
        f"[bold {style}]{shown(result['sentence'])}[/bold {style}]",
        *(f"[bold]{name:<8}[/bold] {shown(text)}" for name, text in facts.items() if text),
        *(
            f"[bold]{'' if n else 'Next':<8}[/bold] {shown(t)}"
            for n, t in enumerate(result["next"])
        ),
    ]


def stdout_console() -> Console:
    """Where results go; in a file or a pipe wide enough for every table."""
    return Console(highlight=False, width=None if sys.stdout.isatty() else 120)


def stderr_console() -> Console:
    """Where errors go."""
    return Console(stderr=True, highlight=False, soft_wrap=True, file=sys.stderr)
