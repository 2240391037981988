"""Palettes of DICOM images: tables of colours by index (PS3.3 C.7.6.3.1.5, segmented: C.7.9.2).

The descriptor says how many entries there are, the first index and 8 or 16 bits. Writers disagree with it: entries of
8 bits stand in 16-bit words, in the high or the low byte, and tables of 8 bits are packed two to a word. Length and
values of the table tell.
"""

from collections.abc import Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from sonoshare_shared.science.pictures.reasons import Reason, Refused

_MOST_ENTRIES: Final = 1 << 16
_LIST, _LINE, _REPEAT = 0, 1, 2
"""Kinds of segments."""


def apply_palette(
    indices: NDArray[Any],
    tables: Sequence[bytes],
    descriptor: Sequence[int],
    *,
    segmented: bool,
    big: bool,
) -> NDArray[np.uint8]:
    """Colours of indices.

    Args:
        indices: [H, W].
        tables: red, green and blue, as stored.
        descriptor: number of entries (0 means 65536), first index, bits of an entry.
        segmented: tables are lists of segments.
        big: words are stored big endian.

    Returns:
        uint8 [H, W, 3].

    Raises:
        Refused: a table is not as described.
    """
    entries, first, bits = (int(value) for value in descriptor)
    entries = entries or _MOST_ENTRIES
    if not 0 < entries <= _MOST_ENTRIES or bits not in (8, 16):
        raise Refused(Reason.PALETTE)
    colours = [_entries(table, entries, bits, segmented=segmented, big=big) for table in tables]
    high = max(int(table.max()) for table in colours)
    shift = 8 if high > 0xFF else 0
    places = np.clip(indices.astype(np.int64) - first, 0, entries - 1)
    return np.stack([(table >> shift).astype(np.uint8)[places] for table in colours], axis=-1)


def _entries(table: bytes, entries: int, bits: int, *, segmented: bool, big: bool) -> NDArray[np.uint16]:
    """One colour's table, as many entries as described, in whatever depth they use."""
    word = np.dtype(">u2" if big else "<u2")
    if segmented:
        # Segments of 8-bit tables are packed to words like any other bytes.
        values = np.frombuffer(_unpacked(table, big=big), np.uint8) if bits == 8 else _words(table, word)
        found = _expanded(values.astype(np.int64), entries, bits // 8)
    elif len(table) >= 2 * entries:
        found = _words(table, word)[:entries].astype(np.int64)
    elif len(table) >= entries:
        found = np.frombuffer(_unpacked(table, big=big), np.uint8)[:entries].astype(np.int64)
    else:
        raise Refused(Reason.PALETTE)
    if len(found) != entries:
        raise Refused(Reason.PALETTE)
    return np.asarray(found, dtype=np.uint16)


def _words(table: bytes, word: np.dtype[np.uint16]) -> NDArray[np.uint16]:
    return np.frombuffer(table[: len(table) // 2 * 2], word)


def _unpacked(table: bytes, *, big: bool) -> bytes:
    """Bytes in order, of entries of 8 bits that are packed two to a word."""
    return np.frombuffer(table[: len(table) // 2 * 2], ">u2").astype("<u2").tobytes() if big else table


def _expanded(values: NDArray[np.int64], entries: int, width: int) -> NDArray[np.int64]:
    """Entries of a segmented table whose numbers are ``width`` bytes wide: lists (0), lines (1), repeats (2)."""
    parts: list[NDArray[np.int64]] = []
    place, last, count = 0, 0, 0
    while place + 2 <= len(values) and count < entries:
        if values[place] == _REPEAT:
            offset = sum(int(values[place + 2 + k]) << (8 * width * k) for k in range(4 // width))
            found, _ = _segments(values, offset // width, int(values[place + 1]), last)
            place += 2 + 4 // width
        else:
            found, place = _segments(values, place, 1, last)
        parts.append(found)
        count += len(found)
        last = int(found[-1]) if len(found) else last
    return np.concatenate(parts)[:entries] if parts else np.empty(0, np.int64)


def _segments(values: NDArray[np.int64], place: int, number: int, last: int) -> tuple[NDArray[np.int64], int]:
    """So many lists and lines from a place on, and the place behind them; repeats hold no repeats."""
    parts, count = [np.empty(0, np.int64)], 0
    for _ in range(number):
        code, length = int(values[place]), int(values[place + 1])
        if code == _LIST:
            parts.append(values[place + 2 : place + 2 + length])
            place += 2 + length
        elif code == _LINE:
            parts.append(np.rint(np.linspace(last, int(values[place + 2]), length + 1)[1:]).astype(np.int64))
            place += 3
        else:
            raise Refused(Reason.PALETTE)
        count += len(parts[-1])
        if not len(parts[-1]) or count > _MOST_ENTRIES:
            raise Refused(Reason.PALETTE)  # a small table can ask for endless work
        last = int(parts[-1][-1])
    return np.concatenate(parts), place
