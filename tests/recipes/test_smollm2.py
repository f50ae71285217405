"""recipes/smollm2.yaml: its adapters are as the README says, its prompts apart, its server always stops."""

import hashlib
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest

from recipes.smollm2 import server
from recipes.smollm2.families import FAMILIES, SPECIALISTS, draw, training_items
from recipes.smollm2.plain_model import FOLDER, GGUF_SHA256, ROOT, NotReady
from tutelage.recipe import load_recipe
from tutelage.sources import read_source

HERE = ROOT / "recipes" / "smollm2"
RECIPE = ROOT / "recipes" / "smollm2.yaml"
WEIGHTS = "adapter_model.safetensors"


def seen() -> list[tuple[str, str]]:
    rows = map(json.loads, (HERE / "teachers_saw.jsonl").read_text("utf-8").splitlines())
    return [(row["task"], row["prompt"]) for row in rows]


@pytest.fixture
def elsewhere(tmp_path: Path) -> Path:
    """The recipe with a port of this test's own."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    recipe = tmp_path / "smollm2.yaml"
    recipe.write_text(RECIPE.read_text("utf-8").replace(":8135/", f":{port}/"), "utf-8")
    return recipe


def listening(recipe: Path) -> bool:
    _, host, port = server.endpoint(recipe)
    with socket.socket() as probe:
        probe.settimeout(2)
        return probe.connect_ex((host, port)) == 0


def wait_until_silent(recipe: Path) -> None:
    until = time.monotonic() + 10
    while listening(recipe):
        assert time.monotonic() < until, "the server outlived its starter"
        time.sleep(0.1)


def test_recipe_draws_the_families_that_the_adapters_were_trained_for() -> None:
    recipe = load_recipe(RECIPE).recipe
    assert {s.reasoning_gym: s.config for s in recipe.prompts} == FAMILIES
    local = {name: t for name, t in recipe.teachers.items() if t.local}
    assert {t.adapter for t in local.values()} == {f"smollm2/{name}" for name in SPECIALISTS}
    assert {(RECIPE.parent / t.local).resolve() for t in local.values() if t.local} == {FOLDER}
    assert (RECIPE.parent / recipe.student.base).resolve() == FOLDER


@pytest.mark.parametrize("seed", [7, 8, 9])
def test_recipe_draws_nothing_that_an_adapter_saw(seed: int) -> None:
    known = {prompt for _, prompt in seen()}
    for source in load_recipe(RECIPE).recipe.prompts:
        drawn = {item.prompt.text for item in read_source(source, RECIPE.parent, seed, None)}
        assert len(drawn) == source.count
        assert not drawn & known


def test_the_list_of_what_adapters_saw_is_what_the_script_trains_on() -> None:
    expected = [(f, p) for f in FAMILIES for p, _ in training_items(f, 7)]
    assert seen() == expected


def test_drawn_items_differ_and_skip_what_they_are_told() -> None:
    first = draw("family_relationships", 5, 40)
    skipped = frozenset(prompt for prompt, _ in first[:10])
    again = draw("family_relationships", 5, 40, skipped)
    assert len({prompt for prompt, _ in again}) == 40
    assert not skipped & {prompt for prompt, _ in again}


@pytest.mark.parametrize("name", SPECIALISTS)
def test_adapter_is_small_named_by_the_readme_and_holds_no_path(name: str) -> None:
    weights = (HERE / name / WEIGHTS).read_bytes()
    digest = hashlib.sha256(weights).hexdigest()
    assert f"| `{name}/` | `{digest}` |" in (HERE / "README.md").read_text("utf-8")
    assert len(weights) < 5_000_000
    config = json.loads((HERE / name / "adapter_config.json").read_text("utf-8"))
    assert config["base_model_name_or_path"] == "SmolLM2-135M-Instruct"
    assert not re.search(r'"/', json.dumps(config))


def test_readme_names_the_hash_of_the_model() -> None:
    assert GGUF_SHA256 in (HERE / "README.md").read_text("utf-8")


def test_server_answers_and_is_gone_after_whatever_ended_the_run(
    tmp_path: Path, elsewhere: Path
) -> None:
    with pytest.raises(ZeroDivisionError), server.running(tmp_path / "log", elsewhere):
        divide_by_zero_after_one_answer(elsewhere)
    wait_until_silent(elsewhere)


def divide_by_zero_after_one_answer(recipe: Path) -> None:
    name, host, port = server.endpoint(recipe)
    body = {"model": name, "messages": [{"role": "user", "content": "Hi"}], "max_tokens": 4}
    request = urllib.request.Request(
        f"http://{host}:{port}/v1/chat/completions",
        json.dumps(body).encode(),
        {"Content-Type": "application/json"},
    )
    with urllib.request.urlopen(request, timeout=60) as answer:
        assert json.load(answer)["model"] == name
    raise ZeroDivisionError


def test_server_does_not_outlive_a_starter_that_was_killed(tmp_path: Path, elsewhere: Path) -> None:
    starter = "import sys, time, pathlib; from recipes.smollm2.server import running\n"
    starter += "with running(*map(pathlib.Path, sys.argv[1:])):\n"
    starter += "    print('up', flush=True); time.sleep(99)"
    child = subprocess.Popen(
        [sys.executable, "-c", starter, str(tmp_path / "log"), str(elsewhere)],
        cwd=ROOT,
        stdout=subprocess.PIPE,
    )
    with child:
        assert child.stdout is not None
        assert child.stdout.readline() == b"up\n"
        assert listening(elsewhere)
        child.kill()
    assert child.returncode == -signal.SIGKILL
    wait_until_silent(elsewhere)


def test_taken_port_is_named_with_the_way_out(tmp_path: Path, elsewhere: Path) -> None:
    _, host, port = server.endpoint(elsewhere)
    with socket.socket() as holder:
        holder.bind((host, port))
        holder.listen()
        starting = server.running(tmp_path / "log", elsewhere)
        with pytest.raises(NotReady, match=f"port {port} is taken .* another port"):
            starting.__enter__()


def test_server_serves_this_machine_alone(tmp_path: Path) -> None:
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text("teachers: {plain: {http: m, url: 'http://10.1.2.3:80/v1'}}", "utf-8")
    with pytest.raises(NotReady, match=r"must be http://127\.0\.0\.1:PORT/v1"):
        server.endpoint(recipe)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_ctrl_c_ends_the_run_with_130_and_stops_the_server(tmp_path: Path) -> None:
    if listening(RECIPE):
        pytest.skip("the recipe's port is taken: a run of it goes on")
    command = [sys.executable, "-m", "recipes.smollm2.run", "--run", str(tmp_path / "runs" / "r")]
    child = subprocess.Popen(
        command, cwd=ROOT, stdout=subprocess.PIPE, text=True, env={**os.environ, "COLUMNS": "100"}
    )
    with child:
        assert child.stdout is not None
        for line in child.stdout:
            if "classify" in line or "prompts" in line:
                break
        assert listening(RECIPE)
        child.send_signal(signal.SIGINT)
        rest = child.stdout.read()
    assert child.returncode == 130, rest
    assert "the server is stopped" in rest
    wait_until_silent(RECIPE)


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize(("name", "family"), SPECIALISTS.items())
def test_specialist_is_far_above_the_plain_model_on_its_task(name: str, family: str) -> None:
    from peft import PeftModel

    from recipes.smollm2.make_adapters import answers, load

    items = draw(family, 1_700_000_000, 40, frozenset(prompt for _, prompt in seen()))
    prompts = [prompt for prompt, _ in items]

    def exact(model: object, tokenizer: object) -> float:
        given = answers(model, tokenizer, prompts)
        return sum(text == right for text, (_, right) in zip(given, items, strict=True)) / 40

    plain, tokenizer = load()
    before = exact(plain.eval(), tokenizer)
    specialist = PeftModel.from_pretrained(plain, HERE / name).merge_and_unload()
    assert exact(specialist.eval(), tokenizer) >= before + 0.3
