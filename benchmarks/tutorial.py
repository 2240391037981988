"""Types what docs/tutorial.md says, and holds what comes against what the page says one should see.

    python -m benchmarks.tutorial [--work DIR] [--json]

Boxes marked ``sh`` are typed into one shell, in order; the box marked ``text`` after each must be seen, line by line in
this order, with any lines between (``…`` stands for anything). ROOT, NORTH, SOUTH and TOKEN are what a reader copies
from what was printed. Everything is real, and takes about seven minutes on two busy cores, and
ports 9092, 9093 and 8080.

Prints one JSON object as the last line of stdout: seconds of each step and in all. Exit status 1 where the page is
wrong, with what was not seen.
"""

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

PAGE: Final = Path(__file__).resolve().parents[1] / "docs" / "tutorial.md"
BOX: Final = r"^```sh\n(.*?)^```\n\n^```text\n(.*?)^```$"
COLUMNS: Final = "100"
# What a reader copies from the terminal, by the word that stands for it on the page.
COPIED: Final = {
    "ROOT": r"root key +fingerprint (\w{16})",
    "NORTH": r"north-request\.json.*\ntell them +fingerprint (\w{16})",
    "SOUTH": r"south-request\.json.*\ntell them +fingerprint (\w{16})",
    "TOKEN": r'"token": ?"([^"]+)"',
}


class NotSeenError(Exception):
    """The page promises a line that did not come."""


@dataclass(frozen=True)
class Typed:
    """A box of commands and what should be seen after it.

    Attributes:
        step: heading that it stands under.
        commands: what is typed.
        seen: lines to be seen, in order; ``…`` stands for anything.
    """

    step: str
    commands: str
    seen: tuple[str, ...]


def boxes(page: str) -> list[Typed]:
    """The page's boxes of commands, each with the box of output that follows it."""
    found: list[Typed] = []
    for section in re.split(r"^## ", page, flags=re.MULTILINE)[1:]:
        step = section.partition("\n")[0]
        for commands, seen in re.findall(
            r"^```sh\n(.*?)^```\n\n^```text\n(.*?)^```$", section, re.DOTALL | re.MULTILINE
        ):
            found.append(Typed(step, commands, tuple(seen.splitlines())))
    return found


def require_seen(box: Typed, output: str) -> None:
    """Hold what came against the page.

    Raises:
        NotSeenError: a line is missing, or does not come after the one before.
    """
    lines = iter(output.splitlines())
    for promised in box.seen:
        pattern = ".*".join(re.escape(part) for part in promised.rstrip().split("…"))
        if not any(re.fullmatch(pattern, line.rstrip()) for line in lines):
            raise NotSeenError(f"{box.step}: {promised!r} was not seen; what came:\n{output}")


def copied(text: str, printed: str) -> str:
    """Commands with what a reader copies from the terminal in the place of the words that stand for it.

    Raises:
        NotSeenError: nothing like it was printed.
    """
    for word, pattern in COPIED.items():
        if re.search(rf"\b{word}\b", text):
            shown = re.findall(pattern, printed)
            if not shown:
                raise NotSeenError(f"nothing was printed that could stand for {word}")
            text = re.sub(rf"\b{word}\b", shown[-1], text)
    return text


class Terminal:
    """One shell, as a reader has it; what it starts in the background belongs to it."""

    def __init__(self, work: Path, variables: Mapping[str, str]) -> None:
        """Open it in ``work``."""
        self._shell = subprocess.Popen(
            ["/bin/bash", "--norc"],
            cwd=work,
            env=dict(variables),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )

    def type(self, commands: str) -> str:
        """Run them, and return what was printed."""
        end = f"--end-{time.monotonic_ns()}"
        if self._shell.stdin is None or self._shell.stdout is None:
            raise RuntimeError("the shell has no pipes")
        self._shell.stdin.write(f"{commands}\necho; echo {end}\n")
        self._shell.stdin.flush()
        lines: list[str] = []
        for line in self._shell.stdout:
            if line.strip() == end:
                break
            lines.append(line)
        return "".join(lines)

    def close(self) -> None:
        """End what is left of it: roles stop in order when they are told to."""
        self.type("kill $(jobs -p) 2>/dev/null; wait")
        self._shell.communicate("exit\n")


def follow(work: Path) -> dict[str, float]:
    """Type the whole page in an empty folder; seconds by step.

    Raises:
        NotSeenError: the page promises what does not come.
    """
    terminal = Terminal(
        work,
        os.environ
        | {"COLUMNS": COLUMNS, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}", "OMP_NUM_THREADS": "1"},
    )
    seconds: dict[str, float] = {}
    printed = ""
    try:
        for box in boxes(PAGE.read_text(encoding="utf-8")):
            start = time.monotonic()
            output = terminal.type(copied(box.commands, printed))
            printed += output
            seconds[box.step] = round(seconds.get(box.step, 0.0) + time.monotonic() - start, 1)
            print(f"{box.step}: {seconds[box.step]} s", file=sys.stderr)
            require_seen(box, output)
    finally:
        terminal.close()
    return seconds


def main() -> int:
    """Type the page."""
    parser = argparse.ArgumentParser(description="Type docs/tutorial.md")
    parser.add_argument("--work", type=Path, help="empty folder; else a temporary one")
    parser.add_argument("--json", action="store_true", help="accepted for the sake of make bench")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        work = asked.work or Path(folder)
        work.mkdir(parents=True, exist_ok=True)
        try:
            seconds = follow(work)
        except NotSeenError as error:
            print(error, file=sys.stderr)
            return 1
    print(json.dumps({"seconds": round(sum(seconds.values())), "steps": seconds}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
