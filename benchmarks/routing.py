"""Our router against the usual ones, on real tables of prompts, models and qualities.

    python -m benchmarks.routing
    python -m benchmarks.routing --table benchmarks/data/llmrouter9.jsonl.gz --seed 0
    python -m benchmarks.routing --peers llmrouter_mlp,llmrouter_knn

Every router sees the same vectors. Cross-fitted: 10 folds over all prompts, equal texts in one fold, so that
each prompt is routed by what was fitted without it; the best single model is chosen on the training folds
too. Beside it the table's own test set, or 30 % by the seed; where the table has costs, there also what every
router picks and pays when a mean-priced answer weighs so much quality (the cost-quality curve). Figures are
the mean quality of the chosen models in percent, of `random` its expectation; intervals are paired
bootstraps over prompts. Shuffled: the qualities are permuted across prompts, so that there is nothing to
learn and a router can only lose. Peers are routers of other packages, in environments of their own that
are made at their first use; they pick models without a price. Prints a table and, as its last line, one JSON
object: by table where several are run.
"""

import argparse
import json
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from benchmarks.peers.environment import python_of
from benchmarks.peers.routers import PEER_ROUTERS
from benchmarks.tables.baselines import BASELINES, Fit, Predict, task_label
from benchmarks.tables.fitting import our_router, picks, side_by_side
from benchmarks.tables.table import DATA, Table
from router.deciding import RouteConfig

FOLDS = 10
RESAMPLES = 10_000
WEIGHTS = (0.0, 0.01, 0.03, 0.1, 0.3, 1.0)  # of a mean-priced answer, in quality from 0 to 1


def ours(vectors: np.ndarray, tasks: Sequence[str], scores: np.ndarray, seed: int) -> Predict:
    """Our router with its defaults: the chosen model gets 1, the others 0."""
    router = our_router(vectors, tasks, scores, seed)
    return lambda asked, asked_tasks: np.eye(scores.shape[1])[picks(router, asked, asked_tasks)]


def priced(
    fit: Fit, table: Table, held_out: np.ndarray, weight: float, seed: int
) -> tuple[float, float]:
    """Mean cost and quality in percent of what a router picks where a mean-priced answer weighs `weight`."""
    assert table.costs is not None
    tasks, seen = np.array(table.tasks or ["all"] * len(table)), ~held_out
    prices = table.costs[seen].mean(axis=0)  # (M,)
    alpha = weight / prices.mean() if prices.any() else 0.0
    learnt = (table.vectors[seen], tasks[seen].tolist(), table.scores[seen], seed)
    asked = (table.vectors[held_out], tasks[held_out].tolist())
    if fit is ours and alpha:
        config = RouteConfig(policy="cost", alpha=alpha)
        models = picks(our_router(*learnt, config, prices), *asked)
    else:
        models = (fit(*learnt)(*asked) - alpha * prices).argmax(axis=1)
    rows = np.flatnonzero(held_out)
    quality_of, cost_of = table.scores[rows, models].mean(), table.costs[rows, models].mean()
    return round(float(cost_of), 6), round(float(100 * quality_of), 2)


def cost_quality(routers: dict[str, Fit], table: Table, seed: int) -> dict:
    """By router and weight of price, the mean cost of an answer and the quality, on the own split."""
    held_out = table.own_split(seed)
    jobs = [(name, weight) for name in routers for weight in WEIGHTS]
    found = side_by_side(
        priced, ((routers[name], table, held_out, weight, seed) for name, weight in jobs)
    )
    curves: dict = {"unit": table.cost_unit}
    for (name, weight), (cost, percent) in zip(jobs, found, strict=True):
        point = {"weight": weight, "cost": cost, "quality": percent}
        curves.setdefault(name, []).append(point)
    return curves


def chosen(
    fit: Fit, table: Table, scores: np.ndarray, held_out: np.ndarray, seed: int
) -> np.ndarray:
    """The models (n,) that a router picks for the held-out prompts (N,) bool, by number."""
    tasks = np.array(table.tasks or ["all"] * len(table))
    seen = ~held_out
    predict = fit(table.vectors[seen], tasks[seen].tolist(), scores[seen], seed)
    return predict(table.vectors[held_out], tasks[held_out].tolist()).argmax(axis=1)


def cross_fitted(
    routers: dict[str, Fit], table: Table, scores: np.ndarray, seed: int
) -> dict[str, np.ndarray]:
    """By router, the model (N,) that it picks for each prompt without having seen it."""
    fold_of = table.folds(FOLDS, seed)
    jobs = [(name, fold) for name in routers for fold in range(fold_of.max() + 1)]
    found = side_by_side(
        chosen, ((routers[name], table, scores, fold_of == fold, seed) for name, fold in jobs)
    )
    models_of = {name: np.empty(len(table), int) for name in routers}
    for (name, fold), models in zip(jobs, found, strict=True):
        models_of[name][fold_of == fold] = models
    return models_of


def quality(models_of: dict[str, np.ndarray], scores: np.ndarray) -> dict[str, np.ndarray]:
    """By router, the quality (N,) of what it picked; the expectation of chance and the best pick beside."""
    rows = np.arange(len(scores))
    found = {name: scores[rows, models] for name, models in models_of.items()}
    return {**found, "random": scores.mean(axis=1), "oracle": scores.max(axis=1)}


def gain(ours: np.ndarray, theirs: np.ndarray, seed: int) -> dict[str, float]:
    """Mean of the paired differences in percent, with a 95 % bootstrap interval."""
    differences = 100 * (ours - theirs)
    rng = np.random.default_rng(seed)
    n = len(differences)
    means = [differences[rng.integers(0, n, n)].mean() for _ in range(RESAMPLES)]
    lo, hi = np.quantile(means, [0.025, 0.975])
    return {
        "mean": round(float(differences.mean()), 2),
        "lo": round(float(lo), 2),
        "hi": round(float(hi), 2),
    }


def summed(found: dict[str, np.ndarray], shuffled: dict[str, np.ndarray], seed: int) -> dict:
    """The figures of one way of holding out."""
    order = ["best_single", "random", *[n for n in found if n not in ("best_single", "random")]]
    return {
        **{name: round(float(100 * found[name].mean()), 2) for name in order},
        "ours_minus_best_single": gain(found["ours"], found["best_single"], seed),
        "shuffled_ours_minus_best_single": round(
            float(100 * (shuffled["ours"] - shuffled["best_single"]).mean()), 2
        ),
    }


def run(table: Table, seed: int, peers: Sequence[str] = ()) -> dict:
    """Both ways of holding out, on the table as it is and shuffled; peers are named as in PEER_ROUTERS."""
    _ = table.vectors  # before the processes part
    routers = {**BASELINES, **({"task_label": task_label} if table.tasks else {})}
    routers |= {name: PEER_ROUTERS[name] for name in peers} | {"ours": ours}
    control = {name: routers[name] for name in ("best_single", "ours")}
    permuted = table.scores[np.random.default_rng(seed).permutation(len(table))]

    chose = cross_fitted(routers, table, table.scores, seed)
    crossed = quality(chose, table.scores)
    figures = summed(crossed, quality(cross_fitted(control, table, permuted, seed), permuted), seed)
    figures["overridden"] = round(float(100 * (chose["ours"] != chose["best_single"]).mean()), 2)

    held_out = table.own_split(seed)

    def split(fits: dict[str, Fit], scores: np.ndarray) -> dict[str, np.ndarray]:
        found = side_by_side(
            chosen, ((fit, table, scores, held_out, seed) for fit in fits.values())
        )
        return quality(dict(zip(fits, found, strict=True)), scores[held_out])

    own = split(routers, table.scores)
    figures["own_split"] = summed(own, split(control, permuted), seed)
    show(table, figures, crossed, own, seed)
    if table.costs is not None:
        priceable = {name: fit for name, fit in routers.items() if name not in peers}
        figures["own_split"]["cost_quality"] = cost_quality(priceable, table, seed)
        show_curves(figures["own_split"]["cost_quality"])
    return figures


def show(
    table: Table,
    figures: dict,
    crossed: dict[str, np.ndarray],
    own: dict[str, np.ndarray],
    seed: int,
) -> None:
    """One line a router: its quality, and how far ours is above it."""
    held_out = len(next(iter(own.values())))
    print(f"\n{table.name}: {len(table):,} prompts, {len(table.models)} models"
          f"{f', tasks {chr(44).join(sorted(set(table.tasks)))}' if table.tasks else ''}; "
          f"{FOLDS} folds | own split of {held_out:,}; seed {seed}")  # fmt: skip
    width = max(14, *map(len, crossed))
    headings = f"{'ours above it':>24} {'own split':>10} {'ours above it':>24}"
    print(f"{'':{width}} {'cross-fitted':>12} {headings}")
    for name in [n for n in figures if n in crossed]:
        cells = [f"{name:{width}}"]
        for part, found in ((figures, crossed), (figures["own_split"], own)):
            above = gain(found["ours"], found[name], seed)
            cells.append(f"{part[name]:12.2f}")
            cells.append(
                f"{above['mean']:+8.2f} [{above['lo']:+.2f}, {above['hi']:+.2f}]".rjust(24)
            )
        print(" ".join(cells))
    print(f"ours leaves the best single model on {figures['overridden']:.1f} % of the prompts; with shuffled "
          f"scores it is {figures['shuffled_ours_minus_best_single']:+.2f} | "
          f"{figures['own_split']['shuffled_ours_minus_best_single']:+.2f} from it")  # fmt: skip


def show_curves(curves: dict) -> None:
    """One line a router: quality at cost, for every weight of price."""
    print(
        f"\nquality at the mean cost of an answer ({curves['unit']}), by what a mean-priced answer weighs"
    )
    print(f"{'':14}" + "".join(f"{weight:>16g}" for weight in WEIGHTS))
    for name, points in curves.items():
        if name != "unit":
            cells = [f"{point['quality']:.2f} at {point['cost']:.4g}" for point in points]
            print(f"{name:14}" + "".join(f"{cell:>16}" for cell in cells))


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--table", type=Path, action="append", help="all in benchmarks/data by default"
    )
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--peers", default="", help=f"of {', '.join(PEER_ROUTERS)}")
    options = parser.parse_args()
    peers = [name for name in options.peers.split(",") if name]
    if unknown := set(peers) - set(PEER_ROUTERS):
        parser.error(f"no peer {', '.join(sorted(unknown))}: there are {', '.join(PEER_ROUTERS)}")
    for package in {name.split("_")[0] for name in peers}:
        python_of(package)  # installed before the processes part
    paths = options.table or sorted(DATA.glob("*.jsonl.gz"))
    found = {}
    for path in paths:
        began = time.monotonic()
        table = Table.read(path)
        found[table.name] = run(table, options.seed, peers)
        print(f"{time.monotonic() - began:.0f} s", flush=True)
    print(json.dumps(found if len(found) > 1 else next(iter(found.values()))))


if __name__ == "__main__":
    main()
