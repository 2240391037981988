"""What benchmarks share: parts one after another, their figures as one JSON line, time on a device, peak memory."""

import json
import resource
import sys
import time
from collections.abc import Callable, Mapping
from typing import Any

import torch

from sonoshare_shared.science.device import CPU


def print_figures(parts: Mapping[str, Callable[[], dict[str, Any]]], known: dict[str, Any], *, quiet: bool) -> None:
    """Run every part, say on stderr what it took unless ``quiet``, and print all figures."""
    result = dict(known)
    for name, part in parts.items():
        start = time.process_time()
        result |= part()
        if not quiet:
            print(f"{name}: {time.process_time() - start:.0f} CPU s", file=sys.stderr)
    print(json.dumps(result))


def peak_resident_mib() -> int:
    """Largest resident memory that this process has had, MiB; the interpreter and the libraries are in it (Linux)."""
    return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)


def seconds_of(run: Callable[[], object], device: torch.device) -> float:
    """Processor time of one run; on a GPU wall time until it has nothing left to do."""
    if device == CPU:
        start = time.process_time()
        run()
        return time.process_time() - start
    torch.cuda.synchronize(device)
    start = time.perf_counter()
    run()
    torch.cuda.synchronize(device)
    return time.perf_counter() - start


def time_unit(device: torch.device) -> str:
    """What `seconds_of` counts."""
    return "processor seconds, one thread" if device == CPU else "wall seconds"


def peak_device_mib(device: torch.device) -> int | None:
    """Most memory of a GPU that this process's tensors have taken, MiB; None on a CPU."""
    return None if device == CPU else round(torch.cuda.max_memory_allocated(device) / 2**20)
