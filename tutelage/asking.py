"""route and ask: what a run would do with a prompt, and what student and teacher answer to it."""

import json
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ledger.errors import InputError, TutelageError
from ledger.prompts import Prompt
from router.deciding.classifier import UNSURE
from router.teachers.waiting import result_of
from tutelage.stages.classifying import example_pairs, fitted_classifier
from tutelage.stages.making import further_teachers
from tutelage.stages.routing import probed, router_is_there
from tutelage.visible import visible
from tutelage.workspace import Workspace, open_run, require_stage

if TYPE_CHECKING:
    from router.deciding import Explanation
    from router.teachers.protocol import Teacher


@dataclass(frozen=True, slots=True)
class Explained:
    """Why a prompt goes where it goes. `at_most_usd`: what its answer may cost by teacher, None if unknown."""

    explanation: "Explanation"
    at_most_usd: dict[str, float | None]
    confidence: float
    measure: str  # what teachers are ranked by
    beside: str  # who else answers it in runs, or that nobody does; "" where `teacher` alone does

    def as_dict(self) -> dict[str, Any]:
        """As JSON can hold it."""
        fields: dict[str, Any] = json.loads(json.dumps(asdict(self.explanation)))
        return {**fields, "at_most_usd": self.at_most_usd, "beside": self.beside}

    def lines(self) -> list[Any]:
        """For the terminal."""
        from tutelage.terminal import as_table

        told, label = self.explanation, self.explanation.label
        doubt = "" if label.task == label.best_task else f" (nearest: {label.best_task})"
        if label.novel:
            doubt += ", like no example or probe"
        names = list(self.at_most_usd)
        return [
            f"task     {label.task}, probability {label.probability:.3f}{doubt}",
            f"teacher  {told.teacher}: {told.reason}",
            *([f"in runs  {self.beside}"] if self.beside else []),
            *self._ahead(),
            f"guard    {told.guard}",
            "",
            as_table(
                "nearest probes, with each teacher's score",
                ["alike", "task", *names, "probe"],
                [
                    [f"{near.similarity:.3f}", near.task]
                    + [f"{near.scores[name]:.2g}" if name in near.scores else "-" for name in names]
                    + [visible(near.text)[:60]]
                    for near in told.nearest
                ],
            ),
            "",
            as_table(
                f"teachers at {label.task}",
                ["teacher", self.measure, "USD at most"],
                [[name, self._strength(name), self._usd(name)] for name in names],
            ),
        ]

    def _ahead(self) -> list[str]:
        """By how much the teacher is ahead of the runner-up here."""
        gain = self.explanation.gain
        if gain is None:
            return []
        return [
            f"ahead    {gain.mean:.2f} over {self.explanation.runner_up}, {100 * self.confidence:.4g} % "
            f"interval {gain.lo:.2f} to {gain.hi:.2f}"
        ]

    def _strength(self, name: str) -> str:
        found = self.explanation.route.strengths.get(name)
        return f"{found.mean:.2f} [{found.lo:.2f}, {found.hi:.2f}]" if found else "not probed"

    def _usd(self, name: str) -> str:
        usd = self.at_most_usd[name]
        return "unknown" if usd is None else f"{usd:.6f}"


@dataclass(frozen=True, slots=True)
class Asked:
    """What the student, the routed teacher and the student before training answer to one prompt."""

    task: str
    probability: float
    teacher: str
    reason: str
    answers: dict[str, str]
    seconds: dict[str, float]

    def as_dict(self) -> dict[str, Any]:
        """As JSON can hold it."""
        return asdict(self)

    def lines(self) -> list[Any]:
        """For the terminal."""
        lines = [
            f"task {self.task} (probability {self.probability:.3f}), teacher {self.teacher}: {self.reason}"
        ]
        for name, answer in self.answers.items():
            lines += ["", f"{name} ({self.seconds[name]:.2f} s)"]
            lines += [f"  {visible(line)}" for line in answer.splitlines() or ["(nothing)"]]
        return list(lines)


def explain_route(run: Path, prompt: str) -> Explained:
    """Where a prompt would go, and why. Raises InputError before `route` ran."""
    question = Prompt.of(_text(prompt))
    workspace = open_run(run)
    require_stage(workspace, "route")
    workspace.refuse_other_prompts()
    usd = {name: _at_most_usd(workspace, name, question) for name in workspace.recipe.eligible}
    unable = _unable(workspace, question)
    told = _explanation(workspace, question, unable)
    route = workspace.recipe.route
    measure = "worth to the student" if route.objective == "learnable" else "strength"
    return Explained(told, usd, route.confidence, measure, _beside(workspace, told, unable))


def _beside(workspace: Workspace, told: "Explanation", unable: Mapping[str, str]) -> str:
    route, task = workspace.recipe.route, told.label.task
    if task == UNSURE and route.unsure == "aside":
        return "nobody answers it: prompts of no clear task are set aside (`route.unsure`)"
    lot = workspace.routed.by_prompt.get(told.prompt.key)
    if route.explore and lot not in (None, told.teacher):
        return f"{lot} answers it, by lot (`route.explore`)"
    others = [
        name
        for name in further_teachers(workspace, task)
        if name != told.teacher and name not in unable
    ]
    why = "route.policy" if route.policy == "all" else "route.unsure"
    return f"{', '.join(others)} answer too (`{why}`)" if others else ""


def _at_most_usd(workspace: Workspace, name: str, prompt: Prompt) -> float | None:
    """What a teacher's answer may cost; None where its price is unknown or it cannot be opened here."""
    try:
        return workspace.open_teacher(name).worst_cost_usd(prompt, workspace.routed_sampling)
    except TutelageError:
        return None


def ask(run: Path, prompt: str) -> Asked:
    """Student, routed teacher and the student before training answer the same prompt. Raises InputError before
    `train` ran.
    """
    question = Prompt.of(_text(prompt))
    workspace = open_run(run)
    require_stage(workspace, "train")
    workspace.refuse_other_prompts()
    explanation = _explanation(workspace, question, _unable(workspace, question))
    teacher = workspace.open_teacher(explanation.teacher)
    teacher.require_ready()
    models: dict[str, Teacher] = {
        "student": workspace.open_student(),
        f"teacher {teacher.name}": teacher,
        "baseline": workspace.baseline,
    }
    answers, seconds = {}, {}
    for name, model in models.items():
        answers[name], seconds[name] = _answer(model, question, workspace)
    return Asked(
        explanation.label.task,
        explanation.label.probability,
        teacher.name,
        explanation.reason,
        answers,
        seconds,
    )


def _answer(model: "Teacher", prompt: Prompt, workspace: Workspace) -> tuple[str, float]:
    async def once() -> tuple[str, float]:
        try:
            if model.server is not None:
                await model.server.start()
            started = time.monotonic()
            answer = (await model.answer([prompt], workspace.sampling))[0]
        finally:
            await model.close()
            if model.server is not None:
                model.server.stop()
        return answer.text, time.monotonic() - started

    return result_of(once())


def _explanation(workspace: Workspace, prompt: Prompt, unable: Mapping[str, str]) -> "Explanation":
    import numpy as np

    from router.deciding import Router, explain
    from router.embedding import cached_vectors

    if not router_is_there(workspace, workspace.outputs["route"]):
        raise InputError(
            f"the router of {workspace.folder} is gone or was changed ({workspace.router_folder}): "
            f"`{workspace.loaded.command('run', '--until', 'route')}` makes it again"
        )
    examples, probes = example_pairs(workspace), workspace.pools.probes
    prompts = [item.prompt for item in (*(item for item, _ in examples), *probes)]
    cached = cached_vectors(workspace.ledger, prompts, workspace.embedder)
    # A run of another machine may have vectors of another precision.
    missing = [each for each in prompts if each.key not in cached]
    encoded = workspace.embedder.encode([each.text for each in missing])
    cached |= {each.key: vector for each, vector in zip(missing, encoded, strict=True)}
    vectors = np.stack([cached[each.key] for each in prompts])
    known, seen = vectors[: len(examples)], vectors[len(examples) :]
    classifier = fitted_classifier(workspace, known, [task for _, task in examples], seen)
    return explain(
        prompt,
        workspace.embedder.encode([prompt.text])[0],
        classifier,
        Router.load(workspace.router_folder),
        probes,
        probed(workspace, seen, workspace.outputs["probe"]["scores"]),
        workspace.recipe.route.confidence,
        unable,
    )


def _unable(workspace: Workspace, prompt: Prompt) -> dict[str, str]:
    """The teachers that cannot take a prompt, and why; those that cannot be opened here may."""
    from router.teachers.fitting import unable

    found = {}
    for name in workspace.recipe.eligible:
        with suppress(TutelageError):
            teacher = workspace.open_teacher(name)
            if why := unable(teacher, [prompt], workspace.sampling):
                found[name] = why[0]
    return found


def _text(prompt: str) -> str:
    if not prompt.strip():
        raise InputError("the prompt is empty: give a text in quotes")
    return prompt
