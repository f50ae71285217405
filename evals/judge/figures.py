"""How judged pairs came out, and how far the judge can be believed."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from evals.judge.deciding import Judged
from evals.judge.screening import Pair
from evals.stats import Interval, mean_interval, wilson

WORTH = {"win": 1.0, "tie": 0.5, "loss": 0.0}


@dataclass(frozen=True, slots=True)
class Judgement:
    """What came of many pairs, for their first answers; `rate` counts a tie as half a win.

    `flips` is the share of verdicts that turned with the order of the answers, `first_named` that of the
    answers shown first among those named (half of them is fair), `longer` the share of pairs with a winner in
    which the longer answer won. `rate_even` is the rate at equal lengths: the prediction at 0 of a logistic
    regression of the outcome on tanh of the standardised difference in length (length-controlled AlpacaEval,
    arXiv:2404.04475); None where there is nothing to fit. `unread` of `asked` answers of judges held no
    verdict; `barred` wins did not count; `settled` pairs needed no judge; `open` ones have no verdict.
    """

    wins: int
    ties: int
    losses: int
    rate: Interval
    rate_even: float | None
    flips: Interval
    first_named: Interval
    longer: Interval
    asked: int
    unread: int
    barred: int
    settled: int
    open: int


def judgement(pairs: Sequence[Pair], judged: Sequence[Judged]) -> Judgement:
    """The figures of pairs and what came of each."""
    known = [(pair, each) for pair, each in zip(pairs, judged, strict=True) if each.outcome]
    worth = [WORTH[str(each.outcome)] for _, each in known]
    both = [said for each in judged for said in each.said.values()]
    read_ = [said for said in both if None not in said]
    # Of the second order, what was said is already turned back: SECOND there was shown first.
    named = [word == shown for said in read_ for word, shown in zip(said, ("FIRST", "SECOND"), strict=True)
             if word != "TIE"]  # fmt: skip
    lengths = np.array([len(pair.first) - len(pair.second) for pair, _ in known], float)
    decided = [(length > 0) == (value == 1) for length, value in zip(lengths.tolist(), worth, strict=True)
               if length and value != 0.5]  # fmt: skip
    count = Counter(each.outcome for each in judged)
    return Judgement(
        wins=count["win"],
        ties=count["tie"],
        losses=count["loss"],
        rate=mean_interval(worth),
        rate_even=_at_equal_length(lengths, np.array(worth)),
        flips=wilson(sum(a != b for a, b in read_), len(read_)),
        first_named=wilson(sum(named), len(named)),
        longer=wilson(sum(decided), len(decided)),
        asked=2 * len(both),
        unread=sum(word is None for said in both for word in said),
        barred=sum(each.barred is not None for each in judged),
        settled=sum(each.outcome is not None and not each.said for each in judged),
        open=count[None],
    )


@dataclass(frozen=True, slots=True)
class Agreement:
    """How far verdicts go with labels beyond chance: Cohen's kappa with a 95 % interval, and the plain share.

    `kappa` is None where labels or verdicts are all the same: chance explains everything then.
    """

    kappa: float | None
    lo: float | None
    hi: float | None
    share: float
    n: int


def agreement(labels: Sequence[str], verdicts: Sequence[str]) -> Agreement:
    """Cohen's kappa (Educational and Psychological Measurement 20, 1960) by statsmodels, with the interval of
    Fleiss, Cohen and Everitt (1969)."""
    from statsmodels.stats.inter_rater import cohens_kappa

    names = sorted({*labels, *verdicts})
    place = {name: number for number, name in enumerate(names)}
    table = np.zeros((len(names), len(names)))
    for label, verdict in zip(labels, verdicts, strict=True):
        table[place[label], place[verdict]] += 1
    n, share = len(labels), float(np.trace(table) / max(len(labels), 1))
    if len(set(labels)) < 2 or len(set(verdicts)) < 2:
        return Agreement(None, None, None, share, n)
    found = cohens_kappa(table)
    return Agreement(
        float(found.kappa), max(-1.0, float(found.kappa_low)), min(1.0, float(found.kappa_upp)), share, n
    )  # fmt: skip


def _at_equal_length(lengths: np.ndarray, worth: np.ndarray) -> float | None:
    """The expected worth where both are equally long."""
    from sklearn.linear_model import LogisticRegression

    if len(lengths) < 10 or lengths.std() == 0 or len(set(worth.tolist())) < 2:
        return None
    x = np.tanh(lengths / lengths.std())[:, None]
    # A tie is half a win and half a loss.
    model = LogisticRegression().fit(
        np.concatenate([x, x]),
        np.repeat([1, 0], len(x)),
        sample_weight=np.concatenate([worth, 1 - worth]),
    )
    return float(model.predict_proba(np.zeros((1, 1)))[0, 1])
