"""What benchmarks share: running parts one after another, printing their figures as one JSON line, peak memory."""

import json
import resource
import sys
import time
from collections.abc import Callable, Mapping
from typing import Any


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
