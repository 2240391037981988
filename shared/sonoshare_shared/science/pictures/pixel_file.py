"""Where the pixel data of a DICOM file lies, read piece by piece: a clip of gigabytes is never in memory.

Promise: memory grows with the number of frames by some bytes each, and with the one piece asked for. Offset tables are
not believed: the items themselves are walked, of each its header and its first bytes. What a file promises beyond its
end is not there.
"""

import os
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO, Final

from sonoshare_shared.science.pictures.reasons import Reason, Refused

PIXEL_DATA: Final = (0x7FE0, 0x0010)
_ITEM: Final = (0xFFFE, 0xE000)
_END: Final = (0xFFFE, 0xE0DD)
_UNDEFINED: Final = 0xFFFFFFFF
_LONG: Final = frozenset({b"OB", b"OW", b"UN"})
_MOST_FRAGMENTS: Final = 1 << 16
"""Of an object; more are an attack, of which each costs memory though it is empty. 20 minutes at 50 frames a second."""


@dataclass(frozen=True, eq=False)
class FileBytes:
    """Part of an open file.

    Attributes:
        file: open for as long as this is used; nobody else moves in it meanwhile.
        start: first byte.
        length: bytes.
    """

    file: BinaryIO
    start: int
    length: int

    def part(self, start: int, size: int) -> bytes:
        """At most ``size`` bytes from ``start`` on, fewer at the end."""
        self.file.seek(self.start + start)
        return self.file.read(max(0, min(size, self.length - start)))


@dataclass(frozen=True, eq=False)
class PixelElement:
    """The pixel data element.

    Attributes:
        value: its bytes, as far as the file goes.
        words: its VR is OW.
        encapsulated: its length is undefined: it is made of items.
    """

    value: FileBytes
    words: bool
    encapsulated: bool


def pixel_element(file: BinaryIO, *, implicit: bool, big: bool) -> PixelElement | None:
    """The pixel data element that a file stands at; None where it stands at another or at its end.

    Args:
        file: at the start of an element.
        implicit: elements have no VR.
        big: they are big endian.
    """
    order = ">" if big else "<"
    head = file.read(8)
    if len(head) < 8 or struct.unpack(f"{order}HH", head[:4]) != PIXEL_DATA:
        return None
    kind = head[4:6]
    if implicit or not kind.isalpha():
        (length,) = struct.unpack(f"{order}L", head[4:])
    elif kind in _LONG:
        (length,) = struct.unpack(f"{order}L", file.read(4))
    else:
        raise Refused(Reason.BROKEN)
    start = file.tell()
    there = file.seek(0, os.SEEK_END) - start
    return PixelElement(FileBytes(file, start, min(length, there)), kind == b"OW", length == _UNDEFINED)


def fragments(value: FileBytes) -> Iterator[FileBytes]:
    """The items of encapsulated pixel data after the offset table, as far as they are there.

    Raises:
        Refused: there is something else between them, or they are more than any clip has.
    """
    place, number = 0, -1
    while len(head := value.part(place, 8)) == 8:
        group, element, length = struct.unpack("<HHL", head)
        if (group, element) == _END:
            return
        if (group, element) != _ITEM or length == _UNDEFINED:
            raise Refused(Reason.BROKEN)
        if number >= _MOST_FRAGMENTS:
            raise Refused(Reason.TOO_LARGE)
        place += 8
        if number >= 0:
            yield FileBytes(value.file, value.start + place, min(length, max(0, value.length - place)))
        place += length
        number += 1
