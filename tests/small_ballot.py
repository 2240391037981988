"""A ballot small enough for tests, made once in a run."""

from functools import cache

from sonoshare_shared.science.calibration.ballot import Ballot, make_ballot
from sonoshare_shared.science.tasks.files import read_task

SIZE = 32
CLUSTERS = 4


@cache
def small_ballot() -> Ballot:
    """96 phantoms of the task `diagnosis`, four clusters of each class."""
    return make_ballot(read_task("diagnosis"), SIZE, seed=3, pool=96, clusters=CLUSTERS)
