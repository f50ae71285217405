"""Rows 5, 6, 7, 13: calls that are refused, fail on the way, or never end."""

import itertools
import socket
import time
from collections.abc import Callable
from email.utils import formatdate
from pathlib import Path
from threading import Thread
from unittest import mock

from ledger.prompts import Prompt
from tests.faults.server import (
    Call,
    FaultServer,
    Reply,
    always,
    completion,
    dripping,
    payload,
    reset,
    silent,
    status,
)
from tests.faults.suite import Found, Shop, Stopwatch, counted, prompts, row, share


@row(5, "429 with Retry-After", slow=True)
def retry_after(folder: Path) -> Found:
    """Seconds, an HTTP date, nonsense, and a server that asks for ever more; all at once."""
    asked_s = {"2": 2.0, "61": 61.0, "120": 120.0, "date": 5.0, "-3": 0.0, "nan": 0.0}
    seen: dict[str, list[float]] = {name: [] for name in [*asked_s, "escalating"]}
    waits = iter([1.0, 15.0, 30.0])

    def rule(call: Call) -> Reply | None:
        name = call.prompt
        seen[name].append(call.at)
        if name == "escalating":
            wait = next(waits, None)
            return status(429, {"Retry-After": str(wait)}) if wait else None
        if len(seen[name]) > 1:
            return None
        now = time.time()
        if name == "date":
            return status(
                429,
                {
                    "Retry-After": formatdate(now + 5, usegmt=True),
                    "Date": formatdate(now, usegmt=True),
                },
            )
        return status(429, {"Retry-After": name})

    early, worst = 0, float("inf")
    threads = [_in_thread(folder / name.strip("-"), name, rule) for name in seen]
    for thread in threads:
        thread.join()
    for name, wait in asked_s.items():
        first, second = seen[name]
        if wait:
            worst = min(worst, (second - first) / wait)
            early += second - first < wait - (
                1.0 if name == "date" else 0.0
            )  # dates are whole seconds
    gaps = [b - a for a, b in itertools.pairwise(seen["escalating"])]
    early += sum(gap < wait for gap, wait in zip(gaps, (1.0, 15.0, 30.0), strict=True))
    worst = min(worst, *(gap / wait for gap, wait in zip(gaps, (1.0, 15.0, 30.0), strict=True)))
    nonsense = max(seen[name][1] - seen[name][0] for name in ("-3", "nan"))
    report = f"{early} early, slept / asked {worst:.2f}; bad values {nonsense:.1f} s"
    return Found(report, "0 early", early == 0 and nonsense < 5 and worst >= 0.8)


def _in_thread(folder: Path, name: str, rule: Callable[[Call], Reply | None]) -> Thread:
    """Buys one answer, beside the others."""

    def run() -> None:
        with FaultServer(rule=rule) as server:
            Shop(folder).buy(server, [Prompt.of(name)])

    thread = Thread(target=run)
    thread.start()
    return thread


@row(6, "500, 502, 503, reset, DNS, refused")
def errors_on_the_way(folder: Path) -> Found:
    """Each fault gets its class, and is repeated only where it passes."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        closed = f"http://127.0.0.1:{probe.getsockname()[1]}/v1"
    faults: dict[str, tuple[Reply | None, str, bool]] = {
        "500": (status(500), "server_error", True),
        "502": (status(502), "server_error", True),
        "503": (status(503), "unavailable", True),
        "reset": (reset, "connection_lost", True),
        "400": (status(400), "bad_request", False),
        "422": (status(422), "bad_request", False),
    }
    right = 0
    for name, (reply, error, passes) in faults.items():
        shop = Shop(folder / name)
        with FaultServer(rule=always(reply)) as server:
            shop.buy(server, prompts(1), retries=1)
            ends = {end for _, end in shop.ends().values()}
            right += ends == {error} and len(server.calls) == 1 + passes
    for name, url, known in (
        ("dns", "http://no-such-host.invalid/v1", {"unknown_host", "dns"}),
        ("refused", closed, {"connection_refused"}),
    ):
        shop = Shop(folder / name)
        shop.buy(url, prompts(1), retries=1)
        right += {end for _, end in shop.ends().values()} <= known
    return share(right, len(faults) + 2, "classes, repeats as they should")


@row(7, "slow-loris body, silent server")
def never_ends(folder: Path) -> Found:
    """The deadline is on the wall clock, for the whole call."""
    overrun = 0.0
    for name, reply in (("drip", dripping(600)), ("silent", silent(600))):
        with FaultServer(rule=always(reply)) as server:
            watch = Stopwatch()
            Shop(folder / name).buy(server, prompts(4), deadline_s=1.0, retries=0)
            overrun = max(overrun, watch.seconds - 1.0)
    return Found(f"overrun {overrun:.2f} s, with the purchase around it", "<= 1 s", overrun <= 1.0)


@row(13, "clock jumps by an hour")
def clock_jumps(folder: Path) -> Found:
    """Cooldowns and deadlines are counted on the monotonic clock."""
    real, jumps = time.time, itertools.cycle([3600, -3600])
    errors = []
    with mock.patch("time.time", side_effect=lambda: real() + next(jumps)):
        with FaultServer() as server:
            server.script(status(429, {"Retry-After": "1"}))
            watch = Stopwatch()
            Shop(folder / "hold").buy(server, prompts(1))
            errors.append(server.calls[1].at - server.calls[0].at - 1.0)
        with FaultServer(rule=always(silent(60))) as server:
            watch = Stopwatch()
            Shop(folder / "late").buy(server, prompts(1), deadline_s=1.0, retries=0)
            errors.append(watch.seconds - 1.0)
    worst = max(map(abs, errors))
    return Found(f"error {worst:.2f} s", "< 1 s", worst < 1.0)


@row(12, "one poisoned row of 100")
def poisoned(folder: Path) -> Found:
    """A row that breaks its call, and one whose answer breaks, lose no other."""
    shop = Shop(folder)
    bad = {"prompt 17": status(400), "prompt 71": _half_a_character()}
    with FaultServer(rule=lambda call: bad.get(call.prompt)) as server:
        purchase = shop.buy(server, prompts(100))
    return counted(98 - purchase.states.get("done", 0), "other rows lost")


def _half_a_character() -> Reply:
    return payload(completion("half \udfff"))
