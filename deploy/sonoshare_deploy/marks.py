"""Knowing one's own processes again: a random mark in the environment, which every descendant inherits.

    SONOSHARE_TREE=4f1c...:9ab0...      the outermost tree first

A process number says little: it is given again to others. A mark of 64 random bits is borne by what was started under
it and by nothing else, whatever detached itself and whoever its parent is by now. So a command that was killed knows
its own leftovers when it is started again, and never ends a foreign process.

Not promised: that it finds a process whose environment this user may not read, or that emptied its own.
"""

import contextlib
import os
import secrets
import time
from collections.abc import Mapping
from typing import Final

import psutil

MARK_VARIABLE: Final = "SONOSHARE_TREE"
END_SECONDS: Final = 5.0
_SEPARATOR: Final = ":"


def new_mark() -> str:
    """A mark that nobody bears."""
    return secrets.token_hex(8)


def marked(environment: Mapping[str, str], mark: str) -> dict[str, str]:
    """An environment with one mark more."""
    marks = [*filter(None, [environment.get(MARK_VARIABLE)]), mark]
    return {**environment, MARK_VARIABLE: _SEPARATOR.join(marks)}


def bearers(mark: str) -> list[psutil.Process]:
    """The living processes that bear a mark, but for this one."""
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error, OSError):
            marks = process.environ().get(MARK_VARIABLE, "").split(_SEPARATOR)
            if mark in marks and process.pid != os.getpid():
                found.append(process)
    return found


def end_bearers(mark: str) -> list[str]:
    """Kill every process that bears a mark; returns one ``name (pid)`` for each.

    Only ``psutil`` kills here: it makes sure that the number still belongs to the process that was looked at.
    """
    ended: dict[int, str] = {}
    end = time.monotonic() + END_SECONDS
    while (found := bearers(mark)) and time.monotonic() < end:
        for process in found:
            with contextlib.suppress(psutil.Error):
                ended[process.pid] = f"{process.name()} ({process.pid})"
                process.kill()
        psutil.wait_procs(found, timeout=0.5)
    return list(ended.values())
