"""What several workers of one run need alike is made by the first that asks for it."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from filelock import FileLock


def made_once(factory: pytest.TempPathFactory, name: str, make: Callable[[Path], object]) -> Path:
    """A folder of this run, made by ``make`` in one of its workers; the others wait for it.

    Nobody may change it: take a copy. What a making left that failed, or whose worker died, is removed, and the next
    worker makes it anew: one that dies does not fail the tests of all.
    """
    own = factory.getbasetemp()
    everybody = own.parent if "PYTEST_XDIST_WORKER" in os.environ else own
    folder, done = everybody / name, everybody / f"{name}.done"
    with FileLock(everybody / f"{name}.lock"):
        if not done.exists():
            shutil.rmtree(folder, ignore_errors=True)
            make(folder)
            done.touch()
    return folder
