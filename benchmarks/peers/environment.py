"""Each peer's environment under .cache/peers: made at its first use, from its pinned requirements.

The requirements were resolved by pip-compile for Python 3.11 on Linux; every file is checked by hash, save
torch and what its build adds: it is pinned by version, since its CPU and CUDA builds differ.
"""

import shutil
import subprocess
import sys
from pathlib import Path

from benchmarks.peers.measure import CACHE

HERE = Path(__file__).resolve().parent
ROUTERS = ("llmrouter",)  # peers of benchmarks.routing, which need torch; the others generate
PEERS = sorted({path.stem for path in HERE.glob("*.txt")} - set(ROUTERS))
TORCH = HERE.parents[1] / "tools" / "locks" / "torch.txt"


def python_of(name: str) -> Path:
    """The interpreter that has peer `name`; makes its environment where it is not whole."""
    requirements, venv = HERE / f"{name}.txt", CACHE / "peers" / name
    python, marker = venv / "bin" / "python", venv / "requirements.txt"
    wanted = requirements.read_text("utf-8")
    torch = TORCH.read_text("utf-8").strip() if name in ROUTERS else ""
    wanted += torch
    if marker.is_file() and marker.read_text("utf-8") == wanted:
        return python
    print(f"installing {name} (pinned) into {venv} ...", file=sys.stderr, flush=True)
    shutil.rmtree(venv, ignore_errors=True)
    execute([sys.executable, "-m", "venv", str(venv)], name)
    options = ["--quiet", "--no-input", "--require-hashes", "--no-deps", "-r", str(requirements)]
    execute([str(python), "-I", "-m", "pip", "install", *options], name)
    if torch:  # with what it needs: a CUDA build names libraries of its own
        execute([str(python), "-I", "-m", "pip", "install", "--quiet", "--no-input", torch], name)
    # Written last, so that it says that the installation came to its end.
    marker.write_text(wanted, "utf-8")
    return python


def execute(command: list[str], name: str) -> None:
    """Runs one step of an installation; its end is shown where it fails."""
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        output = (done.stdout + done.stderr)[-3000:]
        raise RuntimeError(f"{name} could not be installed: {' '.join(command)}\n{output}")
