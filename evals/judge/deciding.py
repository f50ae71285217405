"""Verdicts of judges: on pairs of answers in both orders, on whether two mean the same, on one answer.

`ask` takes (judge, question) pairs and gives what the judges answered, None where nothing came; who buys the
answers, and keeps them, is the caller's.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from evals.config import RUBRIC
from evals.judge.asking import COMPARE, RATE, SAME, question, read
from evals.judge.screening import MOST_CHARS, Pair, Screened, is_about_judging, readable, screen
from evals.scorers.base import NOTHING_FOUND, Score
from ledger.prompts import Prompt

Ask = Callable[[Sequence[tuple[str, Prompt]]], Sequence[str | None]]
OPPOSITE = {"FIRST": "SECOND", "SECOND": "FIRST"}
OUTCOME = {"FIRST": "win", "SECOND": "loss", "TIE": "tie"}


@dataclass(frozen=True, slots=True)
class Judged:
    """A pair's outcome for its first answer: `win`, `tie` or `loss`; None where no judge gave a verdict.

    `said` holds by judge what it said in both orders, already turned back to the pair's own: FIRST, SECOND,
    TIE, or None where it could not be read. `barred` tells why a win did not count.
    """

    outcome: str | None
    said: dict[str, tuple[str | None, str | None]] = field(default_factory=dict)
    barred: str | None = None

    @property
    def flips(self) -> int:
        """How many judges named another answer when the order changed."""
        return sum(None not in both and both[0] != both[1] for both in self.said.values())


@dataclass(frozen=True, slots=True)
class Case:
    """An answer to be rated."""

    prompt: Prompt
    text: str
    reference: str | None = None


def compare(
    pairs: Sequence[Pair], judges: Sequence[str], ask: Ask, rubric: str = RUBRIC
) -> list[Judged]:
    """Which answer of every pair is better, by the majority of judges that were each asked in both orders.

    A judge that changes its mind with the order says tie. A win that the screen bars is a tie. So is one of an
    answer that judges also prefer under another pair's prompt to what was answered there: it wins by something
    else than what it says. Give all pairs of an evaluation together.
    """
    screened = screen(pairs)
    open_ = [each for each in screened if each.settled is None]
    said = iter(_in_both_orders(open_, judges, ask, COMPARE, rubric))
    found = [
        Judged(each.settled) if each.settled is not None else _judged(each, next(said))
        for each in screened
    ]
    controls = _controls(screened, found)
    again = _in_both_orders(list(controls.values()), judges, ask, COMPARE, rubric)
    for row, control, turned in zip(controls, controls.values(), again, strict=True):
        if _judged(control, turned).outcome == "win":
            found[row] = Judged("tie", found[row].said, "it wins under another prompt, too")
    return found


def _controls(screened: Sequence[Screened], found: Sequence[Judged]) -> dict[int, Screened]:
    """By place of a pair that was won, the winner as the answer to another pair's prompt, beside the answer
    that stands there on the other side.

    Answers about judging are left out: under another prompt they would not be what they are.
    """
    about = [is_about_judging(each.pair.prompt, each.pair.reference) for each in screened]
    fit = [row for row, each in enumerate(screened) if each.settled is None and not about[row]]
    controls: dict[int, Screened] = {}
    for at, row in enumerate(fit):
        if found[row].outcome not in ("win", "loss"):
            continue
        won, lost = ("first", "second") if found[row].outcome == "win" else ("second", "first")
        own = getattr(screened[row], won)
        for other in (*fit[at + 1 :], *fit[:at]):
            beside, pair = getattr(screened[other], lost), screened[other].pair
            if pair.prompt.key != screened[row].pair.prompt.key and beside.split() != own.split():
                moved = Pair(pair.prompt, own, beside, pair.reference)
                controls[row] = Screened(moved, own, beside)
                break
    return controls


def mean_the_same(pairs: Sequence[Pair], judges: Sequence[str], ask: Ask) -> list[bool | None]:
    """Whether the answers of every pair mean the same: only where most judges say so in both orders.

    None where no judge gave a verdict.
    """
    screened = screen(pairs)
    open_ = [each for each in screened if each.settled is None]
    said = iter(_in_both_orders(open_, judges, ask, SAME, ""))
    found: list[bool | None] = []
    for each in screened:
        if each.settled is not None:
            found.append(each.settled == "tie")
            continue
        votes = [both == ("SAME", "SAME") for both in next(said).values() if None not in both]
        found.append(2 * sum(votes) > len(votes) if votes else None)
    return found


def rate(
    cases: Sequence[Case], judges: Sequence[str], ask: Ask, rubric: str = RUBRIC
) -> list[Score | None]:
    """A score (rating - 1) / 4 for every answer, the judges' mean; None where no judge gave a verdict.

    An answer without words is worth 0, and nobody is asked.
    """
    texts = [
        readable(case.text, is_about_judging(case.prompt, case.reference))[0][:MOST_CHARS]
        for case in cases
    ]
    rows = [row for row, text in enumerate(texts) if any(letter.isalnum() for letter in text)]
    questions = [
        question(cases[row].prompt, [texts[row]], RATE, rubric, cases[row].reference)
        for row in rows
    ]
    asked = [(judge, prompt) for prompt, _ in questions for judge in judges]
    answers = iter(ask(asked))
    found: list[Score | None] = [NOTHING_FOUND] * len(cases)
    for row, (_, mark) in zip(rows, questions, strict=True):
        verdicts = [_read(next(answers), mark, RATE) for _ in judges]
        ratings = [int(verdict) for verdict in verdicts if verdict is not None]
        found[row] = (
            Score((sum(ratings) / len(ratings) - 1) / 4, extracted=True) if ratings else None
        )
    return found


def _in_both_orders(
    screened: Sequence[Screened],
    judges: Sequence[str],
    ask: Ask,
    words: tuple[str, ...],
    rubric: str,
) -> list[dict[str, tuple[str | None, str | None]]]:
    """By pair and judge what was said in both orders, as of the pair's own order."""
    questions = [
        question(each.pair.prompt, answers, words, rubric, each.pair.reference)
        for each in screened
        for answers in ((each.first, each.second), (each.second, each.first))
    ]
    answers = iter(ask([(judge, prompt) for prompt, _ in questions for judge in judges]))
    read_ = [
        {judge: _read(next(answers), mark, words) for judge in judges} for _, mark in questions
    ]
    return [
        {
            judge: (own[judge], OPPOSITE.get(str(turned[judge]), turned[judge]))
            for judge in judges
        }
        for own, turned in zip(read_[::2], read_[1::2], strict=True)
    ]  # fmt: skip


def _read(text: str | None, mark: str, words: tuple[str, ...]) -> str | None:
    return None if text is None else read(text, mark, words)


def _judged(screened: Screened, said: dict[str, tuple[str | None, str | None]]) -> Judged:
    votes = Counter(
        both[0] if both[0] == both[1] else "TIE" for both in said.values() if None not in both
    )
    if not votes:
        return Judged(None, said)
    word, count = votes.most_common(1)[0]
    outcome = OUTCOME[str(word)] if 2 * count > votes.total() else "tie"
    why = screened.barred.get({"win": "first", "loss": "second"}.get(outcome, ""))
    return Judged("tie", said, why) if why else Judged(outcome, said)
