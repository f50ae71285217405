"""Are the tasks that are found without examples the ones that people would name?

    python -m benchmarks.discovery [--picture docs/tasks.svg]

Adjusted Rand index of discovered tasks (`discover: auto`) with the sets that prompts are of: the quickstart's
three families, six and all fourteen sets of `questions`, and the exam questions of `languages`
(benchmarks/sets). Then the accuracy of tasks that are described by one sentence each, on the six. The picture
shows the six: how they were split, and what they are.
"""

import argparse
import html
import json
import time
from pathlib import Path

import numpy as np
from sklearn.metrics import adjusted_rand_score

from benchmarks.sets.classes import read_classes
from benchmarks.tables.table import ROOT
from router.deciding import discover, fit, from_descriptions
from router.embedding import load_embedder, map_2d
from router.embedding.locating import DEFAULT
from tutelage.pools import load_pools
from tutelage.recipe import load_recipe

SIX = {
    "ASDiv": "A short word problem with numbers for a child in primary school.",
    "CommonsenseQA": "A question on everyday life and objects that common sense answers.",
    "Fiqa": "A question on personal finance, stocks, taxes or business.",
    "HellaSwag": "The beginning of a scene from a video, told to be continued.",
    "MedQA": "A clinical case of a patient, from a medical exam.",
    "NQ-open": "A short factual question as one would type it into a search engine.",
}
PROMPTS = 2_400  # of the quickstart's
COLOURS = (
    "#4269d0",
    "#efb118",
    "#ff725c",
    "#3ca951",
    "#a463f2",
    "#6cc5b0",
    "#97bbf5",
    "#9c6b4e",
    "#9498a0",
)


def quickstart(seed: int) -> tuple[np.ndarray, list[str], np.ndarray]:
    """Vectors, texts and families of some of the quickstart's training prompts."""
    loaded = load_recipe(ROOT / "recipes" / "quickstart.yaml")
    items = load_pools(loaded.recipe, loaded.base).train
    rows = np.random.default_rng(seed).permutation(len(items))[:PROMPTS]
    texts = [items[row].prompt.text for row in rows]
    families = np.array([items[row].source for row in rows])
    return load_embedder(DEFAULT, Path()).encode(texts), texts, families


def found_tasks(vectors: np.ndarray, texts: list[str], seed: int) -> tuple[list[str], float]:
    """The task of every prompt as a run would label it, and the seconds that it took."""
    began = time.monotonic()
    found = discover(vectors, texts, seed)
    labels = fit(vectors[found.rows], found.tasks, seed).predict(vectors)
    return [label.best_task for label in labels], time.monotonic() - began


def described(vectors: np.ndarray, truth: np.ndarray, seed: int) -> float:
    """The share of prompts that get their set's task from the six sentences."""
    sentences = load_embedder(DEFAULT, Path()).encode(list(SIX.values()))
    found = from_descriptions(vectors, dict(zip(SIX, sentences, strict=True)), seed)
    labels = fit(vectors[found.rows], found.tasks, seed).predict(vectors)
    return float(np.mean([label.best_task for label in labels] == truth))


def picture(vectors: np.ndarray, groupings: dict[str, list[str]]) -> str:
    """An SVG: the prompts on a flat map, once for each grouping, coloured by group."""
    flat = map_2d(vectors)
    flat = (flat - flat.min(axis=0)) / np.ptp(flat, axis=0)
    width = 420
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width * len(groupings)} 560" '
        'font-family="sans-serif" font-size="13"><rect width="100%" height="100%" fill="#fff"/>'
    ]
    for panel, (title, groups) in enumerate(groupings.items()):
        left = panel * width + 10
        parts.append(f'<text x="{left}" y="22" font-weight="bold">{html.escape(title)}</text>')
        names = sorted(set(groups))
        for (x, y), group in list(zip(flat.tolist(), groups, strict=True))[::3]:
            colour = COLOURS[names.index(group) % len(COLOURS)]
            at = f'cx="{left + 400 * x:.1f}" cy="{440 - 400 * y:.1f}"'
            parts.append(f'<circle {at} r="1.6" fill="{colour}" fill-opacity=".6"/>')
        for i, name in enumerate(names):
            x, y = left + 200 * (i % 2), 470 + 22 * (i // 2)
            parts.append(
                f'<circle cx="{x + 5}" cy="{y - 4}" r="5" fill="{COLOURS[i % len(COLOURS)]}"/>'
            )
            parts.append(
                f'<text x="{x + 16}" y="{y}">{html.escape(name)} ({groups.count(name)})</text>'
            )
    return "\n".join([*parts, "</svg>\n"])


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--picture", type=Path, help="where to draw the six sets")
    options = parser.parse_args()
    questions, languages = read_classes("questions"), read_classes("languages")
    of_six = np.isin(questions.classes, list(SIX))
    six = questions.vectors[of_six]
    texts = [text for text, kept in zip(questions.texts, of_six, strict=True) if kept]
    truth = questions.classes[of_six]
    mixes = {
        "quickstart": quickstart(options.seed),
        "six": (six, texts, truth),
        "fourteen": (questions.vectors, questions.texts, questions.classes),
        "languages": (languages.vectors, languages.texts, languages.classes),
    }
    found: dict[str, object] = {}
    for name, (vectors, told, sets) in mixes.items():
        tasks, seconds = found_tasks(vectors, told, options.seed)
        agreement = adjusted_rand_score(sets, tasks)
        names = sorted(set(tasks))
        found[name] = {"sets": len(set(sets)), "tasks": len(names), "rand": round(agreement, 4)}
        split = f"{len(told):6,} prompts of {len(set(sets)):2} sets: {len(names):2} tasks"
        print(f"{name:12} {split}, adjusted Rand index {agreement:.3f} ({seconds:.0f} s)")
        print(f"{'':13}{', '.join(names)}", flush=True)
        if name == "six" and options.picture:
            drawn = picture(six, {"as they were split": tasks, "as they are": sets.tolist()})
            options.picture.write_text(drawn, encoding="utf-8")
    found["described"] = accuracy = round(described(six, truth, options.seed), 4)
    print(
        f"{'six':12} described by a sentence each: {accuracy:.3f} of the prompts get their set's task"
    )
    print(json.dumps(found))


if __name__ == "__main__":
    main()
