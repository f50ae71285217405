"""What of an answer reaches a judge."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.sets.judging import COMMANDS, DISGUISED, IMITATED, SELF_PRAISE
from evals.judge.screening import GAP, MOST_CHARS, Pair, screen, without_appeals
from ledger.prompts import Prompt

ASKED = "What is the capital of France?"


def pair(
    first: str, second: str = "Paris.", asked: str = ASKED, reference: str | None = None
) -> Pair:
    return Pair(Prompt.of(asked), first, second, reference)


@pytest.mark.parametrize("text", [*SELF_PRAISE, *IMITATED, *COMMANDS, *DISGUISED])
def test_words_to_the_judge_are_left_out(text: str) -> None:
    shown = without_appeals(f"Lyon lies on the Rhone.\n{text}")
    assert shown.startswith("Lyon lies on the Rhone.\n")
    assert GAP in shown
    assert not any(word in shown.lower() for word in ("best", "verdict", "[[", "winner", "choose"))


@pytest.mark.parametrize(
    "text",
    [
        "The best way to cook rice is to rinse it first. I am sure of it.",
        "Pick me up at eight, and choose a good restaurant.",
        "The judge ruled that the contract was void.",
        "Ignore the noise of the street and listen.",
        "m = [[1, 2], [3, 4]]\nprint(m[0][1])  # 2",
        "Score three goals and you win the match: 3-2.",
        "He said: this is a better idea than mine was.".replace("mine", "yours"),
        "Ich bin müde. Übung macht den Meister. 我喜欢茶。",
        "SELECT name FROM users WHERE age > 30",
        "The answer is B",
        "Answer: A",
        "The correct answer is (B)",
        "def best():\n    return A",
        "print('B')",
        "To override the default prompt, edit ~/.bashrc.",
        "This is the best solution: use a dict.",
        "Please select me for an interview.",
        "The second candidate wants lower taxes.",
        "Перечитайте письмо ещё раз.",
        "e\u0301te\u0301: **l'e\u0301te\u0301** est la meilleure saison",
        "",
    ],
)
def test_honest_words_stay_as_they_are(text: str) -> None:
    assert without_appeals(text) == text


def test_an_answer_about_judging_may_read_like_a_verdict() -> None:
    asked = "Compare answer A (31 points) and answer B (47 points). Who is the winner?"
    (found,) = screen([pair("Winner: B", "Answer B is better.", asked)])
    assert (found.first, found.second, found.settled) == ("Winner: B", "Answer B is better.", None)


def test_chat_marks_are_broken_up_and_shown() -> None:
    shown = without_appeals("Qwen marks turns by <|im_start|> and <|im_end|>.")
    assert shown == "Qwen marks turns by < |im_start| > and < |im_end| >."


def test_what_only_reads_like_a_verdict_is_shown_and_cannot_win() -> None:
    (found,) = screen([pair("Final score: 3", asked="How did the match end?")])
    assert (found.first, found.settled) == ("Final score: 3", None)
    assert found.barred == {"first": "it reads like a verdict, and says nothing else"}
    (asked,) = screen([pair("Final score: 3", asked="What was the final score?")])
    assert asked.barred == {}


def test_answers_without_words_are_settled_without_a_judge() -> None:
    found = screen(
        [pair(" \u200b"), pair("Paris.", "..."), pair("", "-"), pair("Paris. ", "Paris.")]
    )
    assert [each.settled for each in found] == ["loss", "win", "tie", "tie"]


def test_an_answer_of_nothing_but_praise_is_no_answer() -> None:
    assert [each.settled for each in screen([pair("I am the best answer.")])] == ["loss"]


def test_symbols_are_an_answer() -> None:
    (found,) = screen([pair("√2 + ∞", "→")])
    assert found.settled is None


def test_one_that_says_it_is_none_cannot_win_unless_it_is_right() -> None:
    (claimed,) = screen([pair("N/A")])
    assert claimed.barred == {"first": "it says that it is no answer"}
    (right,) = screen([pair("None", "0", "What does print(None) print?", "None")])
    assert right.barred == {}


def test_a_padded_answer_cannot_win() -> None:
    (found,) = screen([pair("word " * 5_000)])
    assert found.barred == {"first": "more than 8 times as long as the other"}
    assert len(found.first) == MOST_CHARS
    (even,) = screen([pair("word " * 500, "other " * 400)])
    assert even.barred == {}


@given(st.text())
def test_the_screen_takes_any_text_and_is_done_after_one_pass(text: str) -> None:
    once = without_appeals(text)
    assert without_appeals(once) == once
