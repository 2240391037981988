"""What holds for every command: the tree is walked, so a command that is added is held too."""

from inspect import cleandoc
from pathlib import Path

import click
import pytest
from click.shell_completion import get_completion_class
from tests.deploy.command import sonoshare

from sonoshare_deploy.cli.main import cli
from sonoshare_deploy.cli.reference import leaves, page
from sonoshare_deploy.cli.typed import named_commands

COMMANDS = dict(leaves())
REFERENCE = Path(__file__).parents[2] / "docs" / "reference" / "commands.md"

# These run until they are interrupted, or print a script: there is no result to give as JSON.
WITHOUT_JSON = {"sonoshare hospital receive", "sonoshare hospital start", "sonoshare coordinator start"}
WITHOUT_JSON |= {"sonoshare completion", "sonoshare coordinator console", "sonoshare hospital console"}


def test_the_reference_is_current() -> None:
    assert REFERENCE.read_text(encoding="utf-8") == page(), "python -m sonoshare_deploy.cli.reference > that file"


def test_every_command_with_a_result_prints_json() -> None:
    without = {words for words, command in COMMANDS.items() if all("--json" not in p.opts for p in command.params)}
    assert without == WITHOUT_JSON


def test_every_number_has_a_range() -> None:
    bare = [
        f"{words} {parameter.name}"
        for words, command in COMMANDS.items()
        for parameter in command.params
        if type(parameter.type) in (click.types.IntParamType, click.types.FloatParamType)
    ]
    assert bare == []


def test_every_option_says_what_it_is() -> None:
    silent = [
        f"{words} {parameter.name}"
        for words, command in COMMANDS.items()
        for parameter in command.params
        if isinstance(parameter, click.Option) and not parameter.hidden and not parameter.help
    ]
    assert silent == []


@pytest.mark.parametrize(
    ("group", "first", "later"),
    [("hospital", "init", "approve"), ("coordinator study", "create", "run"), ("evaluate", "tstr", "readers")],
)
def test_verbs_stand_in_the_order_of_work(group: str, first: str, later: str) -> None:
    listed = sonoshare(*group.split(), "--help").stdout.partition("Commands:")[2].splitlines()
    verbs = [line.split()[0] for line in listed if line.strip()]
    assert verbs[0] == first
    assert verbs.index(first) < verbs.index(later)


@pytest.mark.parametrize("shell", ["zsh", "fish"])
def test_a_shell_is_given_its_completion_script(shell: str) -> None:
    run = sonoshare("completion", shell)
    assert run.returncode == 0
    assert f"_SONOSHARE_COMPLETE={shell}_complete" in run.stdout


def test_completion_answers_with_commands() -> None:
    completes = get_completion_class("fish")
    assert completes is not None
    answers = completes(cli, {}, "sonoshare", "_SONOSHARE_COMPLETE").get_completions([], "hosp")
    assert [answer.value for answer in answers] == ["hospital"]


def test_every_command_s_help_has_an_example_that_is_whole_and_is_not_wrapped() -> None:
    wrong = []
    for words, command in COMMANDS.items():
        example = next((line for line in cleandoc(command.help or "").splitlines() if line.startswith("Example: ")), "")
        named = named_commands(example)
        options = {word.partition("=")[0] for one in named for word in one.words if word.startswith("--")}
        known = {name for one in named for p in one.command.params for name in p.opts}
        missing = [one for each in named for one in each.missing if one.startswith("--")]
        whole = len(named) == 1 and options <= known and not missing
        if not whole or len(example) > 76:
            wrong.append(f"{words}: {example}")
    assert wrong == []
