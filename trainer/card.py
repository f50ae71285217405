"""The student's model card: what it was made of, so that the folder speaks for itself."""

import json
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

from ledger.keys import write_atomically
from ledger.mixes import Manifest
from trainer.config import StudentConfig
from trainer.data import TrainingData

CARD_NAME = "README.md"


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
) -> None:
    """Writes the card: base, mix lock, teachers with licences and samples, settings."""
    counts = Counter(data.teachers[row] for row in data.order.tolist())
    rows = [
        f"| {_cell(name)} | {_cell(licences.get(name, 'unknown'))} | {n} |"
        for name, n in sorted(counts.items())
    ]
    stages = [f"`{_cell(stage.name)}` ({stage.stop - stage.start})" for stage in manifest.stages]
    settings = {name: value for name, value in config.model_dump().items() if value is not None}
    lines = [
        *_front_matter(config),
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


def _front_matter(config: StudentConfig) -> list[str]:
    """YAML that model hubs read; JSON strings are YAML strings."""
    lines = ["---", "library_name: transformers", "tags: [tutelage, trl, sft]"]
    if not config.base.startswith(("/", ".")) and config.base.count("/") == 1:
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
