"""The fault suite: each row of what Tutelage survives, with its figure and its bar.

    python -m tests.faults          every row, one after the other (`make faults`; some ten minutes)
    python -m tests.faults 5 27     these

A row is a function of an empty folder. Faults are real: servers on loopback, processes that are killed.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ledger.prompts import Prompt
from ledger.store import Ledger
from router.engine import GenerateConfig, Purchase, Request, buy, sampling_of
from router.teachers import TeacherConfig, open_teacher
from tests.faults.server import MODEL, FaultServer


@dataclass(frozen=True, slots=True)
class Found:
    """What a row came to, in words, the bar that it is held to, and whether it is met."""

    report: str
    bar: str
    ok: bool


@dataclass(frozen=True, slots=True)
class Row:
    """A row of the table. `slow` ones take more than half a minute, `browser` ones need Chromium."""

    number: int
    title: str
    run: Callable[[Path], Found]
    slow: bool
    browser: bool


ROWS: dict[int, Row] = {}


def row(
    number: int, title: str, *, slow: bool = False, browser: bool = False
) -> Callable[..., Callable[[Path], Found]]:
    """Enters a function into the suite."""

    def enter(run: Callable[[Path], Found]) -> Callable[[Path], Found]:
        ROWS[number] = Row(number, title, run, slow, browser)
        return run

    return enter


def counted(wrong: int, what: str) -> Found:
    """A figure that has to be 0."""
    return Found(f"{wrong} {what}", "0", wrong == 0)


def share(right: int, all_: int, what: str) -> Found:
    """A figure that has to be whole."""
    return Found(f"{right} / {all_} {what}", f"{all_}", right == all_)


def prompts(count: int, word: str = "prompt") -> list[Prompt]:
    """Different prompts."""
    return [Prompt.of(f"{word} {number}") for number in range(count)]


class Shop:
    """A ledger in a folder, and purchases into it."""

    def __init__(self, folder: Path) -> None:
        self.ledger = Ledger(folder / "ledger")

    def buy(
        self, server: FaultServer | str, asked: list[Prompt], teacher: Any = None, **settings: Any
    ) -> Purchase:
        """Buys an answer to each prompt from a server, or from a URL."""
        url = server if isinstance(server, str) else server.url
        config = TeacherConfig(
            **{"http": MODEL, "url": url, "licence": "MIT", "max_in_flight": 8, **(teacher or {})}
        )
        wanted = GenerateConfig(**{"max_tokens": 8, "deadline_s": 5.0, **settings})
        with self.ledger.writing("fault suite"):
            self.ledger.put_all([part for prompt in asked for part in prompt.rows("test")])
            return buy(
                [Request(prompt, "t") for prompt in asked],
                {"t": open_teacher("t", config, Path())},
                self.ledger,
                sampling_of(wanted),
                wanted,
                stage="generate",
                run="r",
            )

    def ends(self) -> dict[str, tuple[str, str | None]]:
        """By prompt key, the newest state and error class."""
        rows = self.ledger.rows(
            "SELECT p.key, r.state, r.error_class FROM request r JOIN prompt p ON r.prompt = p.id "
            "QUALIFY row_number() OVER (PARTITION BY r.key ORDER BY r.id DESC) = 1"
        )
        return {key: (state, error) for key, state, error in rows}

    def texts(self) -> dict[str, str]:
        """By prompt key, the answers that could go into a mix."""
        return dict(
            self.ledger.rows(
                "SELECT p.key, x.text FROM sample s JOIN prompt p ON s.prompt = p.id "
                "JOIN sample_text x ON x.sample = s.id"
            )
        )

    def one(self, sql: str) -> Any:
        """The single value that a query gives."""
        return self.ledger.rows(sql)[0][0]


class Stopwatch:
    """Seconds on the monotonic clock since it was made."""

    def __init__(self) -> None:
        self._began = time.monotonic()

    @property
    def seconds(self) -> float:
        """So many by now."""
        return time.monotonic() - self._began
