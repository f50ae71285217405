"""How the student goes with its teachers, right or wrong: its answers with theirs, and what it foretells of
their answers with what they foretell themselves.

`before` is the same of the student before training, without which no figure says what was learnt.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from ledger.store import Ledger
from tutelage.watch import Watch
from tutelage.workspace import BASELINE_NAME, STUDENT_NAME, Workspace

if TYPE_CHECKING:
    from evals.distribution import Told
    from evals.similarity import Embed
    from evals.summary import Sampled
    from router.embedding import Embedder
    from router.teachers.local import LocalTeacher
    from router.teachers.protocol import Teacher
    from trainer.signals.hard import Example
    from tutelage.foretelling import Learner


def likeness(
    workspace: Workspace,
    student: "LocalTeacher",
    answers: "Mapping[tuple[str, str, int], Sampled]",
    routed: Mapping[str, Mapping[str, str]],
) -> dict[str, dict[str, Any]]:
    """By task and pair of models (`student`, `before`: each against the routed teacher; `changed`: the student
    against the baseline; `teacher`: the routed teacher against itself, asked twice) the means of every measure,
    over the test items that both answered. Empty where no item has both.
    """
    from evals.similarity import alike

    tokenizer = student.tokenizer()

    def tokenise(texts: Sequence[str]) -> Sequence[Sequence[int]]:
        found: list[list[int]] = tokenizer(list(texts), add_special_tokens=False)["input_ids"]
        return found

    def text(key: str, model: str, n: int = 0) -> str | None:
        answer = answers.get((key, model, n))
        return None if answer is None else answer.text

    embed = _remembering(workspace.embedder)
    found: dict[str, dict[str, Any]] = {}
    for task, by_key in routed.items():
        pairs = {
            "student": [(text(key, STUDENT_NAME), text(key, name)) for key, name in by_key.items()],
            "before": [(text(key, BASELINE_NAME), text(key, name)) for key, name in by_key.items()],
            "changed": [(text(key, STUDENT_NAME), text(key, BASELINE_NAME)) for key in by_key],
            "teacher": [(text(key, name, 1), text(key, name)) for key, name in by_key.items()],
        }
        found[task] = {}
        for name, both in pairs.items():
            answered = [
                (one, other) for one, other in both if one is not None and other is not None
            ]
            measured = alike(answered, tokenise, embed)
            found[task][name] = {measure: asdict(each) for measure, each in measured.items()}
    return found


def _remembering(embedder: "Embedder") -> "Embed":
    """The embedder, by which a text that stands in several pairs is embedded once."""
    import numpy as np

    known: dict[str, np.ndarray] = {}

    def embed(texts: Sequence[str]) -> np.ndarray:
        new = [text for text in dict.fromkeys(texts) if text not in known]
        known.update(zip(new, embedder.encode(new), strict=True))
        return np.stack([known[text] for text in texts])

    return embed


def distributions(
    workspace: Workspace,
    watch: Watch,
    student: "LocalTeacher",
    answers: "Mapping[tuple[str, str, int], Sampled]",
    routed: Mapping[str, Mapping[str, str]],
) -> dict[str, dict[str, Any]]:
    """By task `student` and `before`: their distributions over the tokens of the routed teachers' answers to
    the test items, against the teachers' own (evals.distribution.Matching); `why` names teachers that give
    none, and why.
    """
    from evals.distribution import matching
    from router.teachers.waiting import result_of
    from trainer.config import LogitConfig
    from trainer.run import records_head
    from trainer.signals.hard import ChatFormat
    from tutelage.foretelling import Learner

    tokenizer = student.tokenizer()
    learner = Learner(ChatFormat(tokenizer), records_head(LogitConfig(), tokenizer))
    models = {"student": student, "before": workspace.baseline}
    found: dict[str, dict[str, Any]] = {}
    for done, (task, by_key) in enumerate(routed.items()):
        watch.progress(done, len(routed), "distributions over the teachers' answers")
        told: dict[str, list[Told]] = {name: [] for name in models}
        why: dict[str, str] = {}
        for name in sorted(set(by_key.values())):
            keys = [key for key, teacher in by_key.items() if teacher == name]
            examples = _examples(workspace, answers, keys, name)
            teacher = workspace.teachers[name]
            one = _told(workspace.ledger, teacher, examples, learner, models)
            result_of(teacher.close())
            if isinstance(one, str):
                why[name] = one
            else:
                told = {model: told[model] + one[model] for model in models}
        found[task] = {model: asdict(matching(each)) for model, each in told.items()} | {"why": why}
    for each_model in models.values():  # the next thing that runs wants the memory
        result_of(each_model.close())
    workspace.stop_servers()
    return found


def _examples(
    workspace: Workspace,
    answers: "Mapping[tuple[str, str, int], Sampled]",
    keys: Sequence[str],
    teacher: str,
) -> "dict[str, Example]":
    """A teacher's answers to test items, by their samples' keys."""
    from trainer.signals.hard import Example

    prompts = {item.prompt.key: item.prompt for item in workspace.pools.test}
    found = {}
    for key in keys:
        answer = answers.get((key, teacher, 0))
        if answer is not None and answer.sample_key is not None:
            found[answer.sample_key] = Example.of(prompts[key], answer.text)
    return found


def _told(
    ledger: Ledger,
    teacher: "Teacher",
    examples: "Mapping[str, Example]",
    learner: "Learner",
    models: "Mapping[str, LocalTeacher]",
) -> "dict[str, list[Told]] | str":
    """By model, the tokens of a teacher's answers with what both foretell there; or why the teacher tells
    nothing.
    """
    import numpy as np

    from evals.distribution import Told
    from router.teachers.errors import CallError
    from router.teachers.waiting import result_of
    from tutelage.foretelling import source_of

    if not examples:
        return "it answered no item"
    try:
        source = source_of(teacher, examples, learner, ledger)
        if isinstance(source, str):
            return source
        kept = source.foretell(list(examples))
    except CallError as error:
        return str(error)
    encoded = learner.chat.encode(list(examples.values()))
    rows = [(each.ids, each.start) for each in encoded]
    found: dict[str, list[Told]] = {}
    for name, model in models.items():
        held = result_of(model.held_against(rows, [ids for ids, _ in kept]))
        found[name] = [
            Told(
                ids[: len(one.next_T)],
                p[: len(one.next_T)].astype(np.float64),
                np.array(tokens[start : start + len(one.next_T)], np.int64),
                one,
            )
            for (ids, p), (tokens, start), one in zip(kept, rows, held, strict=True)
        ]
    return found
