"""Nobody judges its own answers."""

import pytest

from evals.judge import JudgeIsParty, family, refuse_parties


@pytest.mark.parametrize(
    ("model", "expected"),
    [
        ("Qwen/Qwen2.5-Coder-7B-Instruct", "qwen"),
        ("openai/gpt-4o-mini", "gpt"),
        ("anthropic/claude-sonnet", "claude"),
        ("models/smollm2-135m/", "smollm"),
        ("4o", "4o"),
    ],
)
def test_a_family_is_the_name_before_its_version(model: str, expected: str) -> None:
    assert family(model) == expected


def test_a_teacher_cannot_judge_itself_whatever_is_allowed() -> None:
    with pytest.raises(JudgeIsParty, match="judge j is a/m, and so is t"):
        refuse_parties({"j": ("k", "a/m")}, {"t": ("other", "a/m")}, allow_family=True)
    with pytest.raises(JudgeIsParty):
        refuse_parties({"j": ("k", "a/m")}, {"t": ("k", "b/n")}, allow_family=True)


def test_a_family_is_refused_unless_allowed() -> None:
    judges, graded = {"j": ("1", "Qwen/Qwen3-8B")}, {"t": ("2", "Qwen/Qwen2.5-7B")}
    with pytest.raises(JudgeIsParty, match="allow_family: true"):
        refuse_parties(judges, graded, allow_family=False)
    refuse_parties(judges, graded, allow_family=True)
    refuse_parties(judges, {"t": ("2", "meta/Llama-3")}, allow_family=False)
