"""A route (task -> teacher, or prompt -> teacher), with its reason and evidence, and its rows in the ledger."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from ledger.keys import now_us
from ledger.store import Ledger
from router.deciding.strength import Gain, Strength

OF_TASKS = "SELECT evidence FROM route WHERE key = ? AND prompt IS NULL ORDER BY id"
OF_PROMPTS = (
    "SELECT p.key, r.evidence->>'teacher' FROM route r JOIN prompt p ON r.prompt = p.id "
    "WHERE r.key = ?"
)


@dataclass(frozen=True, slots=True)
class Route:
    """Where the prompts of a task go, and why.

    `margin` is the paired gain of `teacher` over `runner_up` with its interval, None where there is
    nothing to compare. `guarded` means that another teacher looked stronger, not beyond noise; then
    that one is the runner-up. `over_best_single` is the guard's evidence where a task left
    `best_single`. `ranking` holds all teachers, the worthiest first: where `teacher` cannot take a prompt,
    the first of them that can does.
    """

    task: str
    teacher: str
    runner_up: str | None
    margin: float | None
    margin_lo: float | None
    margin_hi: float | None
    reason: str
    policy: str
    guarded: bool
    best_single: str
    ranking: tuple[str, ...]
    over_best_single: Gain | None = None
    strengths: dict[str, Strength] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class PromptRoute:
    """A prompt that goes to another teacher than its task's, `because` that should be better on prompts
    `nearby`, its own is `unable` to take it, or by lot (`explored`).

    `gain` is what it should bring, with its interval; None where nothing near was probed.
    """

    prompt: str  # key
    task: str
    teacher: str
    instead_of: str
    because: Literal["nearby", "unable", "explored"]
    gain: Gain | None
    reason: str


def put_routes(
    ledger: Ledger,
    run: str,
    key: str,
    routes: Sequence[Route | PromptRoute],
    teacher_keys: Mapping[str, str],
    policy: str,
) -> None:
    """Puts one row per route in one commit. `teacher_keys`: name -> key of a teacher put before."""
    at = now_us()
    rows = [
        {
            "key": key,
            "run": run,
            "task": route.task,
            "prompt": route.prompt if isinstance(route, PromptRoute) else None,
            "teacher": teacher_keys[route.teacher],
            "runner_up": route.instead_of if isinstance(route, PromptRoute) else route.runner_up,
            "policy": policy,
            "reason": route.reason,
            "evidence": json.dumps(asdict(route), ensure_ascii=False),
            "recorded_at": at,
        }
        for route in routes
    ]
    ledger.put("route", rows)


def read_routes(ledger: Ledger, key: str) -> list[Route]:
    """The tasks' routes that were put under `key` and are folded, in their order."""
    return [route_from(json.loads(evidence)) for (evidence,) in ledger.rows(OF_TASKS, [key])]


def read_prompt_routes(ledger: Ledger, key: str) -> dict[str, str]:
    """Prompt key -> teacher of the prompts that do not go to their task's under `key`."""
    return dict(ledger.rows(OF_PROMPTS, [key]))


def route_from(fields: Mapping[str, Any]) -> Route:
    """The route whose `asdict` these fields are."""
    gain = fields["over_best_single"]
    strengths = {name: Strength(**values) for name, values in fields["strengths"].items()}
    over = Gain(**gain) if gain else None
    ranking = tuple(fields["ranking"])
    return Route(**{**fields, "ranking": ranking, "over_best_single": over, "strengths": strengths})
