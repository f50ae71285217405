"""What tests of runs share."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest


@pytest.fixture(scope="module")
def folder_of_module(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A working directory for all tests of a module: a recipe's runs stand in it."""
    folder, before = tmp_path_factory.mktemp("runs"), Path.cwd()
    os.chdir(folder)
    yield folder
    os.chdir(before)
