"""Speed and memory of models: local ones here, servers by streaming, the rest as the ledger saw them."""

from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from ledger.prompts import Prompt
from tutelage.watch import Watch
from tutelage.workspace import Workspace

if TYPE_CHECKING:
    from router.teachers.http import HttpTeacher
    from router.teachers.protocol import Teacher


def speed_of(
    workspace: Workspace, watch: Watch, models: "Sequence[Teacher]"
) -> dict[str, dict[str, Any]]:
    """By model its evals.speed.Speed; empty where the recipe leaves the measurement out."""
    from evals.speed import SpeedSpec, measure, observed
    from evals.speed_endpoint import measure_endpoints
    from router.teachers.http import HttpTeacher
    from router.teachers.local import LocalTeacher

    settings = workspace.recipe.evaluate.speed
    if not settings.prompts:
        return {}
    items = workspace.in_seeded_order(workspace.pools.test)[: settings.prompts]
    prompts = [item.prompt for item in items]
    found = measure(
        {model.name: SpeedSpec.of(model) for model in models if isinstance(model, LocalTeacher)},
        prompts,
        settings.max_tokens,
        concurrency=settings.concurrency,
        repeats=settings.repeats,
        on_progress=lambda p: watch.progress(
            p.loaded + p.rounds, p.models + p.rounds_total, "speed and memory, models in turn"
        ),
    )
    servers = [model for model in models if isinstance(model, HttpTeacher)]
    found |= measure_endpoints(
        _affordable(workspace, watch, servers, prompts),
        prompts,
        settings.max_tokens,
        concurrency=settings.concurrency,
        repeats=settings.repeats,
        on_failure=lambda name, why: watch.note(f"{name} was not timed: {why}"),
        on_progress=lambda p: watch.progress(p.rounds, p.rounds_total, "speed of servers, in turn"),
    )
    for model in models:
        if model.name not in found and (seen := observed(workspace.ledger, model.key)):
            found[model.name] = seen
    return {name: asdict(speed) for name, speed in found.items()}


def _affordable(
    workspace: Workspace, watch: Watch, servers: "Sequence[HttpTeacher]", prompts: Sequence[Prompt]
) -> "list[HttpTeacher]":
    """The servers that can be timed within `endpoint_usd`, in their order."""
    from evals.speed_endpoint import worst_usd

    settings = workspace.recipe.evaluate.speed
    left, chosen = settings.endpoint_usd, []
    for server in servers:
        worst = worst_usd(
            server, prompts, settings.max_tokens, settings.concurrency, settings.repeats
        )
        if worst is None or worst > left:
            price = "an unknown price" if worst is None else f"up to ${worst:.4f}"
            watch.note(
                f"{server.name} is not timed: that costs {price}, and `evaluate: {{speed: {{endpoint_usd: "
                f"{settings.endpoint_usd:g}}}}}` has ${left:.4f} left"
            )
            continue
        left -= worst
        chosen.append(server)
    return chosen
