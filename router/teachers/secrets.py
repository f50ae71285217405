"""API keys: read from the environment when a teacher is first to answer, and shown nowhere."""

import os

from router.teachers.errors import TeacherUnavailable

SHORTEST_REDACTED = 8  # a shorter "key" is a placeholder and may be an ordinary word


class Secret:
    """An API key that does not show in representations, and can be struck out of texts."""

    def __init__(self, value: str) -> None:
        self._value = value

    def __repr__(self) -> str:
        return "Secret(…)"

    def reveal(self) -> str:
        """The key, for the one header it belongs in."""
        return self._value

    def strike(self, text: str) -> str:
        """`text` without the key."""
        if len(self._value) < SHORTEST_REDACTED:
            return text
        return text.replace(self._value, "[key]")


NO_SECRET = Secret("")


def secret_from(variable: str | None, teacher: str) -> Secret:
    """The key in an environment variable. Raises TeacherUnavailable where it is not set."""
    if variable is None:
        return NO_SECRET
    value = os.environ.get(variable, "").strip()
    if not value:
        raise TeacherUnavailable(
            f"teacher `{teacher}` needs an API key in the environment variable {variable}, which "
            f"is not set: `export {variable}=…` and run again."
        )
    if not value.isascii() or not value.isprintable():
        raise TeacherUnavailable(
            f"teacher `{teacher}`: the environment variable {variable} does not hold an API key "
            "(it has characters that no HTTP header may carry)."
        )
    return Secret(value)
