"""Where numbers are computed: one word (``auto``, ``cpu``, ``cuda``, ``cuda:1``) becomes a torch device, here only.

Example: on a machine with one H100 ``auto`` and ``cuda`` both give ``cuda:0``, said as ``cuda:0 (NVIDIA H100)``; on a
machine without a GPU ``auto`` gives the processor, said as ``cpu, 2 threads``, and ``cuda`` is refused.

Promises: nobody else in the product asks whether there is a GPU (``tests/shared/test_one_way.py``); a function that
computes takes a device, and its default is the processor. Not promised: that two devices, or two kinds of one device,
give the same bits; `device_kind` names what has to be the same for that, together with the versions of the libraries.
"""

from typing import Final

import torch

from sonoshare_shared.errors import InputError
from sonoshare_shared.science.device_word import AUTO, PATTERN, WORDS

CPU: Final = torch.device("cpu")


def chosen_device(asked: str) -> torch.device:
    """The device that a word names on this machine.

    Args:
        asked: ``auto`` (a GPU where there is one), ``cpu``, ``cuda`` (the first GPU), or ``cuda:N``.

    Raises:
        InputError: it is none of these words, or there is no such GPU here; the remedy says which there are.
    """
    match = PATTERN.fullmatch(asked)
    if match is None:
        raise InputError(f"{asked[:40]!r} names no device", remedy=f"give one of {WORDS}")
    if asked == CPU.type:
        return CPU
    if not torch.cuda.is_available():
        if asked == AUTO:
            return CPU
        raise InputError(f"{asked} is asked for, and there is no CUDA device here", remedy=_why_none())
    index, count = int(match[1] or 0), torch.cuda.device_count()
    if index >= count:
        there = "cuda:0" if count == 1 else f"cuda:0 to cuda:{count - 1}"
        raise InputError(
            f"{asked} is asked for, and this machine has {there}", remedy="give one that is there, or auto"
        )
    return torch.device("cuda", index)


def chosen_devices(asked: str) -> tuple[torch.device, ...]:
    """The devices that share one training, that of the first process first.

    Args:
        asked: words with commas between them, ``cuda:0,cuda:1`` or ``cpu,cpu``.

    Raises:
        InputError: a word names no device here, a GPU is named twice, or they are not of one kind.
    """
    devices = tuple(chosen_device(word.strip()) for word in asked.split(","))
    gpus = [device for device in devices if device.type == "cuda"]
    if len(set(gpus)) < len(gpus):
        raise InputError("a GPU is named twice", remedy="name each once")
    kinds = sorted({device_kind(device) for device in devices})
    if len(kinds) > 1:
        raise InputError(
            f"one training cannot be shared by {' and '.join(kinds)}: they compute other last bits",
            remedy="name devices of one kind",
        )
    return devices


def gpus_here(most: int | None = None) -> tuple[torch.device, ...]:
    """The GPUs of this machine that share one training.

    Args:
        most: how many; None for all.

    Raises:
        InputError: there are fewer, or none, or they are not of one kind.
    """
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if count == 0:
        raise InputError("GPUs are asked for, and there is no CUDA device here", remedy=_why_none())
    if most is not None and not 1 <= most <= count:
        raise InputError(f"{most} GPUs are asked for, and this machine has {count}", remedy="ask for fewer, or all")
    return chosen_devices(",".join(f"cuda:{number}" for number in range(most or count)))


def _why_none() -> str:
    """What to do where CUDA is wanted and absent: another build of torch, or a driver that shows the card."""
    if torch.version.cuda is None and torch.version.hip is None:
        return "this torch is built for the processor alone: install one that is built for CUDA, or give --device cpu"
    return "see whether nvidia-smi lists the card and CUDA_VISIBLE_DEVICES hides it, or give --device cpu"


def device_words(device: torch.device) -> str:
    """What is said of a device: ``cuda:0 (NVIDIA H100)``, or ``cpu, 2 threads``."""
    if device.type == "cuda":
        return f"{device} ({torch.cuda.get_device_name(device)})"
    threads = torch.get_num_threads()
    return f"{device}, {threads} {'thread' if threads == 1 else 'threads'}"


def device_kind(device: torch.device) -> str:
    """What must be the same for the same bits: ``cuda NVIDIA H100``, or ``cpu AVX512``.

    The kernels of a processor follow its instruction set. Two processors of one set may still differ in a last bit.
    """
    if device.type == "cuda":
        return f"cuda {torch.cuda.get_device_name(device)}"
    return f"{device.type} {torch.backends.cpu.get_cpu_capability()}"
