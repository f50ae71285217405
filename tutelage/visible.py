"""Text of models and servers may hold escape codes: a terminal must show them, not obey them."""

from typing import Any


def visible(value: Any) -> str:
    """A value's text with every character that is not printed spelled out."""
    text = str(value)
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def visible_lines(value: Any) -> str:
    """The same, but lines stay lines."""
    return "\n".join(visible(line) for line in str(value).split("\n"))
