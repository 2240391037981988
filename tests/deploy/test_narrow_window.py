"""In a narrow window nothing is cut, and results for people are tables and lines, not the program's own notation."""

import io
import json
from pathlib import Path

import click
import pytest
from click.testing import CliRunner
from rich.console import Console
from tests.deploy.command import sonoshare

from sonoshare_deploy.cli import order
from sonoshare_deploy.cli.evaluate import command as evaluate
from sonoshare_deploy.cli.hospital import command as hospital
from sonoshare_deploy.cli.output import folding_table
from sonoshare_deploy.cli.reference import leaves


def test_a_list_of_verbs_is_wrapped_and_not_cut() -> None:
    group = order.InOrder("study", verbs=("run",))
    words = "Run the rounds that are left, and go on where it stopped"
    group.add_command(click.Command("run", short_help=words))
    shown = CliRunner().invoke(group, ["--help"], terminal_width=40).output.partition("Commands:")[2]
    assert "..." not in shown
    assert words in " ".join(shown.split())


def test_every_group_wraps_its_verbs() -> None:
    context = click.Context(click.Command("sonoshare"))
    groups = {words.rpartition(" ")[0] for words, _ in leaves()} - {"sonoshare"}
    assert len(groups) >= 7
    for words in groups:
        names = words.split()[1:]
        group: click.Command | None = order_root()
        for name in names:
            assert isinstance(group, click.Group)
            group = group.get_command(context, name)
        assert isinstance(group, order.InOrder), words


def order_root() -> click.Command:
    """The command line."""
    from sonoshare_deploy.cli.main import cli  # noqa: PLC0415 - beside its one use

    return cli


def test_a_table_folds_what_is_too_long() -> None:
    out = io.StringIO()
    shown = folding_table("study", "what")
    shown.add_row("s1", "0123456789" * 6)
    Console(file=out, width=30).print(shown)
    assert "…" not in out.getvalue()
    assert sum(out.getvalue().count(digit) for digit in "0123456789") == 61  # and the 1 of s1


def test_a_hospitals_status_is_whole_lines_whose_commands_can_be_copied(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = tmp_path / "a-node-with-a-long-name"
    CliRunner().invoke(hospital, ["init", "--home", str(home), "--id", "st-ann"], catch_exceptions=False)
    monkeypatch.setenv("COLUMNS", "40")
    lines = CliRunner().invoke(hospital, ["status", "--home", str(home)], catch_exceptions=False).stdout.splitlines()
    assert [line.split()[0] for line in lines][:3] == ["link", "agent", "roster"]
    assert [line for line in lines if line.startswith(" ") or "…" in line] == []
    assert any(line.endswith(("hospital twins", f"hospital twins --home {home}")) for line in lines)


def test_twins_claim_no_pictures_where_there_is_no_pair(tmp_path: Path) -> None:
    home, out = tmp_path / "home", tmp_path / "look"
    CliRunner().invoke(hospital, ["init", "--home", str(home), "--id", "st-ann"], catch_exceptions=False)
    arguments = ["twins", "--home", str(home), "--out", str(out), "--device", "cpu"]
    shown = CliRunner().invoke(hospital, arguments, catch_exceptions=False).stdout
    assert "no pairs: nothing was drawn" in " ".join(shown.split())
    assert "in the clear" not in shown
    assert not out.exists()


def test_readers_are_a_table_and_a_sentence(tmp_path: Path) -> None:
    lines = ["reader,treatment,case,truth,rating"]
    lines += [
        f"{reader},{treatment},{case},{case % 2},{case % 2 + ((case * 7 + reader * 3 + len(treatment) * 5) % 11) / 6}"
        for reader in range(3)
        for treatment in ("old", "newer")
        for case in range(20)
    ]
    (tmp_path / "ratings.csv").write_text("\n".join(lines))
    arguments = ["readers", str(tmp_path / "ratings.csv")]
    shown = CliRunner().invoke(evaluate, arguments, catch_exceptions=False).stdout
    fields = json.loads(CliRunner().invoke(evaluate, [*arguments, "--json"], catch_exceptions=False).stdout)
    apart = fields["treatments"]["old"]["auc"] - fields["treatments"]["newer"]["auc"]
    assert abs(apart) > 0.01
    assert not set("{}'") & set(shown)
    assert f"old minus newer: AUC {apart:+.3f} (" in shown
    assert "all treatments alike: F(1, " in shown


@pytest.mark.parametrize("there", ["nothing", "a folder"])
def test_a_file_that_cannot_be_read_is_not_called_badly_saved(tmp_path: Path, there: str) -> None:
    path = tmp_path / "ratings.csv"
    if there == "a folder":
        path.mkdir()
    run = sonoshare("evaluate", "readers", path)
    why = "No such file or directory" if there == "nothing" else "Is a directory"
    assert run.returncode == 1
    assert run.stderr == f"error: ratings.csv cannot be read: {why} (check the path)\n"
