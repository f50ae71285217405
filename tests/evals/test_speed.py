"""Speed and memory of real tiny models, each in a process of its own."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from evals.speed import Speed, SpeedError, SpeedProgress, SpeedSpec, _groups, measure, observed
from ledger.keys import content_key
from ledger.prompts import Prompt
from ledger.store import Ledger
from router.teachers import open_local
from tests.evals.rows import row
from tests.router import tiny

PROMPTS = [Prompt.of("say " + "ab" * length) for length in range(1, 6)]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.make_model(tmp_path_factory.mktemp("speed") / "model")


@pytest.fixture(scope="module")
def adapter(model: Path) -> Path:
    return tiny.make_adapter(model, model.parent / "adapter")


@pytest.fixture(scope="module")
def measured(model: Path, adapter: Path) -> tuple[dict[str, Speed], list[SpeedProgress]]:
    seen: list[SpeedProgress] = []
    specs = {
        "plain": SpeedSpec(model),
        "adapted": SpeedSpec.of(
            open_local("adapted", model, adapter=str(adapter), system="Be brief.")
        ),
    }
    found = measure(specs, PROMPTS, 7, concurrency=[1, 2], repeats=3, on_progress=seen.append)
    return found, seen


def test_all_models_answer_the_same_prompts_at_the_same_length(
    measured: tuple[dict[str, Speed], list[SpeedProgress]],
) -> None:
    for speed in measured[0].values():
        assert (speed.answers, speed.tokens) == (5, 35)
        assert len(speed.rounds_s) == 3
        assert speed.seconds == sorted(speed.rounds_s)[1]
        assert speed.tokens_per_s == pytest.approx(35 / speed.seconds)


def test_latencies_stand_beside_the_rate_for_every_concurrency(
    measured: tuple[dict[str, Speed], list[SpeedProgress]],
) -> None:
    for speed in measured[0].values():
        assert list(speed.paces) == ["1", "2"]
        assert speed.paces["2"].tokens_per_s == speed.tokens_per_s
        for pace in speed.paces.values():
            for each in (pace.first_token, pace.per_token):
                assert each is not None
                assert 0 < each.median <= each.p99


def test_memory_is_the_childs_own(measured: tuple[dict[str, Speed], list[SpeedProgress]]) -> None:
    for speed in measured[0].values():
        assert speed.peak_rss_mib is not None
        assert 100 < speed.peak_rss_mib < 2000


def test_disk_counts_the_adapter_too(
    measured: tuple[dict[str, Speed], list[SpeedProgress]], model: Path
) -> None:
    plain, adapted = measured[0]["plain"].disk_mib, measured[0]["adapted"].disk_mib
    weights_mib = (model / "model.safetensors").stat().st_size / 2**20
    assert plain is not None
    assert adapted is not None
    assert weights_mib < plain < adapted


def test_progress_tells_models_and_rounds(
    measured: tuple[dict[str, Speed], list[SpeedProgress]],
) -> None:
    seen = measured[1]
    assert seen[0] == SpeedProgress(1, 2, 0, 12)
    assert seen[-1] == SpeedProgress(2, 2, 12, 12)


def test_checkpoints_in_subfolders_are_not_the_models_size(tmp_path: Path) -> None:
    for folder in (tmp_path, tmp_path / "checkpoint-5"):
        folder.mkdir(exist_ok=True)
        (folder / "model.safetensors").write_bytes(bytes(2**20))
    (tmp_path / "training_log.jsonl").write_bytes(bytes(2**20))
    assert SpeedSpec(tmp_path).disk_mib == 1.0


def test_models_too_large_to_be_loaded_together_take_turns(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    specs = {"a": SpeedSpec(tmp_path), "b": SpeedSpec(tmp_path)}
    assert _groups(specs) == [["a", "b"]]
    monkeypatch.setattr("evals.speed.CHILD_MIB", 10**9)
    assert _groups(specs) == [["a"], ["b"]]


def test_a_model_that_cannot_be_loaded_is_named(tmp_path: Path) -> None:
    with pytest.raises(
        SpeedError, match=r"'broken' could not be timed.*leaves the measurement out"
    ):
        measure({"broken": SpeedSpec(tmp_path)}, PROMPTS, 4)


def test_a_child_that_dies_tells_its_last_words(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("evals.speed.__file__", str(tmp_path / "evals" / "speed.py"))
    (tmp_path / "evals").mkdir()
    (tmp_path / "evals" / "__init__.py").touch()
    dying = "import os, sys; sys.stderr.write('out of luck'); sys.stderr.flush(); os._exit(9)"
    (tmp_path / "evals" / "speed_child.py").write_text(dying)
    with pytest.raises(SpeedError, match="ended with 9: out of luck"):
        measure({"m": SpeedSpec(tmp_path)}, PROMPTS, 4)


def test_no_prompts_are_refused(model: Path) -> None:
    with pytest.raises(SpeedError, match="at least one"):
        measure({"m": SpeedSpec(model)}, [], 4)


def test_peak_memory_is_not_handed_down_by_a_large_parent() -> None:
    """Linux lets a child start with its parent's `ru_maxrss`; ours must not."""
    ballast = bytearray(os.urandom(1) * (400 * 2**20))
    ask = "from evals.speed_child import peak_rss_mib; print(peak_rss_mib())"
    out = subprocess.run([sys.executable, "-c", ask], capture_output=True, text=True, check=True)
    assert len(ballast) > float(out.stdout) * 2**20 * 4


def test_a_child_ends_with_its_parent(model: Path) -> None:
    job = {
        "folder": str(model),
        "adapter": None,
        "dtype": "auto",
        "max_tokens": 3,
        "concurrency": [2],
    }
    job["chat_template"] = None
    chats = [{"conversation": [{"role": "user", "content": "hi"}], "tools": None}]
    child = subprocess.Popen(
        [sys.executable, "-m", "evals.speed_child"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    out, _ = child.communicate(
        json.dumps({**job, "chats": chats}) + '\n{"round": 2}\n', timeout=120
    )
    ready, round_ = (json.loads(line) for line in out.splitlines())
    assert ready == {"ready": True}
    assert (round_["answers"], round_["tokens"]) == (1, 3)
    assert child.returncode == 0


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    opened = Ledger(tmp_path / "ledger")
    with opened.writing("test"):
        yield opened


def test_a_servers_speed_is_tokens_by_the_time_its_calls_were_open(ledger: Ledger) -> None:
    """Calls from 0 to 2 s and from 1 to 3 s, a pause, one from 10 to 11 s: 4 s busy, 80 tokens."""
    key, prompt = content_key("server"), Prompt.of("hi")
    ledger.put_all([row("teacher", key=key, name="server")])
    ledger.put_all(prompt.rows("test"))
    calls = [
        (0, 2, 30, "done"),
        (1, 3, 30, "truncated"),
        (10, 11, 20, "done"),
        (20, 99, 5, "failed"),
    ]
    start = time.time_ns() // 10**9 * 10**6
    for index, (begin, end, tokens, state) in enumerate(calls):
        call = {"key": content_key(index), "prompt": prompt.key, "teacher": key, "state": state}
        times = {"started_at": start + begin * 10**6, "ended_at": start + end * 10**6}
        ledger.put_all([row("request", **call, **times, completion_tokens=tokens)])
    ledger.fold()
    found = observed(ledger, key)
    assert found is not None
    assert (found.seconds, found.tokens, found.answers) == pytest.approx((4.0, 80, 3))
    assert found.tokens_per_s == pytest.approx(20)
    assert found.peak_rss_mib is None
    assert found.disk_mib is None
    assert observed(ledger, content_key("other")) is None
