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
    ("The answer is B because it is the capital. Option C is a distractor.", "B"),
    ("**B**\n\nExplanation: Option A is wrong.", "B"),
    ("Answer: B\n\nOption A is incorrect.", "B"),
    ("The correct answer is **B**.\n\nThe others:\n\n- Option A: small\n- Option C: big", "B"),
    ("B. London\n\nA. too small\nC. too big", "B"),
    ("A) Paris\nB) London\n\nThe answer is B", "B"),
    ("the answer is 'B'", "B"),
    ("The answer is “B”.", "B"),
    ("The answer is _B_.", "B"),
    ("{'answer': 'C'}", "C"),
    ('{"answer": "C", "why": "Option A is wrong"}', "C"),
    ("<answer>B</answer>", "B"),
    ("The answer is A. Wait, no: the answer is C.", "C"),
    ("The answer cannot be B, so it is C.", "C"),
    ("The answer is not A but B. A is small.", "B"),
    ("The answer is neither A nor B; it is C.", "C"),
    ("I don't think the answer is A; it's D.", "D"),
    ("B, not C", "B"),
    ("The answer is B, C is too small.", "B"),
    ("The answer is B; A and C are too small.", "B"),
    ("The answer is B. The other options are A, C and D.", "B"),
    ("The answer is B. One might think the answer is A.", "B"),
    ("If the answer is A, then Paris is small; so the answer is B.", "B"),
    ("The answer to the question is B. Choice A is not.", "B"),
    ("The answer is most likely C", "C"),
    ("the answer is b because London is big", "B"),
    ("Option A is incorrect. Option C is correct.", "C"),
    ("Option B (London) is correct: A has no river", "B"),
    ("B is the correct answer. A and C are too small.", "B"),
    ("I'd go with B. Option A is tempting.", "B"),
    ("The answer is London. Option C, Rome, is in Italy.", "B"),
    ("Rome, since option A is small", "C"),
    (r"\boxed{London}", "B"),
    (r"\boxed{A}. Wait: \boxed{C}", "C"),
    ("Option B is wrong.", "B"),  # nothing else is chosen: the question may ask for the wrong one
    ("option b", "B"),
    ("Among A, B, C and D, the right one is C.", "C"),
    ("A is right.", "A"),
    ("Solution: A train leaves Rome. The answer is D.", "D"),
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
    "The correct answer is not B.",
    "The answer cannot be B.",
    "The answer can't be B.",
    "The answer is not London.",
    "I don't think it's B.",
    "D is not correct",
    "Answer: A, B",
    "The answer is A, B, C",
    "Answer: A; B",
    "The answer is A, and also B.",
    "The answer is Rome or Oslo.",
    r"\boxed{A, C}",
    r"\boxed{A} and \boxed{C}",
    "(A) and (C)",
    "Options B and C",
    "You can pick A or B.",
    "A is incorrect. B is incorrect. D is incorrect.",
]
BY_TEXT = [
    ("The answer is vitamin C.", ["Vitamin A", "Vitamin C", "Vitamin D"], "B"),
    ("The answer is C.", ["Vitamin A", "Vitamin C", "Vitamin D"], "C"),
    ("C) Vitamin D", ["Vitamin A", "Vitamin C", "Vitamin D"], "C"),
    ("Not vitamin C but vitamin D.", ["Vitamin A", "Vitamin C", "Vitamin D"], "C"),
    ("The disease is hepatitis B.", ["Hepatitis B", "Hepatitis A", "Flu"], "A"),
    ("The answer is C++.", ["Java", "C++", "C", "Go"], "B"),
    ("The answer is A and C", ["Iron", "Zinc", "Lead", "A and C"], "D"),
    ("The answer is 4.5", ["4", "4.5", "-4", "45"], "B"),
    ("The answer is -4", ["4", "4.5", "-4", "45"], "C"),
    ("Ancient Rome", ["Rome", "Ancient Rome"], "B"),
    ("It was ancient Rome.", ["Rome", "Ancient Rome"], "B"),
    ("The answer is The Who. Option C is older.", ["Queen", "The Who", "Abba"], "B"),
    ("the dog", ["A cat", "A dog"], "B"),
    ("The answer is the cat", ["A cat", "The cat"], "B"),
    ("The answer is B. Option A is for one.", ["is", "are"], "B"),
    ("It is $3x$", ["$2x$", "$3x$"], "B"),
    ("", ["", "Paris"], None),
]


@pytest.mark.parametrize(("answer", "letter"), CHOSEN)
def test_the_choice_is_found(answer: str, letter: str) -> None:
    """Source: worked by hand; each row is how people and models say which letter they take."""
    for reference in "ABCD":
        found = score("choice", answer, reference, {"choices": TEXTS})
        assert found == Score(float(reference == letter), True)


@pytest.mark.parametrize("answer", UNCLEAR)
def test_no_single_choice_is_counted_apart(answer: str) -> None:
    """Source: worked by hand."""
    assert score("choice", answer, "A", {"choices": TEXTS}) == Score(0.0, False)


@pytest.mark.parametrize("reference", ["B", "b", "(B)", "B.", "B. London", "London", " london "])
def test_a_reference_may_be_a_letter_or_a_text(reference: str) -> None:
    assert score("choice", "The answer is B", reference, {"choices": TEXTS}).value == 1.0


@pytest.mark.parametrize(("answer", "texts", "letter"), BY_TEXT)
def test_a_choices_own_text_is_more_than_the_letters_in_it(
    answer: str, texts: list[str], letter: str | None
) -> None:
    assert chosen(answer, "ABCD"[: len(texts)], texts) == letter


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


@pytest.mark.parametrize(
    "text", ["answer ", "it is ", "A, ", "A (", "not ", "\n", "answer is Paris, "]
)
def test_long_noise_is_no_trap(text: str) -> None:
    assert chosen(text * 20_000, "ABCD", TEXTS) in ("A", None)
