"""Runs the fault suite and prints a table; exits with 1 where a bar is missed."""

import argparse
import sys
import tempfile
from pathlib import Path

from tests.faults.all_rows import ROWS
from tests.tutelage.report.browser import CHROMIUM, LACKING


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m tests.faults", description=__doc__)
    parser.add_argument("rows", nargs="*", type=int, help="numbers of rows; all by default")
    numbers = parser.parse_args().rows or sorted(ROWS)
    if unknown := [number for number in numbers if number not in ROWS]:
        parser.error(f"there is no row {unknown[0]}; there are {', '.join(map(str, sorted(ROWS)))}")
    print(f"{'row':>3}  {'fault':34}  {'report':58}  {'bar':14}  ok", flush=True)
    missed = 0
    for number in numbers:
        row = ROWS[number]
        if row.browser and CHROMIUM is None:
            print(f"{number:>3}  {row.title:34}  left out: {LACKING}", flush=True)
            continue
        with tempfile.TemporaryDirectory(prefix=f"fault-{number}-") as folder:
            found = row.run(Path(folder))
        missed += not found.ok
        ok = "yes" if found.ok else "NO"
        print(f"{number:>3}  {row.title:34}  {found.report:58}  {found.bar:14}  {ok}", flush=True)
    sys.exit(1 if missed else 0)


if __name__ == "__main__":
    main()
