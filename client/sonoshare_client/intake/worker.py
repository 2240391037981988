"""Child process of intake: ``python -P -m sonoshare_client.intake.worker FD LIMITS DEVICES``.

Reads questions from the Unix socket on descriptor FD, with open files attached, and answers each with a picture or
a reason (channel.py). It limits itself before it reads the first byte: address space, processor time for each file,
descriptors, no file can grow, no core is dumped (it would hold a patient). It writes nothing but answers; its
standard streams are closed by the parent, because libraries quote what they read. It may die at any moment.
"""

import json
import os
import resource
import socket
import sys
from collections.abc import Sequence
from dataclasses import replace
from typing import BinaryIO, Final

import numpy as np
from numpy.typing import NDArray

from sonoshare_client.intake.channel import Question, Taken, receive_message, send_message, send_refusal, send_taken
from sonoshare_client.intake.crop import Region, cut, lesion_box
from sonoshare_client.intake.dicom import pick_region, read_dicom
from sonoshare_client.intake.limits import Limits
from sonoshare_client.intake.pictures import read_mask, read_picture
from sonoshare_client.intake.reasons import Reason, Refused
from sonoshare_client.vault.stored_image import StoredImage

_MAGIC_BYTES: Final = 132
_DICOM_NAMES: Final = (".dcm", ".dicom")
_PICTURE_NAMES: Final = (".png", ".jpg", ".jpeg")
READY: Final = {"ready": True}


def main() -> None:
    """Serve until the parent closes the socket."""
    channel = socket.socket(fileno=int(sys.argv[1]))
    limits = Limits(**json.loads(sys.argv[2]))
    devices: list[str] = json.loads(sys.argv[3])
    limit_process(limits)
    send_message(channel, READY, [])
    while (received := receive_message(channel)) is not None:
        message, descriptors = received
        renew_processor_time(limits.cpu_seconds)
        question = Question(str(message["suffix"]), tuple(message["box"]) if message["box"] else None)
        files: list[BinaryIO] = [os.fdopen(descriptor, "rb") for descriptor in descriptors]
        try:
            answer = answer_for(question, files, limits, devices)
        finally:
            for file in files:
                file.close()
        if isinstance(answer, Reason):
            send_refusal(channel, answer)
        else:
            send_taken(channel, answer)


def answer_for(question: Question, files: Sequence[BinaryIO], limits: Limits, devices: Sequence[str]) -> Taken | Reason:
    """Take one file in, or say why not; nothing that a file does gets further than here.

    Args:
        question: what the parent asks.
        files: the picture and, if there is one, its mask.
        limits: bounds.
        devices: approved device texts.
    """
    try:
        return take(question, files[0], files[1] if len(files) > 1 else None, limits, devices)
    except Refused as refusal:
        return refusal.reason
    except MemoryError:
        return Reason.MEMORY
    except RecursionError:
        return Reason.NESTING
    except Exception:  # noqa: BLE001 - the edge of the process: decoders raise anything on broken content
        return Reason.BROKEN


def take(
    question: Question, file: BinaryIO, mask_file: BinaryIO | None, limits: Limits, devices: Sequence[str]
) -> Taken:
    """Decode, crop, and keep only what is allowed.

    Raises:
        Refused: the file is set aside.
    """
    start = file.read(_MAGIC_BYTES)
    file.seek(0)
    mask = None if mask_file is None else _mask(mask_file, limits)
    if start[128:] == b"DICM":
        _check_name(question.suffix, _PICTURE_NAMES)
        picture = read_dicom(file, limits, devices)
        if mask is not None and mask.shape != picture.pixels.shape:
            raise Refused(Reason.MASK_SIZE)
        region = pick_region(picture.regions, lesion_box(question.box, mask))
        taken = Taken(_image(picture.pixels, mask, question, region), picture.instance)
        return replace(taken, image=replace(taken.image, device=picture.device))
    if start.startswith((b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff")):
        _check_name(question.suffix, _DICOM_NAMES)
        pixels = read_picture(file, limits)
        height, width = pixels.shape
        return Taken(_image(pixels, mask, question, Region(0, 0, width, height)), None)
    raise Refused(Reason.UNKNOWN_FORMAT)


def _check_name(suffix: str, others: Sequence[str]) -> None:
    """The content decides what a file is; a name that says otherwise is a sign of a mix-up, for a person to look at."""
    if suffix in others:
        raise Refused(Reason.WRONG_NAME)


def _mask(file: BinaryIO, limits: Limits) -> NDArray[np.uint8]:
    try:
        return read_mask(file, limits)
    except Refused as refusal:
        raise Refused(Reason.MASK_UNREADABLE) from refusal


def _image(
    pixels: NDArray[np.uint8], mask: NDArray[np.uint8] | None, question: Question, region: Region
) -> StoredImage:
    kept, kept_mask, box = cut(pixels, mask, question.box, region)
    return StoredImage(pixels=kept, mask=kept_mask, box=box, label="", device="")


def limit_process(limits: Limits) -> None:
    """Bound what this process can take, for good."""
    resource.setrlimit(resource.RLIMIT_AS, (limits.memory_bytes, limits.memory_bytes))
    resource.setrlimit(resource.RLIMIT_NOFILE, (limits.open_files, limits.open_files))
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def renew_processor_time(seconds: int) -> None:
    """Give the next file its processor time; SIGXCPU ends the process when it is used up."""
    usage = resource.getrusage(resource.RUSAGE_SELF)
    used = int(usage.ru_utime + usage.ru_stime)
    _, hard = resource.getrlimit(resource.RLIMIT_CPU)
    resource.setrlimit(resource.RLIMIT_CPU, (used + seconds + 1, hard))


if __name__ == "__main__":
    main()
