"""What a stage is: a name, the inputs that decide its result, and the work."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from tutelage.watch import Watch
from tutelage.workspace import Workspace

Output = dict[str, Any]


def _always(_: Workspace, __: Output) -> bool:
    return True


@dataclass(frozen=True, slots=True)
class Stage:
    """One step of the pipeline.

    `inputs` gives a JSON value over all that can change the result; its hash names the output, so
    what is there is not done again. `work` does it and returns what later stages and the report
    need. `summary` is its line on the terminal. `intact` says whether the files that an output
    names are still there.
    """

    name: str
    what: str
    inputs: Callable[[Workspace], Any]
    work: Callable[[Workspace, Watch], Output]
    summary: Callable[[Output], str]
    intact: Callable[[Workspace, Output], bool] = _always
