"""The router: each task's route, and prompts that leave it where their neighbourhood says so and it pays.

    router = fit_router(probed, RouteConfig(), seed=7)
    router.choose(vectors, tasks)           # a teacher for each prompt
    router.save(folder); Router.load(folder)

A task leaves the best single teacher only for one that is better there beyond noise (policy.py). Prompts
leave their task's teacher for what the local model (local.py) predicts if two things hold on the probes,
each predicted from the others: its effects predict the scores better than none, beyond noise, and the gain
to be expected of following them is above 0. Else every prompt follows its task.
"""

import hashlib
import json
import math
from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from ledger.errors import InputError
from ledger.keys import content_key, write_atomically
from router.deciding.classifier import UNSURE
from router.deciding.config import RouteConfig
from router.deciding.levels import FEWEST, Levels, Slopes
from router.deciding.local import LeftOut, LocalModel, Posterior, fit_local
from router.deciding.policy import Usd, decide, utilities
from router.deciding.routes import PromptRoute, Route, route_from
from router.deciding.sentences import follow_their_task, leaves, stands_in, weighed
from router.deciding.strata import strata_of
from router.deciding.strength import Gain, paired_gain, z_of

if TYPE_CHECKING:
    import numpy as np

# Number of a prompt -> teacher -> why it cannot take the prompt.
Unable = Mapping[int, Mapping[str, str]]
NOBODY: Unable = {}

ARRAYS, FIELDS = "router.safetensors", "router.json"
ROUTER_FORMAT = 2  # of these files: another one is not read


class DamagedRouter(InputError):
    """A folder in which `Router.save` wrote nothing, or that was changed since."""


@dataclass(frozen=True, slots=True)
class Probed:
    """What the probes showed: N prompts, T teachers."""

    keys: tuple[str, ...]
    vectors: "np.ndarray"  # (N, D), unit
    tasks: tuple[str, ...]
    teachers: tuple[str, ...]
    scores: "np.ndarray"  # (N, T), NaN where a teacher was not asked
    selective: bool = False  # whether scores decided who was asked, as in `allocation: sequential`

    def only(self, rows: "np.ndarray") -> "Probed":
        """The probes of these numbers."""
        return Probed(
            tuple(self.keys[i] for i in rows),
            self.vectors[rows],
            tuple(self.tasks[i] for i in rows),
            self.teachers,
            self.scores[rows],
            self.selective,
        )

    def of_teachers(self, columns: "np.ndarray") -> "Probed":
        """The same of some teachers (T,) bool."""
        names = tuple(n for n, kept in zip(self.teachers, columns.tolist(), strict=True) if kept)
        return replace(self, teachers=names, scores=self.scores[:, columns])

    def by_task(self) -> dict[str, dict[str, dict[str, float]]]:
        """The scores as `decide` takes them: task -> teacher -> prompt key."""
        found: dict[str, dict[str, dict[str, float]]] = {}
        for key, task, row in zip(self.keys, self.tasks, self.scores.tolist(), strict=True):
            at = found.setdefault(task, {teacher: {} for teacher in self.teachers})
            for teacher, score in zip(self.teachers, row, strict=True):
                if not math.isnan(score):
                    at[teacher][key] = score
        return found


@dataclass(frozen=True, slots=True)
class LocalGain:
    """What prompts gain that follow the local model instead of their task's route, on left-out probes.

    `promised` is what the model itself predicts, `measured` what the scores say. `expected` weighs the
    two: the promise is trusted to within its own size, the measurement to within its standard error
    (the posterior mean of a normal with that prior). `differs` says whether the model's effects predict
    scores better than none, beyond noise.
    """

    promised: float
    measured: Gain
    expected: float
    differs: bool

    @property
    def pays(self) -> bool:
        """Whether the guard lets prompts leave their task's route."""
        return self.differs and self.expected > 0


@dataclass(frozen=True, slots=True)
class Router:
    """Routes by task, and the model of their neighbourhoods: None where prompts follow their task.

    `teachers` are those that it chooses among: under `local` the ones that were scored.
    `local_gain` is what the guard went by, None where there was nothing to choose; `guard` says it.
    """

    teachers: tuple[str, ...]
    routes: tuple[Route, ...]
    local: LocalModel | None
    local_gain: LocalGain | None
    guard: str

    def choose(
        self,
        vectors: "np.ndarray | None",
        tasks: Sequence[str],
        unable: Unable = NOBODY,
    ) -> list[str]:
        """The teacher of each prompt: vectors (N, D), which nobody needs without `local`, and tasks.

        `unsure` prompts leave their route only where its teacher is unable to take them. Where nobody can, the
        task's teacher is named. Raises InputError where vectors do not go with the tasks or the router.
        """
        self._check(vectors, tasks)
        routes = self._by_task()
        own = [routes[task].teacher for task in tasks]
        chosen = own if self.local is None else self._nearby(vectors, tasks, own, unable)
        for row, cannot in unable.items():
            if chosen[row] in cannot:
                able = (name for name in routes[tasks[row]].ranking if name not in cannot)
                chosen[row] = next(able, own[row])
        return chosen

    def _check(self, vectors: "np.ndarray | None", tasks: Sequence[str]) -> None:
        if self.local is None or not self.local.levels.centres:
            return
        wanted = (len(tasks), self.local.levels.centres[0].shape[1])
        given = None if vectors is None else vectors.shape
        if given != wanted:
            raise InputError(
                f"the prompts' vectors are of the shape {given}; with these tasks the router needs {wanted}: "
                "embed the prompts with the model that embedded the probes."
            )

    def _nearby(
        self, vectors: "np.ndarray | None", tasks: Sequence[str], own: list[str], unable: Unable
    ) -> list[str]:
        """The teacher of each prompt that the local model expects most of; prompts of no task with a route
        stay."""
        import numpy as np

        assert self.local is not None
        assert vectors is not None
        predicted = self.local.predict(vectors, tasks)
        for row, cannot in unable.items():
            predicted[row, [i for i, name in enumerate(self.teachers) if name in cannot]] = -np.inf
        best = _best(predicted, own, self.teachers)
        named = self._named()
        return [
            self.teachers[i] if task in named else teacher
            for teacher, task, i in zip(own, tasks, best, strict=True)
        ]

    def leaving(
        self,
        keys: Sequence[str],
        vectors: "np.ndarray | None",
        tasks: Sequence[str],
        confidence: float,
        unable: Unable = NOBODY,
    ) -> list[PromptRoute]:
        """The prompts that do not go to their task's teacher, in their order, and what each gains by it."""
        routes = self._by_task()
        moves: dict[tuple[str, str], list[int]] = {}
        for i, teacher in enumerate(self.choose(vectors, tasks, unable)):
            if teacher != routes[tasks[i]].teacher:
                moves.setdefault((tasks[i], teacher), []).append(i)
        found = {}
        for (task, teacher), rows in moves.items():
            own = routes[task].teacher
            gains = self._gains(vectors, rows, task, (teacher, own), confidence)
            for row, gain in zip(rows, gains, strict=True):
                why = unable.get(row, {}).get(own)
                if why is None:
                    assert gain is not None
                    reason = leaves(task, teacher, own, gain, confidence)
                else:
                    reason = stands_in(teacher, own, why)
                because: Literal["nearby", "unable"] = "nearby" if why is None else "unable"
                found[row] = PromptRoute(keys[row], task, teacher, own, because, gain, reason)
        return [found[row] for row in sorted(found)]

    def _by_task(self) -> "defaultdict[str, Route]":
        """The routes; a task that has none goes where `unsure` goes, which is the last one."""
        return defaultdict(lambda: self.routes[-1], {route.task: route for route in self.routes})

    def _named(self) -> set[str]:
        """The tasks that have routes, besides `unsure`."""
        return {route.task for route in self.routes} - {UNSURE}

    def _gains(
        self,
        vectors: "np.ndarray | None",
        rows: list[int],
        task: str,
        teachers: tuple[str, str],
        confidence: float,
    ) -> Sequence[Gain | None]:
        """What the first of two teachers should bring over the second on prompts of a task."""
        if (
            self.local is None
            or task not in self._named()
            or not set(teachers) <= set(self.teachers)
        ):
            return [None] * len(rows)
        assert vectors is not None
        ours, theirs = (self.teachers.index(name) for name in teachers)
        return self.local.gains(vectors[rows], task, ours, theirs, confidence)

    def save(self, folder: Path) -> None:
        """Writes `router.safetensors` and `router.json` into a folder, the latter last. Raises InputError where
        the folder is a file."""
        from safetensors.numpy import save

        if folder.exists() and not folder.is_dir():
            raise InputError(f"{folder} is a file: a router is saved into a folder")
        arrays = save(_arrays_of(self.local) if self.local else {})
        fields = {
            "format": ROUTER_FORMAT,
            "teachers": self.teachers,
            "routes": [asdict(route) for route in self.routes],
            "guard": self.guard,
            "local_gain": asdict(self.local_gain) if self.local_gain else None,
            "local": _fields_of(self.local) if self.local else None,
            "arrays": hashlib.sha256(arrays).hexdigest(),
        }
        fields["sha256"] = content_key(json.loads(json.dumps(fields)))
        write_atomically(folder / ARRAYS, arrays)
        write_atomically(folder / FIELDS, json.dumps(fields, ensure_ascii=False, indent=1).encode())

    @classmethod
    def load(cls, folder: Path) -> "Router":
        """Reads what `save` wrote. Raises DamagedRouter for anything else."""
        from safetensors import SafetensorError
        from safetensors.numpy import load

        try:
            fields = json.loads((folder / FIELDS).read_text("utf-8"))
            if fields["format"] != ROUTER_FORMAT:
                raise ValueError(
                    f"its format is {fields['format']}, this Tutelage reads {ROUTER_FORMAT}"
                )
            arrays = (folder / ARRAYS).read_bytes()
            if content_key({n: v for n, v in fields.items() if n != "sha256"}) != fields["sha256"]:
                raise ValueError(f"{FIELDS} was changed")
            if hashlib.sha256(arrays).hexdigest() != fields["arrays"]:
                raise ValueError(f"{ARRAYS} is another router's, or was changed")
            gain, local = fields["local_gain"], fields["local"]
            if gain:
                gain = LocalGain(**{**gain, "measured": Gain(**gain["measured"])})
            if local:
                local = _local_from(local, load(arrays))
            routes = tuple(route_from(route) for route in fields["routes"])
            return cls(tuple(fields["teachers"]), routes, local, gain, fields["guard"])
        except (
            OSError,
            ValueError,
            LookupError,
            TypeError,
            AttributeError,
            RecursionError,
            SafetensorError,
        ) as error:
            raise DamagedRouter(
                f"{folder} holds no router, or a damaged one ({type(error).__name__}: {error}): fit and save "
                "it again."
            ) from error


def fit_router(
    probed: Probed,
    config: RouteConfig,
    seed: int,
    usd: Usd | None = None,
    tasks: Collection[str] = (),
) -> Router:
    """Decides each task's route, and whether prompts may leave it. `usd` (see `decide`) is needed under `cost`;
    `tasks` names those that may have no probe.

    Prompts follow their task under `level: task`, and where probes are too few for neighbourhoods (128 at
    least). They do not leave for a teacher without any score. Raises UnroutableTask if the recipe names an
    unknown task or teacher, or nothing was scored.
    """
    import numpy as np

    strata = None
    if probed.selective:
        strata = strata_of(probed.keys, probed.vectors, probed.tasks, seed)
    names = sorted({*tasks, *probed.tasks})
    routes = tuple(decide(config, names, probed.teachers, probed.by_task(), usd, strata))
    worth = utilities(config, probed.tasks, probed.teachers, probed.scores, usd)
    probed = replace(probed, scores=worth)

    def by_task(why: str) -> Router:
        return Router(probed.teachers, routes, None, None, follow_their_task(why))

    seen = ~np.isnan(probed.scores)
    if config.level == "task" or config.policy == "fixed":
        return by_task("the recipe says so")
    if len(probed.teachers) == 1:
        return by_task("there is one teacher")
    probed, seen = probed.of_teachers(seen.any(axis=0)), seen[:, seen.any(axis=0)]
    if len(probed.teachers) < 2:
        return by_task("one teacher alone was scored")
    rows = np.flatnonzero(seen.any(axis=1))
    if len(rows) < FEWEST:
        return by_task(f"{len(rows)} probes are too few for neighbourhoods, {FEWEST} would do")
    probed = probed.only(rows)
    local, left_out = fit_local(probed.vectors, probed.tasks, probed.scores, seed)
    gain = _local_gain(left_out, routes, probed, config.confidence)
    if gain is None:
        return by_task("no probe was asked of two teachers")
    follows = not config.guard or gain.pays
    told = weighed(follows, gain.expected, gain.measured, config.confidence)
    return Router(probed.teachers, routes, local if follows else None, gain, told)


def _local_gain(
    left_out: LeftOut, routes: Sequence[Route], probed: Probed, confidence: float
) -> LocalGain | None:
    """From the probes that both the task's teacher and the chosen one were asked; None without any."""
    import numpy as np

    by_task = {route.task: route.teacher for route in routes}
    chosen = [by_task[task] for task in probed.tasks]
    rows = np.arange(len(chosen))
    own = np.array([probed.teachers.index(teacher) for teacher in chosen])
    best = _best(left_out.predicted, chosen, probed.teachers)
    before, after = probed.scores[rows, own], probed.scores[rows, best]
    both = ~np.isnan(before + after)
    if not both.any():
        return None
    promised = left_out.predicted[rows, best] - left_out.predicted[rows, own]
    promise = float(promised[both].mean())
    variance = float((after - before)[both].var() / both.sum())
    measured = paired_gain(after[both].tolist(), before[both].tolist(), confidence)
    trust = promise**2 + variance
    expected = (measured.mean * promise**2 + promise * variance) / trust if trust else 0.0
    differs = left_out.spared > z_of(confidence) * left_out.standard_error
    return LocalGain(promise, measured, expected, differs)


def _best(predicted: "np.ndarray", chosen: Sequence[str], teachers: Sequence[str]) -> "np.ndarray":
    """The teacher (N,) of the highest prediction (N, T), by number; `chosen` where none is higher."""
    import numpy as np

    rows = np.arange(len(predicted))
    own = np.array([teachers.index(teacher) for teacher in chosen], int)
    best = predicted.argmax(axis=1)
    return np.where(predicted[rows, best] > predicted[rows, own], best, own)


def _fields_of(local: LocalModel) -> dict[str, object]:
    return {
        "tasks": local.levels.tasks,
        "partitions": len(local.levels.centres),
        "posterior_of": local.posterior_of,
        "spreads": local.spreads,
        "probes": local.probes,
    }


def _arrays_of(local: LocalModel) -> "dict[str, np.ndarray]":
    """What is saved, in the order of rows: safetensors writes memory as it lies."""
    import numpy as np

    arrays = {"effects": local.effects, "noise": local.noise}
    arrays |= {f"centres.{i}": centres for i, centres in enumerate(local.levels.centres)}
    if local.levels.slopes:
        arrays |= {"origin": local.levels.slopes.origin, "axes": local.levels.slopes.axes}
    for i, posterior in enumerate(local.posteriors):
        arrays |= {f"scales.{i}": posterior.scales, f"inverse.{i}": posterior.inverse}
    return {name: np.ascontiguousarray(array) for name, array in arrays.items()}


def _local_from(fields: dict[str, Any], arrays: "dict[str, np.ndarray]") -> LocalModel:
    centres = tuple(arrays[f"centres.{i}"] for i in range(fields["partitions"]))
    posteriors = tuple(
        Posterior(arrays[f"scales.{i}"], arrays[f"inverse.{i}"])
        for i in range(max(fields["posterior_of"]) + 1)
    )
    slopes = Slopes(arrays["origin"], arrays["axes"]) if "axes" in arrays else None
    task, local, slope = fields["spreads"]
    return LocalModel(
        Levels(tuple(fields["tasks"]), centres, slopes),
        arrays["effects"],
        posteriors,
        tuple(fields["posterior_of"]),
        arrays["noise"],
        (task, local, slope),
        fields["probes"],
    )
