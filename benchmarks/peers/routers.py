"""Routers of other packages for `benchmarks.routing`: each fit is a process in the peer's own environment."""

import os
import subprocess
import tempfile
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np

from benchmarks.peers import llmrouter
from benchmarks.peers.environment import python_of
from benchmarks.peers.measure import CACHE
from benchmarks.tables.baselines import Fit, Predict


def llmrouter_fit(
    router: str, vectors: np.ndarray, tasks: Sequence[str], scores: np.ndarray, seed: int
) -> Predict:
    """Trains anew at each call, since the peer's process ends: the chosen model gets 1, the others 0."""

    def predict(asked: np.ndarray, _: Sequence[str]) -> np.ndarray:
        with tempfile.TemporaryDirectory(dir=CACHE) as folder:
            np.savez(Path(folder) / "task.npz", vectors=vectors, scores=scores, asked=asked)
            command = [str(python_of("llmrouter")), "-m", "benchmarks.peers.llmrouter"]
            command += ["--router", router, "--seed", str(seed), "--folder", folder]
            settings = {**os.environ, **llmrouter.ENVIRONMENT}
            done = subprocess.run(
                command, capture_output=True, text=True, check=False, env=settings
            )
            if done.returncode:
                raise RuntimeError(f"LLMRouter's {router} failed:\n{done.stderr[-3000:]}")
            chosen = np.load(Path(folder) / "chosen.npy")
        found: np.ndarray = np.eye(scores.shape[1])[chosen]
        return found

    return predict


PEER_ROUTERS: dict[str, Fit] = {
    f"llmrouter_{name}": partial(llmrouter_fit, name) for name in llmrouter.ROUTERS
}
