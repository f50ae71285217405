"""What a stage is: a name, the inputs that decide its result, and the work."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from tutelage.watch import Watch
from tutelage.workspace import Workspace

Output = dict[str, Any]


RETRIED = ("failed", "over_budget", "cancelled")  # request states that the next run tries again


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
