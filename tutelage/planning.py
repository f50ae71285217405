"""check and plan: what is wrong with a recipe, and what a run of it would do, buy and spend.

Neither calls a server or writes anything; a model is loaded by `plan --measure` alone.
"""

from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from functools import cached_property
from math import ceil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from ledger.errors import LedgerError, TutelageError
from ledger.prompts import Item
from mixer.quota import Need
from tutelage.judging import (
    CHARS_PER_TOKEN,
    judge_calls,
    judge_ratings,
    judge_usd,
    refuse_judges,
)
from tutelage.pipeline import find_done
from tutelage.recipe import Recipe, load_recipe
from tutelage.stages import STAGES
from tutelage.stages.classifying import refuse_unusable_tasks
from tutelage.stages.learning import asked_again, asked_on_test, refuse_students
from tutelage.stages.making import (
    FIRST_GUESS_TOKENS,
    mix_needs,
    refuse_small_pool,
    refuse_unknown_tasks,
    short_tasks,
    teachers_of,
)
from tutelage.workspace import Workspace

if TYPE_CHECKING:
    from router.engine import Forecast, Request
    from router.teachers.protocol import Teacher


@dataclass(frozen=True, slots=True)
class Checked:
    """A recipe that passed: what it holds, and what is worth knowing before a run."""

    path: str
    name: str
    prompts: dict[str, int]
    tasks: list[str]
    examples: int
    probes: int
    test: int
    train: int
    skipped: int
    teachers: dict[str, str]
    judges: dict[str, str]
    warnings: list[str]

    def as_dict(self) -> dict[str, Any]:
        """As JSON can hold it."""
        return asdict(self)

    def lines(self) -> list[str]:
        """For the terminal."""
        sources = ", ".join(f"{count:,} from {name}" for name, count in self.prompts.items())
        lines = [
            f"{self.path} is sound.",
            f"  prompts   {self.train:,} to train on ({sources})",
            f"  tasks     {', '.join(self.tasks) or 'found in the prompts by `classify`'}",
            f"  set apart {self.examples} examples, {self.probes} probes, {self.test} test items; "
            "no two sets share a prompt",
            f"  teachers  {', '.join(f'{n} ({kind})' for n, kind in self.teachers.items())}",
        ]
        if self.skipped:
            lines.append(f"  left out  {self.skipped} lines that cannot be used (on_bad_row: skip)")
        if self.judges:
            judges = ", ".join(f"{n} ({kind})" for n, kind in self.judges.items())
            lines.append(f"  judges    {judges}")
        lines.extend(f"  mind      {warning}" for warning in self.warnings)
        return [*lines, f"next: tutelage plan {self.path}"]


def check_recipe(path: Path) -> Checked:
    """Checks a recipe and everything it reads. Raises RecipeError, or InputError for its files."""
    workspace = Workspace.of(load_recipe(path))
    recipe, pools = workspace.recipe, workspace.pools
    refuse_small_pool(workspace)
    refuse_unusable_tasks(workspace)
    refuse_unknown_tasks(workspace)
    for name in ("probes", "evaluate"):
        workspace.scorer(name)
    refuse_judges(workspace)
    absent: list[str] = []
    refuse_students(workspace, absent)
    return Checked(
        path=str(path),
        name=recipe.name,
        prompts=dict(Counter(item.source for item in pools.train)),
        tasks=pools.tasks,
        examples=len(pools.examples),
        probes=len(pools.probes),
        test=len(pools.test),
        train=len(pools.train),
        skipped=pools.skipped.count,
        teachers={name: teacher.kind for name, teacher in recipe.teachers.items()},
        judges={name: judge.kind for name, judge in recipe.judges.items()},
        warnings=[*_warnings(workspace), *(f"not ready yet: {each}" for each in absent)],
    )


def _warnings(workspace: Workspace) -> Iterator[str]:
    recipe = workspace.recipe
    yield from _not_asked(recipe)
    for name in recipe.eligible:
        teacher = recipe.teachers[name]
        if teacher.licence == "unknown":
            yield f"teacher {name} has licence `unknown`: nobody can say what its answers may be used for"
        try:
            workspace.open_teacher(name).require_ready()
        except TutelageError as error:
            yield f"not ready yet: {error}"
    try:
        _ = workspace.embedder
    except TutelageError as error:
        yield f"not ready yet: {error}"
    for source in recipe.prompts:
        if source.licence == "unknown":
            yield f"prompts of {source.name} have licence `unknown`"
    yield from _short_by_source(workspace)


def _not_asked(recipe: Recipe) -> list[str]:
    """Teachers that no prompt can be routed to."""
    return [
        f"teacher {name} is not asked: `mix: from:` does not take its answers"
        for name in recipe.teachers
        if name not in recipe.eligible
    ]


def _short_by_source(workspace: Workspace) -> list[str]:
    """Tasks that lack prompts by what the prompt files say; nothing where they leave tasks open."""
    tasks = [item.task for item in workspace.pools.train]
    if None in tasks:
        return []
    short = short_tasks(workspace, Counter(str(task) for task in tasks))
    return [f"mix: {told}; add prompts, or change its shares" for told in short]


@dataclass(slots=True)
class StagePlan:
    """One stage: `done`, or `to do` with what that takes."""

    name: str
    state: str
    what: str
    calls: int = 0
    tokens: int = 0
    forecast: "Forecast | None" = None


@dataclass(slots=True)
class Plan:
    """What a run would do. Token figures are estimates from characters.

    `forecast` is what the stages will cost together, and `basis` what that stands on.
    """

    path: str
    stages: list[StagePlan]
    recipe: dict[str, Any]
    forecast: "Forecast"
    basis: str
    notes: list[str] = field(default_factory=list)

    def as_dict(self) -> dict[str, Any]:
        """As JSON can hold it."""
        return asdict(self)

    def lines(self) -> list[Any]:
        """For the terminal: the recipe in full, then the stages."""
        from tutelage.terminal import as_table

        rows = [
            [
                s.name,
                s.state,
                f"{s.calls:,}" if s.calls else "",
                _about(s.tokens),
                _interval(s.forecast),
                _worst(s.forecast),
                s.what,
            ]
            for s in self.stages
        ]
        table = as_table(
            "", ["stage", "state", "calls", "tokens", "USD (95 %)", "at most", "what"], rows
        )
        table.columns[-1].justify = "left"
        table.columns[1].justify = "left"
        full = yaml.safe_dump(self.recipe, sort_keys=False, allow_unicode=True).rstrip()
        return [
            f"# {self.path} with every default filled in",
            *full.splitlines(),
            "",
            table,
            "",
            "Tokens are estimated from characters (4 a token); answers count at their longest.",
            *([f"USD {_interval(self.forecast)} in all, {self.basis}."] if self.basis else []),
            *self.notes,
            f"Nothing was spent. Next: tutelage run {self.path}",
        ]


def plan_recipe(
    path: Path, *, seed: int | None = None, run: str | None = None, measure: bool = False
) -> Plan:
    """What a run would do from here, stage by stage. `measure` times a few training steps for it, which loads
    the student's base. Raises RecipeError or InputError; with `measure` NotMeasured and OutOfMemory.
    """
    from router.engine import together

    loaded = load_recipe(path, seed=seed, run=run)
    workspace = Workspace.of(loaded)
    refuse_unusable_tasks(workspace)
    planner = _Planner(workspace, measure)
    stages = planner.stages()
    full = loaded.recipe.model_dump(mode="json", by_alias=True, exclude_none=True)
    full["teachers"] = {name: t.filled() for name, t in loaded.recipe.teachers.items()}
    total = together([stage.forecast for stage in stages if stage.forecast is not None])
    return Plan(str(path), stages, full, total, total.basis, planner.notes)


class _Planner:
    """Walks the stages: while records fit they are done; from the first that does not, estimates."""

    def __init__(self, workspace: Workspace, measure: bool) -> None:
        self.workspace, self.measure = workspace, measure
        self.notes: list[str] = []

    def stages(self) -> list[StagePlan]:
        done = self._done()
        planned = []
        for stage in STAGES:
            if stage.name in done:
                planned.append(StagePlan(stage.name, "done", stage.summary(done[stage.name])))
            else:
                planned.append(getattr(self, f"_{stage.name}")())
        return planned

    @cached_property
    def teachers(self) -> "dict[str, Teacher]":
        """Those that can be opened here; the others are noted."""
        teachers = {}
        self.notes += _not_asked(self.workspace.recipe)
        for name in self.workspace.recipe.eligible:
            try:
                teachers[name] = self.workspace.open_teacher(name)
                teachers[name].require_ready()
            except TutelageError as error:
                self.notes.append(f"{name} is not ready yet: {error}")
        return teachers

    def _done(self) -> dict[str, Any]:
        try:
            find_done(self.workspace)
        except LedgerError:
            raise
        except TutelageError as error:
            self.notes.append(str(error))
        return self.workspace.outputs

    def _classify(self) -> StagePlan:
        pools = self.workspace.pools
        total = len(pools.train) + len(pools.probes) + len(pools.examples)
        given = self.workspace.recipe.tasks
        ways = {", tasks by description": given.describe, ", tasks discovered": given.discover}
        way = "".join(told for told, chosen in ways.items() if chosen)
        return StagePlan("classify", "to do", f"up to {total:,} prompts to embed{way}")

    def _probe(self) -> StagePlan:
        from tutelage.stages.probing import probe_requests

        requests = probe_requests(self.workspace)
        what = f"{len(self.workspace.recipe.eligible)} teachers x {len(self.workspace.pools.probes)} probes"
        probes = self.workspace.recipe.probes
        if probes.allocation == "sequential":
            what += " at most: fewer where routes are decided sooner"
        if probes.max_calls is not None:
            requests = requests[: probes.max_calls]
        rated = judge_ratings(self.workspace, "probes", (request.task for request in requests))
        what += self._judging(rated)
        return self._bought("probe", requests, what)

    def _route(self) -> StagePlan:
        return StagePlan("route", "to do", f"policy `{self.workspace.recipe.route.policy}`")

    def _generate(self) -> StagePlan:
        """By the tasks that prompts carry, or equal parts; each task at its dearest open teacher."""
        from router.engine import Request

        wanted = self._wanted()
        by_task: dict[str, list[Item]] = {}
        for item in self.workspace.in_seeded_order(self.workspace.pools.train):
            by_task.setdefault(item.task or "", []).append(item)
        requests, parts, each = [], [], self.workspace.recipe.generate.n
        for task, need in wanted.items():
            answers = self._answers(need)
            items = by_task.get(task) or by_task.get("") or []
            asked = [
                Request(item.prompt, teacher, n, task)
                for item in items
                for teacher in self._teachers_for(task, item)
                for n in range(each)
            ]
            requests += asked[: answers * self._asked_for_one()]
            parts.append(f"{answers:,} {task or 'in all'}")
        self.notes += _short_by_source(self.workspace)
        return self._bought("generate", requests, f"answers: {', '.join(parts)}")

    def _wanted(self) -> dict[str, Need]:
        """What the mix needs of each task; all of it of one task where tasks are yet to be discovered."""
        if self.workspace.pools.tasks:
            return mix_needs(self.workspace)
        self.notes.append(
            "Tasks are not known before `classify`: `generate` is planned as one task."
        )
        mix = self.workspace.recipe.mix
        by_samples = mix.unit == "samples"
        return {"": Need(mix.total if by_samples else None, None if by_samples else mix.total, 0)}

    def _teachers_for(self, task: str, item: Item) -> list[str]:
        if "route" in self.workspace.outputs:
            return teachers_of(self.workspace, task, item.prompt.key)
        dearest = [*self._dearest_first, *self.workspace.recipe.eligible]
        return self.workspace.recipe.eligible if self._asks_all else dearest[:1]

    def _asked_for_one(self) -> int:
        """Answers that are asked for to have one that the mix can use, but for what filters may drop."""
        recipe = self.workspace.recipe
        if "not_best" not in recipe.mix.drop:
            return 1
        return recipe.generate.n * (len(recipe.eligible) if self._asks_all else 1)

    @property
    def _asks_all(self) -> bool:
        return self.workspace.recipe.route.policy == "all"

    def _answers(self, need: Need) -> int:
        return need.answers(min(FIRST_GUESS_TOKENS, self.workspace.recipe.generate.max_tokens))

    def _score(self) -> StagePlan:
        return StagePlan("score", "to do", "answers graded where prompts have a reference")

    def _mix(self) -> StagePlan:
        mix = self.workspace.recipe.mix
        names = ", ".join(stage.name for stage in mix.curriculum)
        return StagePlan("mix", "to do", f"{mix.total:,} {mix.unit}; stages: {names}")

    def _capture(self) -> StagePlan:
        student = self.workspace.recipe.student
        if "logit" not in student.signal:
            return StagePlan(
                "capture", "to do", "nothing: the student does not learn from distributions"
            )
        what = f"the top {student.logit.top_k} tokens of the teachers' distributions over the mix"
        return StagePlan("capture", "to do", what)

    def _baseline(self) -> StagePlan:
        test = self.workspace.pools.test
        rated = judge_ratings(self.workspace, "evaluate", (item.task for item in test))
        what = f"{len(test):,} test items by the untrained student, here{self._judging(rated)}"
        return StagePlan("baseline", "to do", what)

    def _train(self) -> StagePlan:
        student, mix = self.workspace.recipe.student, self.workspace.recipe.mix
        samples = mix.total if mix.unit == "samples" else ceil(mix.total / FIRST_GUESS_TOKENS)
        steps = ceil(samples * student.epochs / (student.batch_size * student.accumulate))
        about = "" if mix.unit == "samples" else "about "
        what = f"{student.epochs} epochs, {about}{steps:,} steps on {student.base}"
        if not self.measure:
            return StagePlan("train", "to do", f"{what}; --measure tells time and memory")
        from tutelage.forecasting import forecast_training

        forecast = forecast_training(self.workspace, steps, int(samples))
        return StagePlan("train", "to do", f"{what}; {forecast}")

    def _evaluate(self) -> StagePlan:
        from router.engine import Request

        requests = [
            Request(item.prompt, name, task=str(item.task))
            for name, items in self._asked_on_test().items()
            for item in items
        ]
        again = self._asked_again()
        twice = " (twice, for its own variation)" if again else ""
        questions = judge_calls(self.workspace)
        for answers in (requests, self.workspace.pools.test):  # the teachers' and the student's
            questions += judge_ratings(self.workspace, "evaluate", (each.task for each in answers))
        return self._bought(
            "evaluate",
            requests + again,
            f"chosen teacher{twice} and runner-up on each test item; the student, here{self._general()}"
            f"{self._judging(questions)}{self._timing()}",
        )

    def _general(self) -> str:
        items = len(self.workspace.pools.general)
        return f"; {items:,} items of the general set, by student and base" if items else ""

    def _judging(self, questions: int) -> str:
        if not questions:
            return ""
        usd = judge_usd(self.workspace, questions)
        cost = f" for at most ${usd:,.2f}" if usd else ""
        unknown = " at a price that is not known" if usd is None else ""
        return f"; at most {questions:,} questions to judges{cost}{unknown}, not counted here"

    def _timing(self) -> str:
        usd = self.workspace.recipe.evaluate.speed.endpoint_usd
        return f"; at most ${usd:g} for timing servers, not counted here" if usd else ""

    def _asked_on_test(self) -> dict[str, list[Item]]:
        """What `evaluate` asks of each teacher: as routed, else all of the two dearest."""
        if "route" in self.workspace.outputs:
            return asked_on_test(self.workspace)
        return dict.fromkeys(self._dearest_first[:2], self.workspace.pools.test)

    def _asked_again(self) -> "list[Request]":
        """The second answers of the routed teachers; before routes are known, of the dearest."""
        from router.engine import Request

        if "route" in self.workspace.outputs:
            return asked_again(self.workspace)
        if not self.workspace.sampling.temperature:
            return []
        test, dearest = self.workspace.pools.test, self._dearest_first[0]
        return [Request(item.prompt, dearest, 1, str(item.task)) for item in test]

    @cached_property
    def _dearest_first(self) -> list[str]:
        """The open teachers, the dearest first."""
        probe, sampling = self.workspace.pools.probes[0].prompt, self.workspace.sampling
        return sorted(
            self.teachers,
            key=lambda name: -(self.teachers[name].worst_cost_usd(probe, sampling) or 0.0),
        )

    def _sizes(self) -> StagePlan:
        sizes = self.workspace.recipe.student.sizes
        what = ", ".join(size.label for size in sizes) or "nothing: one student"
        return StagePlan("sizes", "to do", what)

    def _report(self) -> StagePlan:
        return StagePlan("report", "to do", str(self.workspace.folder / "report.html"))

    def _bought(self, name: str, requests: "list[Request]", what: str) -> StagePlan:
        """Calls, tokens and worst cost of what the ledger does not have yet."""
        from router.engine import forecast, unbought

        requests = [r for r in requests if r.teacher in self.teachers]
        sampling = self.workspace.routed_sampling if name == "generate" else self.workspace.sampling
        if requests and self.workspace.ledger.database.exists():
            total = len(requests)
            requests = unbought(requests, self.teachers, self.workspace.ledger, sampling)
            if have := total - len(requests):
                what += f"; {have:,} are in the ledger"
        prompt_chars = sum(len(m["content"]) for r in requests for m in r.prompt.messages)
        return StagePlan(
            name,
            "to do",
            what,
            len(requests),
            prompt_chars // CHARS_PER_TOKEN + len(requests) * sampling.max_tokens,
            forecast(self.workspace.ledger, requests, self.teachers, sampling),
        )


def _about(tokens: int) -> str:
    return f"~{tokens:,}" if tokens else ""


def _interval(found: "Forecast | None") -> str:
    if found is None or not found.requests:
        return ""
    if found.usd is None:
        return "unknown"
    if not found.worst:
        return "0"
    return f"{found.usd:.2f} [{found.lo:.2f}, {found.hi:.2f}]"


def _worst(found: "Forecast | None") -> str:
    if found is None or not found.worst:
        return ""
    return f"{found.worst:.2f}"
