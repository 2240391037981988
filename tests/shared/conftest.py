"""A consortium with a release, built once a module, and a copy of it to spoil."""

import shutil
from pathlib import Path

import pytest
from tests.shared.consortium import RELEASE, Consortium


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Consortium:
    consortium = Consortium(tmp_path_factory.mktemp("consortium"))
    consortium.release()
    return consortium


@pytest.fixture
def consortium(tmp_path: Path) -> Consortium:
    return Consortium(tmp_path)


@pytest.fixture
def folder(built: Consortium, tmp_path: Path) -> Path:
    return Path(shutil.copytree(built.folder / RELEASE, tmp_path / "copy"))
