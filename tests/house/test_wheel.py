"""The wheel works where nothing of the clone is: an empty environment, another folder."""

import json
import os
import shutil
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

import pytest

from tests.house.tree import ROOMS, ROOT, files


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built from a copy so that the clone stays clean."""
    folder = tmp_path_factory.mktemp("wheel")
    for path in files():
        copy = folder / "source" / path.relative_to(ROOT)
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, copy)
    command = [
        "-m",
        "pip",
        "wheel",
        "--quiet",
        "--no-deps",
        "--no-build-isolation",
        "--no-index",
        "-w",
    ]
    subprocess.run([sys.executable, *command, folder, folder / "source"], check=True)
    (built,) = folder.glob("tutelage-*.whl")
    return built


@pytest.fixture(scope="module")
def environment(wheel: Path) -> Path:
    """A new environment with the wheel; libraries are lent by the one that runs the tests."""
    home = wheel.parent / "environment"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", home], check=True)
    python = home / "bin" / "python"
    install = ["install", "--quiet", "--no-deps", "--no-index", str(wheel)]
    subprocess.run([sys.executable, "-m", "pip", "--python", str(python), *install], check=True)
    (site,) = home.glob("lib/python*/site-packages")
    # Named in a .pth file, a folder's own .pth files are not read: the editable clone stays out.
    (site / "lent.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return home


def run(environment: Path, *words: str, cwd: Path) -> str:
    """What `tutelage WORDS` prints, started as a user would outside the clone."""
    clean = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "VIRTUAL_ENV")}
    command = [str(environment / "bin" / "tutelage"), *words]
    done = subprocess.run(command, cwd=cwd, env=clean, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_wheel_holds_the_rooms_with_their_data_and_nothing_else(wheel: Path) -> None:
    names = {n for n in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in n}
    expected = {
        str(path.relative_to(ROOT)) for path in files() if path.relative_to(ROOT).parts[0] in ROOMS
    }
    assert names == expected


def test_init_check_plan_and_doctor_work_outside_the_clone(
    environment: Path, tmp_path: Path
) -> None:
    python = str(environment / "bin" / "python")
    where = [python, "-c", "import tutelage, ledger; print(tutelage.__file__, ledger.__file__)"]
    printed = subprocess.run(where, cwd=tmp_path, capture_output=True, text=True, check=True).stdout
    assert all(str(environment) in path for path in printed.split())
    run(environment, "init", "mine.yaml", cwd=tmp_path)
    run(environment, "check", "mine.yaml", cwd=tmp_path)
    run(environment, "plan", "mine.yaml", cwd=tmp_path)
    findings = json.loads(run(environment, "doctor", "--json", cwd=tmp_path))
    assert [f for f in findings if f["ok"] is False] == []
    (packages,) = [f for f in findings if f["topic"] == "packages"]
    assert packages["ok"] is True
