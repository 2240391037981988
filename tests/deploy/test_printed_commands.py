"""Commands that the program prints: each exists with its options, and can be pasted where the reader is."""

import ast
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from sonoshare_deploy.cli.typed import named_commands, typed

ROOT = Path(__file__).parents[2]
PACKAGES = ("shared", "privacy", "client", "server", "deploy")
HALF = re.compile(r"['(: ](?:run |run: |see |see: )?'(?:hospital|coordinator) [a-z]")


def written() -> Iterator[tuple[str, str]]:
    """Every text of the sources that names a command: where it stands, and the text; values are X."""
    for package in PACKAGES:
        for path in sorted((ROOT / package).rglob("*.py")):
            source = path.read_text(encoding="utf-8")
            if "sonoshare " not in source and "'hospital " not in source and "'coordinator " not in source:
                continue
            within: set[int] = set()
            for node in ast.walk(ast.parse(source)):
                if isinstance(node, ast.JoinedStr):
                    within.update(map(id, node.values))
                    parts = (str(v.value) if isinstance(v, ast.Constant) else "X" for v in node.values)
                    yield f"{path.name}:{node.lineno}", "".join(parts)
                elif isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in within:
                    yield f"{path.name}:{node.lineno}", node.value


def test_every_printed_command_exists_with_its_options_and_is_named_whole() -> None:
    found, wrong = 0, []
    for where, text in written():
        if HALF.search(text):
            wrong.append(f"{where}: without the program's name: {text[:80]}")
        for named in named_commands(text):
            found += 1
            known = {name for p in named.command.params for name in (*p.opts, *p.secondary_opts)}
            options = {word.partition("=")[0] for word in named.words if word.startswith("--")}
            verbs = " ".join(named.verbs)
            wrong += [f"{where}: {verbs} has no {option}" for option in options - known - {"--help"}]
            arguments = [p for p in named.command.params if isinstance(p, click.Argument)]
            is_one = not isinstance(named.command, click.Group)
            if is_one and len(named.values()) > len(arguments) and all(p.nargs == 1 for p in arguments):
                wrong.append(f"{where}: {verbs} takes {len(arguments)} arguments")
    assert wrong == []
    assert found > 90


RENEW = "run: sonoshare coordinator renew --host fed"


@pytest.mark.parametrize(
    ("text", "arguments", "pasted"),
    [
        (RENEW, "coordinator invite --home C", "run: sonoshare coordinator renew --home C --host fed"),
        (RENEW, "coordinator invite --home=C", "run: sonoshare coordinator renew --home C --host fed"),
        (RENEW, "hospital check --home N", RENEW),  # for another machine
        ("run 'sonoshare hospital init' first", "hospital status --home N",
         "run 'sonoshare hospital init --home N --id HOSPITAL_ID' first"),
        ("sonoshare coordinator renew --roster; send it to all", "coordinator check --home C",
         "sonoshare coordinator renew --home C --roster; send it to all"),
        ("see: sonoshare hospital keys", "hospital check --home N", "see: sonoshare hospital keys --home N"),
        ("sonoshare hospital approve", "hospital studies --home N", "sonoshare hospital approve --home N STUDY"),
        ("sonoshare verify /a/b.json --roster r.json", "hospital status --home N",
         "sonoshare verify /a/b.json --roster r.json"),
        ("sonoshare hospital enrol --home N --roster R", "hospital join x --home N",
         "sonoshare hospital enrol --home N --roster R"),
        ("/opt/bin/sonoshare hospital check", "hospital join --home N", "/opt/bin/sonoshare hospital check"),
        ("sonoshare coordinator release work --name r1 --coordinator-key KEY", "coordinator release draw --home C",
         "sonoshare coordinator release work --name r1 --coordinator-key KEY"),
        ("sonoshare is made for hospitals", "hospital check --home N", "sonoshare is made for hospitals"),
    ],
)  # fmt: skip
def test_a_command_in_a_text_can_be_pasted_where_the_reader_is(
    monkeypatch: pytest.MonkeyPatch, text: str, arguments: str, pasted: str
) -> None:
    monkeypatch.setattr(sys, "argv", ["sonoshare", *arguments.split()])
    assert typed(text) == pasted


def test_quotes_around_a_command_do_not_nest(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["sonoshare", "hospital", "status", "--home", "Kö ord"])
    told = typed("(run 'sonoshare hospital twins' first)")
    assert told == "(run \"sonoshare hospital twins --home 'Kö ord'\" first)"
    monkeypatch.setattr(sys, "argv", ["sonoshare", "hospital", "status", "--home", "N"])
    assert typed("(run 'sonoshare hospital twins' first)") == "(run 'sonoshare hospital twins --home N' first)"


def test_a_cohort_and_a_study_are_asked_for_by_what_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["sonoshare", "coordinator", "status", "--home", "C"])
    assert "--cohort ID=PATIENTS" in typed("run: sonoshare coordinator study create")
    assert "--study STUDY" in typed("run: sonoshare coordinator release create")


def test_the_program_is_named_as_it_was_started_and_blanks_are_quoted(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    started = tmp_path / "my env" / "sonoshare"
    started.parent.mkdir()
    started.touch()
    monkeypatch.setattr(sys, "argv", [str(started), "hospital", "check", "--home", "my node"])
    assert typed("see: sonoshare hospital keys") == f"see: '{started}' hospital keys --home 'my node'"


@pytest.mark.parametrize("role", ["hospital", "coordinator"])
def test_every_command_on_a_page_of_a_console_is_told_as_it_can_be_pasted(role: str) -> None:
    folder = ROOT / f"deploy/sonoshare_deploy/{role}_console/templates"
    pages = {path.name: path.read_text(encoding="utf-8") for path in folder.glob("*.j2")}
    told = {name: re.sub(r'\{\{ "[^"]*" \| told \}\}', "", page) for name, page in pages.items()}
    assert [name for name, page in told.items() if named_commands(page)] == []
    assert sum(page.count("| told") for page in pages.values()) > 5
