"""What the coordinator wants of a study: one small file, and everything else about it is worked out.

    wanted.json  {"state": "run", "priority": 0}

| wanted | meaning | back to ``run`` |
|---|---|---|
| ``run`` | rounds and releases may run; so it is without the file | |
| ``paused`` | whatever runs stops, and waits until somebody runs it again | by running it |
| ``cancelled`` | no further round and no release, for good | never |
| ``retired`` | it has done its work: no further round and no release; what was released stays | never |

Whether the study *does* run is never written here (``standing``), so a kill leaves nothing stale. Two commands change
it one after the other: a priority that is set while a study is cancelled does not bring it back.
"""

from dataclasses import dataclass, replace
from typing import Final, Literal

from sonoshare_server.paths import StudyPaths
from sonoshare_shared.errors import FederationError, RefusedError, StoppedError
from sonoshare_shared.locks import locked
from sonoshare_shared.state import read_state, write_state

Wish = Literal["run", "paused", "cancelled", "retired"]
FINAL: Final = ("cancelled", "retired")
WAIT_SECONDS: Final = 10.0


@dataclass(frozen=True)
class Wanted:
    """What the coordinator wants of a study.

    Attributes:
        state: what shall become of it.
        priority: of two studies that want their turn, the one of the higher number goes first.
    """

    state: Wish = "run"
    priority: int = 0


def wanted(study: StudyPaths) -> Wanted:
    """What is wanted of a study."""
    try:
        return read_state(study.wanted_path, Wanted, remedy="say it again: sonoshare coordinator study run")
    except FileNotFoundError:
        return Wanted()


def want(study: StudyPaths, state: Wish, priority: int | None = None) -> Wanted:
    """Say what shall become of a study.

    Args:
        study: the study.
        state: what shall become of it.
        priority: None leaves it as it is.

    Raises:
        RefusedError: it was cancelled or retired, which is final.
        FederationError: another command does not end saying so.
    """
    busy = FederationError("another command says what shall become of this study", remedy="try again")
    with locked(study.wanted_lock_path, busy, WAIT_SECONDS):
        before = wanted(study)
        if before.state in FINAL and state != before.state:
            raise RefusedError(
                f"study {study.path.name} was {before.state}, and that is final",
                remedy="create a study of another name",
            )
        now = replace(before, state=state, priority=before.priority if priority is None else priority)
        if now != before:
            write_state(study.wanted_path, now)
        return now


def require_wanted(study: StudyPaths) -> None:
    """Check that a study shall still run.

    Raises:
        StoppedError: it shall not.
    """
    state = wanted(study).state
    if state != "run":
        remedy = "" if state in FINAL else "go on with: sonoshare coordinator study run"
        raise StoppedError(f"study {study.path.name} was {state}", remedy=remedy)
