"""The ServerApp: one Flower run is one action on one study, named by the run configuration.

The run configuration carries names only, and the id of the action that a command asked for: where nobody waits for it
any more (``actions``), it stops at the next look for answers. The plan comes signed from the coordinator's folder
(environment variable ``SONOSHARE_COORDINATOR_HOME``, set by whoever starts the SuperLink), and hospitals check it for
themselves.
"""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Final

from sonoshare_server.federation.calibration import collect_votes
from sonoshare_server.federation.carried import by_files, mixed_fleet
from sonoshare_server.federation.closing import whom_to_ask
from sonoshare_server.federation.coordinator import Coordinator
from sonoshare_server.federation.fleet import FlowerFleet
from sonoshare_server.federation.flower import Context, Grid, ServerApp
from sonoshare_server.federation.proposing import propose, require_enough
from sonoshare_server.federation.registered import couriers
from sonoshare_server.federation.rounds import train
from sonoshare_server.federation.statements import collect_signatures, collect_statements
from sonoshare_server.home import CoordinatorHome
from sonoshare_server.paths import HOME_VARIABLE
from sonoshare_server.queue.actions import Action, require_asked_for
from sonoshare_shared.errors import FederationError, SonoShareError, StoppedError

NODES_DEADLINE_SECONDS: Final = 120.0
NODES_GRACE_SECONDS: Final = 10.0
"""For hospitals beyond a quorum: a courier finds a restarted server again in a few seconds."""

app = ServerApp()


@app.main()
def main(grid: Grid, context: Context) -> None:
    """Run the action of this run; failures are written to the study's events and fail the run."""
    home = CoordinatorHome(Path(os.environ[HOME_VARIABLE]))
    said = {name: str(context.run_config[name]) for name in ("action", "study", "release", "run")}
    action, release = said["action"], said["release"]
    study = home.study(said["study"], said["run"])
    asked = Action(action, release, said["run"])
    actions: dict[str, Callable[[Coordinator], None]] = {
        "propose": propose,
        "train": _ask_and_train,
        "calibrate": collect_votes,
        "audit": lambda coordinator: collect_statements(coordinator, release),
        "sign": lambda coordinator: collect_signatures(coordinator, release),
    }
    if action not in actions:
        raise FederationError(f"no action {action}", remedy="use propose, train, calibrate, audit or sign")
    study.event("started", action=action, release=release)
    try:
        carried = by_files(home)
        line = FlowerFleet(grid, lambda: couriers(home), lambda: require_asked_for(study, asked))
        everybody = set(study.plan.cohorts if action in {"propose", "train"} else whom_to_ask(home, study))
        hospitals, enough = everybody - carried, study.plan.quorum - len(everybody & carried)
        present = line.wait_for(hospitals, NODES_DEADLINE_SECONDS, enough=enough, grace_seconds=NODES_GRACE_SECONDS)
        study.event("online", hospitals=sorted(present), missing=sorted(hospitals - present))
        fleet = mixed_fleet(home, study, line, carried, lambda: require_asked_for(study, asked))
        actions[action](Coordinator(home, study, fleet, home.log(), action=asked, by_files=carried))
    except StoppedError as error:
        study.event("stopped", action=action, reason=str(error))
        raise
    except SonoShareError as error:
        study.event("failed", action=action, reason=error.message, remedy=error.remedy)
        raise
    study.event("done", action=action)


def _ask_and_train(coordinator: Coordinator) -> None:
    if coordinator.study.state.rounds_done < coordinator.study.plan.rounds:
        require_enough(coordinator)
    train(coordinator)
