"""Scorers: each grades one answer against its reference.

`score("numeric", "about 1,200 km", "1200", {})` gives `Score(value=1.0, extracted=True)`. An answer
in which the scorer finds nothing to grade has `extracted=False` and value 0.
"""

from evals.scorers.base import BadScorer, Score, find_scorer, score

__all__ = ["BadScorer", "Score", "find_scorer", "score"]
