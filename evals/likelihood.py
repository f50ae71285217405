"""What an answer is worth to a student that would learn from it: how good it is, and how near to its reach.

Two figures of an answer under the student's base, over the tokens that training would be on: the likelihood
(geometric mean of their probabilities: the length-normalised log-likelihood, as a probability), and the
share in reach (of probability `IN_REACH` at least). Both are score rows beside the answer's score, with the
student's key as their reference.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

from evals.scorers import Score
from evals.summary import Sampled, score_row
from ledger.prompts import Prompt
from ledger.store import Ledger
from router.teachers.local import LocalTeacher
from router.teachers.waiting import result_of
from trainer.signals.hard import ChatFormat, Example

LIKELIHOOD, REACH = "likelihood", "reach"
IN_REACH = 1e-3
AT_ONCE = 256  # answers, then their rows are put

KNOWN = """
SELECT sample.key, score.scorer, score.value FROM score JOIN sample ON score.sample = sample.id
WHERE score.reference_sha = ? AND score.scorer IN (?, ?)
"""

# task -> teacher -> prompt key
Values = Mapping[str, Mapping[str, Mapping[str, float]]]
Answers = Mapping[tuple[str, str, int], Sampled]  # by prompt key, teacher, n


@dataclass(frozen=True, slots=True)
class Learnability:
    """How near an answer is to a student's reach: `likelihood` and `reach` in [0, 1]."""

    likelihood: float
    reach: float

    def worth(self, score: float) -> float:
        """What an answer of a score in [0, 1] is worth to the student, in [0, 1].

        score x (1 + sqrt(likelihood x reach)) / 2: a good answer that is out of reach counts half of one that
        the student would give itself. So a teacher must be better by more than what that can outweigh, and
        answers that are wrong are worth nothing however near they are.
        """
        return score * (1 + math.sqrt(self.likelihood * self.reach)) / 2


def learnability(
    ledger: Ledger,
    student: LocalTeacher,
    answered: Sequence[tuple[Prompt, Sampled]],
    on_progress: Callable[[int, int], None] | None = None,
) -> dict[str, Learnability]:
    """By sample key, what the student makes of answers before it learns from them.

    What the ledger knows already is not computed again. An answer that held nothing has no place there
    and none here. Call it inside `ledger.writing()`. Tokens beyond the student's context are out of reach.
    """
    ledger.fold()
    known: dict[str, dict[str, float]] = {}
    for key, scorer, value in ledger.rows(KNOWN, [student.key, LIKELIHOOD, REACH]):
        known.setdefault(key, {})[scorer] = value
    found = {key: Learnability(**at) for key, at in known.items() if len(at) == 2}
    wanted = {answer.sample_key: (prompt, answer) for prompt, answer in answered}
    new = [pair for key, pair in wanted.items() if key is not None and key not in found]
    for start in range(0, len(new), AT_ONCE):
        if on_progress:
            on_progress(start, len(new))
        chunk = new[start : start + AT_ONCE]
        measured = _measured(student, [(prompt, answer.text) for prompt, answer in chunk])
        keys = [str(answer.sample_key) for _, answer in chunk]
        found |= dict(zip(keys, measured, strict=True))
        ledger.put("score", [row for key in keys for row in _rows(student, key, found[key])])
    ledger.fold()
    if new:
        result_of(student.close())  # the teachers need the room
    return {key: found[key] for key in wanted if key is not None}


def worth(
    scores: Values, answers: Answers, near: Mapping[str, Learnability]
) -> dict[str, dict[str, dict[str, float]]]:
    """What scores are worth to the student, in their order; nothing where an answer held nothing."""

    def one(key: str, teacher: str, score: float) -> float:
        found = near.get(answers[key, teacher, 0].sample_key or "")
        return found.worth(score) if found else 0.0

    return {
        task: {
            teacher: {key: one(key, teacher, score) for key, score in by_key.items()}
            for teacher, by_key in by_teacher.items()
        }
        for task, by_teacher in scores.items()
    }


def mean_learnability(
    scores: Values, answers: Answers, near: Mapping[str, Learnability]
) -> dict[str, dict[str, Learnability]]:
    """By teacher and task, the mean of its answers that were scored; where an answer held something."""
    found: dict[str, dict[str, Learnability]] = {}
    for task, by_teacher in scores.items():
        for teacher, by_key in by_teacher.items():
            samples = [answers[key, teacher, 0].sample_key or "" for key in by_key]
            known = [near[sample] for sample in samples if sample in near]
            if known:
                likelihood, reach = (
                    fmean(getattr(each, name) for each in known) for name in (LIKELIHOOD, REACH)
                )
                found.setdefault(teacher, {})[task] = Learnability(likelihood, reach)
    return found


def _measured(student: LocalTeacher, pairs: Sequence[tuple[Prompt, str]]) -> list[Learnability]:
    chat = ChatFormat(student.tokenizer())
    encoded = chat.encode([Example.of(prompt, text) for prompt, text in pairs])
    rows = [(example.ids, example.start) for example in encoded]
    logprobs = result_of(student.logprobs(rows))
    found = []
    for (ids, start), known in zip(rows, logprobs, strict=True):
        total = len(ids) - start  # the answer's tokens and its end
        likelihood = math.exp(float(known.mean())) * len(known) / total if len(known) else 0.0
        reach = float((known >= math.log(IN_REACH)).sum()) / total
        found.append(Learnability(likelihood, reach))
    return found


def _rows(student: LocalTeacher, key: str, found: Learnability) -> list[dict[str, Any]]:
    return [
        score_row(key, scorer, student.key, Score(value, extracted=True))
        for scorer, value in ((LIKELIHOOD, found.likelihood), (REACH, found.reach))
    ]
