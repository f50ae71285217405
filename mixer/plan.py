"""The plan of a mix: which sample stands where and how often, by content and seed alone.

Samples of a task are lined up by a hash of seed and sample key, the line is repeated as the caps
allow, and the stages cut consecutive pieces off it. So no sample is used twice before each was used
once, and a new answer moves few others.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import blake2b
from typing import TYPE_CHECKING

from mixer.config import MixConfig
from mixer.errors import InfeasibleMix, Shortfall
from mixer.filters import Candidate, Filtered
from mixer.quota import Quota, quotas, shortfall, task_amounts

if TYPE_CHECKING:
    import numpy as np


@dataclass(frozen=True, slots=True)
class StagePlan:
    """One stage: its members in order, as indices into `Plan.samples`, with their repeat from 0."""

    quota: Quota
    members: "np.ndarray"  # (samples of the stage,) int64
    repeats: "np.ndarray"  # (samples of the stage,) int64


@dataclass(frozen=True, slots=True)
class Plan:
    """The mix before it is written. `samples` are the distinct ones, in the order of their keys."""

    samples: list[Candidate]
    stages: list[StagePlan]
    filtered: Filtered


def make_plan(config: MixConfig, filtered: Filtered, *, tasks: Sequence[str], seed: int) -> Plan:
    """Raises UnknownTask, and InfeasibleMix that names every share that cannot be met."""
    import numpy as np

    stages = quotas(config, tasks)
    lines = {task: Line(config, filtered, task, seed) for task in task_amounts(stages)}
    short = [gap for task, line in lines.items() if (gap := line.shortfall(stages, filtered))]
    if short:
        raise InfeasibleMix(short)
    pieces = {task: line.cut(stages) for task, line in lines.items()}
    taken = []
    for number, quota in enumerate(stages):
        parts = [pieces[task][number] for task in lines]
        members = np.concatenate([rows for rows, _ in parts])
        repeats = np.concatenate([repeats for _, repeats in parts])
        taken.append(_ordered(quota, members, repeats, filtered.kept, seed))
    return _compact(taken, filtered)


class Line:
    """All usable samples of one task, lined up by seed, and the stages' pieces of that line."""

    def __init__(self, config: MixConfig, filtered: Filtered, task: str, seed: int) -> None:
        import numpy as np

        self.config, self.task = config, task
        rows = [row for row, c in enumerate(filtered.kept) if c.task == task]
        self.answers = len(rows)
        ranks = _ranks([f"{seed}\n{filtered.kept[row].sample}" for row in rows])
        lined_up = np.asarray(rows, np.int64)[np.argsort(ranks, kind="stable")]
        self.rows = lined_up[: config.max_samples(task)]
        self.repeats = config.max_repeats(task)
        if config.unit == "tokens":
            self.weights = np.asarray([filtered.kept[row].tokens for row in self.rows], np.int64)
        else:
            self.weights = np.ones(len(self.rows), np.int64)

    def shortfall(self, stages: Sequence[Quota], filtered: Filtered) -> Shortfall | None:
        """None if the task can give what the stages ask, to within half of its longest sample."""
        distinct = int(self.weights.sum())
        slack = self.weights.max() / 2 if self.config.unit == "tokens" and len(self.rows) else 0
        return shortfall(
            self.config,
            stages,
            self.task,
            distinct=distinct,
            room=distinct * self.repeats + slack,
            binding="max_samples" if len(self.rows) < self.answers else "answers",
            answers=self.answers,
            found=filtered.found.get(self.task, 0),
            drops=filtered.drops.get(self.task, {}),
        )

    def cut(self, stages: Sequence[Quota]) -> list[tuple["np.ndarray", "np.ndarray"]]:
        """(rows, repeats) per stage. Each cut falls nearest to what was asked up to there."""
        import numpy as np

        asked = np.cumsum([quota.amounts.get(self.task, 0) for quota in stages])
        passes = min(self.repeats, int(asked[-1]) // int(self.weights.sum()) + 1)
        reached = np.concatenate([[0], np.cumsum(np.tile(self.weights, passes))])
        above = np.minimum(np.searchsorted(reached, asked), len(reached) - 1)
        below = np.maximum(above - 1, 0)
        cuts = np.where(asked - reached[below] <= reached[above] - asked, below, above)
        places = np.split(np.arange(cuts[-1]), cuts[:-1])
        return [(self.rows[place % len(self.rows)], place // len(self.rows)) for place in places]


def _ordered(
    quota: Quota,
    members: "np.ndarray",
    repeats: "np.ndarray",
    candidates: Sequence[Candidate],
    seed: int,
) -> StagePlan:
    import numpy as np

    if quota.order == "length":
        tokens = np.asarray([candidates[row].tokens for row in members], np.int64)
        order = np.lexsort((repeats, members, tokens))  # rows are in the order of their keys
    else:
        pairs = zip(members.tolist(), repeats.tolist(), strict=True)
        names = [f"{seed}\n{quota.stage}\n{candidates[row].sample}\n{n}" for row, n in pairs]
        order = np.lexsort((repeats, members, _ranks(names)))
    return StagePlan(quota, members[order], repeats[order])


def _compact(stages: Sequence[StagePlan], filtered: Filtered) -> Plan:
    """Leaves out the samples that no stage took."""
    import numpy as np

    used, places = np.unique(np.concatenate([s.members for s in stages]), return_inverse=True)
    cuts = np.cumsum([len(s.members) for s in stages])[:-1]
    members = np.split(places.astype(np.int64), cuts)
    return Plan(
        samples=[filtered.kept[row] for row in used],
        stages=[StagePlan(s.quota, m, s.repeats) for s, m in zip(stages, members, strict=True)],
        filtered=filtered,
    )


def _ranks(names: Sequence[str]) -> "np.ndarray":
    """A pseudo-random uint64 for each name, the same on every machine and for any neighbours."""
    import numpy as np

    digests = b"".join(blake2b(name.encode(), digest_size=8).digest() for name in names)
    return np.frombuffer(digests, dtype="<u8")
