"""Child process of intake: ``python -P -m sonoshare_client.intake.worker FD LIMITS DEVICES``.

Reads questions from the Unix socket on descriptor FD, with open files attached, and answers each with pictures or
a reason (channel.py). It limits itself before it reads the first byte: address space, processor time for each file,
descriptors, no file can grow, no core is dumped (it would hold a patient). It writes nothing but answers; its
standard streams are closed by the parent, because libraries quote what they read. It may die at any moment.
"""

import json
import os
import resource
import socket
import sys
from collections.abc import Callable, Sequence
from functools import cache, partial
from typing import TYPE_CHECKING, BinaryIO, Final

from sonoshare_client.intake.accepting import bounds_with
from sonoshare_client.intake.channel import (
    Question,
    Taken,
    receive_message,
    send_identity,
    send_message,
    send_refusal,
    send_taken,
)
from sonoshare_client.intake.devices import kept_device
from sonoshare_client.intake.limits import Limits
from sonoshare_client.vault.stored_image import StoredImage
from sonoshare_shared.science.box import Box
from sonoshare_shared.science.pictures import dicom as _dicom  # noqa: F401 - its decoders load before the limits hold
from sonoshare_shared.science.pictures.identity import Identity, read_identity
from sonoshare_shared.science.pictures.reading import KeptPicture, read_frames
from sonoshare_shared.science.pictures.reasons import Reason, Refused
from sonoshare_shared.science.pictures.text.clearing import (
    Cleared,
    cleared_everywhere,
    lesion_pixels,
    without_text,
)
from sonoshare_shared.science.pictures.whole_screen import read_screens

if TYPE_CHECKING:
    from sonoshare_shared.science.pictures.text.reading import TextReader

READY: Final = {"ready": True}


@cache
def reader_of_this_process() -> "TextReader | None":
    """Loaded when the first picture needs it: half a second, and some 300 MB of address space."""
    from sonoshare_shared.science.pictures.text.reading import text_reader  # noqa: PLC0415 - as said

    return text_reader()


def main() -> None:
    """Serve until the parent closes the socket."""
    channel = socket.socket(fileno=int(sys.argv[1]))
    limits = Limits(**json.loads(sys.argv[2]))
    devices: list[str] = json.loads(sys.argv[3])
    limit_process(limits)
    renew = partial(renew_processor_time, limits.cpu_seconds)
    send_message(channel, READY, [])
    while (received := receive_message(channel)) is not None:
        message, descriptors = received
        renew()
        box, region = (Box.of(message[name]) if message[name] else None for name in ("box", "region"))
        accepted = tuple(map(str, message["accepted"]))
        question = Question(str(message["suffix"]), box, message["frame"], region, accepted, message["shown"])
        files: list[BinaryIO] = [os.fdopen(descriptor, "rb") for descriptor in descriptors]
        answer: Taken | Identity | Reason
        try:
            asked = message.get("identity")
            answer = called(files[0], limits, asked) if asked else answer_for(question, files, limits, devices, renew)
        finally:
            for file in files:
                file.close()
        if isinstance(answer, Reason):
            send_refusal(channel, answer)
        elif isinstance(answer, Identity):
            send_identity(channel, answer)
        else:
            send_taken(channel, answer)


def called(file: BinaryIO, limits: Limits, asked: str) -> Identity | Reason:
    """What a file is called; with its patient only where that is asked for."""
    try:
        return read_identity(file, limits, patient=asked == "patient")
    except Refused as refusal:
        return refusal.reason


def answer_for(
    question: Question,
    files: Sequence[BinaryIO],
    limits: Limits,
    devices: Sequence[str],
    renew: Callable[[], None] = lambda: None,
) -> Taken | Reason:
    """Take one file in, or say why not; nothing that a file does gets further than here.

    Args:
        question: what the parent asks.
        files: the picture, and its masks.
        limits: bounds.
        devices: approved device texts.
        renew: called before a picture is looked through for text: each has its own processor time.
    """
    accepted = [Reason[name] for name in question.accepted if name in Reason.__members__]  # or of a version before
    try:
        if question.shown:
            return shown(files[0], question.frame, limits)
        frames = read_frames(
            files[0],
            files[1:],
            question.box,
            suffix=question.suffix,
            frame=question.frame,
            region=question.region,
            bounds=bounds_with(limits, question.accepted),
        )
        cleared = cleared_everywhere([cleared_frame(kept.picture, renew, accepted) for kept in frames], accepted)
    except Refused as refusal:
        return refusal.reason
    header = frames[0].picture.header
    device = "" if header is None else kept_device(header.manufacturer, header.model, devices)
    images = {
        kept.number: StoredImage(
            clear.pixels, kept.picture.mask, kept.picture.box, label="", device=device, blanked=clear.blanked
        )
        for kept, clear in zip(frames, cleared, strict=True)
    }
    return Taken(images, None if header is None else header.instance)


def shown(file: BinaryIO, frame: int | None, limits: Limits) -> Taken:
    """The whole screen of a still, or of a few frames of a clip, as it is decoded; nothing is taken out or judged."""
    screens = read_screens(file, frame, limits)
    pictures = {number: StoredImage(grey, None, None, label="", device="") for number, grey in screens.items()}
    return Taken(pictures, None)


def cleared_frame(kept: KeptPicture, renew: Callable[[], None], accepted: Sequence[Reason] = ()) -> Cleared:
    """A picture without text that may name somebody; each has its own processor time."""
    renew()
    lesion = lesion_pixels(kept.pixels.shape, kept.mask, kept.box)
    return without_text(kept.pixels, lesion, reader_of_this_process, must=kept.must_look, accepted=accepted)


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
