"""Scores answers, says how sure a figure is, and whether a student came within its margin.

`evals.scorers.score` grades one answer, `evals.summary` a whole run, `evals.verdict.within` decides
"within 5 %", `evals.speed.measure` times models in processes of their own.
"""
