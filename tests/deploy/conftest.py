"""Fixtures of the deploy room."""

import pytest
from tests.deploy.in_process import archives_in


@pytest.fixture(scope="session")
def archives(tmp_path_factory):
    """A small simulated archive for each hospital, written once."""
    return archives_in(tmp_path_factory.mktemp("archives"))
