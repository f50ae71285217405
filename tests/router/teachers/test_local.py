"""Local teachers: batches through the chat template, safetensors only, identity by content."""

import asyncio
import shutil
from pathlib import Path

import numpy as np
import pytest

from ledger.prompts import Prompt
from router.teachers import CallError, Sampling, TeacherUnavailable, local, open_local
from router.teachers.protocol import Answer, Teacher
from tests.router import tiny

SHORT = Sampling(max_tokens=8)


def ask(teacher: Teacher, texts: list[str], sampling: Sampling = SHORT) -> list[Answer]:
    return asyncio.run(teacher.answer([Prompt.of(text) for text in texts], sampling))


def test_left_padding_changes_no_greedy_answer(tiny_model: Path) -> None:
    teacher = open_local("t", tiny_model)
    texts = ["a", "a much longer prompt than the first", "of middle length"]
    together = [answer.text for answer in ask(teacher, texts)]
    assert together == [ask(teacher, [text])[0].text for text in texts]


def test_the_same_batch_gives_the_same_answers(tiny_model: Path) -> None:
    teacher = open_local("t", tiny_model)
    drawn = Sampling(temperature=1.0, top_p=0.9, max_tokens=8, seed=3)
    texts = ["one", "two"]
    assert ask(teacher, texts, drawn) == ask(teacher, texts, drawn)
    other = Sampling(temperature=1.0, top_p=0.9, max_tokens=8, seed=4)
    assert ask(teacher, texts, drawn) != ask(teacher, texts, other)


def test_finish_reason_tells_ended_from_cut(tiny_model: Path) -> None:
    answers = ask(
        open_local("t", tiny_model), [f"say {i}" for i in range(32)], Sampling(max_tokens=40)
    )
    assert {answer.finish_reason for answer in answers} == {"stop", "length"}
    for answer in answers:
        assert answer.completion_tokens is not None
        assert "<|" not in answer.text
        if answer.finish_reason == "length":
            assert answer.completion_tokens == 40
        else:  # the end token is counted; control tokens do not show
            assert len(answer.text) + 1 <= answer.completion_tokens <= 40


def test_adapter_and_system_prompt_change_answer_and_key(tiny_model: Path, tmp_path: Path) -> None:
    adapter = tiny.make_adapter(tiny_model, tmp_path / "adapter")
    teachers = [
        open_local("t", tiny_model),
        open_local("t", tiny_model, adapter=str(adapter)),
        open_local("t", tiny_model, system="answer in verse"),
    ]
    assert len({teacher.key for teacher in teachers}) == 3
    assert len({ask(teacher, ["a question"])[0].text for teacher in teachers}) == 3


def test_key_follows_the_content_not_the_place(tiny_model: Path, tmp_path: Path) -> None:
    moved = shutil.copytree(tiny_model, tmp_path / "moved")
    assert open_local("a", moved).key == open_local("b", tiny_model).key
    (moved / "chat_template.jinja").write_text(tiny.TEMPLATE + " ")
    assert open_local("a", moved).key != open_local("b", tiny_model).key


def test_pickled_weights_are_refused(tiny_model: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(tiny_model, tmp_path / "pickled")
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    with pytest.raises(TeacherUnavailable, match="Only safetensors"):
        open_local("t", folder)


def test_code_that_comes_with_a_model_is_not_run(tiny_model: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(tiny_model, tmp_path / "remote")
    canary = tmp_path / "ran"
    (folder / "evil.py").write_text(f"open({str(canary)!r}, 'w')\nclass C: ...\nclass M: ...\n")
    auto = {"AutoConfig": "evil.C", "AutoModelForCausalLM": "evil.M"}
    tiny.set_config(folder, auto_map=auto, model_type="evil")
    with pytest.raises(CallError) as caught:
        ask(open_local("t", folder), ["hello"])
    assert caught.value.fatal
    assert not canary.exists()


def test_missing_chat_template_says_what_to_do(tmp_path: Path) -> None:
    folder = tiny.make_model(tmp_path / "plain", template=None)
    with pytest.raises(CallError, match=r"chat_template\.jinja"):
        ask(open_local("t", folder), ["hello"])


def test_over_long_and_broken_prompts_are_named_before_the_call(tiny_model: Path) -> None:
    teacher = open_local("t", tiny_model)
    prompts = [Prompt.of("fine"), Prompt.of("x" * 300), Prompt.of("half \ud800")]
    fine, long, broken = asyncio.run(teacher.check(prompts, SHORT))
    assert fine is None
    assert long is not None
    assert long.error_class == "prompt_too_long"
    assert "256" in str(long)
    assert broken is not None
    assert broken.error_class == "bad_prompt"


def test_generation_stops_when_it_is_cancelled(
    tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    teacher = open_local("t", tiny_model)
    ask(teacher, ["loads the weights"])
    endless = {"do_sample": False, "min_new_tokens": 50_000, "max_new_tokens": 50_000}

    async def cut() -> None:
        with monkeypatch.context() as patched:
            patched.setattr(local, "_generation_arguments", lambda sampling: endless)
            async with asyncio.timeout(0.5):
                await teacher.answer([Prompt.of("go on")], SHORT)

    async def then_another() -> None:
        with pytest.raises(TimeoutError):
            await cut()
        async with asyncio.timeout(20.0):  # the shared thread is free again
            await teacher.answer([Prompt.of("next")], SHORT)

    asyncio.run(then_another())


def test_logprobs_are_those_of_the_whole_softmax(tiny_model: Path) -> None:
    import torch
    from transformers import AutoModelForCausalLM

    rows = [([5, 6, 7, 8], 2), ([3, 4], 1), ([9, 8, 7, 6, 5, 4, 3], 6), (list(range(5, 30)), 4)]
    found = asyncio.run(open_local("t", tiny_model).logprobs(rows))
    network = AutoModelForCausalLM.from_pretrained(tiny_model).eval()
    for (ids, start), logprobs in zip(rows, found, strict=True):
        with torch.inference_mode():
            whole = network(torch.tensor([ids])).logits[0].log_softmax(-1)
        expected = [float(whole[i - 1, ids[i]]) for i in range(start, len(ids))]
        assert logprobs == pytest.approx(expected, abs=1e-4)


def test_top_k_is_the_head_of_the_whole_softmax(tiny_model: Path) -> None:
    import torch
    from transformers import AutoModelForCausalLM

    rows = [([5, 6, 7, 8], 2), ([3, 4], 1), ([3, 4], 2), (list(range(5, 30)), 4)]
    found = asyncio.run(open_local("t", tiny_model).top_k(rows, 6, 20, 2.0))
    network = AutoModelForCausalLM.from_pretrained(tiny_model).eval()
    for (ids, start), (top_ids, p) in zip(rows, found, strict=True):
        with torch.inference_mode():
            whole = (network(torch.tensor([ids])).logits[0] / 2.0).softmax(-1)[start - 1 : -1]
        assert top_ids.shape == p.shape == (len(ids) - start, 6)
        assert (top_ids < 20).all()
        for at, names, values in zip(whole, top_ids, p, strict=True):
            assert values == pytest.approx(
                at[:20].sort(descending=True).values[:6].numpy(), abs=1e-6
            )
            assert values == pytest.approx(at[names].numpy(), abs=1e-6)


def test_what_is_held_against_other_tokens_is_of_the_whole_softmax(tiny_model: Path) -> None:
    import torch
    from transformers import AutoModelForCausalLM

    rows = [([5, 6, 7, 8], 2), (list(range(5, 30)), 4), ([3, 4], 2)]
    asked = [
        np.array([[1, 9]] * (len(ids) - start), np.int64).reshape(-1, 2) for ids, start in rows
    ]
    found = asyncio.run(open_local("t", tiny_model).held_against(rows, asked))
    network = AutoModelForCausalLM.from_pretrained(tiny_model).eval()
    for (ids, start), told in zip(rows, found, strict=True):
        with torch.inference_mode():
            whole = network(torch.tensor([ids])).logits[0].log_softmax(-1)[start - 1 : -1]
        assert told.logprobs_T_K == pytest.approx(whole[:, [1, 9]].numpy(), abs=1e-4)
        expected = [float(row[token]) for row, token in zip(whole, ids[start:], strict=True)]
        assert told.next_T == pytest.approx(expected, abs=1e-4)
        assert told.best_T.tolist() == whole.argmax(-1).tolist()
        assert told.confidence_T == pytest.approx(whole.exp().amax(-1).numpy(), abs=1e-4)


def test_what_lies_beyond_the_context_has_no_logprobs(tiny_model: Path) -> None:
    teacher = open_local("t", tiny_model, context=6)
    found = asyncio.run(teacher.logprobs([(list(range(5, 15)), 4), (list(range(5, 15)), 8)]))
    assert [len(logprobs) for logprobs in found] == [2, 0]
