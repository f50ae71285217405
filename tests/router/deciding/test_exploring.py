"""Prompts that are given to another teacher by lot."""

from collections import Counter

from router.deciding import drawn

KEYS = [f"{i:032x}" for i in range(4000)]
TEACHERS = ("a", "b", "c")


def test_about_a_share_goes_to_each_of_the_others() -> None:
    found = drawn(KEYS, ["a"] * len(KEYS), TEACHERS, 0.1, seed=7)
    counts = Counter(found.values())
    assert set(counts) == {"b", "c"}
    assert all(abs(count - 200) < 4 * 200**0.5 for count in counts.values())


def test_a_lot_depends_on_the_prompt_and_the_seed_alone() -> None:
    whole = drawn(KEYS, ["a"] * len(KEYS), TEACHERS, 0.1, seed=7)
    part = drawn(KEYS[:100], ["a"] * 100, TEACHERS, 0.1, seed=7)
    assert part == {i: name for i, name in whole.items() if i < 100}
    assert whole.keys() != drawn(KEYS, ["a"] * len(KEYS), TEACHERS, 0.1, seed=8).keys()
    more = drawn(KEYS, ["a"] * len(KEYS), TEACHERS, 0.2, seed=7)
    assert whole.items() <= more.items(), "a larger share keeps the lots of a smaller one"


def test_nobody_is_drawn_where_there_is_no_other() -> None:
    assert drawn(KEYS, ["a"] * len(KEYS), ("a",), 0.5, seed=7) == {}
