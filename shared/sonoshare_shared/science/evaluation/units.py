"""Figures that take hours, kept one by one in a folder, so that work goes on where it stopped.

A folder belongs to one *pinned* description (settings, digests of inputs): another one is refused. A unit is a JSON
file, written whole or not at all; one that is there is never made again.
"""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from sonoshare_shared.errors import InputError
from sonoshare_shared.state import read_state, write_state

PINNED = "settings.json"


class Units:
    """A folder of finished units.

    Args:
        folder: made if absent.
        pinned: what fixes the figures, JSON-able.
        compute: False only reads what is there.
        say: told the name of each unit before it is made.

    Raises:
        InputError: the folder belongs to something else.
    """

    def __init__(
        self,
        folder: Path,
        pinned: Mapping[str, Any],
        *,
        compute: bool = True,
        say: Callable[[str], None] = lambda _: None,
    ) -> None:
        self.folder, self.computes, self._say = folder, compute, say
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / PINNED
        if not path.exists():
            write_state(path, dict(pinned))
        elif read_state(path, dict[str, Any], remedy="give an empty work folder") != json.loads(json.dumps(pinned)):
            raise InputError("the work folder holds figures of other settings", remedy="give an empty work folder")

    def get(self, name: str, make: Callable[[], dict[str, Any]]) -> dict[str, Any] | None:
        """The unit of that name, made if need be; None where it is missing and this only reads."""
        path = self.folder / f"{name}.json"
        if path.exists():
            return read_state(path, dict[str, Any], remedy="remove it: it is made again")
        if not self.computes:
            return None
        self._say(name)
        value = make()
        write_state(path, value)
        return value

    def file(self, name: str, make: Callable[[Path], None]) -> Path:
        """Path of a file that ``make`` writes whole (tensors, a picture), made if need be."""
        path = self.folder / name
        if not path.exists():
            self._say(path.stem)
            make(path)
        return path
