"""What every command shares: the base install's limits, said in one line."""

import subprocess
import sys
from pathlib import Path
from subprocess import CompletedProcess

import pytest
from tests.deploy.command import sonoshare

from sonoshare_deploy.cli.main import EXTRAS, NOUNS, main
from sonoshare_deploy.cli.output import emit
from sonoshare_shared.errors import RefusedError


def without(package: str, *arguments: str) -> CompletedProcess[str]:
    """Run ``sonoshare`` where a package is not installed."""
    script = (
        f"import sys; sys.modules[{package!r}] = None; sys.argv = ['sonoshare', *sys.argv[1:]]\n"
        "from sonoshare_deploy.cli.main import main\n"
        "main()\n"
    )
    return subprocess.run(
        [sys.executable, "-c", script, *arguments],
        capture_output=True,
        text=True,
        check=False,
        stdin=subprocess.DEVNULL,
    )


@pytest.mark.parametrize(
    ("package", "arguments"),
    [
        ("numpy", ["demo"]),
        ("dp_accounting", ["plan", "--patients", "100", "--epsilon", "3", "--delta", "1e-4"]),
    ],
)
def test_a_missing_extra_is_named_in_one_line(package: str, arguments: list[str]) -> None:
    run = without(package, *arguments)
    assert run.returncode == 1
    assert run.stderr == f"error: {package} is not installed (pip install 'sonoshare[{EXTRAS[arguments[0]]}]')\n"


@pytest.mark.parametrize("noun", sorted(NOUNS.keys() - EXTRAS.keys()))
def test_a_researcher_s_commands_need_neither_numpy_nor_torch(noun: str) -> None:
    for package in ("numpy", "torch"):
        assert without(package, noun, "--help").returncode == 0


def test_what_a_peer_has_said_cannot_write_to_the_terminal(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refusing(**_options: object) -> None:
        raise RefusedError("north says FAIL (\x1b[2J\r\nverified r1)", remedy="see its reasons")

    monkeypatch.setattr("sonoshare_deploy.cli.main.cli", refusing)
    with pytest.raises(SystemExit):
        main()
    assert capsys.readouterr().err == "error: north says FAIL (?[2J??verified r1) (see its reasons)\n"


@pytest.mark.parametrize("place", ["none/plan.png", "file/plan.png", "folder.png"])
def test_a_path_that_cannot_be_written_is_named_in_one_line(tmp_path: Path, place: str) -> None:
    (tmp_path / "file").write_text("kept")
    (tmp_path / "folder.png").mkdir()
    out = tmp_path / place
    # A folder is refused by the option itself, as wrong usage.
    run = sonoshare("plan", "--patients", "100", "--epsilon", "3", "--delta", "1e-4", "--plot", out)
    assert run.returncode == (2 if place == "folder.png" else 1)
    assert "Traceback" not in run.stderr
    assert str(tmp_path) in run.stderr
    assert (tmp_path / "file").read_text() == "kept"


@pytest.mark.parametrize(
    "group", ["base", "evaluate", "hospital", "coordinator", "coordinator study", "coordinator release"]
)
def test_no_line_of_a_list_of_commands_is_cut(group: str) -> None:
    listed = sonoshare(*group.split(), "--help").stdout.partition("Commands:")[2]
    assert listed
    assert [line for line in listed.splitlines() if line.endswith("...")] == []


def test_a_long_path_is_printed_on_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    emit({"base": "C/bases/" + "0" * 100}, as_json=False)
    assert capsys.readouterr().out == "base: C/bases/" + "0" * 100 + "\n"


def test_a_list_in_a_result_is_printed_for_people_without_brackets(capsys: pytest.CaptureFixture[str]) -> None:
    emit({"hospitals": ["st-ann", "st-barts"], "waiting": [], "version": 2}, as_json=False)
    assert capsys.readouterr().out == "hospitals: st-ann, st-barts\nwaiting: none\nversion: 2\n"
    emit(
        {"masked": False, "honest": None, "origin": {"data": "phantoms", "of": {"seed": 0}}, "left": {}}, as_json=False
    )
    said = "masked: no\nhonest: none\norigin:\n  data: phantoms\n  of:\n    seed: 0\nleft: none\n"
    assert capsys.readouterr().out == said


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        ("hospitl", "sonoshare hospital"),
        ("study", "sonoshare coordinator study"),
        ("status", "sonoshare hospital status, sonoshare coordinator status"),
    ],
)
def test_a_word_that_is_no_command_is_answered_with_what_it_may_be(typed: str, meant: str) -> None:
    run = sonoshare(typed, "--home", "N")
    assert run.returncode == 2
    assert f"There is no command '{typed}'. Did you mean: {meant}\n" in run.stderr


def test_a_folder_that_is_not_there_is_said_before_a_login_is_asked_for(tmp_path: Path) -> None:
    run = sonoshare("verify", tmp_path / "nothere")
    assert (run.returncode, run.errors) == (
        1,
        [f"error: there is no {tmp_path / 'nothere'} (give the folder of a release, or an exported file)"],
    )


def test_the_word_for_scripts_stands_before_what_is_not_verified(tmp_path: Path) -> None:
    run = sonoshare("verify", tmp_path, "--roster", tmp_path / "nowhere.json")
    assert run.stderr.startswith("error: roster: cannot read nowhere.json: No such file")
