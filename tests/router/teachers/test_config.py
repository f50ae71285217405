"""A teacher's section says exactly one kind, and nothing that its kind would ignore."""

from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from router.teachers import TeacherConfig, TeacherUnavailable, open_teacher


def config(**fields: Any) -> TeacherConfig:
    return TeacherConfig(**{"licence": "MIT", **fields})


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ({}, "exactly one of"),
        ({"local": "a", "http": "b"}, "`local` and `http`"),
        ({"http": "m"}, "needs `url:`"),
        ({"local": "a", "url": "http://x"}, "`url` is for"),
        ({"http": "m", "url": "http://x", "adapter": "a"}, "`adapter` is for"),
        ({"http": "m", "url": "ftp://x"}, "must be http"),
        ({"http": "m", "url": "http://me:pw@x/v1"}, "password"),
        ({"http": "m", "url": "http://169.254.169.254/v1"}, "machine credentials"),
        ({"http": "m", "url": "http://metadata.google.internal/"}, "machine credentials"),
        ({"local": "a", "licence": ""}, "at least 1"),
        ({"local": "a", "colour": 1}, "Extra inputs"),
    ],
)
def test_bad_section_is_refused_and_told_why(fields: dict[str, Any], told: str) -> None:
    with pytest.raises(ValidationError, match=told):
        config(**fields)


def test_unset_key_variable_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NO_SUCH_KEY", raising=False)
    for kind in ("http", "litellm"):
        section = config(
            **{kind: "m", "url": "http://127.0.0.1:1/v1", "api_key_env": "NO_SUCH_KEY"}
        )
        teacher = open_teacher("t", section, Path())  # enough to name it and to price its calls
        with pytest.raises(TeacherUnavailable, match="export NO_SUCH_KEY"):
            teacher.require_ready()


def test_missing_folder_is_named(tmp_path: Path) -> None:
    for path in ("nowhere", "some/where"):
        with pytest.raises(TeacherUnavailable, match="no folder"):
            open_teacher("t", config(local=path), tmp_path)


def test_identity_is_what_can_change_an_answer() -> None:
    def key(**fields: Any) -> str:
        base = {"http": "m", "url": "http://127.0.0.1:1/v1"}
        return open_teacher("t", config(**{**base, **fields}), Path()).key

    assert key() == key(max_in_flight=3, budget_usd=1.0, licence="other")
    different = [key(), key(http="n"), key(system="s"), key(url="http://127.0.0.1:2/v1")]
    assert len(set(different)) == 4
    assert key(revision="1") == key(revision="1", url="http://127.0.0.1:2/v1") != key()
