"""What the documents tell people to type exists: every ``sonoshare`` command in a box, with each of its options.

All boxes of the tutorial are typed for real by ``python -m benchmarks.tutorial``, which takes minutes.
"""

import re
from pathlib import Path

import click
import pytest
from benchmarks.tutorial import NotSeenError, Typed, boxes, copied, require_seen

from sonoshare_deploy.cli.main import cli

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")), *sorted((ROOT / "docs" / "how-to").glob("*.md"))]
TUTORIAL = (ROOT / "docs" / "tutorial.md").read_text(encoding="utf-8")


def documented(page: Path) -> list[str]:
    """Commands that stand in a page's boxes, each on one line and without its remark."""
    commands = []
    for box in re.findall(r"^```(?:sh)?\n(.*?)^```$", page.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE):
        for line in box.replace("\\\n", " ").splitlines():
            said = re.search(r"(?:^|\| |exec |\$ )(sonoshare [^#|>]*)", line)
            if said:
                commands.append(said[1].strip())
    return commands


def command_of(words: list[str]) -> tuple[click.Command, list[str]]:
    """The command that the words call, and what is left of them."""
    found: click.Command = cli
    while isinstance(found, click.Group) and words and not words[0].startswith("-"):
        below = found.get_command(click.Context(found), words[0])
        if below is None:
            break
        found, words = below, words[1:]
    return found, words


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_every_documented_command_and_option_exists(page: Path) -> None:
    for line in documented(page):
        command, rest = command_of(line.split()[1:])
        assert not isinstance(command, click.Group) or command.invoke_without_command, f"{line}: no such command"
        known = {name for parameter in command.params for name in (*parameter.opts, *parameter.secondary_opts)}
        for word in rest:
            if word.startswith("--") and len(word) > 2:
                assert word.partition("=")[0].rstrip("]") in known | {"--help"}, f"{line}: no option {word}"


def test_all_boxes_of_the_tutorial_are_typed_and_held() -> None:
    assert len(boxes(TUTORIAL)) == TUTORIAL.count("\n```sh\n") == TUTORIAL.count("\n```text\n")


def test_what_is_not_seen_or_out_of_order_is_told() -> None:
    box = Typed("step", "", ("study: s1", "spent epsilon 5.54… of 20"))
    require_seen(box, "study: s1\nhello\nspent epsilon 5.544 of 20\n")
    for output in ("study: s1\n", "spent epsilon 5.544 of 20\nstudy: s1\n", "study: s1\nspent epsilon 6.0 of 20\n"):
        with pytest.raises(NotSeenError, match="was not seen"):
            require_seen(box, output)


def test_a_reader_copies_what_was_printed_last() -> None:
    printed = "root key    fingerprint 0000000000000000: tell\nroot key   fingerprint bea9b1b9a5bedfd5 (as told)\n"
    assert copied("join --root-fingerprint ROOT", printed) == "join --root-fingerprint bea9b1b9a5bedfd5"
