"""``--device``: on every command that computes, said before and in the result, refused where it is not there."""

import json
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
import torch
from tests.deploy.command import sonoshare
from tests.deploy.labelled_folders import pictures

from sonoshare_client.node.home import NodeHome
from sonoshare_deploy.cli.main import NOUNS, cli
from sonoshare_shared.science.device import CPU, device_words

COMPUTING = {
    "audit",
    "base check",
    "base train",
    "coordinator ballot",
    "coordinator release create",
    "coordinator release draw",
    "coordinator study create",
    "demo",
    "evaluate scaling",
    "evaluate shortcut",
    "evaluate tstr",
    "hospital ingest",
    "hospital init",
    "hospital look",
    "hospital start",
    "hospital twins",
}


def with_device(command: click.Command, path: tuple[str, ...] = ()) -> Iterator[str]:
    if isinstance(command, click.Group):
        context = click.Context(command)
        for name in NOUNS if command is cli else command.list_commands(context):
            found = command.get_command(context, name)
            assert found is not None
            yield from with_device(found, (*path, name))
    elif any("--device" in parameter.opts for parameter in command.params):
        yield " ".join(path)


def test_every_command_that_computes_takes_a_device() -> None:
    assert set(with_device(cli)) >= COMPUTING


@pytest.fixture
def no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)


@pytest.mark.usefixtures("no_gpu")
def test_what_was_chosen_is_said_before_and_in_the_result(tmp_path: Path) -> None:
    synthetic, real = (pictures(tmp_path / name, n=16) for name in ("synthetic", "real"))
    sets = ("--synthetic", synthetic, "--real", real, "--seeds", 1, "--steps", 1, "--size", 32)
    run = sonoshare("evaluate", "tstr", *sets, "--json")
    assert run.returncode == 0, run.stderr
    assert run.stderr.splitlines()[0] == f"device: {device_words(CPU)}"
    assert json.loads(run.stdout.splitlines()[-1])["device"] == device_words(CPU)


@pytest.mark.usefixtures("no_gpu")
def test_a_device_that_is_not_here_is_refused_before_anything_is_read(tmp_path: Path) -> None:
    run = sonoshare("coordinator", "ballot", "--out", tmp_path / "ballot", "--device", "cuda:1")
    assert run.returncode == 1
    assert len(run.errors) == 1
    assert run.errors[0].startswith("error: cuda:1 is asked for, and there is no CUDA device here (")
    assert list(tmp_path.iterdir()) == []


def test_a_word_that_names_no_device_is_a_usage_error(tmp_path: Path) -> None:
    run = sonoshare("coordinator", "ballot", "--out", tmp_path / "ballot", "--device", "gpu")
    assert run.returncode == 2
    assert "'gpu' is none of auto|cpu|cuda[:N]." in run.stderr


@pytest.mark.usefixtures("no_gpu")
def test_a_node_computes_where_its_home_says_unless_the_command_says_otherwise(tmp_path: Path) -> None:
    node = tmp_path / "north"
    assert sonoshare("hospital", "init", "--home", node, "--id", "north", "--device", "cuda:1").returncode == 0
    assert NodeHome.open(node).device == "cuda:1"
    refused = sonoshare("hospital", "twins", "--home", node)
    assert refused.errors[0].startswith("error: cuda:1 is asked for, and there is no CUDA device here (")
    said = sonoshare("hospital", "twins", "--home", node, "--device", "cpu", "--json")
    assert json.loads(said.stdout.splitlines()[-1])["device"] == device_words(CPU)
