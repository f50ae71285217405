"""The locks: everything but torch by hash, nothing of one machine, and in step with pyproject.toml."""

import re
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

from tests.house.tree import ROOT

LOCKS = ROOT / "tools" / "locks"
HASHED = ("product.txt", "dev.txt", "smollm2.txt", "pip.txt")
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
EXTRAS = PROJECT["optional-dependencies"]


def pins(*names: str) -> dict[str, Version]:
    """Package -> version of one or more locks."""
    text = "\n".join((LOCKS / name).read_text("utf-8") for name in names)
    found = re.findall(r"^([A-Za-z0-9._-]+)==([^\s\\]+)", text, re.MULTILINE)
    return {canonicalize_name(name): Version(version) for name, version in found}


@pytest.mark.parametrize("name", HASHED)
def test_every_package_of_a_lock_is_pinned_and_hashed(name: str) -> None:
    joined = (LOCKS / name).read_text("utf-8").replace("\\\n", " ")
    lines = [line for line in joined.splitlines() if line.strip() and not line.startswith("#")]
    assert lines
    wrong = [
        line
        for line in lines
        if not re.match(r"[\w.-]+==\S+(\s+--hash=sha256:[0-9a-f]{64})+\s*$", line)
    ]
    assert wrong == []


def test_torch_alone_is_pinned_without_hash() -> None:
    assert sorted(p.name for p in LOCKS.iterdir()) == sorted([*HASHED, "torch.txt"])
    assert re.fullmatch(r"torch==[\d.]+\n", (LOCKS / "torch.txt").read_text("utf-8"))


@pytest.mark.parametrize("path", sorted(LOCKS.iterdir()), ids=lambda p: p.name)
def test_no_lock_names_an_index_or_a_path(path: Path) -> None:
    text = path.read_text("utf-8")
    assert not re.search(r"://|(^|\s)(-i|-f|--index|--extra-index|--find-links|--trusted)", text)


@pytest.mark.parametrize(
    ("wanted", "locks"),
    [
        ([*PROJECT["dependencies"], *EXTRAS["quickstart"]], ["product.txt", "torch.txt"]),
        ([*EXTRAS["dev"], *EXTRAS["smollm2"]], ["product.txt", "dev.txt"]),
    ],
    ids=["product", "dev"],
)
def test_locks_meet_what_pyproject_asks_for(wanted: list[str], locks: list[str]) -> None:
    pinned = pins(*locks)
    for requirement in map(Requirement, wanted):
        version = pinned.get(canonicalize_name(requirement.name))
        assert version is not None, f"{requirement.name} is in no lock: run `make lock`"
        assert requirement.specifier.contains(version), f"{requirement} but {version} is locked"
