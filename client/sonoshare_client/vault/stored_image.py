"""One de-identified image as the vault keeps it, and its bytes before sealing.

An image holds what training and audits need and nothing else: pixels, lesion mask, lesion box, class, device.
No date, no identifier, no name, no text of a header. The bytes are
``length of the attributes (4, big-endian) | attributes (JSON) | pixels | mask bits``; speckle hardly compresses.
"""

import json
import struct
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sonoshare_shared.errors import InputError, IntegrityError
from sonoshare_shared.science.box import Box
from sonoshare_shared.science.pictures.bounds import DEFAULT_BOUNDS


@dataclass(frozen=True, eq=False)
class StoredImage:
    """A de-identified image.

    Attributes:
        pixels: uint8 [H, W], grey.
        mask: uint8 [H, W], 1 inside the lesion and 0 outside, or None if there is none. All zero: no lesion.
        box: lesion box x, y, w, h as fractions of the width and height, or None.
        label: class name.
        device: name of the ultrasound system, empty if unknown.
        blanked: where tissue was put in the place of text: x, y, width and height in pixels.
    """

    pixels: NDArray[np.uint8]
    mask: NDArray[np.uint8] | None
    box: Box | None
    label: str
    device: str
    blanked: tuple[tuple[int, int, int, int], ...] = ()

    def __post_init__(self) -> None:
        if self.pixels.dtype != np.uint8 or self.pixels.ndim != 2 or not self.pixels.size:
            raise InputError("pixels must be uint8 [H, W]")
        if max(self.pixels.shape) > DEFAULT_BOUNDS.side:
            raise InputError(f"a side is longer than {DEFAULT_BOUNDS.side} pixels")
        if self.mask is not None and (self.mask.shape != self.pixels.shape or self.mask.dtype != np.uint8):
            raise InputError("the mask must be uint8 and of the size of the pixels")


def pixel_content(pixels: NDArray[np.uint8]) -> bytes:
    """What makes two pictures the same: shape and every pixel."""
    return struct.pack(">II", *pixels.shape) + pixels.tobytes()


def to_bytes(image: StoredImage) -> bytes:
    """Serialise an image."""
    attributes = {
        "shape": list(image.pixels.shape),
        "mask": image.mask is not None,
        "box": list(image.box) if image.box is not None else None,
        "label": image.label,
        "device": image.device,
        "blanked": [list(place) for place in image.blanked],
    }
    body = image.pixels.tobytes()
    if image.mask is not None:
        body += np.packbits(image.mask != 0).tobytes()
    header = json.dumps(attributes).encode()
    return struct.pack(">I", len(header)) + header + body


def attributes_of(data: bytes) -> dict[str, Any]:
    """The attributes alone, without touching the pixels.

    Raises:
        IntegrityError: not an image of this vault's version.
    """
    try:
        (length,) = struct.unpack_from(">I", data)
        attributes: dict[str, Any] = json.loads(data[4 : 4 + length])
    except (struct.error, ValueError) as error:
        raise IntegrityError("a blob of the vault holds no image", remedy="restore the vault from backup") from error
    return attributes


def from_bytes(data: bytes) -> StoredImage:
    """Read an image back.

    Raises:
        IntegrityError: not an image of this vault's version.
    """
    attributes = attributes_of(data)
    (header,) = struct.unpack_from(">I", data)
    try:
        height, width = (int(side) for side in attributes["shape"])
        has_mask = bool(attributes["mask"])
        expected = height * width + (-(-height * width // 8) if has_mask else 0)
        body = memoryview(data)[4 + header :]
        if len(body) != expected:
            raise IntegrityError("a blob of the vault has another length than it says")
        pixels = np.frombuffer(body, np.uint8, height * width).reshape(height, width)
        mask = None
        if has_mask:
            bits = np.frombuffer(body, np.uint8, offset=height * width)
            mask = np.unpackbits(bits, count=height * width).reshape(height, width)
        box = attributes["box"]
        return StoredImage(
            pixels=pixels,
            mask=mask,
            box=None if box is None else Box.of(box),
            label=str(attributes["label"]),
            device=str(attributes["device"]),
            # Before text was looked for, nothing was blanked and nothing said so.
            blanked=tuple((int(x), int(y), int(w), int(h)) for x, y, w, h in attributes.get("blanked", ())),
        )
    except (InputError, KeyError, TypeError, ValueError) as error:
        raise IntegrityError("a blob of the vault holds no image", remedy="restore the vault from backup") from error
