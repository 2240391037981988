"""Ways to break a file, for ``benchmarks.intake_fuzz``: its bytes, a value of its header, a chunk, a cell.

The same generator gives the same files. What comes out may be sound: most of a picture can change without harm.
"""

import csv
import io
import random
import struct
import warnings
import zlib
from collections.abc import Callable, Sequence
from typing import Final

from pydicom import dcmread
from pydicom.dataset import Dataset, FileDataset
from pydicom.sequence import Sequence as Items
from pydicom.uid import UID

_PNG_START: Final = 8
_MOST_STEPS: Final = 4
_SYNTAXES: Final = (
    *("1.2.840.10008.1.2", "1.2.840.10008.1.2.1", "1.2.840.10008.1.2.2", "1.2.840.10008.1.2.5"),
    *(f"1.2.840.10008.1.2.4.{number}" for number in (50, 51, 57, 70, 80, 81, 90, 91, 100, 201, 202, 203)),
)
_NUMBERS: Final = (0, 1, 2, 3, 4, 7, 8, 9, 12, 15, 16, 17, 31, 32, 33, 127, 128, 255, 256, 257, 4095, 4096, 4097, 65535)
_WORDS: Final = (
    *("", " ", "\0", "0", "-1", "1\\2\\3", "1e999", "nan", "99999999999999999999", "A" * 70000, "é\u202e", "\x1b$B"),
    *("RGB", "YBR_FULL", "YBR_FULL_422", "YBR_ICT", "PALETTE COLOR", "MONOCHROME1", "MONOCHROME2", "YES", "INVERSE"),
    *("1.2.840.10008.5.1.4.1.1.6.1", "1.2.840.10008.5.1.4.1.1.3.1", "ISO 2022 IR 87", "ISO_IR 192", "GB18030"),
)
_CELLS: Final = (
    *(
        "",
        " ",
        "..",
        "../x.png",
        "/etc/passwd",
        "C:\\x.png",
        "a;b;;",
        ";" * 40,
        "0",
        "-1",
        "1e9",
        "nan",
        "inf",
        "1,2,3",
    ),
    *(
        "0,0,0,0",
        "-5,-5,9,9",
        "1,1,1e308,1e308",
        "9" * 400,
        "\0",
        "\u202e",
        "é",
        "e\u0301",
        "\ufeff",
        "ANONYMOUS",
        "x" * 300,
    ),
)
_NOT_WRITTEN: Final = (
    *(AttributeError, IndexError, KeyError, NotImplementedError, OSError, OverflowError, TypeError, ValueError),
    *(struct.error, zlib.error),
)
Steps = Sequence[Callable[[random.Random, bytearray], None]]


def broken(rng: random.Random, data: bytes, others: Sequence[bytes]) -> bytes:
    """A file with one to four things changed.

    Args:
        rng: decides what.
        data: a sound file.
        others: more of them, whose ends may be put on its start.
    """
    if data.startswith(b"\x89PNG") and rng.random() < 0.6:
        return _broken_chunk(rng, data)
    if data[128:132] == b"DICM" and rng.random() < 0.4:
        header = _broken_header(rng, data)
        if header is not None:
            return header
    if rng.random() < 0.05:
        other = rng.choice(others)
        return data[: _place(rng, len(data))] + other[_place(rng, len(other)) :]
    changed = bytearray(data)
    for _ in range(rng.randint(1, _MOST_STEPS)):
        rng.choice(_STEPS)(rng, changed)
    return bytes(changed)


def broken_table(rng: random.Random, table: bytes) -> bytes:
    """A CSV with bytes or cells changed."""
    if rng.random() < 0.4:
        return broken(rng, table, [table])
    rows = list(csv.reader(io.StringIO(table.decode())))
    for _ in range(rng.randint(1, _MOST_STEPS)):
        row = rng.choice(rows)
        kind = rng.randrange(5)
        if kind == 0 or not row:
            rows.insert(rng.randrange(len(rows)), list(row))
        elif kind == 1:
            del row[rng.randrange(len(row))]
        else:
            row[rng.randrange(len(row))] = rng.choice(_CELLS)
    buffer = io.StringIO()
    csv.writer(buffer).writerows(rows)
    return buffer.getvalue().encode("utf-8", "surrogatepass")


def _place(rng: random.Random, length: int) -> int:
    """More often near the start, where the structure of most formats is."""
    return int(length * rng.random() ** rng.choice((1, 3, 6)))


def _flip(rng: random.Random, data: bytearray) -> None:
    if data:
        data[_place(rng, len(data))] ^= 1 << rng.randrange(8)


def _overwrite(rng: random.Random, data: bytearray) -> None:
    place = _place(rng, len(data))
    run = rng.randbytes(rng.choice((1, 2, 4, 16, 200)))
    data[place : place + len(run)] = run


def _number(rng: random.Random, data: bytearray) -> None:
    place, width = _place(rng, len(data)), rng.choice("BHIQ")
    value = rng.choice((*_NUMBERS, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFE, 0xFFFFFFFF, len(data)))
    value &= (1 << 8 * struct.calcsize(f"<{width}")) - 1
    packed = struct.pack(f"{rng.choice('<>')}{width}", value)
    data[place : place + len(packed)] = packed


def _delete(rng: random.Random, data: bytearray) -> None:
    place = _place(rng, len(data))
    del data[place : place + rng.choice((1, 2, 8, 100, 4000))]


def _double(rng: random.Random, data: bytearray) -> None:
    place, length = _place(rng, len(data)), rng.choice((1, 2, 8, 100, 4000))
    data[place:place] = data[place : place + length]


def _cut(rng: random.Random, data: bytearray) -> None:
    del data[_place(rng, len(data)) :]


def _extend(rng: random.Random, data: bytearray) -> None:
    data += rng.choice((b"\0", b"\xff")) * rng.choice((1, 3, 1000)) if rng.random() < 0.5 else rng.randbytes(500)


def _blank(rng: random.Random, data: bytearray) -> None:
    place, length = _place(rng, len(data)), rng.choice((4, 64, 2000))
    data[place : place + length] = bytes(len(data[place : place + length]))


_STEPS: Final[Steps] = (_flip, _flip, _overwrite, _number, _number, _delete, _double, _cut, _extend, _blank)


def _broken_chunk(rng: random.Random, data: bytes) -> bytes:
    """A PNG with one chunk changed and its checksum right, so that what follows the checksum is tried."""
    chunks, place = [], _PNG_START
    while place + 12 <= len(data):
        (length,) = struct.unpack_from(">I", data, place)
        chunks.append((data[place + 4 : place + 8], bytearray(data[place + 8 : place + 8 + length])))
        place += 12 + length
    chosen = rng.randrange(len(chunks))
    kind, body = chunks[chosen]
    if rng.random() < 0.2:
        chunks.insert(
            chosen, (rng.choice((b"acTL", b"PLTE", b"tRNS", b"zTXt", b"iCCP", b"eXIf", kind)), bytearray(body))
        )
    elif rng.random() < 0.3 and kind == b"IDAT":
        raw = bytearray(zlib.decompress(bytes(body)))
        rng.choice(_STEPS)(rng, raw)
        body[:] = zlib.compress(bytes(raw), 1)
    else:
        rng.choice(_STEPS)(rng, body)
    return data[:_PNG_START] + b"".join(
        struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body)) for kind, body in chunks
    )


def _broken_header(rng: random.Random, data: bytes) -> bytes | None:
    """A DICOM object with elements changed or taken out; None where pydicom does not write it."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # what is written here is wrong on purpose
            dataset = dcmread(io.BytesIO(data))
            for _ in range(rng.randint(1, _MOST_STEPS)):
                _change_element(rng, dataset)
            if rng.random() < 0.15:
                dataset.file_meta.TransferSyntaxUID = UID(rng.choice(_SYNTAXES))
            buffer = io.BytesIO()
            dataset.save_as(buffer, enforce_file_format=False)
            return buffer.getvalue()
    except _NOT_WRITTEN:
        return None


def _change_element(rng: random.Random, dataset: FileDataset | Dataset) -> None:
    within: FileDataset | Dataset = dataset
    if rng.random() < 0.3 and dataset.get("SequenceOfUltrasoundRegions"):
        within = rng.choice(list(dataset.SequenceOfUltrasoundRegions))
    element = rng.choice(list(within))
    if rng.random() < 0.1:
        del within[element.tag]
    elif element.VR == "SQ":
        items = [*element.value, *element.value][: rng.randrange(3)]
        element.value = Items([*items, Dataset()] if rng.random() < 0.3 else items)
    elif element.VR in {"US", "SS", "UL", "SL", "FL", "FD"}:
        element.value = rng.choice((None, rng.choice(_NUMBERS), [1, 2, 3], -1))
    elif isinstance(element.value, bytes):
        changed = bytearray(element.value)
        rng.choice(_STEPS)(rng, changed)
        element.value = bytes(changed)
    else:
        element.value = rng.choice(_WORDS)
    if rng.random() < 0.1:
        element.VR = rng.choice(("OB", "OW", "UN", "SQ", "DS", "IS", "LO", "AT", "UL"))
