"""Preview and build of a mix: one plan, counted by the one, written by the other."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ledger.keys import now_us
from ledger.mixes import Manifest, MixStage, write_mix
from mixer.blend import Blend, count
from mixer.config import MixConfig, as_written
from mixer.filters import Candidate, apply_filters
from mixer.plan import Plan, make_plan
from mixer.quota import Need, needs

if TYPE_CHECKING:
    import pyarrow as pa

    from ledger.store import Ledger


def still_needed(
    config: MixConfig, candidates: Iterable[Candidate], *, tasks: Sequence[str]
) -> dict[str, Need]:
    """What `needs` asks, less the usable answers that are there. Tasks with enough are left out."""
    kept = apply_filters(config, candidates).kept
    missing = {}
    for task, need in needs(config, tasks).items():
        have = [c.tokens for c in kept if c.task == task]
        in_unit = len(have) if need.tokens is None else sum(have)
        samples = None if need.samples is None else max(0, need.samples - len(have))
        tokens = None if need.tokens is None else max(0, need.tokens - in_unit)
        if samples != 0 and tokens != 0:
            missing[task] = Need(samples, tokens, max(0, need.at_least - in_unit))
    return missing


def preview(
    config: MixConfig, candidates: Iterable[Candidate], *, tasks: Sequence[str], seed: int
) -> Blend:
    """What `build` would make of these answers; nothing is written.

    Raises UnknownTask, UnlicensedSamples or InfeasibleMix, as `build` does.
    """
    return count(config, _plan(config, candidates, tasks, seed))


def build(
    config: MixConfig,
    candidates: Iterable[Candidate],
    folder: Path,
    *,
    tasks: Sequence[str],
    seed: int,
    ledger: "Ledger",
    run: str,
    key: str,
) -> Manifest:
    """Writes the mix into `folder`, and its members and flags into the ledger under its `key`.

    Called again after a kill, it writes the same bytes and no row twice.
    """
    plan = _plan(config, candidates, tasks, seed)
    blend = count(config, plan)
    lock = {
        "recipe": as_written(config),
        "seed": seed,
        "blend": blend.as_dict(),
        "licences": {
            "teachers": {name: list(counts) for name, counts in blend.teachers.items()},
            "sources": {name: list(counts) for name, counts in blend.sources.items()},
        },
    }
    manifest = write_mix(
        folder,
        _samples_table(plan),
        _order_table(plan),
        lock,
        _mix_stages(plan),
        seed=seed,
        unit=config.unit,
    )
    _record(ledger, plan, manifest, folder=folder, run=run, key=key)
    return manifest


def _plan(
    config: MixConfig, candidates: Iterable[Candidate], tasks: Sequence[str], seed: int
) -> Plan:
    return make_plan(config, apply_filters(config, candidates), tasks=tasks, seed=seed)


def _mix_stages(plan: Plan) -> list[MixStage]:
    stages, start = [], 0
    for stage in plan.stages:
        stop = start + len(stage.members)
        stages.append(MixStage(stage.quota.stage, start, stop, stage.quota.order))
        start = stop
    return stages


def _samples_table(plan: Plan) -> "pa.Table":
    import pyarrow as pa

    from ledger.mixes import samples_schema

    columns = {
        "sample": [c.sample for c in plan.samples],
        "prompt_key": [c.prompt_key for c in plan.samples],
        "task": [c.task for c in plan.samples],
        "teacher": [c.teacher for c in plan.samples],
        "licence": [c.licence for c in plan.samples],
        "prompt": [[dict(m) for m in c.messages] for c in plan.samples],
        "completion": [[{"role": "assistant", "content": c.answer}] for c in plan.samples],
        "tools": [c.tools for c in plan.samples],
        "tokens": [c.tokens for c in plan.samples],
        "weight": [c.weight for c in plan.samples],
    }
    return pa.table(columns, schema=samples_schema())


def _order_table(plan: Plan) -> "pa.Table":
    import numpy as np
    import pyarrow as pa

    from ledger.mixes import order_schema

    rows = np.concatenate([s.members for s in plan.stages])
    names = [s.quota.stage for s in plan.stages for _ in range(len(s.members))]
    columns = {
        "position": pa.array(np.arange(len(rows), dtype=np.int32)),
        "stage": pa.array(names, pa.string()),
        "row": pa.array(rows.astype(np.int32)),
        "repeat": pa.array(np.concatenate([s.repeats for s in plan.stages]).astype(np.int16)),
    }
    return pa.table(columns, schema=order_schema())


def _record(
    ledger: "Ledger", plan: Plan, manifest: Manifest, *, folder: Path, run: str, key: str
) -> None:
    """Mix, members and flags in one commit; the ledger skips rows that an earlier call has put."""
    mix = {
        "key": key,
        "run": run,
        "path": str(folder),
        "lock_sha": manifest.lock_sha,
        "plan_sha": manifest.plan_sha,
        "samples": manifest.samples,
        "tokens": manifest.tokens,
        "recorded_at": now_us(),
    }
    flags: list[dict[str, Any]] = [
        {"sample": f.sample, "mix": key, "filter": f.filter, "detail": f.detail}
        for f in plan.filtered.flags
    ]
    ledger.put_all([("mix", [mix]), ("mix_member", _members(plan, key)), ("flag", flags)])


def _members(plan: Plan, key: str) -> list[dict[str, Any]]:
    order = [
        (stage.quota.stage, row, repeat)
        for stage in plan.stages
        for row, repeat in zip(stage.members.tolist(), stage.repeats.tolist(), strict=True)
    ]
    return [
        {
            "mix": key,
            "stage": stage,
            "position": position,
            "sample": plan.samples[row].sample,
            "repeat": repeat,
        }
        for position, (stage, row, repeat) in enumerate(order)
    ]
