"""Are the router's probabilities, its error rate and its intervals what they say?

    python -m benchmarks.calibration

Tasks: classifiers of 20 examples a class on the sets of `benchmarks/sets`, 20 draws of the examples, all other
prompts unseen: accuracy, expected calibration error (15 bins: Guo et al. 2017), and the share of prompts with a
wrong task against the error rate that was asked for. Strengths: simulated probes of known strength, the share
of 95 % intervals that cover it, under the model that the intervals suppose (independent probes; graded ones in
halves, in fifths, and from two beta distributions), under one that they get wrong (probes in groups of five
that go right or wrong together half of the time), and where probes are bought one by one, so that who is asked
what follows from scores. Gains near a prompt: the same for the local model, with effects of its own kind, with
teachers that get better along a line, and with regions that its clusters do not follow.
"""

import argparse
import json

import numpy as np

from benchmarks.sets.classes import SETS, Classes, read_classes
from benchmarks.tables.fitting import bought, side_by_side
from evals.stats import calibration_error
from router.deciding import UNSURE, Probed, fit, fit_local, strata_of, strength, strengths_of

EXAMPLES = 20  # of each class
DRAWS = 20
RATES = (0.05, 0.1, 0.2)
PROBES = (10, 30, 100)
CELLS = 20_000
WORLDS = 40  # simulated sets of probes for the local model
PURCHASES = 100  # simulated


def one_draw(classes: Classes, seed: int) -> dict[str, float]:
    """A classifier of one draw of examples, on all other prompts."""
    seen = classes.examples(EXAMPLES, seed)
    unseen = np.setdiff1d(np.arange(len(classes.texts)), seen)
    truth = classes.classes[unseen]
    found: dict[str, float] = {"unseen": len(unseen)}
    for rate in RATES:
        classifier = fit(classes.vectors[seen], classes.classes[seen].tolist(), seed, rate)
        labels = classifier.predict(classes.vectors[unseen])
        task = np.array([label.task for label in labels])
        novel = np.array([label.novel for label in labels])
        # What is novel is `unsure` whatever the rate: the promise is about the others.
        found[f"wrong_at_{rate}"] = float(((task != truth) & (task != UNSURE))[~novel].mean())
        found[f"unsure_at_{rate}"] = float((task == UNSURE)[~novel].mean())
    confidence = np.array([label.probability for label in labels])
    right = np.array([label.best_task for label in labels]) == truth
    return {
        **found,
        "novel": float(novel.mean()),
        "accuracy": float(right.mean()),
        "confidence": float(confidence.mean()),
        "ece": calibration_error(confidence, right),
    }


def tasks(name: str) -> dict[str, float]:
    """The mean over all draws, and the highest calibration error of any."""
    classes = read_classes(name)
    draws = side_by_side(one_draw, [(classes, seed) for seed in range(DRAWS)])
    means = {key: float(np.mean([draw[key] for draw in draws])) for key in draws[0]}
    return {"classes": len(classes.names), **means, "ece_max": max(draw["ece"] for draw in draws)}


def strengths(n: int, *, in_groups: bool, graded: bool, seed: int) -> float:
    """The share of strength intervals that cover the truth: cells of `n` probes each."""
    rng = np.random.default_rng([seed, n])
    truth = rng.beta(1.5, 1.0, CELLS)
    drawn = rng.random((CELLS, n))
    if in_groups:
        first = np.arange(n) // 5 * 5
        drawn = np.where(rng.random((CELLS, n)) < 0.5, drawn[:, first], drawn)
    if graded:  # a quarter of the cells each
        two, five, even, wide = np.split(truth[:, None], 4)
        shape = (CELLS // 4, n)
        scores = np.concatenate(
            [
                rng.binomial(2, two, shape) / 2,
                rng.binomial(5, five, shape) / 5,
                rng.beta(4 * even, 4 * (1 - even), shape),
                rng.beta(wide, 1 - wide, shape),
            ]
        )
    else:
        scores = (drawn < truth[:, None]).astype(float)
    inside = 0
    for values, mean in zip(scores.tolist(), truth.tolist(), strict=True):
        found = strength(values)
        inside += found.lo <= mean <= found.hi
    return inside / CELLS


def gains(n: int, regions: str, seed: int) -> float:
    """The share of the local model's intervals that cover the true gain: `n` probes of three teachers.

    `own`: places with effects that are normal, so many that k-means finds them. `line`: each teacher gets
    better along a direction of its own. `other`: the sign of one direction decides.
    """
    rng = np.random.default_rng([seed, n])
    places = rng.normal(size=(8, 16))
    at = rng.integers(0, 8, n + 200)
    vectors = places[at] + 0.3 * rng.normal(size=(n + 200, 16))
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    if regions == "own":
        effects = 0.5 + rng.normal(0, 0.15, (8, 3))[at]
    elif regions == "line":
        effects = 0.5 + vectors @ rng.normal(0, 0.5, (16, 3))
    else:
        side = (vectors[:, 0] > 0)[:, None]
        effects = 0.5 + np.where(side, [[0.3, -0.2, 0.0]], [[-0.1, 0.25, 0.0]])
    chances = np.clip(effects, 0.02, 0.98)
    scores = (rng.random((n, 3)) < chances[:n]).astype(float)
    model, _ = fit_local(vectors[:n].astype(np.float32), ["all"] * n, scores, seed)
    found = model.gains(vectors[n:].astype(np.float32), "all", 0, 1, 0.95)
    truth = (chances[n:, 0] - chances[n:, 1]).tolist()
    pairs = zip(found, truth, strict=True)
    return float(np.mean([gain.lo <= true <= gain.hi for gain, true in pairs]))


def purchase(seed: int) -> tuple[float, float]:
    """The share of strength intervals that cover the truth where probes are bought one by one: three teachers,
    400 prompts in four places, each teacher better in some. Over strata, and as plain means."""
    rng = np.random.default_rng(seed)
    at = rng.integers(0, 4, 400)
    vectors = np.eye(16)[:4][at] + 0.25 * rng.normal(size=(400, 16))
    vectors = (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)
    chances = np.clip(0.6 + rng.normal(0, 0.25, (4, 3)), 0.05, 0.95)
    truth = (rng.random((400, 3)) < chances[at]).astype(float)
    keys, tasks, names = [str(i) for i in range(400)], ["all"] * 400, ["0", "1", "2"]
    scores = bought(vectors, tasks, truth, truth.size, seed)
    probed = Probed(tuple(keys), vectors, tuple(tasks), tuple(names), scores).by_task()
    strata = strata_of(keys, vectors, tasks, seed)
    shares = []
    for given in (strata, None):
        found = strengths_of(probed, ["all"], names, 0.95, given)["all"]
        covered = [found[n].lo <= chances[:, int(n)].mean() <= found[n].hi for n in names]
        shares.append(float(np.mean(covered)))
    return shares[0], shares[1]


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seed", type=int, default=0)
    seed = parser.parse_args().seed
    found: dict[str, object] = {}
    for name in SETS:
        found[name] = figures = tasks(name)
        print(
            f"{name}: {figures['classes']} classes, {EXAMPLES} examples each, {figures['unseen']:,.0f} "
            f"unseen, {DRAWS} draws\n  accuracy {figures['accuracy']:.3f}, "
            f"mean confidence {figures['confidence']:.3f}, "
            f"calibration error {figures['ece']:.4f} (highest {figures['ece_max']:.4f}), "
            f"novel {figures['novel']:.4f}"
        )
        for rate in RATES:
            print(f"  error rate {rate:.2f} asked: {figures[f'wrong_at_{rate}']:.4f} wrong, "
                  f"{figures[f'unsure_at_{rate}']:.3f} unsure", flush=True)  # fmt: skip
    print("\n95 % intervals that cover, %       " + "".join(f"{n:>8} probes" for n in PROBES))
    kinds = {
        "strength, right or wrong": {"in_groups": False, "graded": False},
        "strength, graded": {"in_groups": False, "graded": True},
        "strength, probes in groups (wrong)": {"in_groups": True, "graded": False},
    }
    for kind, settings in kinds.items():
        row = {n: round(100 * strengths(n, **settings, seed=seed), 2) for n in PROBES}
        found[kind] = row
        print(f"{kind:35}" + "".join(f"{row[n]:15.1f}" for n in PROBES), flush=True)
    bought_one_by_one = side_by_side(purchase, [(seed + i,) for i in range(PURCHASES)])
    strata, plain = np.round(100 * np.mean(bought_one_by_one, axis=0), 2).tolist()
    found["strength, bought one by one"] = {"strata": strata, "plain": plain}
    print(f"{'strength, bought one by one':35}{strata:15.1f}, as plain means {plain:.1f}")
    for regions, kind in (
        ("own", "gain near a prompt"),
        ("line", "gain near a prompt (line)"),
        ("other", "gain near a prompt (wrong)"),
    ):
        row = {}
        for n in (150, 600):
            inside = side_by_side(gains, [(n, regions, seed + i) for i in range(WORLDS)])
            row[n] = round(100 * float(np.mean(inside)), 2)
        found[kind] = row
        print(f"{kind:35}" + ", ".join(f"{row[n]:.1f} with {n} probes" for n in row), flush=True)
    print(json.dumps(found))


if __name__ == "__main__":
    main()
