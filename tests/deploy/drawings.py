"""`sonoshare coordinator release draw` in this process, and what it leaves."""

import shutil
from pathlib import Path

from click.testing import CliRunner

from sonoshare_deploy.cli.main import cli

# Kills itself, with no chance to tidy up, as it begins its second shard.
KILLED = """
import os, signal
from sonoshare_server.release import drawing
drawn, draw = [], drawing.draw_shard
def draw_shard(*arguments):
    if drawn:
        os.kill(os.getpid(), signal.SIGKILL)
    drawn.append(1)
    return draw(*arguments)
drawing.draw_shard = draw_shard
from sonoshare_deploy.cli.main import main
main()
"""


def arguments(home: Path, *more: str) -> list[str]:
    """Its command line."""
    return ["coordinator", "release", "draw", "--home", str(home), "--study", "study", "--name", "r1", *more]


def draw(home: Path, *more: str) -> None:
    """Run it in this process."""
    CliRunner().invoke(cli, arguments(home, *more), catch_exceptions=False)


def files(home: Path) -> dict[str, bytes]:
    """The candidate; nothing else may be left beside it."""
    folder = home / "studies" / "study" / "candidates"
    assert [path.name for path in folder.iterdir()] == ["r1"]
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def copy_of(trained: Path, place: Path) -> Path:
    """A coordinator's folder that a test may change."""
    return shutil.copytree(trained, place / "coordinator")


def drawn_alone(trained: Path, place: Path) -> dict[str, bytes]:
    """What one worker draws."""
    home = copy_of(trained, place)
    draw(home)
    return files(home)
