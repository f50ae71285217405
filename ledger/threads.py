"""How many threads a network computes with, and how they wait.

    with threads_for(parameters):
        network.generate(...)

A small network's steps are too short to be shared: handing them to other threads costs more than it saves.
The count goes by the network's size alone, never by a measurement, because sums differ with it and a training
that goes on after a crash must come to the same weights.
"""

import contextlib
import os
from collections.abc import Iterator

SMALL = 1_000_000  # parameters (`docs/benchmarks.md`, "Threads")

# OpenMP's threads spin while they wait, which on a busy machine takes the time from the thread that works:
# a round of generation took 20 s instead of 1.4 s. Those that sleep at once are woken for every short step,
# which made steps of up to 3 million parameters slower than with one thread. So they spin for some 30 us first.
WAITING = {"OMP_WAIT_POLICY": "PASSIVE", "GOMP_SPINCOUNT": "10000"}


def waiting() -> dict[str, str]:
    """Environment variables that torch reads when it is loaded; none where the user has set the first."""
    return {} if "OMP_WAIT_POLICY" in os.environ else WAITING


@contextlib.contextmanager
def threads_for(parameters: int) -> Iterator[None]:
    """Computes with one thread where the network has fewer than a million parameters; else as torch is set."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1 if parameters < SMALL else before)
    try:
        yield
    finally:
        torch.set_num_threads(before)
