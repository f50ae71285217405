"""The real vLLM (its CPU build will do) as a server of ours. Put it on PATH: CONTRIBUTING.md says how."""

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from ledger.prompts import Prompt
from ledger.store import Ledger
from recipes.smollm2.plain_model import convert
from router.engine import GenerateConfig, Request, answers, buy, sampling_of
from router.teachers import TeacherConfig, open_teacher
from router.teachers.opening import open_local
from router.teachers.server import ModelServer, stop_servers
from router.teachers.vllm import VllmTeacher

pytestmark = [pytest.mark.vllm, pytest.mark.slow, pytest.mark.timeout(900)]
CPU = {"VLLM_CPU_KVCACHE_SPACE": "1", "HF_HUB_OFFLINE": "1"}
ARGUMENTS = "--dtype float32 --max-model-len 1024 --enforce-eager --max-num-seqs 8"
SETTINGS = GenerateConfig(max_tokens=16, deadline_s=120.0)


@pytest.fixture(autouse=True)
def _on_a_cpu(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    for name, value in CPU.items():
        monkeypatch.setenv(name, value)
    yield
    stop_servers()


def make(
    name: str, model: Path, logs: Path, share: float = 0.4, system: str | None = None
) -> VllmTeacher:
    """SmolLM2 as a teacher."""
    arguments = f"{ARGUMENTS} --gpu-memory-utilization {share}"
    config = TeacherConfig.model_validate(
        {"vllm": str(model), "licence": "Apache-2.0", "args": arguments, "system": system}
    )
    teacher = open_teacher(name, config, Path(), logs)
    assert isinstance(teacher, VllmTeacher)
    return teacher


def order(ledger: Ledger, teachers: list[VllmTeacher], count: int = 6) -> dict[Any, str]:
    """Buys, and gives the texts."""
    prompts = [Prompt.of(f"What is {i} plus {i}?") for i in range(count)]
    ledger.put_all([row for prompt in prompts for row in prompt.rows("test")])
    requests = [Request(prompt, teacher.name) for teacher in teachers for prompt in prompts]
    by_name: dict[str, Any] = {teacher.name: teacher for teacher in teachers}
    sampling = sampling_of(SETTINGS)
    bought = buy(requests, by_name, ledger, sampling, SETTINGS, stage="generate", run="r")
    assert set(bought.states) <= {"done", "truncated"}, bought.failures
    found = answers(ledger, requests, by_name, sampling)
    assert len(found) == len(requests)
    return {key: answer.text for key, answer in found.items()}


def served(model: Path) -> list[psutil.Process]:
    """The processes that serve a model, with all that they have started."""
    found = []
    for process in psutil.process_iter(["cmdline"]):
        if f"serve {model} " in " ".join(process.info["cmdline"] or []):
            found += [process, *process.children(recursive=True)]
    return found


def alive(processes: list[psutil.Process]) -> list[psutil.Process]:
    """Those that are left, after half a minute at most."""
    return list(psutil.wait_procs(processes, timeout=30)[1])


def test_started_served_adopted_and_stopped(ledger: Ledger, tmp_path: Path) -> None:
    model = convert()
    first = make("a", model, tmp_path)
    texts = order(ledger, [first])
    assert all(texts.values())
    processes = served(model)
    assert len(processes) > 2  # supervisor, server, engine
    server = first.server
    other = ModelServer(server.served, share=server.share, gpus=None, log=server.log)
    asyncio.run(other.start())  # as another process would
    assert other.url == server.url
    assert not other.is_running  # it is the first one's
    stop_servers()
    assert not any(process.is_running() for process in processes)


def test_two_that_do_not_fit_take_turns(ledger: Ledger, tmp_path: Path) -> None:
    model = convert()
    twin = tmp_path / "twin"
    twin.mkdir()
    for file in model.iterdir():
        (twin / file.name).hardlink_to(file)
    order(ledger, [make("a", model, tmp_path, 0.7), make("b", twin, tmp_path, 0.7, "Be brief.")])
    assert [server.served.path for server in ModelServer.started] == [str(twin)]
    assert not served(model)
    assert served(twin)


def test_it_ends_with_a_parent_that_is_killed(tmp_path: Path) -> None:
    model = convert()
    parent = subprocess.Popen(
        [sys.executable, "-m", "tests.router.teachers.test_real_vllm", model, tmp_path],
        stdout=subprocess.PIPE,
        cwd=Path(__file__).parents[3],
    )
    assert parent.stdout is not None
    assert parent.stdout.readline() == b"served\n"
    processes = served(model)
    assert len(processes) > 2
    parent.kill()
    assert parent.wait() == -signal.SIGKILL
    parent.stdout.close()
    assert not alive(processes)


if __name__ == "__main__":
    os.environ.update(CPU)
    orphan = make("t", Path(sys.argv[1]), Path(sys.argv[2]))
    asyncio.run(orphan.server.start())
    print("served", flush=True)
    time.sleep(600)


def test_texts_are_foretold_as_in_this_process(tmp_path: Path) -> None:
    model = convert()
    served, here = make("served", model, tmp_path), open_local("here", model, dtype="float32")
    ids = served.tokenizer()("The capital of France is Paris. 日本 naïve")["input_ids"]
    rows = [(ids, 1), (ids[:6], 3)]
    told = asyncio.run(served.top_k(rows, 128, 49_152, 1.0))
    for (got, p), (own, q) in zip(
        told, asyncio.run(here.top_k(rows, 32, 49_152, 1.0)), strict=True
    ):
        assert p.shape == (len(q), 128)
        by_id = [dict(zip(*row, strict=True)) for row in zip(got.tolist(), p.tolist(), strict=True)]
        for i, row in enumerate(own.tolist()):
            found = [by_id[i].get(number, 0.0) for number in row]
            assert found == pytest.approx(q[i].tolist(), rel=0.02, abs=1e-3)
