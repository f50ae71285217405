"""Kills a run with SIGKILL at random moments, resumes it each time, and compares it with an unkilled one.

    python -m tests.faults.kills recipes/quickstart.yaml --kills 20 --seed 1

Prints what was lost, what was bought twice, and whether the results agree. SIGKILL is not power loss.
"""

import argparse
import json
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from ledger.store import Ledger

TIMED = ("stages_s", "speed", "speed_line", "cost_line", "paths", "next")


def lasting(result: dict[str, Any]) -> dict[str, Any]:
    """A result without what differs between two runs: times, speed, memory, places."""
    return {key: value for key, value in result.items() if key not in TIMED}


def start(recipe: Path, run: Path) -> subprocess.Popen[str]:
    """The command as a person would start it, its output in a file beside the run."""
    run.parent.mkdir(parents=True, exist_ok=True)
    log = (run.parent / "log.txt").open("a")
    words = [sys.executable, "-m", "tutelage", "run", str(recipe), "--run", str(run)]
    return subprocess.Popen(words, stdout=log, stderr=log, text=True)


def finish(recipe: Path, run: Path) -> dict[str, Any]:
    """Runs to the end, and gives the result."""
    if (code := start(recipe, run).wait()) != 0:
        raise RuntimeError(f"exit {code}:\n{(run.parent / 'log.txt').read_text()[-2000:]}")
    result: dict[str, Any] = json.loads((run / "result.json").read_text("utf-8"))
    return result


def killed_run(recipe: Path, run: Path, kills: int, span_s: float, seed: int) -> dict[str, Any]:
    """A run that is killed `kills` times, each after a random part of `span_s`; then finished."""
    moments = random.Random(seed)
    seen: set[str] = set()
    lost: set[str] = set()
    for _ in range(kills):
        child = start(recipe, run)
        time.sleep(moments.uniform(0.2, span_s))
        child.send_signal(signal.SIGKILL)
        child.wait()
        now = acknowledged(run.parent / "ledger")
        lost |= seen - now
        seen |= now
    result = finish(recipe, run)
    lost |= seen - acknowledged(run.parent / "ledger")
    return {"result": result, "lost": len(lost), **counts(run.parent / "ledger")}


def acknowledged(folder: Path) -> set[str]:
    """Keys of the samples that are durable now, folded or not."""
    if not (folder / "inbox.sqlite").exists():
        return set()
    ledger = Ledger(folder)
    with ledger.writing("counting what a killed run left"):
        pass
    if not ledger.database.exists():
        return set()
    return {row[0] for row in ledger.rows("SELECT key FROM sample")}


def counts(folder: Path) -> dict[str, int]:
    """Requests, those with more than one final state, and answers that were acknowledged twice."""
    ledger = Ledger(folder)
    final = "state IN ('done', 'truncated', 'refused', 'filtered')"
    return {
        "requests": ledger.rows("SELECT count(DISTINCT key) FROM request")[0][0],
        "doubled": ledger.rows(
            f"SELECT count(*) FROM (SELECT key FROM request WHERE {final} GROUP BY key "
            "HAVING count(*) > 1)"
        )[0][0],
        "open": ledger.rows(
            "SELECT count(*) FROM (SELECT state FROM request QUALIFY row_number() OVER "
            f"(PARTITION BY key ORDER BY id DESC) = 1) WHERE NOT {final}"
        )[0][0],
    }


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("recipe", type=Path)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--reference", type=Path, help="result.json of an unkilled run")
    options = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="kills-"))
    began = time.monotonic()
    if options.reference:
        whole = json.loads(options.reference.read_text("utf-8"))
        span_s = 2.2 * sum(whole["stages_s"].values()) / options.kills
    else:
        whole = finish(options.recipe, folder / "whole" / "run")
        span_s = 2.2 * (time.monotonic() - began) / options.kills
    found = killed_run(
        options.recipe, folder / "killed" / "run", options.kills, max(span_s, 8.0), options.seed
    )
    same = lasting(found.pop("result")) == lasting(whole)
    print(json.dumps({"kills": options.kills, "seed": options.seed, "same_result": same, **found}))
    shutil.rmtree(folder)
    sys.exit(0 if same and not found["lost"] and not found["doubled"] else 1)


if __name__ == "__main__":
    main()
