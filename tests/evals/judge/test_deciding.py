"""Verdicts in both orders, by majority, read only with their mark."""

import re
from collections.abc import Callable, Sequence

import pytest

from evals.judge import Ask, Case, Pair, agreement, compare, judgement, mean_the_same, rate
from evals.judge.asking import COMPARE, question, read
from ledger.prompts import Prompt

PAIR = Pair(Prompt.of("What is 2 + 2?"), "It is 4.", "It is 5.", "4")


def asking(*judges: Callable[[str], str | None]) -> Ask:
    """Judges are named 0, 1 …; each is a function of its question."""

    def ask(questions: Sequence[tuple[str, Prompt]]) -> list[str | None]:
        return [judges[int(name)](prompt.text) for name, prompt in questions]

    return ask


def mark_of(text: str) -> str:
    return re.findall(r"VERDICT (\w+): \w+$", text)[-1]


def saying(word: str) -> Callable[[str], str]:
    return lambda text: f"Because.\nVERDICT {mark_of(text)}: {word}"


def prefers(answer: str) -> Callable[[str], str]:
    """A judge that names the answer that holds a text, wherever it stands."""

    def judge(text: str) -> str:
        first = text.split("<first ")[1].split("</first")[0]
        return f"VERDICT {mark_of(text)}: {'FIRST' if answer in first else 'SECOND'}"

    return judge


def test_the_same_answer_in_both_orders_wins() -> None:
    assert [each.outcome for each in compare([PAIR], ["0"], asking(prefers("is 4")))] == ["win"]
    assert [each.outcome for each in compare([PAIR], ["0"], asking(prefers("is 5")))] == ["loss"]


def test_a_judge_that_goes_by_the_order_says_tie() -> None:
    (found,) = compare([PAIR], ["0"], asking(saying("FIRST")))
    assert found.outcome == "tie"
    assert found.said == {"0": ("FIRST", "SECOND")}
    figures = judgement([PAIR], [found])
    assert (figures.flips.mean, figures.first_named.mean, figures.ties) == (1, 1, 1)


def test_most_judges_decide_and_without_most_it_is_a_tie() -> None:
    right, wrong, moody = prefers("is 4"), prefers("is 5"), saying("FIRST")
    three = compare([PAIR], ["0", "1", "2"], asking(right, right, wrong))
    assert [each.outcome for each in three] == ["win"]
    two = compare([PAIR], ["0", "1"], asking(right, wrong))
    assert [each.outcome for each in two] == ["tie"]
    split = compare([PAIR], ["0", "1", "2"], asking(right, wrong, moody))
    assert [each.outcome for each in split] == ["tie"]


def test_words_without_the_mark_are_no_verdict_and_are_counted() -> None:
    found = compare([PAIR], ["0"], asking(lambda text: "[[A]] VERDICT: FIRST"))
    assert found[0].outcome is None
    figures = judgement([PAIR], found)
    assert (figures.unread, figures.asked, figures.open) == (2, 2, 1)


def test_a_judge_that_does_not_answer_leaves_it_to_the_others() -> None:
    found = compare([PAIR], ["0", "1"], asking(lambda text: None, prefers("is 4")))
    assert found[0].outcome == "win"


def test_the_verdict_is_the_last_one_and_stands_after_the_thinking() -> None:
    prompt, mark = question(PAIR.prompt, ["a", "b"], COMPARE, "Be fair.", None)
    assert mark in prompt.text
    said = f"<think>VERDICT {mark}: TIE</think>At first VERDICT {mark}: SECOND, no: **VERDICT {mark}:** FIRST"
    assert read(said, mark, COMPARE) == "FIRST"
    assert read(f"VERDICT {mark}: MAYBE", mark, COMPARE) is None


def test_no_answer_can_know_its_mark() -> None:
    marks = {question(PAIR.prompt, [text, "b"], COMPARE, "", None)[1] for text in ("a", "A", "a ")}
    assert len(marks) == 3


def test_what_is_asked_holds_prompt_reference_and_both_answers() -> None:
    prompt, mark = question(PAIR.prompt, ["one", "two"], COMPARE, "Be fair.", "4")
    for name, text in (
        ("prompt", "What is 2 + 2?"),
        ("reference", "4"),
        ("first", "one"),
        ("second", "two"),
    ):
        assert f"<{name} {mark}>\n{text}\n</{name} {mark}>" in prompt.text
    assert "Be fair." in prompt.text


def test_a_chat_is_shown_turn_by_turn() -> None:
    chat = Prompt(({"role": "system", "content": "Short."}, {"role": "user", "content": "2 + 2?"}))
    prompt, _ = question(chat, ["4", "5"], COMPARE, "", None)
    assert "system: Short.\nuser: 2 + 2?" in prompt.text


def test_a_barred_answer_does_not_win_and_the_reason_is_kept() -> None:
    padded = Pair(PAIR.prompt, "It is 4. " * 400, "5")
    (found,) = compare([padded], ["0"], asking(prefers("is 4")))
    assert (found.outcome, found.barred) == ("tie", "more than 8 times as long as the other")


def test_an_answer_that_wins_under_any_prompt_does_not_win() -> None:
    """Judge 0 falls for a word that no pattern knows, judge 1 knows right answers."""
    pairs = [
        Pair(Prompt.of(f"What is {n} + 2?"), f"{n} or so, mellifluously.", f"{n + 2}.", f"{n + 2}")
        for n in range(10, 14)
    ]
    fooled = compare(pairs, ["0"], asking(prefers("mellifluously")))
    assert {each.outcome for each in fooled} == {"tie"}
    assert {each.barred for each in fooled} == {"it wins under another prompt, too"}

    def knows(text: str) -> str:
        right = text.split("<reference ")[1].split(">\n")[1].split("\n")[0]
        held = [
            right in text.split(f"<{side} ")[1].split(f"</{side}")[0]
            for side in ("first", "second")
        ]
        word = "TIE" if held[0] == held[1] else "FIRST" if held[0] else "SECOND"
        return f"VERDICT {mark_of(text)}: {word}"

    assert {each.outcome for each in compare(pairs, ["0"], asking(knows))} == {"loss"}


def test_answers_mean_the_same_only_in_both_orders() -> None:
    pairs = [PAIR]
    assert mean_the_same(pairs, ["0"], asking(saying("SAME"))) == [True]
    turns = iter(("SAME", "DIFFERENT"))
    assert mean_the_same(pairs, ["0"], asking(lambda t: saying(next(turns))(t))) == [False]
    assert mean_the_same(pairs, ["0"], asking(lambda t: "dunno")) == [None]


def test_ratings_are_scores_from_0_to_1() -> None:
    cases = [
        Case(PAIR.prompt, "It is 4.", "4"),
        Case(PAIR.prompt, " "),
        Case(PAIR.prompt, "It is 6."),
    ]
    found = rate(cases, ["0", "1"], asking(saying("5"), saying("3")))
    assert [each and (each.value, each.extracted) for each in found] == [
        (0.75, True), (0.0, False), (0.75, True),
    ]  # fmt: skip
    assert rate(cases[:1], ["0"], asking(lambda text: "five")) == [None]


def test_kappa_by_hand() -> None:
    """20 and 15 of 50 agreed on, marginals 25/25 and 30/20: (.7 - .5) / (1 - .5) = .4; the example of
    Cohen's kappa in Wikipedia, "Simple example"."""
    labels = ["win"] * 25 + ["loss"] * 25
    verdicts = ["win"] * 20 + ["loss"] * 5 + ["win"] * 10 + ["loss"] * 15
    found = agreement(labels, verdicts)
    assert found.kappa == pytest.approx(0.4)
    assert (found.lo, found.hi) == (
        pytest.approx(0.151, abs=0.001),
        pytest.approx(0.649, abs=0.001),
    )
    assert (found.share, found.n) == (0.7, 50)
    assert agreement(["win"] * 3, ["win", "loss", "win"]).kappa is None


def test_length_effect_is_told() -> None:
    pairs = [Pair(Prompt.of(f"{n}?"), "x " * (5 + n), "y " * 10) for n in range(12)]
    found = compare(pairs, ["0"], asking(_longer))
    figures = judgement(pairs, found)
    assert figures.longer.mean == 1
    assert figures.rate_even == pytest.approx(0.5, abs=0.2)


def _longer(text: str) -> str:
    first, second = (
        text.split(f"<{side} ")[1].split(f"</{side}")[0] for side in ("first", "second")
    )
    word = "FIRST" if len(first) > len(second) else "SECOND"
    return f"VERDICT {mark_of(text)}: {word}"
