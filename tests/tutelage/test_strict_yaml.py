"""Recipes mean one thing only: whatever is ambiguous or hostile is refused with file:line."""

import contextlib
import resource
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tutelage.strict_yaml import MAX_BYTES, RecipeError, load


def read(tmp_path: Path, text: str | bytes) -> object:
    path = tmp_path / "recipe.yaml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return load(path).value


BOMB = "a: &a [x, x]\n" + "".join(f"k{i}: &k{i} [*a, *a]\n" for i in range(9))


@pytest.mark.parametrize(
    ("text", "line", "words"),
    [
        (BOMB, 2, "aliases are not allowed"),
        ("a: 1\nb: !!python/object/apply:os.system ['true']\n", 2, "tags are not allowed"),
        ("a: 1\nb: 2\na: 3\n", 3, "'a' stands twice"),
        ("x:\n  a: 1\n  a: 2\n", 3, "'a' stands twice"),
        ("a: 012\n", 1, "write 12 for a number, or '012' for a text"),
        ("a: no\n", 1, "write false for a switch, or 'no' for a text"),
        ("a: Yes\n", 1, "write true for a switch, or 'Yes' for a text"),
        ("a: .nan\n", 1, "no number"),
        ("a: -.INF\n", 1, "no number"),
        ("a: [1, 2\nb: 3\n", 2, "not valid YAML"),
        ("a:\n\tb: 1\n", 2, "not valid YAML"),
        ("1: a\n", 1, "put quotes around it"),
        ("? [a]\n: b\n", 1, "put quotes around it"),
        ("a: " + "[" * 3000 + "]" * 3000, 1, "more than 40 levels deep"),
        ("a: " + "9" * 5000, 1, "a number of 5,000 characters"),
        ('a: 1\nb: "x\\0y"\n', 2, "a NUL character"),
        ("", 1, "is empty"),
        ("# only a comment\n", 1, "is empty"),
        (b"a: 1\nb: \xff\xfe\n", 2, "not UTF-8"),
        ("a: \x07\n", 1, "not valid YAML"),
        ("a: 1\n---\nb: 2\n", 2, "not valid YAML"),
    ],
)
def test_what_is_ambiguous_is_refused_with_its_line(
    tmp_path: Path, text: str | bytes, line: int, words: str
) -> None:
    with pytest.raises(RecipeError) as error:
        read(tmp_path, text)
    assert f"recipe.yaml:{line}:" in str(error.value)
    assert words in str(error.value)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("2e-5", 2e-5),
        ("2.5e-3", 2.5e-3),
        ("1e3", 1000.0),
        ("2_000_000", 2_000_000),
        ("-3", -3),
        ("0", 0),
        ("0.5", 0.5),
        (".5", 0.5),
        ("true", True),
        ("false", False),
        ("null", None),
        ("~", None),
        ("'no'", "no"),
        ('"012"', "012"),
        ("2026-11-24", "2026-11-24"),
        ("0x10", "0x10"),
        ("a b", "a b"),
        ("[1, 'x']", [1, "x"]),
        ("{a: {b: 1}}", {"a": {"b": 1}}),
    ],
)
def test_plain_values_are_read_as_they_look(tmp_path: Path, text: str, value: object) -> None:
    read_value = read(tmp_path, f"key: {text}\n")
    assert read_value == {"key": value}
    assert type(read_value["key"]) is type(value)


def test_a_huge_file_is_refused_without_being_read(tmp_path: Path) -> None:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(RecipeError, match="bytes, which no recipe needs"):
        read(tmp_path, b"a: " + b"x" * 10 * MAX_BYTES)
    grown_mib = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    assert grown_mib < 200


def test_every_value_keeps_its_line(tmp_path: Path) -> None:
    path = tmp_path / "r.yaml"
    path.write_text("a: 1\nb:\n  - x\n  - c: 2\n")
    document = load(path)
    assert document.line(("b", 1, "c")) == 4
    assert document.line(("b", 1, "absent", "deeper")) == 4
    assert document.line(("nowhere",)) == 1


@given(st.text(max_size=40))
def test_no_text_ends_in_a_traceback(tmp_path_factory: pytest.TempPathFactory, text: str) -> None:
    path = tmp_path_factory.mktemp("yaml") / "r.yaml"
    path.write_bytes(text.encode("utf-8", "surrogatepass"))
    with contextlib.suppress(RecipeError):
        load(path)
