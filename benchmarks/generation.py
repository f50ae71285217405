"""Our engine against a bare client and the peers: the same calls to the same loopback server, in turns.

    python -m benchmarks.generation --requests 1000 --systems ours,aiohttp --repeats 5
    python -m benchmarks.generation --requests 200000 --systems ours --repeats 1 --faults 0.05

Peers are named by their files in benchmarks/peers, which say how each is called. The server answers after
100 ms and 100 calls are in flight, for all. Wall is from the first send to the last answer: durable in our
ledger, in memory for the bare client. CPU is the whole process's, its children's included, after its
imports; memory the largest process's. Prints a table of medians and, as its last line, one JSON object.

With faults (ours alone), that share of the calls first meets one of the six that loopback.py names, and the
JSON adds: requests without an end, answers bought twice by the server's own count, and our memory in the
last quarter of the requests over that in the second: the most of each, folds included.
"""

import argparse
import contextlib
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

from benchmarks.peers.environment import PEERS, python_of
from benchmarks.peers.measure import CACHE, IN_FLIGHT, LATENCY_S, MAX_TOKENS, Meter, prompts

LOOK_S = 0.01  # between two looks at our memory, which take 20 us each; a fold takes 200 ms


def run_ours(url: str, count: int) -> dict[str, float]:
    """`router.engine.buy` into a ledger on disk."""
    import duckdb  # noqa: F401
    import numpy  # noqa: F401
    import psutil  # noqa: F401
    import pyarrow.json  # noqa: F401

    from ledger.prompts import Prompt
    from ledger.store import Ledger
    from router.engine import GenerateConfig, Progress, Request, buy, sampling_of
    from router.teachers import TeacherConfig, open_teacher

    config = TeacherConfig(http="m", url=url, licence="MIT", max_in_flight=IN_FLIGHT)
    settings = GenerateConfig(max_tokens=MAX_TOKENS, deadline_s=2.0)
    items = [Prompt.of(text) for text in prompts(count)]
    with tempfile.TemporaryDirectory(dir=CACHE) as folder:
        ledger = Ledger(Path(folder) / "ledger")
        with ledger.writing("benchmark"):
            for start in range(0, count, 10_000):
                part = items[start : start + 10_000]
                ledger.put_all([row for prompt in part for row in prompt.rows("benchmark")])
            ledger.fold()
            requests = [Request(prompt, "t") for prompt in items]
            teacher = open_teacher("t", config, Path())
            memory = [0.0] * 4  # the most in each quarter of the requests, MiB
            ended, over = 0, threading.Event()

            def look() -> None:
                while not over.wait(LOOK_S):
                    quarter = min(4 * ended // count, 3)
                    memory[quarter] = max(memory[quarter], rss_mib())

            def note(progress: Progress) -> None:
                nonlocal ended
                ended = progress.teachers["t"].done + progress.teachers["t"].failed

            threading.Thread(target=look, daemon=True).start()
            meter = Meter()
            purchase = buy(
                requests, {"t": teacher}, ledger, sampling_of(settings), settings,
                stage="generate", run="benchmark", on_progress=note,
            )  # fmt: skip
            found = {**meter.read(), "wall_s": purchase.seconds}
            over.set()
        ends = "SELECT count(DISTINCT key) FROM request WHERE state IN ('done', 'invalid')"
        found["lost"] = count - ledger.rows(ends)[0][0]
        found["rss_ratio"] = memory[3] / memory[1] if memory[1] else float("nan")
        assert set(purchase.failures) <= {"empty"}, purchase.failures
        return found


def rss_mib() -> float:
    """This process's memory now."""
    import psutil

    return float(psutil.Process().memory_info().rss / 2**20)


def run_aiohttp(url: str, count: int) -> dict[str, float]:
    """The bare client: posts, parses, keeps the answers in a list."""
    import asyncio

    import aiohttp

    answers = []

    async def main() -> None:
        connector = aiohttp.TCPConnector(limit=IN_FLIGHT)
        async with aiohttp.ClientSession(connector=connector) as session:
            queue = iter(prompts(count))

            async def work() -> None:
                for prompt in queue:
                    messages = [{"role": "user", "content": prompt}]
                    body = {"model": "m", "messages": messages, "max_tokens": MAX_TOKENS}
                    async with session.post(f"{url}/chat/completions", json=body) as response:
                        payload = await response.json()
                        answers.append(payload["choices"][0]["message"]["content"])

            await asyncio.gather(*(work() for _ in range(IN_FLIGHT)))

    meter = Meter()
    asyncio.run(main())
    found = meter.read()
    assert len(answers) == count
    return found


SYSTEMS: dict[str, Callable[[str, int], dict[str, float]]] = {
    "ours": run_ours,
    "aiohttp": run_aiohttp,
}


@contextlib.contextmanager
def serving(faults: float) -> Iterator[tuple[str, dict[str, float]]]:
    """A server's URL, and what it counted: there once it has ended."""
    counted: dict[str, float] = {}
    server = subprocess.Popen(
        [sys.executable, "-m", "benchmarks.peers.loopback", "--latency", str(LATENCY_S),
         "--faults", str(faults)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    with server:
        assert server.stdin is not None
        assert server.stdout is not None
        try:
            yield server.stdout.readline().strip(), counted
        finally:
            server.stdin.close()
        counted.update(json.loads(server.stdout.readline()))


def measure(system: str, url: str, count: int) -> dict[str, float]:
    """One system in a process of its own, a peer in its own environment too."""
    command = [sys.executable, "-m", "benchmarks.generation", "--child", system]
    if system in PEERS:
        command = [str(python_of(system)), "-m", f"benchmarks.peers.{system}"]
    command += ["--url", url, "--requests", str(count)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{system} failed:\n{done.stderr[-3000:]}")
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


def medians(runs: list[dict[str, float]], count: int) -> dict[str, float]:
    """What the table and the JSON line say of one system."""
    wall = statistics.median(run["wall_s"] for run in runs)
    cpu = statistics.median(run["cpu_s"] for run in runs)
    faulty = {} if "twice" not in runs[0] else {
        "lost": max(run["lost"] for run in runs),
        "doubled": max(run["twice"] for run in runs),
        "rss_last_over_second_quarter": round(max(run["rss_ratio"] for run in runs), 3),
    }  # fmt: skip
    return {
        "wall_s": round(wall, 3),
        "cpu_s_per_1000": round(1000 * cpu / count, 3),
        "efficiency": round(count * LATENCY_S / IN_FLIGHT / wall, 3),
        "rss_mib": round(statistics.median(run["rss_mib"] for run in runs), 1),
        **faulty,
    }


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--requests", type=int, default=1000)
    parser.add_argument("--systems", default="ours,aiohttp")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--faults", type=float, default=0.0, help="share of calls, for ours alone")
    parser.add_argument("--child", help=argparse.SUPPRESS)
    parser.add_argument("--url", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        print(json.dumps(SYSTEMS[options.child](options.url, options.requests)))
        return
    names = options.systems.split(",")
    if unknown := set(names) - {*SYSTEMS, *PEERS}:
        parser.error(f"no system {', '.join(unknown)}: there are {', '.join([*SYSTEMS, *PEERS])}")
    if options.faults and names != ["ours"]:
        parser.error("--faults is for `--systems ours`: the others end at the first one")
    for peer in set(names) & set(PEERS):
        python_of(peer)  # installed before anything is measured
    runs: dict[str, list[dict[str, float]]] = {name: [] for name in names}
    if options.faults:
        for _ in range(options.repeats):
            with serving(options.faults) as (url, counted):
                found = measure("ours", url, options.requests)
            runs["ours"].append({**found, **counted})
    else:
        with serving(0.0) as (url, _):
            for _ in range(options.repeats):
                for name in names:
                    runs[name].append(measure(name, url, options.requests))
    table = {name: medians(runs[name], options.requests) for name in names}
    print(f"{options.requests:,} calls, {IN_FLIGHT} in flight, {LATENCY_S * 1000:.0f} ms each, "
          f"median of {options.repeats}; {platform.processor() or platform.machine()}, "
          f"{os.cpu_count()} cores, Python {platform.python_version()}")  # fmt: skip
    print(f"{'':12} {'wall s':>8} {'CPU s/1000':>11} {'efficiency':>11} {'peak MiB':>9}")
    for name, at in table.items():
        print(f"{name:12} {at['wall_s']:8.2f} {at['cpu_s_per_1000']:11.3f} "
              f"{at['efficiency']:11.3f} {at['rss_mib']:9.0f}")  # fmt: skip
    print(json.dumps(table))


if __name__ == "__main__":
    main()
