"""Do the verdict's intervals, decisions and numbers of items keep their word?

    python -m benchmarks.verdict

Simulated runs, whose truth is known. Intervals: the share that covers it, of means of right and wrong answers
(n = 50, 200, 1,000; p = .05, .10 … .95), of means of graded ones, of clustered ones (intraclass correlations of
.1, .3 and .6) and of recoveries. Verdicts: of students
exactly at the margin, the share that is said to be within it, for answers that go with the teacher's, are
independent of it, and lie between. Further items: of students as good as their teachers on which there are too
few items, the share that is found to be with the stated number of further ones, and that number against the
least one that does. Statistics against statsmodels' own; seconds to grade 10,000 answers by each scorer, beside
the libraries' own where they have one.

Attacks on the judge: answers that play to it, each beside a right one, before a scripted judge that falls for
them (benchmarks.sets.judging), asked over HTTP through the engine; the share that wins guarded by evals.judge,
and with the plain question of most harnesses. Both ask in both orders. On honest pairs, a quarter of them about
judging, the share of verdicts in which guarded and plain differ.
"""

import argparse
import json
import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import product
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from benchmarks.sets.judging import PLAIN, GullibleJudge, attacks, honest, serving
from evals.judge import Ask, Pair, compare
from evals.recovery import recovery
from evals.scorers import score
from evals.stats import mean_interval, surely_above, wilson
from evals.verdict import within
from ledger.prompts import Prompt
from ledger.store import Ledger
from router.engine import GenerateConfig, Request, answers, buy, sampling_of
from router.teachers import TeacherConfig, open_teacher

SIZES = (50, 200, 1_000)
SHARES = tuple(round(0.05 * i, 2) for i in range(1, 20))
MARGIN = 0.05
KEEP = 1 - MARGIN
TEACHERS = (0.3, 0.6, 0.9)
DEPENDENCE = (
    0.0,
    0.5,
    1.0,
)  # 0: answers are independent; 1: a student fails wherever its teacher does
PLANNED = 300  # runs of each world whose further items are asked for
LEAST = 12  # of them the least number that does is looked for
FINELY = 400  # simulated ends for each such number
ANSWERS = 10_000
ATTACKS, HONEST = 300, 300  # pairs of each attack, and honest ones

# Differences student - .95 teacher of pairs (right, right), (wrong, wrong), (right, wrong), (wrong, right).
DIFFERENCES = np.array([1 - KEEP, 0.0, 1.0, -KEEP])


def pair_shares(student: float, teacher: float, dependence: float) -> np.ndarray:
    """How often the four kinds of pairs occur."""
    apart = student * teacher
    both = apart + dependence * (min(student, teacher) - apart)
    return np.array([both, 1 - student - teacher + both, student - both, teacher - both])


def scores_of(counts: np.ndarray) -> tuple[list[float], list[float]]:
    """Scores of student and teacher with so many pairs of each kind."""
    student = np.repeat([1.0, 0.0, 1.0, 0.0], counts)
    teacher = np.repeat([1.0, 0.0, 0.0, 1.0], counts)
    return student.tolist(), teacher.tolist()


def is_yes(counts: np.ndarray) -> bool:
    """Whether the verdict on such pairs is yes: what `within` decides, without its bounds."""
    return surely_above(DIFFERENCES, counts.astype(np.float64), -KEEP)


def coverage(rng: np.random.Generator, runs: int) -> dict[str, dict[str, float]]:
    """Shares of intervals that cover the truth: mean and least over the worlds."""
    found: dict[str, list[float]] = {}
    for n in SIZES:
        for p in SHARES:
            ends = np.array([(each.lo, each.hi) for each in (wilson(k, n) for k in range(n + 1))])
            lo, hi = ends[rng.binomial(n, p, runs)].T
            found.setdefault(f"binary_{n}", []).append(float(((lo <= p) & (p <= hi)).mean()))
        for a, b in ((0.5, 0.5), (2, 2), (8, 2)):
            truth, inside = a / (a + b), 0
            for _ in range(runs // 20):
                interval = mean_interval(np.round(rng.beta(a, b, n), 2).tolist())
                inside += interval.lo <= truth <= interval.hi
            found.setdefault(f"graded_{n}", []).append(inside / (runs // 20))
        for p, alike in product((0.5, 0.8, 0.9), (0.1, 0.3, 0.6)):
            inside = sum(covers_clusters(rng, n, p, alike) for _ in range(runs // 20))
            found.setdefault(f"clustered_{n}", []).append(inside / (runs // 20))
        for learnt in (0.3, 0.7, 0.95):
            inside = 0
            for _ in range(runs // 4):
                draws = rng.random((3, n)) < np.array([[0.1 + 0.7 * learnt], [0.8], [0.1]])
                ratio = recovery(*draws.astype(float).tolist())
                inside += (
                    ratio.lo is not None and ratio.hi is not None and ratio.lo <= learnt <= ratio.hi
                )
            found.setdefault(f"recovery_{n}", []).append(inside / (runs // 4))
    return {
        name: {"mean": float(np.mean(each)), "least": min(each)} for name, each in found.items()
    }


def covers_clusters(rng: np.random.Generator, n: int, p: float, alike: float) -> bool:
    """Whether the interval holds p, for n items in clusters of 1 to 9 with that intraclass correlation."""
    of = np.repeat(np.arange(n), rng.integers(1, 10, n))[:n]
    worth = (1 - alike) / alike
    chances = rng.beta(p * worth, (1 - p) * worth, n)
    scores = (rng.random(n) < chances[of]).astype(float)
    interval = mean_interval(scores.tolist(), clusters=[str(cluster) for cluster in of])
    return interval.lo <= p <= interval.hi


def false_yes(rng: np.random.Generator, runs: int) -> Iterator[tuple[int, float, float, float]]:
    """(n, teacher, dependence, share said to be within) of students exactly at the margin."""
    for n in SIZES:
        for teacher in TEACHERS:
            for dependence in DEPENDENCE:
                shares = pair_shares(KEEP * teacher, teacher, dependence)
                kinds, times = np.unique(
                    rng.multinomial(n, shares, runs), axis=0, return_counts=True
                )
                said = np.array([is_yes(counts) for counts in kinds])
                yield n, teacher, dependence, float(times[said].sum() / runs)


def check_decisions(rng: np.random.Generator) -> None:
    """The shortcut of this script decides as `within` does."""
    for counts in rng.multinomial(120, pair_shares(0.8, 0.8, 0.7), 200):
        student, teacher = scores_of(counts)
        said = within(student, teacher, [0.0] * len(student), MARGIN).decision == "yes"
        assert said == is_yes(counts), counts


def further(rng: np.random.Generator) -> Iterator[tuple[int, float, float, float, float]]:
    """(n, teacher, dependence, share that ends in yes, mean of the stated number over the least that does)."""
    for n in SIZES:
        for teacher in TEACHERS:
            for dependence in DEPENDENCE[:2]:
                shares = pair_shares(teacher, teacher, dependence)
                ends: list[bool] = []
                ratios: list[float] = []
                for counts in rng.multinomial(n, shares, PLANNED):
                    verdict = within(*scores_of(counts), [0.0] * n, MARGIN)
                    if verdict.decision != "not enough data" or verdict.further is None:
                        continue
                    stated = verdict.further
                    ends.append(is_yes(counts + rng.multinomial(stated, shares)))
                    if len(ratios) < LEAST:
                        ratios.append(stated / least_number(rng, counts, shares, stated))
                if len(ends) >= PLANNED // 10:
                    yield n, teacher, dependence, float(np.mean(ends)), float(np.mean(ratios))


def least_number(
    rng: np.random.Generator, counts: np.ndarray, shares: np.ndarray, start: int
) -> int:
    """The least number of further items, to a thirtieth, with which four fifths of simulated ends are yes."""

    def does(number: int) -> bool:
        ends = rng.multinomial(number, shares, FINELY)
        return float(np.mean([is_yes(counts + end) for end in ends])) >= 0.8

    low, high = 0, start
    while not does(high):
        low, high = high, 2 * high
    while high - low > max(1, high // 30):
        middle = (low + high) // 2
        low, high = (low, middle) if does(middle) else (middle, high)
    return high


def check_statistics(rng: np.random.Generator) -> dict[str, float]:
    """The largest differences from statsmodels' own figures."""
    from statsmodels.stats.contingency_tables import mcnemar
    from statsmodels.stats.proportion import proportion_confint

    from evals.stats import paired_test

    gaps, p_gaps = [0.0], [0.0]
    for _ in range(300):
        n = int(rng.integers(1, 500))
        k = int(rng.integers(0, n + 1))
        ours = wilson(k, n)
        theirs = proportion_confint(k, n, method="wilson")
        gaps += [abs(ours.lo - theirs[0]), abs(ours.hi - theirs[1])]
        first, second = (rng.random((2, n)) < 0.6).astype(float)
        table = [[float(((first == a) & (second == b)).sum()) for b in (1, 0)] for a in (1, 0)]
        p_value = mcnemar(table, exact=True).pvalue
        p_gaps.append(abs(paired_test(first.tolist(), second.tolist()).p_value - p_value))
    return {"wilson": max(gaps), "mcnemar": max(p_gaps)}


def seconds(work: Callable[[], object]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def scoring() -> dict[str, tuple[float, float | None]]:
    """By scorer seconds for 10,000 answers, ours and the library's own where there is one."""
    from rouge_score.rouge_scorer import RougeScorer
    from sacrebleu.metrics import BLEU, CHRF

    answers = [f"The cat number {i} sat on the mat, and the answer is {i}." for i in range(ANSWERS)]
    words, jsons = "A cat was sitting on the mat.", [json.dumps({"a": i}) for i in range(ANSWERS)]
    bleu, chrf, rouge = (
        BLEU(effective_order=True),
        CHRF(),
        RougeScorer(["rougeL"], use_stemmer=True),
    )
    schema = {"schema": {"type": "object", "required": ["a"]}}

    def ours(
        name: str, texts: list[str], reference: str | None, meta: Mapping[str, object]
    ) -> float:
        return seconds(lambda: [score(name, text, reference, meta) for text in texts])

    def peer(grade: Callable[[str], object]) -> float:
        return seconds(lambda: [grade(text) for text in answers])

    return {
        "exact": (ours("exact", answers, words, {}), None),
        "numeric": (ours("numeric", answers, "7", {}), None),
        "choice": (ours("choice", ["The answer is B."] * ANSWERS, "B", {}), None),
        "regex": (ours("regex", answers, "7", {"pattern": r"is (\d+)"}), None),
        "bleu": (
            ours("bleu", answers, words, {}),
            peer(lambda text: bleu.sentence_score(text, [words])),
        ),
        "chrf": (
            ours("chrf", answers, words, {}),
            peer(lambda text: chrf.sentence_score(text, [words])),
        ),
        "rouge_l": (
            ours("rouge_l", answers, words, {}),
            peer(lambda text: rouge.score(words, text)),
        ),
        "json_schema": (ours("json_schema", jsons, None, schema), None),
        "json_fields": (ours("json_fields", jsons, '{"a": 7}', {}), None),
        "tool_calls": (ours("tool_calls", ["[f(a=7)]"] * ANSWERS, '[{"f": {"a": [7]}}]', {}), None),
    }


def asking(url: str, folder: Path) -> Ask:
    """Asks the judge behind an endpoint through the engine."""
    config = TeacherConfig(http="judge", url=url, licence="MIT", max_in_flight=32)
    teacher, ledger = open_teacher("judge", config, folder), Ledger(folder / "ledger")

    def ask(questions: Sequence[tuple[str, Prompt]]) -> list[str | None]:
        prompts = {prompt.key: prompt for _, prompt in questions}
        with ledger.writing("benchmark"):
            for prompt in prompts.values():
                ledger.put_all(prompt.rows("judge"))
            requests = [Request(prompt, "judge") for prompt in prompts.values()]
            settings = GenerateConfig(max_tokens=64)
            buy(requests, {"judge": teacher}, ledger, sampling_of(settings), settings,
                stage="evaluate", run="benchmark")  # fmt: skip
            found = answers(ledger, requests, {"judge": teacher}, sampling_of(settings))
        return [found[prompt.key, "judge", 0].text for _, prompt in questions]

    return ask


def plainly(pairs: Sequence[Pair], ask: Ask) -> list[str]:
    """Outcomes by the plain question, in both orders: a judge that changes its mind says tie."""
    asked = [
        PLAIN.format(prompt=pair.prompt.text, first=first, second=second)
        for pair in pairs
        for first, second in ((pair.first, pair.second), (pair.second, pair.first))
    ]
    said = [
        re.findall(r"\[\[([ABC])\]\]", str(text))[-1]
        for text in ask([("judge", Prompt.of(text)) for text in asked])
    ]
    turned = {"A": "B", "B": "A", "C": "C"}
    outcome = {"A": "win", "B": "loss", "C": "tie"}
    return [
        outcome[own] if own == turned[other] else "tie"
        for own, other in zip(said[::2], said[1::2], strict=True)
    ]


def attacked(seed: int) -> tuple[dict[str, tuple[float, float]], float]:
    """By attack the shares that win guarded and plain; and how often these differ on honest pairs."""
    fair, keys = honest(HONEST, seed)
    by_name, more = attacks(ATTACKS, seed)
    shares: dict[str, tuple[float, float]] = {}
    with serving(GullibleJudge(keys | more)) as url, TemporaryDirectory() as folder:
        ask = asking(url, Path(folder))
        for name, pairs in by_name.items():
            guarded = [each.outcome == "win" for each in compare(pairs, ["judge"], ask)]
            plain = [each == "win" for each in plainly(pairs, ask)]
            shares[name] = float(np.mean(guarded)), float(np.mean(plain))
        said = zip(compare(fair, ["judge"], ask), plainly(fair, ask), strict=True)
        differ = float(np.mean([one.outcome != other for one, other in said]))
    return shares, differ


def main() -> None:
    """Prints the tables, and a line of JSON last."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--runs", type=int, default=20_000, help="simulated runs of each world")
    given = parser.parse_args()
    rng = np.random.default_rng(given.seed)
    check_decisions(rng)
    apart = check_statistics(rng)
    print(f"largest difference from statsmodels: {apart}\n")
    covered = coverage(rng, given.runs)
    print("intervals        covered  least")
    for name, each in covered.items():
        print(f"{name:16} {each['mean']:7.3f} {each['least']:6.3f}")
    print("\n   n  teacher  dependence  said within, at the margin")
    wrong = []
    for n, teacher, dependence, share in false_yes(rng, given.runs):
        wrong.append(share)
        print(f"{n:4}  {teacher:7.2f}  {dependence:10.1f}  {share:.4f}")
    print("\n   n  teacher  dependence  ends in yes  stated / least")
    power, ratios = [], []
    for n, teacher, dependence, share, ratio in further(rng):
        power.append(share)
        ratios.append(ratio)
        print(f"{n:4}  {teacher:7.2f}  {dependence:10.1f}  {share:11.3f}  {ratio:.2f}", flush=True)
    attacks_win, differ = attacked(given.seed)
    print(f"\nattack on the judge   wins guarded  wins plain   ({ATTACKS} each)")
    for name, (guarded, plain) in attacks_win.items():
        print(f"{name:20} {guarded:13.3f} {plain:11.3f}")
    print(f"guarded and plain differ on {differ:.3f} of {HONEST} honest pairs")
    took = scoring()
    print("\nscorer        s for 10,000   the library's own")
    for name, (own, its) in took.items():
        print(f"{name:12} {own:13.2f}   {'' if its is None else f'{its:.2f}'}")
    shares = {
        name: [round(each["mean"], 4), round(each["least"], 4)] for name, each in covered.items()
    }
    print(
        json.dumps(
            {
                "coverage": {n: each for n, each in shares.items() if "clustered" not in n},
                "clustered": {n: each for n, each in shares.items() if "clustered" in n},
                "false_yes": round(max(wrong), 4),
                "power_n": round(min(power), 4),
                "power_n_mean": round(float(np.mean(power)), 4),
                "stated_over_least": round(max(ratios), 3),
                "attacks": {name: round(own, 4) for name, (own, _) in attacks_win.items()}
                | {f"unguarded_{name}": round(its, 4) for name, (_, its) in attacks_win.items()},
                "honest_differ": round(differ, 4),
                "score_10k_s": {name: round(own, 2) for name, (own, _) in took.items()},
            }
        )
    )


if __name__ == "__main__":
    main()
