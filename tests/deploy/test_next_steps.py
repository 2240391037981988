"""Verbs of the set-up and of the order of work end with what to type next, as it can be pasted where the reader is."""

import shlex
from pathlib import Path

import click
import pytest
from tests.deploy.command import Run, sonoshare
from tests.deploy.members import node_key

from sonoshare_deploy.cli.main import cli
from sonoshare_shared.protocol.keys import SigningKey


def steps(run: Run) -> list[list[str]]:
    """Commands that a run ends with, as a shell splits them; each is one that the program has."""
    assert run.returncode == 0, run.stderr
    lines = [
        line for line in f"{run.stdout}\n{run.stderr}".splitlines() if line.strip().startswith(("next: ", "then: "))
    ]
    found = [shlex.split(line[line.index("sonoshare ") :]) for line in lines]
    for _, *words in found:
        command: click.Command = cli
        while isinstance(command, click.Group):
            command = command.get_command(click.Context(command), words.pop(0))
            assert command is not None
    return found


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_a_coordinators_set_up_says_what_comes_next(place: Path) -> None:
    home = ["--home", "my c"]
    made = sonoshare("coordinator", "init", *home, "--consortium", "clinics")
    assert steps(made) == [["sonoshare", "coordinator", verb, *home] for verb in ("check", "start")]
    ports = ["--fleet", "127.0.0.1:19192", "--control", "127.0.0.1:19193", "--catalogue", "127.0.0.1:19194"]
    checked = sonoshare("coordinator", "check", *home, *ports)
    assert steps(checked) == [["sonoshare", "coordinator", "start", *home, *ports]]
    assert steps(sonoshare("coordinator", "check", *home, *ports, "--quiet")) == []
    keys = ("--identity-key", SigningKey.generate().public.hex, "--node-key", node_key())
    admitted = sonoshare("coordinator", "admit", *home, "--id", "west", *keys)
    assert "west is admitted: roster version 1\n" in admitted.stdout
    assert steps(admitted) == [["sonoshare", "coordinator", "status", *home]]


def test_a_hospitals_set_up_says_what_comes_next(place: Path) -> None:
    home = ["--home", "my node"]
    made = sonoshare("hospital", "init", *home, "--id", "west", "--patients", "50")
    assert steps(made) == [["sonoshare", "hospital", "ingest", "FOLDER", *home]]
    assert steps(sonoshare("hospital", "init", "--home", "other", "--id", "west", "--quiet")) == []
