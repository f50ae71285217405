"""Servers of our own: started when they are needed, shared, never left behind."""

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest

from ledger.prompts import Prompt
from ledger.store import Ledger
from router.engine import GenerateConfig, Purchase, Request, buy, sampling_of
from router.teachers import TeacherConfig, open_teacher
from router.teachers.errors import CallError, TeacherUnavailable
from router.teachers.prompt_logprobs import read_places, top_of
from router.teachers.server import ModelServer, stop_servers
from router.teachers.vllm import VllmTeacher

FAKE = Path(__file__).parent / "fake_vllm.py"
Make = Callable[..., VllmTeacher]


@pytest.fixture
def diary(tmp_path: Path) -> Path:
    """Which servers were ever started: name, process, runaway."""
    path = tmp_path / "diary"
    path.touch()
    return path


@pytest.fixture
def make(tmp_path: Path, diary: Path) -> Iterator[Make]:
    """`make(name, share, **fields)`: a teacher whose server is ours."""

    def teacher(name: str, share: float = 0.4, *args: str, **fields: Any) -> VllmTeacher:
        config = TeacherConfig(
            vllm=f"{tmp_path.name}/{name}",
            licence="MIT",
            command=[sys.executable, str(FAKE)],
            args=["--gpu-memory-utilization", str(share), f"--diary={diary}", *args],
            **fields,
        )
        return managed(name, config, tmp_path)

    yield teacher
    stop_servers()


def managed(name: str, config: TeacherConfig, folder: Path) -> VllmTeacher:
    opened = open_teacher(name, config, folder, folder / "logs")
    assert isinstance(opened, VllmTeacher)
    return opened


def twin(server: ModelServer) -> ModelServer:
    return ModelServer(server.served, share=server.share, gpus=server.gpus, log=server.log)


def lives(diary: Path) -> list[str]:
    """The names of the servers that were started, in order."""
    return [json.loads(line)[0].split("/")[1] for line in diary.read_text().splitlines()]


def processes(diary: Path) -> list[int]:
    return [pid for line in diary.read_text().splitlines() for pid in json.loads(line)[1:]]


def left_over(diary: Path) -> list[int]:
    """Processes that outlived their server, after a moment to die in."""
    until = time.monotonic() + 10
    while time.monotonic() < until:
        alive = [pid for pid in processes(diary) if is_alive(pid)]
        if not alive:
            return []
        time.sleep(0.02)
    return alive


def is_alive(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def order(ledger: Ledger, teachers: list[VllmTeacher], words: str = "hello") -> Purchase:
    prompts = [Prompt.of(f"{words} {i}") for i in range(3)]
    ledger.put_all([row for prompt in prompts for row in prompt.rows("test")])
    settings = GenerateConfig(max_tokens=8, deadline_s=5.0, retries=1)
    requests = [Request(prompt, teacher.name) for teacher in teachers for prompt in prompts]
    by_name: dict[str, Any] = {teacher.name: teacher for teacher in teachers}
    return buy(
        requests, by_name, ledger, sampling_of(settings), settings, stage="generate", run="r"
    )


def test_server_is_started_kept_for_the_next_purchase_and_stopped(
    ledger: Ledger, make: Make, diary: Path
) -> None:
    teacher = make("a")
    assert order(ledger, [teacher]).states == {"done": 3}
    assert order(ledger, [teacher], "more").states == {"done": 3}
    assert lives(diary) == ["a"]
    stop_servers()
    assert not left_over(diary)
    assert "INFO loading" in teacher.server.log.read_text()


def test_nothing_is_started_where_nothing_is_to_be_bought(
    ledger: Ledger, make: Make, diary: Path
) -> None:
    order(ledger, [make("a")])
    stop_servers()
    assert order(ledger, [make("a")]).reused == 3
    assert lives(diary) == ["a"]


def test_teachers_that_fit_run_together(ledger: Ledger, make: Make, diary: Path) -> None:
    assert order(ledger, [make("a", 0.4), make("b", 0.6)]).states == {"done": 6}
    assert sorted(lives(diary)) == ["a", "b"]
    assert len(ModelServer.started) == 2


def test_turns_start_each_as_few_times_as_possible(ledger: Ledger, make: Make, diary: Path) -> None:
    teachers = [make("a", 0.9), make("b", 0.9), make("c", 0.9)]
    assert order(ledger, teachers).states == {"done": 9}
    assert lives(diary) == ["a", "b", "c"]
    assert order(ledger, teachers, "more").states == {"done": 9}
    assert lives(diary)[3:] == ["a", "b"]  # c was running, and came first
    assert order(ledger, teachers[:1], "again").states == {"done": 3}
    assert lives(diary)[5:] == ["a"]
    assert len(ModelServer.started) == 1


def test_teachers_on_their_own_gpus_need_no_turns(ledger: Ledger, make: Make, diary: Path) -> None:
    order(ledger, [make("a", 0.9, gpus=[0]), make("b", 0.9, gpus=[1])])
    assert len(ModelServer.started) == 2
    order(ledger, [make("c", 0.3)])  # on all of them
    assert len(ModelServer.started) == 1


def test_server_that_runs_already_is_adopted_and_left_alone(
    ledger: Ledger, make: Make, diary: Path
) -> None:
    teacher = make("a")
    other = twin(teacher.server)  # as another process would have it
    asyncio.run(other.start())
    assert order(ledger, [teacher]).states == {"done": 3}
    assert teacher.server.url == other.url
    teacher.server.stop()
    assert other.is_running
    assert lives(diary) == ["a"]


@pytest.mark.parametrize("share", [0.4, 0.9])
def test_teachers_of_one_model_share_its_server(
    ledger: Ledger, make: Make, diary: Path, share: float
) -> None:
    teachers = [make("a", share), make("b", share), make("a", share, system="Be brief.")]
    teachers[2].name = "c"
    for words in ("hello", "more"):
        assert order(ledger, teachers, words).states == {"done": 9}
    assert sorted(lives(diary)) == (["a", "b"] if share == 0.4 else ["a", "a", "b"])


def test_two_starts_at_one_port_end_with_one_server(make: Make, diary: Path) -> None:
    one = make("a").server
    other = twin(one)

    async def both() -> None:
        await asyncio.gather(one.start(), other.start())

    asyncio.run(both())
    assert sorted([one.is_running, other.is_running]) == [False, True]
    assert one.death() is None
    assert other.death() is None


def test_server_of_another_model_or_quantisation_is_not_adopted(make: Make, diary: Path) -> None:
    plain, other, eight_bit = make("a"), make("b"), make("a", 0.4, "--quantization", "fp8")
    for teacher in (plain, other, eight_bit):
        asyncio.run(teacher.server.start())
    assert lives(diary) == ["a", "b", "a"]
    assert len({plain.key, other.key, eight_bit.key}) == 3


def test_taken_port_is_told(make: Make) -> None:
    asyncio.run(make("a", 0.4, "--port", "28123").server.start())
    with pytest.raises(CallError, match="port 28123 is taken by something that does not serve"):
        asyncio.run(make("b", 0.4, "--port=28123").server.start())


def test_server_that_dies_at_its_start_shows_its_last_lines_and_others_go_on(
    ledger: Ledger, make: Make
) -> None:
    purchase = order(ledger, [make("bad", 0.4, "--fails"), make("good")])
    assert purchase.states == {"done": 3, "failed": 3}
    assert list(purchase.paused) == ["bad"]
    told = purchase.failures["server_died"].example
    assert "exit code 3" in told
    assert "ValueError: this model has no such architecture" in told
    assert "vllm-bad.log" in told


def test_server_that_dies_at_work_is_told_with_its_last_lines(
    ledger: Ledger, make: Make, diary: Path
) -> None:
    purchase = order(ledger, [make("a")], "please die")
    assert purchase.states == {"failed": 3}
    assert "RuntimeError: out of memory" in purchase.failures["server_died"].example
    assert not left_over(diary)
    assert order(ledger, [make("a")]).states == {"done": 3}  # it is started again
    assert len(ModelServer.started) == 1


def test_program_that_is_not_there_is_told_before_anything_starts(tmp_path: Path) -> None:
    config = TeacherConfig(vllm="m", licence="MIT", command=["bin/no-vllm"])
    with pytest.raises(TeacherUnavailable, match=r"there is no program .*bin/no-vllm.*`command:"):
        open_teacher("a", config, tmp_path).require_ready()


def test_args_say_nothing_that_is_ours_to_say() -> None:
    with pytest.raises(ValueError, match="must not hold --host"):
        TeacherConfig(vllm="m", licence="MIT", args=["--host=0.0.0.0"])
    with pytest.raises(ValueError, match="`args` is for a server that Tutelage starts"):
        TeacherConfig(vllm="m", licence="MIT", url="http://127.0.0.1:1/v1", args=["-x"])
    for wrong in ("--gpu_memory_utilization 90", "--port abc", "--gpu-memory-utilization much"):
        with pytest.raises(ValueError, match="must be above 0"):
            TeacherConfig.model_validate({"vllm": "m", "licence": "MIT", "args": wrong})
    with pytest.raises(ValueError, match="must not hold --api-key"):
        TeacherConfig(vllm="m", licence="MIT", args=["--api_key=x"])
    written = TeacherConfig.model_validate(
        {"vllm": "m", "licence": "MIT", "args": "--a 1 --b", "command": "env X=1 vllm"}
    )
    assert written.args == ["--a", "1", "--b"]
    assert written.command == ["env", "X=1", "vllm"]


def test_arguments_reach_the_program_word_for_word(make: Make, tmp_path: Path) -> None:
    words = ("--lora-modules", "a=b", "c=d", "--sizes", "1", "2", "4")
    command = make("a", 0.4, *words).server.served.command
    assert command[-7:] == words
    config = TeacherConfig(vllm="m", licence="MIT", command=["./vllm"])
    (tmp_path / "vllm").symlink_to(sys.executable)
    assert managed("v", config, tmp_path).server.served.command[0] == str(tmp_path / "vllm")


def test_how_a_model_is_served_is_not_in_its_key(make: Make) -> None:
    assert make("a", 0.3).key == make("a", 0.5, "--max-num-seqs", "4").key


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM])
def test_server_ends_with_its_parent(tmp_path: Path, diary: Path, how: signal.Signals) -> None:
    parent = subprocess.Popen(
        [sys.executable, "-m", "tests.router.teachers.test_vllm", tmp_path, diary],
        stdout=subprocess.PIPE,
        cwd=Path(__file__).parents[3],
    )
    assert parent.stdout is not None
    assert parent.stdout.readline() == b"served\n"
    assert all(map(is_alive, processes(diary)))
    os.kill(parent.pid, how)
    assert parent.wait() == -how
    parent.stdout.close()
    assert len(processes(diary)) == 2
    assert not left_over(diary)


def test_cancelled_start_leaves_nothing_behind(make: Make, diary: Path) -> None:
    async def give_up() -> None:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.2):
                await make("a").server.start()

    asyncio.run(give_up())
    assert not ModelServer.started
    assert not left_over(diary)


if __name__ == "__main__":
    folder, written = map(Path, sys.argv[1:])
    config = TeacherConfig(
        vllm="x/orphan", licence="MIT", command=[sys.executable, str(FAKE)],
        args=[f"--diary={written}"],
    )  # fmt: skip
    parentless = managed("t", config, folder)
    asyncio.run(parentless.server.start())
    print("served", flush=True)
    time.sleep(600)


def test_a_text_is_foretold_by_the_server_that_is_started_for_it(make: Make) -> None:
    """Ids from the vocabulary's size on are left out, and so are places beyond the context."""
    teacher = make("a", context=5)
    rows: list[tuple[list[int], int]] = [([3, 9, 4], 1), ([1, 2, 3, 4, 5, 6], 2), ([7], 1)]

    async def ask() -> Any:
        try:
            return await teacher.top_k(rows, 2, 10, 1.0)
        finally:
            await teacher.close()

    found = asyncio.run(ask())
    assert [ids.tolist() for ids, _ in found] == [[[9, 0], [4, 5]], [[3, 4], [4, 5]], []]
    assert found[0][1] == pytest.approx(np.array([[0.75, 0.0], [0.75, 0.25]]))


def test_a_server_that_tells_too_few_tokens_says_how_to_start_it(make: Make) -> None:
    teacher = make("a", 0.4, "--most=20")

    async def ask() -> Any:
        try:
            return await teacher.top_k([([1, 2], 1)], 32, 50, 1.0)
        finally:
            await teacher.close()

    with pytest.raises(CallError, match="--max-logprobs 32") as caught:
        asyncio.run(ask())
    assert caught.value.error_class == "no_logprobs"


@pytest.mark.parametrize(
    "body",
    [{}, {"choices": []}, {"choices": [{"prompt_logprobs": None}]}, {"choices": [{"text": ""}]}],
)
def test_a_server_that_foretells_nothing_is_told(body: dict[str, Any]) -> None:
    with pytest.raises(CallError, match="prompt_logprobs"):
        read_places(body, 3)


def test_places_that_hold_no_numbers_are_told() -> None:
    with pytest.raises(CallError, match="prompt_logprobs"):
        top_of([{"7": {"logprob": "high"}}], 2, 10)
