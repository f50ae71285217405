"""Rows 1 to 4: a process that dies, a file that is damaged, a disk that is full, two at once."""

import random
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from ledger.errors import LedgerError
from ledger.store import DATABASE, Ledger
from tests.faults.server import FaultServer
from tests.faults.suite import Found, Stopwatch, row
from tests.router.engine import buying

IN_FLIGHT = 8
GROUP_S = 0.05  # an answer is durable so long after it arrived, at the latest


@dataclass(slots=True)
class Killed:
    """What came of a run that was killed again and again."""

    lost: int = 0
    doubled: int = 0
    excess: int = 0  # calls repeated beyond those in flight and the answers of the last 50 ms
    most_repeated: int = 0
    same: bool = False


def kill_and_resume(folder: Path, calls: int, kills: int, seed: int = 1) -> Killed:
    """Buys `calls` answers, SIGKILLs the buyer at random moments, and compares with an unkilled run."""
    folder.mkdir(exist_ok=True)
    dice, found = random.Random(seed), Killed()
    killed, whole = folder / "killed", folder / "whole"
    have: set[str] = set()
    with FaultServer(delay_s=0.02) as server:
        teacher = buying.teacher_file(folder / "teacher.json", server, IN_FLIGHT)
        for _ in range(kills):
            server.calls.clear()
            child = buying.start(killed, teacher, calls)
            time.sleep(dice.uniform(0.0, 2.0 * calls * 0.02 / IN_FLIGHT / kills))
            killed_at = time.monotonic()
            buying.kill(child)
            sent = [call.prompt for call in server.calls]
            late = [c for c in server.calls if (c.answered_at or 0) > killed_at - GROUP_S]
            now = {prompt for prompt, _ in buying.samples(killed)}
            found.lost += len(have - now)
            found.doubled += len(set(sent) & have) + len(sent) - len(set(sent))
            repeated = len(set(sent) - now)
            found.most_repeated = max(found.most_repeated, repeated)
            found.excess = max(found.excess, repeated - IN_FLIGHT - len(late))
            have = now
        buying.buy_all(killed, teacher, calls)
        buying.buy_all(whole, teacher, calls)
    found.lost += len(have - {prompt for prompt, _ in buying.samples(killed)})
    found.same = buying.samples(killed) == buying.samples(whole)
    return found


@row(1, "SIGKILL at 100 random moments", slow=True)
def kills(folder: Path) -> Found:
    """Not power loss: what the operating system had is not lost by a kill."""
    found = kill_and_resume(folder, calls=5000, kills=100)
    report = (
        f"{found.lost} lost, {found.doubled} doubled, {found.most_repeated} repeated at most "
        f"({max(found.excess, 0)} past the bound)"
    )
    fine = (found.lost, found.doubled, found.same) == (0, 0, True) and found.excess <= 0
    return Found(report, "0, 0, 0; same", fine)


TORN_CHILD = """
import sys
from pathlib import Path
from ledger.prompts import Prompt
from ledger.store import Ledger

connect = Ledger._connect_to_fold
def connect_without_checkpoint(self):
    db = connect(self)
    db.execute("PRAGMA disable_checkpoint_on_shutdown")
    return db
Ledger._connect_to_fold = connect_without_checkpoint
ledger = Ledger(Path(sys.argv[1]))
with ledger.writing("torn"):
    for number in range(40):
        prompt = Prompt.of(f"prompt {number} " + "x" * 200)
        ledger.put_all(prompt.rows("test"))
        ledger.fold()
"""


@row(2, "torn, flipped and truncated files")
def damage(folder: Path) -> Found:
    """DuckDB opens a torn log silently short: the head that is kept outside shows it."""
    whole = folder / "whole"
    subprocess.run([sys.executable, "-c", TORN_CHILD, str(whole)], check=True)
    log = f"{DATABASE}.wal"
    assert (whole / log).stat().st_size > 1000, "there is no log to damage"
    dice, detected, told = random.Random(2), 0, 0
    for number in range(40):
        place = folder / str(number)
        shutil.copytree(whole, place)
        name = log if number < 28 else DATABASE
        data = bytearray((place / name).read_bytes())
        position = dice.randrange(len(data) // 8, len(data) - 8)
        if 14 <= number < 28:
            data[position] ^= 1 << dice.randrange(8)
        else:
            del data[position:]
        (place / name).write_bytes(data)
        try:
            Ledger(place).verify()
        except LedgerError as error:
            detected += 1
            told += "backup" in str(error)
    report = f"{detected} / 40 detected, {told} say the way on"
    return Found(report, "40", (detected, told) == (40, 40))


FULL_CHILD = """
import resource, sys
from pathlib import Path
from ledger.errors import TutelageError
from tests.router.engine import buying
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[4]), resource.RLIM_INFINITY))
try:
    buying.buy_all(Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]))
except TutelageError as error:
    print(error)
    sys.exit(error.exit_code)
"""


@row(3, "disk full in mid-run")
def disk_full(folder: Path) -> Found:
    """A limit on the size of a file stands in for the full disk: writes fail the same way."""
    place, calls = folder / "ledger", 2000
    with FaultServer() as server:
        teacher = buying.teacher_file(folder / "teacher.json", server, IN_FLIGHT)
        buying.buy_all(place, teacher, 200)
        before = {prompt for prompt, _ in buying.samples(place)}
        limit = 64 * 1024 + max(p.stat().st_size for p in place.iterdir())
        done = subprocess.run(
            [sys.executable, "-c", FULL_CHILD, str(place), str(teacher), str(calls), str(limit)],
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        after = {prompt for prompt, _ in buying.samples(place)}
        server.calls.clear()
        buying.buy_all(place, teacher, calls)
        again = len({call.prompt for call in server.calls} & after)
    lost = len(before - after) + again
    named = str(place) in done.stdout
    report = f"{lost} lost, exit {done.returncode}, path {'named' if named else 'NOT named'}"
    return Found(report, "0, not 0, named", (lost, named) == (0, True) and done.returncode != 0)


@row(4, "two runs on a ledger, a reader")
def two_at_once(folder: Path) -> Found:
    """The second is told who is there; who only reads is answered meanwhile."""
    place, calls = folder / "ledger", 3000
    slowest_s = 0.0
    with FaultServer(delay_s=0.02) as server:
        teacher = buying.teacher_file(folder / "teacher.json", server, IN_FLIGHT)
        child = buying.start(place, teacher, calls)
        second = subprocess.run(
            [sys.executable, "-m", "tests.router.engine.buying", str(place), str(teacher), "10"],
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        while child.poll() is None:
            watch = Stopwatch()
            Ledger(place).rows("SELECT state, count(*) FROM request GROUP BY ALL")
            Ledger(place).waiting()
            slowest_s = max(slowest_s, watch.seconds)
            time.sleep(0.05)
        assert child.stdout is not None
        child.stdout.close()
    lost = calls - len(buying.samples(place))
    told = str(child.pid) in second.stderr
    report = (
        f"{lost} lost, second {'told' if told else 'NOT told'}, reader {slowest_s:.2f} s at most"
    )
    fine = (lost, told, child.returncode) == (0, True, 0) and slowest_s < 2.0
    return Found(report, "0, told, < 2 s", fine)
