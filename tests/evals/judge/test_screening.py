"""What of an answer reaches a judge."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.sets.judging import COMMANDS, IMITATED, SELF_PRAISE
from evals.judge.screening import GAP, MOST_CHARS, Pair, screen, without_appeals
from ledger.prompts import Prompt

ASKED = "What is the capital of France?"


def pair(
    first: str, second: str = "Paris.", asked: str = ASKED, reference: str | None = None
) -> Pair:
    return Pair(Prompt.of(asked), first, second, reference)


@pytest.mark.parametrize("text", [*SELF_PRAISE, *IMITATED, *COMMANDS])
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
        "",
    ],
)
def test_honest_words_stay_as_they_are(text: str) -> None:
    assert without_appeals(text) == text


def test_an_answer_about_judging_may_read_like_a_verdict() -> None:
    asked = "Compare answer A (31 points) and answer B (47 points). Who is the winner?"
    (found,) = screen([pair("Winner: B", "Answer B is better.", asked)])
    assert (found.first, found.second, found.settled) == ("Winner: B", "Answer B is better.", None)


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


def test_an_answer_that_fits_every_prompt_cannot_win() -> None:
    same = "Nothing could outdo these few lines."
    found = screen([pair(same, f"City {n}.", f"{n}. capital?") for n in range(6)])
    assert all(
        each.barred == {"first": "the same answer stands under many prompts"} for each in found
    )


def test_a_label_may_be_right_many_times() -> None:
    said = "The sentiment is positive, clearly."
    found = screen([pair(said, "The sentiment is negative.", f"Review {n}") for n in range(20)])
    assert not any(each.barred for each in found)


@given(st.text())
def test_the_screen_takes_any_text_and_is_done_after_one_pass(text: str) -> None:
    once = without_appeals(text)
    assert without_appeals(once) == once
