"""Which modules a run's time went to, told at its end.

Seconds are of the wall, of set-up, call and tear-down, summed over a module's tests; workers run beside each other, so
the modules together take longer than the run. Beside them stand the seconds of processor that the worker and the
children that it waited for took: these hardly change with what else the machine does.
"""

import os
from collections import defaultdict
from collections.abc import Iterable
from typing import NamedTuple

import pytest

SHOWN = 10
PROCESSOR = "processor_seconds"


class Module(NamedTuple):
    """What one module of tests took.

    Attributes:
        name: its path.
        wall: seconds of the wall.
        processor: seconds of processor, of the worker and of children that ended.
    """

    name: str
    wall: float
    processor: float


def processor_seconds() -> float:
    """Seconds of processor of this process and of the children that it has waited for, since its start."""
    return sum(os.times()[:4])


def slowest(reports: Iterable[pytest.TestReport], count: int = SHOWN) -> list[Module]:
    """The modules that took longest; the longest first."""
    wall: defaultdict[str, float] = defaultdict(float)
    processor: defaultdict[str, float] = defaultdict(float)
    for report in reports:
        name = report.nodeid.partition("::")[0]
        wall[name] += report.duration
        if report.when == "teardown":  # properties come with each of the three reports, and are complete in the last
            processor[name] += sum(float(str(value)) for key, value in report.user_properties if key == PROCESSOR)
    longest = sorted(wall, key=lambda name: -wall[name])[:count]
    return [Module(name, wall[name], processor[name]) for name in longest]
