"""route and ask: what a run would do with a prompt, and what student and teacher answer to it."""

import asyncio
import json
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ledger.errors import InputError
from ledger.prompts import Prompt
from tutelage.visible import visible
from tutelage.workspace import Workspace, open_run, require_stage

if TYPE_CHECKING:
    from router.deciding import Explanation
    from router.teachers.protocol import Teacher


@dataclass(frozen=True, slots=True)
class Explained:
    """Why a prompt goes where it goes."""

    explanation: "Explanation"

    def as_dict(self) -> dict[str, Any]:
        """As JSON can hold it."""
        fields: dict[str, Any] = json.loads(json.dumps(asdict(self.explanation)))
        return fields

    def lines(self) -> list[Any]:
        """For the terminal."""
        label, route = self.explanation.label, self.explanation.route
        doubt = "" if label.task == label.best_task else f" (nearest: {label.best_task})"
        return [
            f"task     {label.task}, probability {label.probability:.3f}{doubt}",
            f"teacher  {route.teacher}: {route.reason}",
            "nearest examples",
            *(
                f"  {n.similarity:.3f}  {n.task}: {visible(n.text)[:100]}"
                for n in self.explanation.neighbours
            ),
        ]


@dataclass(frozen=True, slots=True)
class Asked:
    """The student's and the routed teacher's answer to one prompt."""

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
        lines = [f"task {self.task} (probability {self.probability:.3f}), teacher {self.teacher}"]
        for name, answer in self.answers.items():
            lines += ["", f"{name} ({self.seconds[name]:.2f} s)"]
            lines += [f"  {visible(line)}" for line in answer.splitlines() or ["(nothing)"]]
        return list(lines)


def explain_route(run: Path, prompt: str) -> Explained:
    """A prompt's task, nearest examples, teacher and reason. Raises InputError before `route` ran."""
    question = Prompt.of(_text(prompt))
    workspace = open_run(run)
    require_stage(workspace, "route")
    workspace.refuse_other_prompts()
    return Explained(_explanation(workspace, question))


def ask(run: Path, prompt: str) -> Asked:
    """Student and routed teacher answer the same prompt. Raises InputError before `train` ran."""
    question = Prompt.of(_text(prompt))
    workspace = open_run(run)
    require_stage(workspace, "train")
    workspace.refuse_other_prompts()
    explanation = _explanation(workspace, question)
    teacher = workspace.open_teacher(explanation.route.teacher)
    teacher.require_ready()
    student = workspace.open_student()
    answers, seconds = {}, {}
    for name, model in (("student", student), (f"teacher {teacher.name}", teacher)):
        answers[name], seconds[name] = _answer(model, question, workspace)
    return Asked(
        explanation.label.task,
        explanation.label.probability,
        teacher.name,
        explanation.route.reason,
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

    return asyncio.run(once())


def _explanation(workspace: Workspace, prompt: Prompt) -> "Explanation":
    import numpy as np

    from router.deciding import explain, fit, read_routes
    from router.embedding import cached_vectors

    examples = workspace.pools.examples
    cached = cached_vectors(workspace.ledger, [i.prompt for i in examples], workspace.embedder)
    vectors = np.stack([cached[item.prompt.key] for item in examples])
    classifier = fit(
        vectors,
        [str(item.task) for item in examples],
        workspace.recipe.seed,
        workspace.recipe.tasks.unsure_below,
    )
    routes = read_routes(workspace.ledger, workspace.keys["route"])
    return explain(prompt, workspace.embedder, classifier, examples, vectors, routes)


def _text(prompt: str) -> str:
    if not prompt.strip():
        raise InputError("the prompt is empty: give a text in quotes")
    return prompt
