"""Commands that a command prints: to be pasted where the reader is.

    next: .venv/bin/sonoshare hospital enrol --home '/data/my node' --roster FILE

The program is written as the user has started it, paths with blanks are quoted, and what only the reader knows stands
in capitals.
"""

import shlex
import shutil
import sys
from pathlib import Path
from typing import Final

NAME: Final = "sonoshare"
_MODULE: Final = f"{shlex.quote(sys.executable)} -m sonoshare_deploy.cli.main"


def program() -> str:
    """How this program is called from here: ``sonoshare`` where that finds it, else as it was started."""
    started = sys.argv[0]
    if started == NAME:
        return NAME
    path = Path(started)
    if path.suffix == ".py" or not path.exists():
        return _MODULE
    found = shutil.which(NAME)
    if found is not None and path.samefile(found):
        return NAME
    return shlex.quote(started)


def pasted(*words: object) -> str:
    """One command line of this program, quoted for a shell."""
    return " ".join((program(), *(shlex.quote(str(word)) for word in words)))


def at_home(home: Path, *words: object) -> str:
    """The same, of a role's folder."""
    return pasted(*words, "--home", home)
