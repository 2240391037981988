"""Small files of state, in JSON: written whole, and checked when they are read.

    write_state(home / "nodes.json", {"north": 17})
    nodes = read_state(home / "nodes.json", dict[str, int], remedy="put back its newest copy")

Promise: what is read is of the kind that was asked for. A file that is torn, of another program, or of another kind
is refused in one line with a remedy; nothing half-read goes on. Fields that this version does not know are ignored, so
that an older program reads what a newer one wrote.
Not promised: that the file says the truth. What a decision rests on is signed (``protocol.envelope``).
"""

from pathlib import Path
from typing import Any, TypeVar

from pydantic import TypeAdapter, ValidationError
from pydantic_core import to_json

from sonoshare_shared.durable import write_atomically
from sonoshare_shared.errors import IntegrityError

T = TypeVar("T")


def read_state(path: Path, kind: type[T], *, remedy: str) -> T:
    """Read a file of state.

    Args:
        path: the file.
        kind: dataclass, document, or container of plain values.
        remedy: what the user can do when the file is damaged.

    Raises:
        FileNotFoundError: there is none.
        IntegrityError: it is torn or foreign.
    """
    data = path.read_bytes()
    try:
        return TypeAdapter(kind).validate_json(data)
    except ValidationError as error:
        raise IntegrityError(f"{path.name} is damaged, or another program's", remedy=remedy) from error


def write_state(path: Path, value: Any) -> None:
    """Write a file of state, whole and durably.

    Raises:
        OSError: it could not be written; the old file is as it was.
    """
    write_atomically(path, state_bytes(value))


def state_bytes(value: Any) -> bytes:
    """A value as ``write_state`` writes it; for a file that has permissions of its own."""
    return to_json(value)
