"""A file's whole screens, as they are decoded, for the eyes of whoever decides about a file that was set aside.

Promises what ``reading`` promises of decoding: content decides the format, bounds hold, whatever a file does to a
decoder ends as a `Reason`. Nothing is cut, judged or taken out: what is burned in is there to be seen. Nothing of it is
ever stored.
"""

import os
from collections.abc import Mapping
from dataclasses import replace
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

from sonoshare_shared.science.pictures.bounds import Bounds
from sonoshare_shared.science.pictures.clip import frames_to_try
from sonoshare_shared.science.pictures.raster import read_raster
from sonoshare_shared.science.pictures.reading import START_BYTES, is_picture
from sonoshare_shared.science.pictures.reasons import Reason, Refused, as_reasons


def read_screens(file: BinaryIO, frame: int | None, bounds: Bounds) -> Mapping[int, NDArray[np.uint8]]:
    """Decode the screen of a still, or of the frames of a clip that intake looks at first.

    Args:
        file: DICOM, PNG or JPEG, at its start.
        frame: the only one that is wanted, from 1, or None.
        bounds: what the file may be; how much colour there is does not count.

    Returns:
        uint8 [H, W], by the number of the frame, from 1 and rising; at least one.

    Raises:
        Refused: it cannot be decoded.
    """
    with as_reasons():
        start = file.read(START_BYTES)
        size = file.seek(0, os.SEEK_END)
        file.seek(0)
        if not is_picture(start):
            raise Refused(Reason.UNKNOWN_FORMAT)
        if start[128:] == b"DICM":
            return _of_dicom(file, frame, replace(bounds, coloured=1.0))
        if size > bounds.file_bytes:
            raise Refused(Reason.TOO_LARGE)
        return {1: read_raster(file, bounds).grey}


def _of_dicom(file: BinaryIO, frame: int | None, bounds: Bounds) -> Mapping[int, NDArray[np.uint8]]:
    from sonoshare_shared.science.pictures.dicom import open_dicom  # noqa: PLC0415 - slow to import, and an extra

    found = open_dicom(file, bounds)
    if frame is not None:
        if not 1 <= frame <= found.frames:
            raise Refused(Reason.FRAME)
        return {frame: found.frame(frame - 1).grey}
    first = (tries[0] for tries in frames_to_try(found.frames, bounds.clip_frames, found.marks))
    return {index + 1: found.frame(index).grey for index in sorted(set(first))}
