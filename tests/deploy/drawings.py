"""`sonoshare coordinator release draw` in this process, and what it leaves."""

from pathlib import Path

from click.testing import CliRunner

from sonoshare_deploy.cli.main import cli


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
