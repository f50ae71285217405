"""Our import packages have common names; other distributions called `trainer` or `evals` exist."""

from importlib.util import find_spec
from pathlib import Path

from ledger.errors import TutelageError

PACKAGES = ("ledger", "router", "mixer", "trainer", "evals", "tutelage")


class NameClash(TutelageError):
    """Another package stands where one of ours is due."""


def refuse_clashes() -> None:
    """Raises NameClash where one of our names would import somebody else's package."""
    home = Path(__file__).resolve().parent.parent
    for name in PACKAGES:
        spec = find_spec(name)
        found = Path(spec.origin).resolve() if spec and spec.origin else None
        if found is None or found.parent.parent != home:
            raise NameClash(
                f"`{name}` is imported from {found}, not from {home / name}: another package has "
                "that name. Give Tutelage an environment of its own (`tutelage doctor` says whose it "
                "is), and do not start it from a folder that holds one."
            )
