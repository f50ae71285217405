"""Set-up: does nothing twice, takes up what was cut off, replaces what is broken, says the way out."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.house.tree import ROOT
from tools import setup
from tools.setup import Paths, SetupFailed, Step

RECORD = "one/__init__.py,sha256=x,{size}\none-1.0.dist-info/RECORD,,\n"
INSTALLER = "one-1.0.dist-info/INSTALLER,,\n"


def package(site: Path, record: str) -> Path:
    """An installed package `one` with a module of 2 bytes."""
    info = site / "one-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "RECORD").write_text(record)
    (site / "one").mkdir()
    (site / "one" / "__init__.py").write_text("1\n")
    return info


@pytest.fixture
def paths(tmp_path: Path) -> Paths:
    """A project folder with a .venv that holds nothing."""
    here = Paths(tmp_path)
    (here.venv / "lib" / "python3.11" / "site-packages").mkdir(parents=True)
    here.cache.mkdir()
    return here


def step(paths: Paths, key: str = "1", code: str = "pass", name: str = "a step") -> Step:
    """A step whose work is a line in the file `done`."""
    work = f"open({str(paths.root / 'done')!r}, 'a').write('x'); {code}"
    return Step(name, key, lambda: True, lambda: [[[sys.executable, "-c", work]]])


def times_done(paths: Paths) -> int:
    done = paths.root / "done"
    return len(done.read_text()) if done.exists() else 0


@pytest.mark.parametrize(
    ("record", "is_whole"),
    [
        (RECORD.format(size=2) + INSTALLER, True),
        (RECORD.format(size=2), False),
        (RECORD.format(size=3) + INSTALLER, False),
        ("one/gone.py,sha256=x,5\n" + INSTALLER, False),
        ("", False),
    ],
    ids=["whole", "cut off before its end", "file cut short", "file missing", "no record"],
)
def test_a_package_is_whole_only_if_pip_finished_it(
    tmp_path: Path, record: str, is_whole: bool
) -> None:
    info = package(tmp_path, record)
    assert setup.whole(info) is is_whole
    assert setup.heal(tmp_path) == ([] if is_whole else ["one"])
    assert info.exists() is is_whole


def test_a_step_is_done_once_until_its_key_changes(paths: Paths) -> None:
    log = paths.cache / "log"
    assert setup.carry_out(paths, [step(paths)], log)
    assert not setup.carry_out(paths, [step(paths)], log)
    assert times_done(paths) == 1
    assert setup.carry_out(paths, [step(paths, key="2")], log)
    assert times_done(paths) == 2


def test_a_failed_step_says_the_way_out_and_is_done_again(paths: Paths) -> None:
    log = paths.cache / "log"
    with pytest.raises(SetupFailed, match="goes on from here") as failure:
        setup.carry_out(
            paths, [step(paths, code="print('no space left'); raise SystemExit(3)")], log
        )
    assert "exit code 3" in str(failure.value)
    assert "no space left" in str(failure.value)
    assert setup.carry_out(paths, [step(paths)], log)


def test_steps_before_a_failed_one_are_kept(paths: Paths) -> None:
    log = paths.cache / "log"
    first, second = step(paths), step(paths, name="another", code="raise SystemExit(1)")
    with pytest.raises(SetupFailed):
        setup.carry_out(paths, [first, second], log)
    setup.carry_out(paths, [first, step(paths, name="another")], log)
    assert times_done(paths) == 3


def test_the_halves_of_a_lock_hold_each_package_once(tmp_path: Path) -> None:
    lock = setup.LOCKS / "product.txt"
    first, second = (setup.pins(half) for half in setup.split(lock, tmp_path))
    assert first | second == setup.pins(lock)
    assert not first & second


def test_when_one_of_two_commands_fails_the_step_fails(paths: Paths) -> None:
    good, bad = ([sys.executable, "-c", f"raise SystemExit({code})"] for code in (0, 1))
    with pytest.raises(SetupFailed):
        setup.execute([good, bad], paths.cache / "log", "both")
    with pytest.raises(SetupFailed):
        setup.execute([bad, good], paths.cache / "log", "both")


def test_a_lock_is_there_only_with_each_of_its_versions(tmp_path: Path) -> None:
    lock = tmp_path / "lock.txt"
    lock.write_text("Some_Thing==1.0 \\\n    --hash=sha256:0\nother==2\n")
    for name in ("some.thing-1.0.dist-info", "other-1.dist-info"):
        (tmp_path / name).mkdir()
    assert not setup.pins(lock) <= setup.installed(tmp_path)
    (tmp_path / "other-2+cpu.dist-info").mkdir()
    assert setup.pins(lock) <= setup.installed(tmp_path)


@pytest.mark.parametrize("damage", ["dangling", "empty", "file", "moved"])
def test_a_broken_environment_is_replaced(tmp_path: Path, damage: str) -> None:
    paths = Paths(tmp_path)
    if damage == "file":
        paths.venv.write_text("")
    elif damage == "empty":
        paths.venv.mkdir()
    else:
        paths.python.parent.mkdir(parents=True)
        paths.python.symlink_to(sys.executable if damage == "moved" else "/nowhere/python")
        paths.stamp.write_text('{"venv": "/elsewhere/.venv"}')
    assert not setup.usable(paths)
    if damage == "dangling":  # making one takes seconds: once will do
        setup.make_venv(paths, tmp_path / "log")
        assert setup.usable(paths)
        assert setup.read_stamp(paths) == {"venv": str(paths.venv)}


def test_product_and_tests_do_not_undo_each_other(paths: Paths) -> None:
    product = {s.name: s.key for s in setup.steps(paths, dev=False)}
    dev = {s.name: s.key for s in setup.steps(paths, dev=True)}
    assert {name: dev[name] for name in product if name in dev} == {
        name: key for name, key in product.items() if name in dev
    }


@pytest.mark.parametrize("python", ["/nowhere/python", "/bin/false"])
def test_a_python_that_cannot_do_is_refused_with_the_way_out(python: str) -> None:
    command = [ROOT / "tools" / "python.sh"]
    asked = subprocess.run(
        command, env={**os.environ, "PYTHON": python}, capture_output=True, text=True
    )
    assert asked.returncode == 1
    assert asked.stdout == ""
    assert f"PYTHON={python}" in asked.stderr
    assert "3.11" in asked.stderr


def test_a_python_is_found_where_there_is_one() -> None:
    asked = subprocess.run(
        [ROOT / "tools" / "python.sh"],
        env={"PATH": f"{Path(sys.executable).parent}:/usr/bin:/bin"},
        capture_output=True,
        text=True,
    )
    assert Path(asked.stdout.strip()).exists()
