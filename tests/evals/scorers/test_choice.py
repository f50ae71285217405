"""`choice` finds the one letter that an answer chooses, and admits when there is none."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evals.scorers import BadScorer, Score, score
from evals.scorers.choice import chosen

TEXTS = ["Paris", "London", "Rome", "Oslo"]

CHOSEN = [
    ("B", "B"),
    ("(b)", "B"),
    ("b.", "B"),
    (" B \n", "B"),
    ("B. London", "B"),
    ("London", "B"),
    ("london.", "B"),
    ("A", "A"),
    ("c", "C"),
    ("The answer is (B).", "B"),
    ("The answer is A prime city", "A"),
    ("Answer: **B**", "B"),
    ("answer - C", "C"),
    ("My answer is: C) Rome", "C"),
    (r"$\boxed{\text{B}}$", "B"),
    (r"\boxed{B) London}", "B"),
    ("The correct option is B because", "B"),
    ("The answer is A. Wait, no. The answer is C.", "C"),
    ("The answer is not A. It is B.", "B"),
    ("I would say it's (C)", "C"),
    ("I think B", "B"),
    ("Answer: I think B", "B"),
    ("B) because Rome is wrong", "B"),
    ("Option D", "D"),
    ("The best answer is d", "D"),
    ("choice: b)", "B"),
    ("A city in England: London", "B"),
    ("It must be Rome.", "C"),
    ("<think>A or D</think>B", "B"),
]
UNCLEAR = [
    "",
    "None of these",
    "The answer is A or B",
    "The answer is (A) and (C)",
    "Between (A) and (B)",
    "Rome or Oslo",
    "answer is a tough one",
    "A) Paris\nB) London\nC) Rome",
    "E",
    "The answer is E",
]


@pytest.mark.parametrize(("answer", "letter"), CHOSEN)
def test_the_choice_is_found(answer: str, letter: str) -> None:
    for reference in "ABCD":
        found = score("choice", answer, reference, {"choices": TEXTS})
        assert found == Score(float(reference == letter), True)


@pytest.mark.parametrize("answer", UNCLEAR)
def test_no_single_choice_is_counted_apart(answer: str) -> None:
    assert score("choice", answer, "A", {"choices": TEXTS}) == Score(0.0, False)


@pytest.mark.parametrize("reference", ["B", "b", "(B)", "B.", "B. London", "London", " london "])
def test_a_reference_may_be_a_letter_or_a_text(reference: str) -> None:
    assert score("choice", "The answer is B", reference, {"choices": TEXTS}).value == 1.0


def test_without_choices_the_letters_are_a_to_j() -> None:
    assert score("choice", "The answer is J.", "J", {}).value == 1.0
    assert not score("choice", "The answer is K.", "J", {}).extracted


@pytest.mark.parametrize("reference", ["E", "Berlin", "", "AB"])
def test_a_reference_that_is_no_choice_is_refused(reference: str) -> None:
    with pytest.raises(BadScorer, match="neither one of the letters A to D"):
        score("choice", "A", reference, {"choices": TEXTS})


def test_choices_that_are_no_list_are_refused() -> None:
    with pytest.raises(BadScorer, match="must be a list"):
        score("choice", "A", "A", {"choices": {"A": "Paris"}})


FORMS = [
    "{}",
    "({})",
    "{}.",
    "Answer: {}",
    "The answer is ({}).",
    "**{}**",
    "The correct choice is {}!",
]


@given(st.sampled_from("ABCDEFGHIJ"), st.sampled_from(FORMS))
def test_every_letter_in_every_usual_form(letter: str, form: str) -> None:
    assert chosen(form.format(letter), "ABCDEFGHIJ") == letter


@given(st.text(max_size=200))
def test_any_text_at_all_gets_an_answer(text: str) -> None:
    assert chosen(text, "ABCD", TEXTS) in ("A", "B", "C", "D", None)
