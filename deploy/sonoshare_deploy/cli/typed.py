"""Commands within a text, made so that they can be pasted where the reader is.

    run: sonoshare coordinator renew --host NAME
    run: .venv/bin/sonoshare coordinator renew --home '/srv/my fed' --host NAME

Layers below write ``sonoshare VERB``: they know neither how the program was started nor in which folder. Both stand in
the command line that runs, so this adds them when a text is printed: the program, the role's folder, and in capitals
what the command needs and only the reader knows. A command of another role is for another machine, and stays as it is.

Promise: no other character of a text is changed, but single quotes around a command that now holds some itself: those
become double ones.
"""

import re
import shlex
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import click

from sonoshare_deploy.cli.pasted import NAME, program

ROLES: Final = frozenset({"hospital", "coordinator"})
_NAMED: Final = re.compile(rf"(?<![\w/.@-]){NAME} (?=[a-z])")
_WORD: Final = re.compile(r" ('[^']*'|[^\s'\"`;,()]+)")
_HOME: Final = "--home"
_ELSEWHERE: Final = frozenset({("coordinator", "release", "work")})
"""Commands that are always typed on another machine, where the program is started otherwise."""


@dataclass(frozen=True)
class Named:
    """A command that a text names.

    Attributes:
        start: where it begins in the text.
        verbs_end: where its verbs end.
        end: where the last word that belongs to it ends.
        verbs: its verbs, from the noun on.
        command: the command.
        words: what follows the verbs: options, their values, words in capitals.
    """

    start: int
    verbs_end: int
    end: int
    verbs: tuple[str, ...]
    command: click.Command
    words: tuple[str, ...]

    @property
    def missing(self) -> tuple[str, ...]:
        """What it needs and is not given, in capitals; the folder as ``--home``."""
        given = {word.partition("=")[0] for word in self.words}
        lacking: list[str] = []
        for parameter in self.command.params:
            of_role = self.verbs[0] in ROLES and _HOME in parameter.opts  # a group that is a command asks for it itself
            if not parameter.required and not of_role:
                continue
            name = _placeholder(parameter)
            if isinstance(parameter, click.Option):
                if not given.intersection(parameter.opts):
                    lacking += [parameter.opts[0], name]
            elif not self.values():
                lacking.append(name)
        return tuple(lacking)

    def values(self) -> tuple[str, ...]:
        """Words that are neither options nor values of options."""
        options = {name: p for p in self.command.params if isinstance(p, click.Option) for name in p.opts}
        found, value = [], False
        for word in self.words:
            if word.startswith("-"):
                option = options.get(word)
                value = option is not None and not option.is_flag and not option.count
            else:
                if not value:
                    found.append(word)
                value = False
        return tuple(found)


def _placeholder(parameter: click.Parameter) -> str:
    """What stands in the place of a value: as the command's help has it, where that is in capitals."""
    shown = getattr(parameter, "metavar", None)
    return str(shown) if shown and shown.isupper() else (parameter.name or "").removesuffix("_path").upper()


def named_commands(text: str) -> list[Named]:
    """Commands of this program that a text names, in its order."""
    return [named for match in _NAMED.finditer(text) if (named := _named(text, match.start(), match.end() - 1))]


def _named(text: str, start: int, position: int) -> Named | None:
    from sonoshare_deploy.cli.main import cli  # noqa: PLC0415 - main prints through this module

    found: click.Command = cli
    verbs: list[str] = []
    while isinstance(found, click.Group) and (word := _WORD.match(text, position)):
        below = found.get_command(click.Context(found), word[1].rstrip(".:"))
        if below is None:
            break
        found, position = below, word.start(1) + len(word[1].rstrip(".:"))
        verbs.append(word[1].rstrip(".:"))
    if not verbs:
        return None
    end, words = _rest(text, position, found)
    return Named(start, position, end, tuple(verbs), found, words)


def _rest(text: str, position: int, command: click.Command) -> tuple[int, tuple[str, ...]]:
    """Options, their values and words in capitals, as far as they follow."""
    flags = {name for p in command.params if isinstance(p, click.Option) and p.is_flag for name in p.opts}
    words: list[str] = []
    while word := _WORD.match(text, position):
        said = word[1].rstrip(".:")
        after_option = bool(words) and words[-1].startswith("--") and words[-1] not in flags
        is_value = after_option or "/" in said or text.startswith(" --", word.end())
        if not said or not (said.startswith("--") or said.isupper() or is_value):
            break
        words.append(said)
        position = word.start(1) + len(said)
    return position, tuple(words)


def typed(text: str, arguments: Sequence[str] | None = None) -> str:
    """A text whose commands can be pasted.

    Args:
        text: as it was written.
        arguments: of the command line that runs; this process's if absent.
    """
    if f"{NAME} " not in text:
        return text
    asked = sys.argv[1:] if arguments is None else arguments
    here = next((word for word in asked if word in ROLES), None)
    for named in reversed(named_commands(text)):
        if named.verbs in _ELSEWHERE or (named.verbs[0] in ROLES and named.verbs[0] != here):
            continue
        missing = list(named.missing)
        if _HOME in missing:
            at = missing.index(_HOME)
            del missing[at : at + 2]
            missing[:0] = [_HOME, shlex.quote(home)] if (home := _home(asked)) is not None else [_HOME, "DIR"]
        added = "".join(f" {word}" for word in missing)
        middle = text[named.start + len(NAME) : named.verbs_end]
        command = program() + middle + added + text[named.verbs_end : named.end]
        text = _set_in(text[: named.start], command, text[named.end :])
    return text


def _set_in(before: str, command: str, after: str) -> str:
    """A command between what stands before and behind it; quotes of one kind do not nest."""
    if before.endswith("'") and after.startswith("'") and "'" in command:
        return f'{before[:-1]}"{command}"{after[1:]}'
    return before + command + after


def _home(arguments: Sequence[str]) -> str | None:
    for index, word in enumerate(arguments):
        if word == _HOME and index + 1 < len(arguments):
            return arguments[index + 1]
        if word.startswith(f"{_HOME}="):
            return word.partition("=")[2]
    return None
