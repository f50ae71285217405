"""What a running pipeline tells whoever watches: a terminal, a notebook, nobody.

The stages call these; `terminal.Terminal` draws them, and `Watch` itself is silent.
"""

from collections.abc import Sequence
from typing import Any

TEACHER_COLUMNS = ("teacher", "done", "in flight", "per s", "tokens/s", "failed", "USD", "left", "")


class Watch:
    """A watcher that says nothing. Subclasses override what they show."""

    def stage_begins(self, name: str, what: str) -> None:
        """A stage starts its work."""

    def stage_ends(self, name: str, summary: str, seconds: float) -> None:
        """A stage has done its work."""

    def stage_is_done(self, name: str, summary: str) -> None:
        """A stage finds its work done by an earlier run."""

    def progress(
        self, done: float, total: float, text: str, teachers: Sequence[Sequence[str]] = ()
    ) -> None:
        """How far the present stage is, and each teacher in it: cells under TEACHER_COLUMNS."""

    def note(self, text: str) -> None:
        """Something worth a line of its own."""

    def table(self, title: str, header: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
        """A table worth seeing while the run goes on."""

    def closing(self, result: dict[str, Any]) -> None:
        """The run's last screen."""
