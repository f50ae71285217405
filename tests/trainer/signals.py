"""What the tests train by: records of two made-up teachers, and two small models that give hidden states."""

from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from ledger.records import RecordsHead, writing_records
from tests.trainer.support import character_tokenizer, make_base, make_rows
from trainer.config import LogitConfig
from trainer.features import FeatureTeacher, FeatureTeachers
from trainer.run import records_head

LOGIT = {"top_k": 8, "alpha": 0.7, "temperature": 2.0}
KINDS: dict[str, dict[str, Any]] = {
    "hard": {},
    "logit": {"signal": "logit", "logit": LOGIT, "epochs": 1},
    "feature": {"signal": "feature", "feature": {"layers": [1, [-1, -1]], "projector": "mlp"}},
    "mixed": {
        "signal": ["hard", "logit", "feature"],
        "logit": LOGIT,
        "feature": {"loss": "mse"},
        "weights": {"spell": {"logit": 0.5, "feature": 2.0}},
    },
}
HEAD = records_head(LogitConfig.model_validate(LOGIT), character_tokenizer())


def given(folder: Path, kind: str) -> dict[str, Any]:
    """What a training by one of KINDS is called with; `folder` holds the records."""
    signals = KINDS[kind].get("signal", "hard")
    return {
        "records": folder / "records" if "logit" in signals else None,
        "features": teachers(folder) if "feature" in signals else None,
        **KINDS[kind],
    }


def capture(folder: Path, head: RecordsHead = HEAD, extra: int = 0) -> Path:
    """Random distributions of `ann` and `bob`; of every tenth sample none, of every third token none."""
    draw = np.random.default_rng(0)
    for teacher in ("ann", "bob"):
        with writing_records(folder / f"{teacher}.parquet", head) as put:
            for i, row in enumerate(make_rows(120)):
                if row["teacher"] != teacher or i % 10 == 0:
                    continue
                tokens = row["tokens"] + extra
                k, vocabulary = head.format.k, head.format.vocabulary
                ids = draw.permuted(np.tile(np.arange(vocabulary), (tokens, 1)), axis=1)[:, :k]
                p = draw.dirichlet(np.ones(k + 1), tokens)[:, :k]
                p[::3] = 0
                put(row["sample"], teacher, head.format.encode(ids, p))
    return folder


def teachers(folder: Path, *, together: bool = True) -> FeatureTeachers:
    """`ann` is as wide as the student, `bob` wider, with a system prompt; both have two layers."""
    return FeatureTeachers(
        {"ann": _teacher(folder / "ann", 16), "bob": _teacher(folder / "bob", 24, "Be brief.")},
        together,
    )


@cache
def _teacher(folder: Path, hidden: int, system: str | None = None) -> FeatureTeacher:
    from transformers import AutoModel

    if not folder.exists():
        make_base(folder, hidden=hidden)
    model = AutoModel.from_pretrained(folder).eval()

    def states(ids: Any, mask: Any, layers: Any) -> Any:
        import torch

        with torch.no_grad():
            out = model(ids, attention_mask=mask, output_hidden_states=True)
        return [out.hidden_states[layer] for layer in layers]

    return FeatureTeacher(character_tokenizer(), system, 256, 2, hidden, states)
