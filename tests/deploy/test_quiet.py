"""``--quiet``: the result alone. Whatever says more has it, and what has none says nothing else."""

import ast
from collections.abc import Iterator
from pathlib import Path
from types import CodeType, FunctionType
from typing import Any

import click
import pytest
from click.testing import CliRunner
from tests.deploy.command import sonoshare

from sonoshare_deploy.cli import output
from sonoshare_deploy.cli.output import emit, insist, note, progress_console, quiet_option
from sonoshare_deploy.cli.reference import leaves

SPEAKERS: set[object] = {output.progress_console, output.note, output.is_quiet}
# A service's log is its own to write.
SERVICES = {"sonoshare hospital start"}
# Their option is older, and says which findings are printed at all.
OF_ITS_OWN = {"sonoshare hospital check", "sonoshare coordinator check"}
CLI = Path(output.__file__).parent


def _codes(code: CodeType) -> Iterator[CodeType]:
    yield code
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _codes(constant)


def speaks(function: Any, seen: set[object] | None = None) -> bool:
    """Whether a command's function says more than its result, by itself or by what it calls in the command line."""
    seen = set() if seen is None else seen
    if (
        not isinstance(function, FunctionType)
        or function in seen
        or not function.__module__.startswith(output.__package__)
    ):
        return False
    seen.add(function)
    if function in SPEAKERS:
        return True
    names = {name for code in _codes(function.__code__) for name in code.co_names}
    return any(speaks(function.__globals__.get(name), seen) for name in names)


def test_what_says_more_than_its_result_has_quiet_and_nothing_else_has() -> None:
    commands = {words: command for words, command in leaves() if words not in OF_ITS_OWN | SERVICES}
    has = {words for words, command in commands.items() if any("--quiet" in p.opts for p in command.params)}
    assert has == {words for words, command in commands.items() if speaks(command.callback)}
    assert {"sonoshare evaluate tstr", "sonoshare coordinator release create", "sonoshare fetch"} <= has
    one = {
        words
        for words, command in commands.items()
        if any(p.name == "quiet" and p.expose_value for p in command.params)
    }
    assert one == set(), "the option is one, of output.py"


def test_nothing_but_output_writes_to_stderr() -> None:
    """Whoever wrote there past ``note`` and ``insist`` would not be quiet."""
    past = []
    for file in CLI.glob("*.py"):
        if file.name in {"output.py", "main.py"}:  # main prints errors
            continue
        for call in ast.walk(ast.parse(file.read_text())):
            if isinstance(call, ast.Call) and isinstance(call.func, ast.Attribute) and call.func.attr == "echo":
                past += [f"{file.name}:{call.lineno}" for word in call.keywords if word.arg == "err"]
    assert past == []


@click.command()
@quiet_option
def _measure() -> None:
    with progress_console().status("training"):
        progress_console().print("training 3 classifiers")
    note("note: not private")
    insist("warning: the log is old")
    emit({"auc": 0.5}, as_json=False)


@pytest.mark.parametrize("option", ["--quiet", "-q"])
def test_quiet_leaves_the_result_errors_and_warnings(option: str) -> None:
    run = CliRunner().invoke(_measure, [option])
    assert (run.stdout, run.stderr) == ("auc: 0.5\n", "warning: the log is old\n")
    loud = CliRunner().invoke(_measure, [])
    assert loud.stdout == run.stdout
    assert "training 3 classifiers\nnote: not private\n" in loud.stderr


def test_a_quiet_command_still_says_why_it_failed(tmp_path: Path) -> None:
    run = sonoshare("fetch", "r1", "--server", tmp_path / "none", "--out", tmp_path / "r1", "--quiet")
    assert (run.returncode, run.stdout) == (1, "")
    assert run.stderr.startswith("error: ")
    assert run.stderr.count("\n") == 1
