"""Programs that look at what is packaged, wherever they are: beside this Python or on the path."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGED = ROOT / "deploy"


def tool(name: str, where: str) -> str:
    """Path of a program, or a skipped test that says where the program is to be had."""
    folders = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
    found = shutil.which(name, path=folders)
    if found is None:
        pytest.skip(f"{name} is not here: {where}")
    return found


def said(*command: object, **variables: str) -> str:
    """What a program says; it ends well."""
    words = list(map(str, command))
    ran = subprocess.run(words, env=os.environ | variables, capture_output=True, text=True, check=False, timeout=60)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    return ran.stdout
