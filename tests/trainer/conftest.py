"""A folder with a tiny base, a mix of 120 samples and filled ledgers, made once."""

import os

os.environ["HF_HUB_OFFLINE"] = "1"

import pytest

from ledger.mixes import read_manifest
from ledger.store import Ledger
from tests.trainer.signals import capture
from tests.trainer.support import fill_ledger, make_base, make_mix, make_rows


@pytest.fixture(scope="session")
def folder(tmp_path_factory):
    made = tmp_path_factory.mktemp("training")
    make_base(made / "base")
    make_mix(made / "mix", make_rows(120))
    capture(made / "records")
    return made


@pytest.fixture
def new_ledger(folder):
    """Makes the ledger that a training called NAME puts its rows into."""

    def make(name):
        ledger = Ledger(folder / f"{name}-ledger")
        with ledger.writing("test"):
            fill_ledger(ledger, make_rows(120), read_manifest(folder / "mix").lock_sha)
        return ledger

    return make
