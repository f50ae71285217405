"""A judge that grades answers: both orders, screened, and measured itself."""

from evals.judge.asking import longest_question
from evals.judge.deciding import Ask, Case, Judged, compare, mean_the_same, rate
from evals.judge.figures import Agreement, Judgement, agreement, judgement
from evals.judge.kinship import JudgeIsParty, family, refuse_parties
from evals.judge.screening import Pair

__all__ = [
    "Agreement",
    "Ask",
    "Case",
    "JudgeIsParty",
    "Judged",
    "Judgement",
    "Pair",
    "agreement",
    "compare",
    "family",
    "judgement",
    "longest_question",
    "mean_the_same",
    "rate",
    "refuse_parties",
]
