"""Threads that wait for each other sleep, whatever command computes, unless somebody has asked for something else."""

import os
import subprocess
import sys

import pytest

from sonoshare_deploy.openmp import wait_asleep


def test_the_runtime_of_a_command_reads_that_threads_sleep() -> None:
    """The command line imports torch only after it was said; libgomp tells what it has read."""
    program = (
        "import sys; sys.argv = ['sonoshare', 'plan', '--help']\n"
        "from sonoshare_deploy.cli.main import main\n"
        "assert 'torch' not in sys.modules\n"
        "try: main()\n"
        "except SystemExit: pass\n"
        "import torch"
    )
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("OMP_", "GOMP_"))}
    run = subprocess.run(
        [sys.executable, "-c", program],
        env=environment | {"OMP_DISPLAY_ENV": "TRUE"},
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    assert "OMP_WAIT_POLICY = 'PASSIVE'" in run.stderr


@pytest.mark.parametrize("asked", [{"OMP_WAIT_POLICY": "ACTIVE"}, {"GOMP_SPINCOUNT": "1000"}])
def test_what_somebody_has_set_is_kept(asked: dict[str, str]) -> None:
    environment = dict(asked)
    wait_asleep(environment)
    assert environment == asked
