"""How parent and child talk: a Unix socket with length-prefixed JSON, open files passed as descriptors.

The child gets the bytes of a file by a descriptor that the parent has opened and checked; it is told no path.
The parent trusts nothing that comes back: lengths are bounded before they are read, and every field is checked by
``parse_answer``. A child that a file has taken over can give a wrong picture; it cannot give anything else.
"""

import json
import re
import socket
import struct
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from sonoshare_client.intake.limits import Limits
from sonoshare_client.vault.stored_image import StoredImage
from sonoshare_shared.errors import InputError
from sonoshare_shared.protocol.canonical import is_digest
from sonoshare_shared.science.box import Box
from sonoshare_shared.science.identifiers import normal, unseen
from sonoshare_shared.science.labels import MOST_MASKS
from sonoshare_shared.science.pictures.identity import KEYS, LONGEST, Identity
from sonoshare_shared.science.pictures.reasons import Reason

_LENGTH: Final = struct.Struct(">I")
MAXIMUM_HEADER: Final = 1 << 16
MAXIMUM_FILES: Final = 1 + MOST_MASKS
"""Descriptors of one question: a picture, and its masks."""
MAXIMUM_FRAME: Final = 1 << 31
"""Numbers of frames are 32-bit in DICOM; more is a lie."""
DEVICE_TEXT: Final = re.compile(r"^[A-Za-z0-9 @._/+()-]{0,64}$")


class ChannelError(Exception):
    """What the other side said is no answer."""


class ChannelClosedError(ChannelError):
    """The other side is gone."""


@dataclass(frozen=True)
class Question:
    """What the parent asks about one file.

    Attributes:
        suffix: extension of the file's name, lowercase with its dot, or empty.
        box: lesion box x, y, w, h in pixels of the whole picture, or None.
        frame: the only one of a clip that is wanted, from 1, or None.
        region: where the ultrasound picture is, in pixels, for a file that does not say it.
        accepted: names of the reasons that a person has decided not to hold against this file.
        shown: the whole screen is asked for, unjudged, for the eyes of the hospital.
    """

    suffix: str
    box: Box | None
    frame: int | None = None
    region: Box | None = None
    accepted: tuple[str, ...] = ()
    shown: bool = False


@dataclass(frozen=True, eq=False)
class Taken:
    """What the child has taken in of a file.

    Attributes:
        images: by the number of the frame, from 1 and rising (of a dual view's: ``KeptFrame``); at most
            ``Limits.clip_frames``. De-identified; their label is empty, and their device is what the header may tell.
        instance: sha256 of the SOP instance UID, 32 bytes; None where the format has none.
    """

    images: Mapping[int, StoredImage]
    instance: bytes | None


def send_message(channel: socket.socket, message: dict[str, Any], descriptors: list[int]) -> None:
    """Send one JSON message, with descriptors attached to its length."""
    body = json.dumps(message).encode()
    socket.send_fds(channel, [_LENGTH.pack(len(body))], descriptors)
    channel.sendall(body)


def receive_message(channel: socket.socket) -> tuple[dict[str, Any], list[int]] | None:
    """Receive one JSON message and its descriptors; None when the other side has closed."""
    prefix, descriptors, _, _ = socket.recv_fds(channel, _LENGTH.size, MAXIMUM_FILES)
    if not prefix:
        return None
    prefix += _receive(channel, _LENGTH.size - len(prefix))
    (length,) = _LENGTH.unpack(prefix)
    if length > MAXIMUM_HEADER:
        raise ChannelError("message too long")
    message: dict[str, Any] = json.loads(_receive(channel, length))
    return message, descriptors


def send_taken(channel: socket.socket, taken: Taken) -> None:
    """Child: answer with how many pictures there are, then with each."""
    instance = taken.instance.hex() if taken.instance is not None else None
    send_message(channel, {"pictures": len(taken.images), "instance": instance}, [])
    for frame, image in taken.images.items():
        header = {
            "frame": frame,
            "shape": list(image.pixels.shape),
            "mask": image.mask is not None,
            "box": list(image.box) if image.box is not None else None,
            "device": image.device,
            "blanked": [list(place) for place in image.blanked],
        }
        send_message(channel, header, [])
        channel.sendall(np.ascontiguousarray(image.pixels).tobytes())
        if image.mask is not None:
            channel.sendall(np.packbits(image.mask != 0).tobytes())


def send_refusal(channel: socket.socket, reason: Reason) -> None:
    """Child: answer with a reason."""
    send_message(channel, {"refused": reason.name}, [])


def receive_answer(channel: socket.socket, limits: Limits) -> Taken | Reason:
    """Parent: read one answer of an untrusted child.

    Args:
        channel: the socket.
        limits: bounds on the picture, and the time for the whole answer however slowly it trickles in.

    Raises:
        ChannelClosedError: the child is gone.
        ChannelError: not an answer that a child may give.
        TimeoutError: it took longer than ``limits.wall_seconds``.
    """
    deadline = time.monotonic() + limits.wall_seconds
    header = _header(channel, deadline)
    try:
        if set(header) == {"refused"}:
            return Reason[header["refused"]]
        pictures, instance = _start_fields(header, limits)
    except (ValueError, KeyError, TypeError) as error:
        raise ChannelError("not an answer") from error
    images: dict[int, StoredImage] = {}
    for _ in range(pictures):
        frame, image = _picture(channel, limits, deadline)
        if images and frame <= max(images):
            raise ChannelError("not an answer")
        images[frame] = image
    return Taken(images, instance)


def _header(channel: socket.socket, deadline: float) -> dict[str, Any]:
    (length,) = _LENGTH.unpack(_receive(channel, _LENGTH.size, deadline))
    if length > MAXIMUM_HEADER:
        raise ChannelError("header too long")
    try:
        header = json.loads(_receive(channel, length, deadline))
    except (ValueError, RecursionError) as error:
        raise ChannelError("not an answer") from error
    if not isinstance(header, dict):
        raise ChannelError("not an answer")
    return header


def _start_fields(header: dict[str, Any], limits: Limits) -> tuple[int, bytes | None]:
    """How many pictures follow, and of which instance; ValueError or TypeError where a field is not as agreed."""
    if set(header) != {"pictures", "instance"} or type(header["pictures"]) is not int:
        raise ValueError("fields")
    if not 1 <= header["pictures"] <= limits.clip_frames:
        raise ValueError("pictures")
    instance = header["instance"]
    if instance is not None and not is_digest(instance):
        raise ValueError("instance")
    return header["pictures"], None if instance is None else bytes.fromhex(instance)


def _picture(channel: socket.socket, limits: Limits, deadline: float) -> tuple[int, StoredImage]:
    """One picture of an answer, and its frame."""
    header = _header(channel, deadline)
    try:
        frame, shape, box, device, has_mask = _fields(header, limits)
        blanked = _rectangles(header["blanked"], shape)
    except (InputError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise ChannelError("not an answer") from error
    height, width = shape
    pixels = np.frombuffer(_receive(channel, height * width, deadline), np.uint8).reshape(shape)
    mask = None
    if has_mask:
        bits = np.frombuffer(_receive(channel, -(-height * width // 8), deadline), np.uint8)
        mask = np.unpackbits(bits, count=height * width).reshape(shape)
    return frame, StoredImage(pixels=pixels, mask=mask, box=box, label="", device=device, blanked=blanked)


def send_identity(channel: socket.socket, identity: Identity) -> None:
    """Child: answer with what a file is called."""
    send_message(channel, {"digests": identity.digests, "patient": identity.patient}, [])


def receive_identity(channel: socket.socket, limits: Limits) -> Identity | Reason:
    """Parent: read what an untrusted child says a file is called; raises as ``receive_answer`` does."""
    deadline = time.monotonic() + limits.wall_seconds
    (length,) = _LENGTH.unpack(_receive(channel, _LENGTH.size, deadline))
    if length > MAXIMUM_HEADER:
        raise ChannelError("header too long")
    try:
        answer = json.loads(_receive(channel, length, deadline))
        if set(answer) == {"refused"}:
            return Reason[answer["refused"]]
        digests, patient = answer["digests"], answer["patient"]
        sound = isinstance(digests, dict) and set(digests) <= set(KEYS) and all(map(is_digest, digests.values()))
        if not sound or not isinstance(patient, str) or len(patient) > LONGEST:
            raise ChannelError("not an answer")
        if set(answer) != {"digests", "patient"} or patient != normal(patient) or unseen(patient):
            raise ChannelError("not an answer")
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise ChannelError("not an answer") from error
    return Identity(digests, patient)


def _rectangles(values: list[list[int]], shape: tuple[int, int]) -> tuple[tuple[int, int, int, int], ...]:
    """Places in a picture; ValueError or TypeError where they are none."""
    height, width = shape
    places = tuple((x, y, w, h) for x, y, w, h in values)
    for place in places:
        if any(type(number) is not int for number in place):
            raise TypeError("blanked")
    if not all(0 <= x < x + w <= width and 0 <= y < y + h <= height for x, y, w, h in places):
        raise ValueError("blanked")
    return places


def _fields(header: dict[str, Any], limits: Limits) -> tuple[int, tuple[int, int], Box | None, str, bool]:
    """Check every field of a picture; ValueError, KeyError or TypeError where one is not as agreed."""
    if set(header) != {"frame", "shape", "mask", "box", "device", "blanked"}:
        raise ValueError("fields")
    height, width = header["shape"]
    frame = header["frame"]
    if not type(height) is type(width) is type(frame) is int or type(header["mask"]) is not bool:
        raise TypeError("frame, shape or mask")
    if not (1 <= height <= limits.side and 1 <= width <= limits.side and height * width <= limits.pixels):
        raise ValueError("shape")
    if not 1 <= frame <= MAXIMUM_FRAME:
        raise ValueError("frame")
    box: Box | None = None
    if header["box"] is not None:
        box = Box.of(header["box"])
        if not all(0 <= value <= 1 for value in box):
            raise ValueError("box")
    device = header["device"]
    if not isinstance(device, str) or not DEVICE_TEXT.match(device):
        raise ValueError("device")
    return frame, (height, width), box, device, header["mask"]


def _receive(channel: socket.socket, length: int, deadline: float | None = None) -> bytes:
    """Exactly so many bytes, before a moment of the monotonic clock."""
    buffer = bytearray(length)
    view = memoryview(buffer)
    while view:
        if deadline is not None:
            remaining = deadline - time.monotonic()
            if remaining <= 0:
                raise TimeoutError
            channel.settimeout(remaining)
        received = channel.recv_into(view)
        if not received:
            raise ChannelClosedError("the other side is gone")
        view = view[received:]
    return bytes(buffer)
