"""What a person wants of a study, said and seen to: stopped for now, given up, or closed."""

import time
from typing import Final

from sonoshare_server.home import CoordinatorHome, Study
from sonoshare_server.queue.actions import running
from sonoshare_server.queue.standing import Standing, standing
from sonoshare_server.queue.wanted import Wish, want
from sonoshare_shared.errors import FederationError

STOP_SECONDS: Final = 15.0
POLL_SECONDS: Final = 0.2


def become(home: CoordinatorHome, study: Study, wish: Wish) -> Standing:
    """Say what shall become of a study, and wait until whatever ran of it has stopped; returns where it stands then.

    Raises:
        RefusedError: it was cancelled or retired, which is final.
        FederationError: what runs does not stop.
    """
    want(study, wish)
    end = time.monotonic() + STOP_SECONDS
    while now := running(study):
        if time.monotonic() >= end:
            raise FederationError(
                f"{now[0].words} of study {study.path.name} does not stop",
                remedy=f"end the command that runs it, or see the logs in {home.logs_path}",
            )
        time.sleep(POLL_SECONDS)
    return standing(home, study)
