"""What a stage is: a name, the inputs that decide its result, and the work."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from ledger.lineage import FAILED_STATES
from tutelage.watch import Watch
from tutelage.workspace import Workspace

Output = dict[str, Any]


# What the next run tries again: an `invalid` answer would come out alike.
RETRIED = tuple(state for state in FAILED_STATES if state != "invalid")


def is_settled(_: Workspace, output: Output) -> bool:
    """Whether no request of a stage is left that another run would try again."""
    return not any(output.get("states", {}).get(state) for state in RETRIED)


@dataclass(frozen=True, slots=True)
class Stage:
    """One step of the pipeline.

    `inputs` gives a JSON value over all that can change the result; its hash names the output, so
    what is there is not done again. `work` does it and returns what later stages and the report
    need. `summary` is its line on the terminal. `intact` says whether an earlier output still
    stands: its files are there, and no request waits to be tried again.
    """

    name: str
    what: str
    inputs: Callable[[Workspace], Any]
    work: Callable[[Workspace, Watch], Output]
    summary: Callable[[Output], str]
    intact: Callable[[Workspace, Output], bool] = is_settled
