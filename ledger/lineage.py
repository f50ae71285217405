"""Lineage: from a sample to its prompt, teacher and students, and back from a student to its teachers.

Every function reads the ledger only, and returns plain dicts that JSON can hold.
"""

import json
from collections.abc import Sequence
from typing import Any

from ledger.errors import InputError
from ledger.store import Ledger

# One row per request: its newest state, and what all its sittings took together.
REQUESTS = """(
SELECT key, max(teacher) AS teacher, arg_max(stage, id) AS stage, arg_max(state, id) AS state,
    sum(attempts) AS attempts, arg_max(prompt_tokens, id) AS prompt_tokens,
    arg_max(completion_tokens, id) AS completion_tokens, sum(cost_usd) AS cost_usd,
    arg_max(price_source, id) AS price_source
FROM request WHERE {where} GROUP BY key)"""
# A run's requests whose newest state is one of some, in any run: a later one may have mended them.
NEWEST = """(
SELECT * FROM (SELECT * FROM request QUALIFY row_number() OVER (PARTITION BY key ORDER BY id DESC) = 1)
WHERE run = ? AND list_contains(?, state))"""
FAILED_STATES = ("failed", "invalid", "over_budget", "cancelled")  # those without a sample
# The newest licence of a subject that was declared by `until`.
LICENCE = """(
SELECT arg_max(licence, id) FROM licence
WHERE kind = '{kind}' AND subject = {subject} AND recorded_at <= {until})"""
MIXED_AT = """coalesce((
SELECT max(m.recorded_at) FROM mix_member b JOIN mix m ON b.mix = m.id WHERE b.sample = s.id),
'infinity'::TIMESTAMP)"""
JSON_COLUMNS = ("messages", "tools", "sampling", "settings", "evidence", "detail")


def find_sample(ledger: Ledger, prefix: str) -> str:
    """The one sample whose key begins with `prefix`. Raises InputError for none, or for several."""
    rows = ledger.rows(
        "SELECT key FROM sample WHERE starts_with(key, ?) ORDER BY key LIMIT 3", [prefix]
    )
    if len(rows) == 1:
        return str(rows[0][0])
    if not rows:
        raise InputError(
            f"no sample's id begins with {prefix!r}; `tutelage audit sql RUN "
            '"SELECT key FROM sample LIMIT 5"` shows some'
        )
    raise InputError(
        f"{prefix!r} fits several samples, such as {rows[0][0]} and {rows[1][0]}: give more of it"
    )


def sample_story(ledger: Ledger, key: str) -> dict[str, Any]:
    """Everything the ledger knows of one sample: prompt, labels, request, answer, fate.

    Licences are as they stood when the sample was last mixed, and the newest where it never was.
    """
    teacher_licence = LICENCE.format(kind="teacher", subject="t.key", until=MIXED_AT)
    prompt_licence = LICENCE.format(kind="source", subject="p.source", until=MIXED_AT)
    head = _records(
        ledger,
        "SELECT s.key AS sample, p.key AS prompt, p.source, x.messages, x.tools, x.json_schema, "
        "t.name AS teacher, t.key AS teacher_id, t.kind, t.model, t.revision, s.model AS answered_by, "
        "s.text_sha, s.finish_reason, a.text, a.tool_calls, "
        f"a.reasoning, {teacher_licence} AS teacher_licence, {prompt_licence} AS prompt_licence "
        "FROM sample s JOIN prompt p ON s.prompt = p.id JOIN prompt_text x ON x.prompt = p.id "
        "JOIN teacher t ON s.teacher = t.id LEFT JOIN sample_text a ON a.sample = s.id "
        "WHERE s.key = ?",
        key,
    )[0]
    return {
        **head,
        "labels": _records(
            ledger,
            "SELECT DISTINCT l.task, l.probability, l.classifier FROM label l "
            "JOIN sample s ON s.prompt = l.prompt WHERE s.key = ? ORDER BY l.classifier",
            key,
        ),
        "requests": _records(
            ledger,
            "SELECT r.key AS request, r.state, r.reason, r.attempts, r.sampling, r.max_tokens, "
            "r.started_at::VARCHAR AS started_at, r.ended_at::VARCHAR AS ended_at, "
            "date_diff('millisecond', r.started_at, r.ended_at) / 1000.0 AS seconds, r.prompt_tokens, "
            "r.completion_tokens, r.cost_usd, r.price_source, r.stage, r.run FROM request r "
            "WHERE r.key IN (SELECT q.key FROM sample s JOIN request q ON s.request = q.id "
            "WHERE s.key = ?) ORDER BY r.id",
            key,
        ),
        "scores": _records(
            ledger,
            "SELECT c.scorer, c.value, c.extracted FROM score c JOIN sample s ON c.sample = s.id "
            "WHERE s.key = ? ORDER BY c.id",
            key,
        ),
        "flags": _records(
            ledger,
            "SELECT f.filter, f.detail, f.mix FROM flag f JOIN sample s ON f.sample = s.id "
            "WHERE s.key = ? ORDER BY f.id",
            key,
        ),
        "mixes": _records(
            ledger,
            "SELECT m.run, m.key AS mix, m.path, m.lock_sha, b.stage, b.position, b.repeat "
            "FROM mix_member b JOIN mix m ON b.mix = m.id JOIN sample s ON b.sample = s.id "
            "WHERE s.key = ? ORDER BY m.id, b.position",
            key,
        ),
        "students": _records(
            ledger,
            "SELECT r.run, r.key AS student_run, r.path, r.weights_sha, c.times FROM consumed c "
            "JOIN student_run r ON c.student_run = r.id JOIN sample s ON c.sample = s.id "
            "WHERE s.key = ? ORDER BY r.id",
            key,
        ),
    }


def student_lineage(ledger: Ledger, run: str) -> list[dict[str, Any]]:
    """The students trained in a run, newest first, each with its mix, teachers and prompt sources.

    Licences are as they stood when the mix was made.
    """
    teacher_licence = LICENCE.format(kind="teacher", subject="t.key", until="?::TIMESTAMP")
    prompt_licence = LICENCE.format(kind="source", subject="p.source", until="?::TIMESTAMP")
    students = _records(
        ledger,
        "SELECT r.id, r.key AS student_run, r.base, r.path, r.weights_sha, r.settings, "
        "r.ended_at::VARCHAR AS ended_at, r.seconds, m.key AS mix, m.path AS mix_path, m.lock_sha, "
        "m.samples, m.tokens, m.recorded_at::VARCHAR AS mixed_at FROM student_run r "
        "JOIN mix m ON r.mix = m.id WHERE r.run = ? ORDER BY r.id DESC",
        run,
    )
    for student in students:
        number, mixed_at = student.pop("id"), student.pop("mixed_at")
        student["teachers"] = _records(
            ledger,
            "SELECT t.name AS teacher, t.key AS teacher_id, t.model, t.revision, "
            f"{teacher_licence} AS licence, count(*) AS samples, sum(c.times) AS times_seen "
            "FROM consumed c "
            "JOIN sample s ON c.sample = s.id JOIN teacher t ON s.teacher = t.id "
            "WHERE c.student_run = ? GROUP BY ALL ORDER BY samples DESC, teacher",
            mixed_at,
            number,
        )
        student["sources"] = _records(
            ledger,
            f"SELECT p.source, {prompt_licence} AS licence, count(*) AS samples "
            "FROM consumed c JOIN sample s ON c.sample = s.id JOIN prompt p ON s.prompt = p.id "
            "WHERE c.student_run = ? GROUP BY ALL ORDER BY samples DESC, p.source",
            mixed_at,
            number,
        )
    return students


def teacher_lineage(ledger: Ledger, name: str, key: str | None = None) -> list[dict[str, Any]]:
    """Every teacher of that name: what it was asked, what it cost, and which students learned from it.

    `key` is of a teacher that a recipe calls so, whatever it was called when the ledger first met it.

    Raises InputError where the ledger knows no teacher of that name.
    """
    teachers = _records(
        ledger,
        "SELECT t.id, t.name AS teacher, t.key AS teacher_id, t.kind, t.model, t.revision, t.settings, "
        "(SELECT licence FROM licence WHERE kind = 'teacher' AND subject = t.key "
        "ORDER BY id DESC LIMIT 1) AS licence FROM teacher t WHERE t.name = ? OR t.key = ? ORDER BY t.id",
        name,
        key,
    )
    if not teachers:
        known = [row[0] for row in ledger.rows("SELECT DISTINCT name FROM teacher ORDER BY name")]
        raise InputError(f"the ledger knows no teacher {name!r}; it knows {', '.join(known)}")
    for teacher in teachers:
        number = teacher.pop("id")
        teacher["requests"] = _records(
            ledger,
            "SELECT stage, state, count(*) AS requests, sum(attempts) AS attempts, "
            "sum(prompt_tokens) AS prompt_tokens, sum(completion_tokens) AS completion_tokens, "
            f"sum(cost_usd) AS cost_usd FROM {REQUESTS.format(where='teacher = ?')} "
            "GROUP BY stage, state ORDER BY stage, state",
            number,
        )
        teacher["students"] = _records(
            ledger,
            "SELECT r.run, r.key AS student_run, r.path, count(*) AS samples FROM consumed c "
            "JOIN student_run r ON c.student_run = r.id JOIN sample s ON c.sample = s.id "
            "WHERE s.teacher = ? GROUP BY ALL ORDER BY r.run",
            number,
        )
    return teachers


def failures(ledger: Ledger, run: str, states: Sequence[str]) -> list[dict[str, Any]]:
    """A run's requests that ended so and were not mended since: by stage, teacher and error class.

    Each class has the newest as its example: its prompt's last words, and its reason.
    """
    return _records(
        ledger,
        "SELECT r.stage, t.name AS teacher, r.state, r.error_class, count(*) AS requests, "
        "sum(r.attempts) AS attempts, sum(r.cost_usd) AS cost_usd, "
        "max(r.ended_at)::VARCHAR AS newest, arg_max(r.reason, r.id) AS reason, "
        "arg_max(p.key, r.id) AS prompt, "
        "arg_max(json_extract_string(x.messages, '$[#-1].content')[:200], r.id) AS example "
        f"FROM {NEWEST} r JOIN teacher t ON r.teacher = t.id JOIN prompt p ON r.prompt = p.id "
        "LEFT JOIN prompt_text x ON x.prompt = p.id "
        "GROUP BY ALL ORDER BY requests DESC, r.stage, t.name, r.state, r.error_class",
        run,
        list(states),
    )


def failed_requests(ledger: Ledger, run: str, states: Sequence[str]) -> list[tuple[Any, ...]]:
    """The requests that `failures` counts, in the order in which they were first asked.

    Of each: stage, teacher's key, n, task, and its prompt's messages, tools and JSON schema.
    """
    return ledger.rows(
        "SELECT r.stage, t.key, r.n, r.task, x.messages, x.tools, x.json_schema "
        f"FROM {NEWEST} r JOIN teacher t ON r.teacher = t.id JOIN prompt_text x ON x.prompt = r.prompt "
        "ORDER BY r.id",
        [run, list(states)],
    )


def _records(ledger: Ledger, sql: str, *params: Any) -> list[dict[str, Any]]:
    rows = ledger.arrow(sql, params).to_pylist()
    return [{name: _plain(name, value) for name, value in row.items()} for row in rows]


def _plain(name: str, value: Any) -> Any:
    return json.loads(value) if name in JSON_COLUMNS and value else value
