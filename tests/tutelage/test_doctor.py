"""doctor: each lack is found and comes with what to do; keys are named and never shown."""

import json
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from tests.tutelage.recipes import TEACHER, write_recipe
from tutelage import doctor
from tutelage.doctor import Finding, diagnose
from tutelage.strict_yaml import RecipeError

CANARY = "sk-canary-that-nobody-may-see"


def found(findings: list[Finding], topic: str) -> Finding:
    """The one finding on a topic."""
    (finding,) = [f for f in findings if f.topic == topic]
    return finding


def test_this_environment_passes_and_every_lack_has_advice() -> None:
    findings = diagnose()
    assert [f.line for f in findings if f.ok is False] == []
    topics = {f.topic for f in findings}
    assert {"python", "packages", "names", "torch", "gpu", "vllm", "model hub", "disk"} <= topics


def test_loads_nothing_heavy() -> None:
    code = (
        "import sys; from tutelage.doctor import diagnose; diagnose(); "
        "print(sorted({'torch', 'transformers', 'litellm', 'sklearn', 'duckdb'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_keys_are_named_and_never_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ANTHROPIC_API_KEY", CANARY)
    monkeypatch.setenv("MY_OWN_API_KEY", CANARY)
    findings = diagnose()
    assert found(findings, "api keys").what == "ANTHROPIC_API_KEY, MY_OWN_API_KEY"
    assert CANARY not in json.dumps([f.as_dict() for f in findings])


def test_a_module_with_one_of_our_names_is_a_lack(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "evals").mkdir()
    (tmp_path / "evals" / "__init__.py").write_text("")
    monkeypatch.syspath_prepend(tmp_path)
    (finding,) = doctor.name_clashes()
    assert finding.ok is False
    assert f"`evals` in {tmp_path}" in finding.what
    assert finding.advice


def test_a_distribution_that_owns_one_of_our_names_is_a_lack(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    info = tmp_path / "coach-2.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: coach\nVersion: 2.0\n")
    (info / "RECORD").write_text("coach-2.0.dist-info/METADATA,,\ntrainer/__init__.py,,\n")
    monkeypatch.syspath_prepend(tmp_path)
    (finding,) = doctor.name_clashes()
    assert "`trainer` of the package coach" in finding.what


def test_a_package_outside_its_range_is_a_lack(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor.metadata, "requires", lambda _: ["pydantic>=99", "absent-thing"])
    (finding,) = doctor.packages()
    assert finding.ok is False
    assert "pydantic is 2" in finding.what
    assert "absent-thing is missing" in finding.what


def test_a_gpu_that_this_torch_cannot_use_is_noted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    smi = tmp_path / "nvidia-smi"
    smi.write_text("#!/bin/sh\necho 'NVIDIA H100 80GB HBM3, 81559 MiB'\n")
    smi.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    monkeypatch.setattr(doctor, "version_of", lambda _: "2.13.0+cpu")
    finding = doctor.gpu()
    assert finding.what == "NVIDIA H100 80GB HBM3, 81559 MiB"
    assert "built for CPUs" in finding.advice
    monkeypatch.setattr(doctor, "version_of", lambda _: "2.13.0")
    assert doctor.gpu().ok is True


def test_hub_offline_is_said_with_what_follows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    (tmp_path / "models--owner--name" / "snapshots" / "abc").mkdir(parents=True)
    assert "HF_HUB_OFFLINE" in doctor.hub().what
    assert doctor.model("m", "owner/name", tmp_path).ok is True
    assert doctor.model("m", "owner/other", tmp_path).ok is False
    monkeypatch.delenv("HF_HUB_OFFLINE")
    assert doctor.model("m", "owner/other", tmp_path).ok is None


def test_a_full_disk_is_a_lack(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = type("Usage", (), {"free": 10 * 2**20})
    monkeypatch.setattr(doctor.shutil, "disk_usage", lambda _: usage)
    assert doctor.disk(tmp_path / "not" / "yet").ok is False


def test_a_recipe_adds_what_it_needs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    with socket.socket() as listening, socket.socket() as unused:
        for one in (listening, unused):
            one.bind(("127.0.0.1", 0))
        listening.listen()
        up, down = (f"http://127.0.0.1:{s.getsockname()[1]}/v1" for s in (listening, unused))
        teachers = {
            "here": {"local": "no/such/folder", "licence": "x"},
            "up": {"http": "m", "url": up, "licence": "x"},
            "down": {"http": "m", "url": down, "licence": "x", "api_key_env": "KEY_OF_DOWN"},
            "hosted": {"litellm": "openai/m", "licence": "x"},
        }
        write_recipe(tmp_path, teachers=teachers)
        findings = diagnose(tmp_path / "recipe.yaml")
    assert found(findings, "teacher here").ok is False
    assert found(findings, "teacher up").ok is True
    assert [f.ok for f in findings if f.topic == "teacher down"] == [False, False]
    assert found(findings, "teacher hosted").advice == "export OPENAI_API_KEY=..."
    assert all(f.advice for f in findings if f.ok is False)


def test_a_broken_recipe_is_an_error_with_its_line(tmp_path: Path) -> None:
    write_recipe(tmp_path, teachers={"one": {**TEACHER, "licence": 3}})
    with pytest.raises(RecipeError, match=r"recipe.yaml:\d+"):
        diagnose(tmp_path / "recipe.yaml")
