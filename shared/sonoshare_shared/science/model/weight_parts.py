"""A safetensors file as parts: consecutive pieces of it, each a file of at most 16 MiB, and an index that names them.

Example: ``base-medium.safetensors`` (52 MiB) becomes ``base-medium.safetensors.000`` to ``.003`` and ``index.json``.
For channels that take small files only, and for writes of which a killed process must leave nothing half. The joined
parts are the file to the last byte, so the digest that a plan pins is the same.

Promises: a file that comes out of parts has the size and sha256 that the index names, and so has every part; what is
missing, damaged or of another size is refused by name. A part's name is one component of a path. An index is small and
is not signed: whoever needs to know who made the file compares its digest with one from elsewhere.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Final, Literal

from pydantic import Field

from sonoshare_shared.durable import put
from sonoshare_shared.errors import InputError, IntegrityError
from sonoshare_shared.protocol.canonical import sha256_hex
from sonoshare_shared.protocol.documents.base import Document, HexDigest

PART_BYTES: Final = 16 << 20
"""Most bytes of a part."""
INDEX: Final = "index.json"
_MOST_PARTS: Final = 1000
_MOST_BYTES: Final = 4 << 30
_MOST_INDEX_BYTES: Final = 1 << 20
_FILE_NAME: Final = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$"

FileName = Annotated[str, Field(pattern=_FILE_NAME)]


class Part(Document):
    """One piece.

    Attributes:
        name: of its file, beside the index.
        size: bytes.
        sha256: of its bytes.
    """

    name: FileName
    size: Annotated[int, Field(ge=1, le=PART_BYTES)]
    sha256: HexDigest


class PartsIndex(Document):
    """What a file was cut into.

    Attributes:
        name: of the whole file.
        size: bytes.
        sha256: of the whole file.
        parts: in order.
        about: what else its maker says of it; texts by name.
    """

    schema_: Literal["sonoshare/parts/v1"] = Field(default="sonoshare/parts/v1", alias="schema")
    name: FileName
    size: Annotated[int, Field(ge=1, le=_MOST_BYTES)]
    sha256: HexDigest
    parts: Annotated[tuple[Part, ...], Field(min_length=1, max_length=_MOST_PARTS)]
    about: dict[str, str] = Field(default_factory=dict)


def put_parts(
    folder: Path, name: str, data: bytes, about: Mapping[str, str] | None = None, most: int = PART_BYTES
) -> PartsIndex:
    """Write a file's parts and their index into a folder that is being built.

    Args:
        folder: see `durable.appearing`.
        name: of the whole file.
        data: its bytes, not empty.
        about: texts for the index.
        most: bytes of a part, at most `PART_BYTES`.

    Raises:
        OSError: a part cannot be written.
    """
    parts = []
    for number, first in enumerate(range(0, len(data), most)):
        piece = data[first : first + most]
        part = Part(name=f"{name}.{number:03d}", size=len(piece), sha256=sha256_hex(piece))
        put(folder, part.name, piece)
        parts.append(part)
    index = PartsIndex(name=name, size=len(data), sha256=sha256_hex(data), parts=tuple(parts), about=dict(about or {}))
    put(folder, INDEX, index.canonical())
    return index


def read_index(folder: Path) -> PartsIndex:
    """The index of a folder of parts.

    Raises:
        InputError: there is none.
        IntegrityError: it is not an index, or one of a newer version.
    """
    path = folder / INDEX
    try:
        with path.open("rb") as file:
            data = file.read(_MOST_INDEX_BYTES + 1)
    except OSError as error:
        raise InputError(f"{folder.name} holds no {INDEX}", remedy="name a folder of parts, or a whole file") from error
    if len(data) > _MOST_INDEX_BYTES:
        raise IntegrityError(f"{INDEX} is too large", remedy="fetch it again")
    index = PartsIndex.from_bytes(data)
    if sum(part.size for part in index.parts) != index.size:
        raise IntegrityError(f"the parts of {INDEX} do not make up its file", remedy="fetch it again")
    return index


def joined_parts(folder: Path) -> tuple[PartsIndex, bytes]:
    """The index of a folder of parts, and the whole file's bytes.

    Raises:
        InputError: there is no index, or a part is missing.
        IntegrityError: a part, or the whole, is not what the index says.
    """
    index = read_index(folder)
    pieces = []
    for part in index.parts:
        path = folder / part.name
        try:
            with path.open("rb") as file:
                piece = file.read(part.size + 1)
        except OSError as error:
            raise InputError(f"part {part.name} is missing", remedy="put all parts beside their index") from error
        if len(piece) != part.size or sha256_hex(piece) != part.sha256:
            raise IntegrityError(f"part {part.name} is not the one that is listed", remedy="fetch it again")
        pieces.append(piece)
    data = b"".join(pieces)
    if sha256_hex(data) != index.sha256:
        raise IntegrityError("the joined parts are not the file that is listed", remedy="fetch them all again")
    return index, data
