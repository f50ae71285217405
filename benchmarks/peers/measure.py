"""What every system of `benchmarks.generation` shares: the work, the meter, a peer's command line.

Peers' environments lack ours, so this is the standard library alone.
"""

import argparse
import json
import os
import resource
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

IN_FLIGHT, LATENCY_S = 100, 0.1
MAX_TOKENS = 64
CACHE = Path(__file__).resolve().parents[2] / ".cache"


def prompts(count: int) -> list[str]:
    """Different prompts of a sentence each."""
    return [f"Say in one sentence what the number {number} is good for." for number in range(count)]


class Meter:
    """Wall and CPU seconds from its making to `read`, and the peak memory of the largest process.

    CPU and memory are of this process and of the children that have ended by then.
    """

    def __init__(self) -> None:
        self._wall, self._cpu = time.monotonic(), _cpu_s()

    def read(self) -> dict[str, float]:
        """The figures until now."""
        kinds = (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
        peak = max(resource.getrusage(kind).ru_maxrss for kind in kinds)
        return {
            "wall_s": time.monotonic() - self._wall,
            "cpu_s": _cpu_s() - self._cpu,
            "rss_mib": peak / (2**20 if sys.platform == "darwin" else 1024),
        }


def _cpu_s() -> float:
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.process_time() + children.ru_utime + children.ru_stime


def main(run: Callable[[str, int, Path], dict[str, float]], settings: dict[str, str]) -> None:
    """A peer's command line: its figures as the last line of standard output.

    `run` gets the server's URL, the number of calls and an empty folder, which is also the home
    folder, so that a peer's caches are new and go with it. `settings` are environment variables.
    """
    parser = argparse.ArgumentParser()
    parser.add_argument("--url", required=True)
    parser.add_argument("--requests", type=int, default=1000)
    options = parser.parse_args()
    CACHE.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(dir=CACHE) as folder:
        homes = {"HOME": folder, "XDG_CACHE_HOME": f"{folder}/.cache", "HF_HOME": f"{folder}/hf"}
        os.environ.update({**homes, **settings})
        figures = run(options.url, options.requests, Path(folder))
    print("\n" + json.dumps(figures))
