"""The student's model card: what it was made of and what it is worth, so that the folder speaks for itself."""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import yaml

from ledger.keys import write_atomically
from ledger.mixes import Manifest
from trainer.config import StudentConfig
from trainer.data import TrainingData

CARD_NAME = "README.md"
RESULTS_NAME = ".eval_results/tutelage.yaml"  # where model hubs look for scores
VERDICT = "\n## Verdict\n"


@dataclass(frozen=True, slots=True)
class CardScore:
    """A task's scores, each (mean, lo, hi) of a 95 % interval in 0..1 over `n` items, and the verdict."""

    task: str
    verdict: str
    n: int
    student: tuple[float, float, float]
    teacher: tuple[float, float, float]
    baseline: tuple[float, float, float]


def write_verdict(
    folder: Path, sentence: str, scores: Sequence[CardScore], *, items: str, revision: str
) -> None:
    """Puts the verdict at the end of a card, in the place of an earlier one, and beside it the scores as model
    hubs read them. `items` names the test items, `revision` their state."""
    card = folder / CARD_NAME
    made_of = card.read_text("utf-8").split(VERDICT)[0] if card.is_file() else ""
    lines = [
        _cell(sentence),
        "",
        "| task | student | its teacher | before training | test items | verdict |",
        "|---|---|---|---|---|---|",
        *(
            f"| {_cell(each.task)} | {_estimate(each.student)} | {_estimate(each.teacher)} "
            f"| {_estimate(each.baseline)} | {each.n} | {each.verdict} |"
            for each in scores
        ),
        "",
        "Means with 95 % intervals, in per cent; all models on the same items.",
        "",
    ]
    told = "\n".join([made_of + VERDICT, *lines])
    write_atomically(card, told.encode(errors="replace"))
    results = [
        {
            "dataset": {"id": items, "task_id": each.task, "revision": revision},
            "value": round(100 * each.student[0], 2),
            "date": datetime.now(UTC).date().isoformat(),
            "source": {"name": "Tutelage"},
            "notes": f"mean score of {each.n} items, 95 % interval {_estimate(each.student)}; "
            f"teacher {_estimate(each.teacher)}, base {_estimate(each.baseline)}",
        }
        for each in scores
    ]
    (folder / RESULTS_NAME).parent.mkdir(exist_ok=True)
    text = yaml.safe_dump(results, sort_keys=False, allow_unicode=True)
    write_atomically(folder / RESULTS_NAME, text.encode(errors="replace"))


def _estimate(score: tuple[float, float, float]) -> str:
    mean, lo, hi = (100 * value for value in score)
    return f"{mean:.1f} [{lo:.1f}, {hi:.1f}]"


def write_card(
    folder: Path,
    config: StudentConfig,
    manifest: Manifest,
    data: TrainingData,
    licences: Mapping[str, str],
    *,
    run: str,
    key: str,
    seed: int,
    origin: str | None,
    on_hub: bool,
) -> None:
    """Writes the card: base (by its id if `on_hub`), mix lock, teachers with licences and samples, settings."""
    counts = Counter(data.teachers[row] for row in data.order.tolist())
    rows = [
        f"| {_cell(name)} | {_cell(licences.get(name, 'unknown'))} | {n} |"
        for name, n in sorted(counts.items())
    ]
    stages = [f"`{_cell(stage.name)}` ({stage.stop - stage.start})" for stage in manifest.stages]
    settings = {name: value for name, value in config.model_dump().items() if value is not None}
    lines = [
        *_front_matter(config, on_hub),
        f"# Student of {_cell(run)}",
        "",
        f"Fine-tuned by Tutelage from `{_cell(config.base)}` on answers of {len(counts)} teachers.",
        "Its training data is named by the mix lock below; the ledger of the run leads from there "
        "to every prompt, answer and licence.",
        "",
        "| | |",
        "|---|---|",
        f"| student run | `{key}` |",
        f"| mix lock (SHA-256) | `{manifest.lock_sha}` |",
        f"| mix plan | `{manifest.plan_sha}` |",
        f"| base | `{_cell(config.base)}`, licence {_cell(config.licence or 'unknown')} |",
        *([f"| starts from | {origin} |"] if origin else []),
        *([f"| held out | {len(data.held)} samples |"] if len(data.held) else []),
        f"| stages (samples) | {', '.join(stages)} |",
        f"| samples trained | {len(data.order)} ({len(data.times())} distinct) |",
        f"| left out as too long | {len(data.skipped)} |",
        f"| seed | {seed} |",
        "",
        "## Teachers",
        "",
        "| teacher | licence of its answers | samples trained |",
        "|---|---|---|",
        *rows,
        "",
        f"Licences of the samples: {_sample_licences(data)}.",
        "",
        "## Settings",
        "",
        "```json",
        json.dumps(settings, indent=2, ensure_ascii=False).replace("`", "'"),
        "```",
        "",
    ]
    write_atomically(folder / CARD_NAME, "\n".join(lines).encode("utf-8", errors="replace"))


def _front_matter(config: StudentConfig, on_hub: bool) -> list[str]:
    """YAML that model hubs read; JSON strings are YAML strings."""
    lines = ["---", "library_name: transformers", "tags: [tutelage, trl, sft]"]
    if on_hub:
        lines.append(f"base_model: {json.dumps(config.base)}")
    if config.licence:
        lines.append(f"license: {json.dumps(config.licence.lower())}")
    return [*lines, "---", ""]


def _sample_licences(data: TrainingData) -> str:
    names = {data.licences[row] or "unknown" for row in data.order.tolist()}
    return ", ".join(_cell(name) for name in sorted(names))


def _cell(text: str) -> str:
    """Text that cannot leave its table cell, or become markup."""
    flat = " ".join(str(text).split())
    return "".join(f"\\{c}" if c in "|`<>[]*\\" else c for c in flat)
