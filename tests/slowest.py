"""Which modules a run's time went to, told at its end.

Seconds are of the wall, of set-up, call and tear-down, summed over a module's tests; workers run beside each other, so
the modules together take longer than the run.
"""

from collections import defaultdict
from collections.abc import Iterable

import pytest

SHOWN = 10


def slowest(reports: Iterable[pytest.TestReport], count: int = SHOWN) -> list[tuple[str, float]]:
    """The modules that took longest, with their seconds; the longest first."""
    seconds: defaultdict[str, float] = defaultdict(float)
    for report in reports:
        seconds[report.nodeid.partition("::")[0]] += report.duration
    return sorted(seconds.items(), key=lambda module: -module[1])[:count]
