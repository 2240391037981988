"""How the threads of a computation wait for each other: asleep.

Torch's threads meet many times for one look of a network. By default they wait by turning in a loop, each with a core
of its own in mind. Where the cores have other work too (three hospitals on one machine, an agent beside a courier, a
PACS), the one that is waited for does not get a core, because those who wait have them. On two busy cores the loss
attack on 24 patients took 35 s in one process, and more than 100 s in each of three; asleep, 4 to 8 s
(docs/measurements/release.md).

Promises: no number depends on it, since the same threads do the same work in the same order. Who sets
``OMP_WAIT_POLICY`` or ``GOMP_SPINCOUNT`` keeps what was set; it holds for this process and all that it starts. Not
promised: that it is quicker on a machine that does nothing else; a wake-up takes microseconds.
"""

import os
from collections.abc import MutableMapping
from typing import Final

POLICY: Final = "OMP_WAIT_POLICY"
ASLEEP: Final = "PASSIVE"
_SPINS: Final = "GOMP_SPINCOUNT"


def wait_asleep(environment: MutableMapping[str, str] = os.environ) -> None:
    """Let threads sleep while they wait; the runtime reads it when torch is imported, so this comes before.

    Args:
        environment: of this process.
    """
    if _SPINS not in environment:
        environment.setdefault(POLICY, ASLEEP)
