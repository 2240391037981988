"""What the project costs as it grows: constants measured at several sizes, laws checked, a consortium on paper.

    python -m benchmarks.scale [--hospitals 100] [--images 3500000] [--researchers 10000]
        [--part NAME] [--quick] [--json]

In one run, on one thread, in processor seconds: each part is measured at four sizes or more. Its law, the one that the
code promises, is fitted to all sizes but the largest and foretells that one (``predicted_over_measured``); then it is
fitted to all of them, and a consortium of the size asked for is worked out with it, on paper. Parts: hospital: vault,
twins, training, copies, ledger; coordinator: rounds, log, drawing; catalogue: catalogue, downloads. ``--quick`` takes
small sizes, for a test. Prints one JSON object as the last line:

- ``laws``: by name; ``law`` with its constants, points, ``predicted``, ``at_largest``, ``predicted_over_measured``;
- ``paper``: what is assumed, hours, memory, disk and network by place, and ``walls``, the nearest first (absent where
  ``--part`` left a law out).

A round's work is that of coordinator and agents in this process, without Flower and without the step; pictures have
64 px and are made up. Nothing of the size asked for is run.
"""

import argparse
import json
import sys
import time
from collections.abc import Callable
from typing import Any, Final

from threadpoolctl import threadpool_limits

from benchmarks import _scale_hospital as hospital
from benchmarks import _scale_server as server
from benchmarks._scale_laws import Law, checked
from benchmarks._scale_paper import Asked, plan

Terms = tuple[str, ...]
Part = tuple[Callable[[Any], Any], dict[str, Terms], list[Any], list[Any]]

PARTS: Final[dict[str, Part]] = {
    "vault": (
        hospital.vault,
        {"vault_seconds": ("1", "images"), "vault_bytes": ("1", "images")},
        [500, 1000, 2000, 4000],
        [20, 40, 80, 160],
    ),
    "twins": (hospital.twins, {"twins": ("images", "images images")}, [300, 600, 1200, 2400], [20, 40, 60, 80]),
    "training": (
        hospital.training,
        {"training_step": ("1", "patients draws")},
        [(8, 1), (8, 2), (16, 2), (32, 2), (64, 2)],
        [(1, 1), (2, 1), (2, 2), (4, 2)],
    ),
    "copies": (
        hospital.copy_search,
        {"copy_search": ("1", "synthetic", "images", "synthetic images")},
        [(100, 100), (100, 300), (300, 100), (300, 300), (300, 600), (800, 800)],
        [(16, 16), (16, 32), (32, 16), (32, 32), (48, 32)],
    ),
    "ledger": (
        hospital.ledger,
        {"ledger_open": ("1", "charges"), "ledger_charge": ("1",)},
        [250, 500, 1000, 2000],
        [10, 20, 30, 40],
    ),
    "rounds": (
        server.rounds,
        {
            "round_server": ("1", "hospitals", "hospitals hospitals"),
            "round_agent": ("1", "hospitals"),
            "round_bytes": ("hospitals", "hospitals hospitals", "hospitals hospitals hospitals"),
            "log_bytes": ("1", "hospitals"),
        },
        [3, 6, 12, 24, 48],
        [2, 3, 4, 5],
    ),
    "log": (
        server.log,
        {"log_open": ("1", "entries"), "log_append": ("1", "log2 entries")},
        [2000, 4000, 8000, 16_000, 32_000],
        [50, 100, 200, 400],
    ),
    "drawing": (server.drawing, {"drawing": ("1", "images")}, [32, 64, 96, 192], [1, 2, 3, 4]),
    "catalogue": (
        server.catalogue,
        {"list_page": ("1", "releases"), "list_words": ("1", "releases")},
        [125, 250, 500, 1000],
        [5, 10, 15, 20],
    ),
    "downloads": (
        server.downloads,
        {"download": ("1", "images"), "download_bytes": ("1", "images")},
        [50, 100, 200, 400],
        [4, 6, 8, 10],
    ),
}


def measured(wanted: list[str], *, quick: bool, quiet: bool) -> tuple[dict[str, Law], dict[str, Any]]:
    """The laws of the parts wanted, and what is said of them."""
    laws: dict[str, Law] = {}
    said: dict[str, Any] = {}
    for name in wanted:
        measure, terms, sizes, small = PARTS[name]
        start = time.process_time()
        found = measure(small if quick else sizes)
        for (law, of), points in zip(terms.items(), found if isinstance(found, tuple) else (found,), strict=True):
            laws[law], said[law] = checked(of, points)
            if not quiet:
                words = f"{said[law]['law']}; predicted over measured {said[law]['predicted_over_measured']}"
                print(f"{law}: {words}", file=sys.stderr, flush=True)
        if not quiet:
            print(f"{name}: {time.process_time() - start:.0f} CPU s", file=sys.stderr, flush=True)
    return laws, said


def main() -> None:
    """Measure, work out and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--hospitals", type=int, default=100)
    parser.add_argument("--images", type=int, default=3_500_000, help="of all hospitals together")
    parser.add_argument("--researchers", type=int, default=10_000)
    parser.add_argument("--part", action="append", choices=sorted(PARTS), help="measure only this part")
    parser.add_argument("--quick", action="store_true", help="small sizes: shows that it runs, not what it costs")
    parser.add_argument("--json", action="store_true", help="the JSON line only")
    asked = parser.parse_args()
    hospital.one_thread()
    threadpool_limits(1)
    wanted = [name for name in PARTS if not asked.part or name in asked.part]
    laws, said = measured(wanted, quick=asked.quick, quiet=asked.json)
    result: dict[str, Any] = {"laws": said}
    if len(wanted) == len(PARTS):
        result["paper"] = plan(Asked(asked.hospitals, asked.images, asked.researchers), laws)
    print(json.dumps(result))


if __name__ == "__main__":
    main()
