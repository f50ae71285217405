"""`numeric` reads the numbers that people and models write."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evals.scorers import BadScorer, Score, score

RIGHT = [
    ("The answer is 1,234.", "1234"),
    ("1,00,000", "100000"),
    ("1'234'567", "1234567"),
    ("1\u202f234", "1234"),
    ("1{,}234", "1234"),
    ("$1,200.50", "1200.5"),
    ("-$5", "-5"),
    ("$-5", "-5"),
    (r"\$5", "5"),
    ("€5", "5"),
    ("USD 100", "100"),
    ("x = -5", "-5"),
    ("\u22127", "-7"),
    ("+7", "7"),
    ("10-3=7", "7"),
    ("(5)-3", "3"),
    ("- 5 apples", "5"),  # a list, not a sign
    ("3/4", "0.75"),
    ("it is 3/4.", "0.75"),
    (r"\frac{3}{4}", "3/4"),
    (r"$-\dfrac{3}{4}$", "-0.75"),
    ("1 1/2", "1.5"),
    ("-1 1/2", "-3/2"),
    ("1½ cups", "3/2"),
    ("½", "0.5"),
    ("0.333333333", "1/3"),
    ("about 50%", "0.5"),
    ("50 %", "50"),
    ("50%", "50%"),
    ("10 percent", "10%"),
    (r"42\%", "42"),
    ("1.5 km", "1500 m"),
    ("1.5 kilometres", "1500 m"),
    ("300 minutes", "5 hours"),
    ("18 km/h", "5 m/s"),
    ("60 km/hr", "60 km/h"),
    ("1 m²", "10000 cm^2"),
    ("5 dollars", "$5"),
    ("500 cents", "$5"),
    ("12 apples", "12"),
    ("12", "12 apples"),
    ("7 in total", "7 m"),
    ("a 5-year-old", "5"),
    (r"5 \text{ cm}", "50 mm"),
    ("1.2 million", "1200000"),
    ("1.5e3", "1500"),
    (r"3 \times 10^{5}", "300000"),
    ("3 x 10^5", "300000"),
    ("2^10", "1024"),
    ("2**10", "1024"),
    (r"so \boxed{42}. Check 17.", "42"),
    (r"\boxed{\frac{1}{2}}", "0.5"),
    ("#### 42\nsee step 7", "42"),
    ("**42**", "42"),
    ("first 3, then 5", "5"),
    ("[1,2,3]", "3"),
    ("So...5", "5"),
    ("<think>12</think>7", "7"),
    (".5", "0.5"),
    ("007", "7"),
    ("-0", "0"),
    ("3,5 kg", "3.5"),
    ("3,5.", "3.5"),
    ("-3,14159", "-3.14159"),
    ("0,333", "0.333"),
    ("1.234,50 €", "1234.5"),
    ("1.234.567", "1234567"),
    ("1 234,5", "1234.5"),
    ("(3,4)", "4"),  # a pair
    ("1 000 000", "1000000"),
    ("1\u2009000\u2009000", "1000000"),
    ("1\u00a0000\u00a0000", "1000000"),
    ("in 2020 100 came", "100"),
    ("\u20135", "-5"),
    ("\u20115", "-5"),
    ("5\u201310", "10"),  # a range
    ("minus 5", "-5"),
    ("negative 5", "-5"),
    ("10 minus 3", "3"),
    ("x = - 5", "-5"),
    ("12 in", "1 ft"),
    ("12 in.", "1 ft"),
    ("1 hour and 30 minutes", "90 minutes"),
    ("2 hours and 30 minutes", "2.5 hours"),
    ("1h30min", "90 min"),
    ("5 feet 3 inches", "63 in"),
    ("$5 and 30 cents", "$5.30"),
    ("20 pounds", "£20"),
    ("20 pounds", "20 lb"),
    ("20 euros", "€20"),
    ("50 cents", "€0.50"),
    ("5 €.", "5 EUR"),
    ("US$5", "$5"),
    ("$5$ cm", "50 mm"),  # mathematics, not money
    (r"\boxed{-\frac34}", "-0.75"),
    (r"\boxed{3\frac{1}{2}}", "3.5"),
    (r"\boxed{\dfrac{22}{7}}", "22/7"),
    (r"\boxed{x = 5}", "5"),
    (r"\boxed{f(1, 2) = 5}", "5"),
    (r"\boxed{2 + 3 = 5}", "5"),
    (r"\boxed{\text{Total: } 5}", "5"),
    (r"\boxed{\approx 3.14}", "3.14"),
    (r"\boxed{5\text{ cm}}", "5"),
    (r"\boxed{5\ \text{cm}^2}", "5 cm²"),
    (r"\boxed{12 \text{ apples}}", "12"),
    (r"\boxed{5\,\mathrm{V}}", "5"),
    (r"\boxed{1{,}234}", "1234"),
    (r"\boxed{50\%}", "0.5"),
    (r"\boxed{90^\circ}", "90"),
    (r"\boxed{- 5}", "-5"),
    (r"\boxed{(5)}", "5"),
    (r"\boxed{2^{10}}", "1024"),
    (r"\boxed{1\text{ hour and }30\text{ minutes}}", "90 minutes"),
    ("the result is 10!", "10"),
    ("I found 5 log entries", "5"),
]
WRONG = [
    ("5%", "50%"),
    ("12 m", "12 km"),
    ("5 kg", "5 m"),
    ("5 m²", "5 cm²"),
    ("0.33", "1/3"),
    ("1234.5", "1234"),
    ("-7", "7"),
    ("9**9**9", "3"),
    (r"\boxed{2\pi}", "2"),
    (r"\boxed{\frac{\pi}{4}}", "4"),
    (r"\boxed{\frac{\sqrt{3}}{2}}", "2"),
    (r"\boxed{\sqrt{16}}", "16"),
    (r"\boxed{\log 5}", "5"),
    (r"\boxed{10!}", "10"),
    (r"\boxed{5x}", "5"),
    (r"\boxed{5 x^2}", "5"),
    (r"\boxed{3i}", "3"),
    (r"\boxed{1/x}", "1"),
    (r"\boxed{x - 5}", "5"),
    (r"\boxed{x > 5}", "5"),
    (r"\boxed{3:5}", "5"),
    (r"\boxed{10^n}", "10"),
    (r"\boxed{9^9^9}", "9"),
    (r"\boxed{(3, 4)}", "4"),
    (r"\boxed{(3,4)}", "3.4"),
    (r"\boxed{1, 2, 3}", "3"),
    (r"\boxed{x = 2, y = 3}", "3"),
    (r"\boxed{2 \text{ or } 3}", "3"),
    (r"\boxed{\text{no solution}}", "5"),
    ("5 in", "5 cm"),
    ("€20", "$20"),
    ("20 €", "£20"),
    ("5 lb", "£5"),
    ("3,5", "35"),
    ("1 hour and 30 minutes", "30 minutes"),
]
NOTHING = ["", "no idea", "1/0", "v1a", "1e999999999", "x2", r"$3\pi$", r"$\sqrt{3}$", "3π", "√3"]
NOTHING += [r"$\frac{\pi}{3}$", "3^n"]


@pytest.mark.parametrize(("answer", "reference"), RIGHT)
def test_right(answer: str, reference: str) -> None:
    """Source: worked by hand, units by their definitions (an inch is 2.54 cm, an hour 60 minutes)."""
    assert score("numeric", answer, reference, {}) == Score(1.0, True)


@pytest.mark.parametrize(("answer", "reference"), WRONG)
def test_wrong(answer: str, reference: str) -> None:
    """Source: worked by hand."""
    assert score("numeric", answer, reference, {}) == Score(0.0, True)


@pytest.mark.parametrize("answer", NOTHING)
def test_an_answer_without_a_number_is_counted_apart(answer: str) -> None:
    assert score("numeric", answer, "3", {}) == Score(0.0, False)


def test_the_items_own_tolerance() -> None:
    assert score("numeric", "3.14", "3.14159", {"tolerance": 0.01}).value == 1.0
    assert score("numeric", "3.14", "3.14159", {"tolerance": 0}).value == 0.0


@pytest.mark.parametrize("tolerance", [-1, "0.1", True, float("nan"), float("inf")])
def test_a_bad_tolerance_is_refused(tolerance: object) -> None:
    with pytest.raises(BadScorer, match="tolerance"):
        score("numeric", "3", "3", {"tolerance": tolerance})


@pytest.mark.parametrize("reference", ["three", "2\u03c0", r"\boxed{(3, 4)}"])
def test_a_reference_without_a_number_is_refused(reference: str) -> None:
    with pytest.raises(BadScorer, match=re.escape(f"no number in the reference {reference!r}")):
        score("numeric", "3", reference, {})


@given(
    st.integers(-(10**12), 10**12), st.sampled_from(["{}", "{:,}", "the total is {:,}.", "**{}**"])
)
def test_every_whole_number_is_read_back(number: int, form: str) -> None:
    assert score("numeric", form.format(number), str(number), {}).value == 1.0


@given(st.decimals(-(10**6), 10**6, places=3), st.sampled_from(["{}", "${}", "x = {} cm", "{:,}"]))
def test_every_decimal_is_read_back(number: object, form: str) -> None:
    assert score("numeric", form.format(number), str(number), {}).value == 1.0


@given(st.text(max_size=200))
def test_any_text_at_all_gets_a_score(text: str) -> None:
    assert score("numeric", text, "1", {}).value in (0.0, 1.0)


@pytest.mark.parametrize(
    "text", ["9", "1,", "1 ", "1/", "100 ", "1 h ", "$", "{", "\\text{", "minus "]
)
def test_long_noise_is_no_trap(text: str) -> None:
    assert score("numeric", text * 20_000, "3", {}).value == 0.0
    assert score("numeric", rf"\boxed{{{text * 20_000}}}", "3", {}).value == 0.0
