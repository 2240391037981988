"""The number of a release among all of the consortium: taken once, kept, and never given to another.

    sequences.json  {"spring": {"study": "trial", "number": 1}, "autumn": {"study": "trial", "number": 2}}

Two releases that are built at once, by two commands, get two numbers, since the folder's lock is held from the look to
the write; a release whose command was killed has the same number when it is built again. A number is taken once all
PASS are there, so that a candidate which is refused leaves no gap.

Promise: a number and a name are of one release for good, across kills and processes.
Not promised: that no number is missing: a release that was given up between its manifest and its seal keeps its own.
"""

from dataclasses import dataclass

from sonoshare_server.changing import one_at_a_time
from sonoshare_server.home import CoordinatorHome
from sonoshare_shared.errors import InputError
from sonoshare_shared.protocol.documents.release import ReleaseManifest
from sonoshare_shared.state import read_state, write_state


@dataclass(frozen=True)
class Taken:
    """The number of a release, and the study that it is of."""

    study: str
    number: int


@one_at_a_time
def take_sequence(home: CoordinatorHome, study: str, release: str) -> int:
    """The number of a release; taken now, unless it was before.

    Raises:
        InputError: a release of another study has the name.
        IntegrityError: ``sequences.json`` is damaged.
    """
    taken = _taken(home)
    own = taken.get(release)
    if own is None:
        own = Taken(study, 1 + max((one.number for one in taken.values()), default=0))
        write_state(home.sequences_path, {**taken, release: own})
    if own.study != study:
        raise InputError(
            f"release {release} is of study {own.study}", remedy="a release needs a name of its own: choose another"
        )
    return own.number


def _taken(home: CoordinatorHome) -> dict[str, Taken]:
    """Numbers that were taken; of a folder of before, those that its manifests hold."""
    try:
        return read_state(home.sequences_path, dict[str, Taken], remedy="put back its newest copy")
    except FileNotFoundError:
        drafts = [path for study in home.studies() for path in study.drafted_manifests()]
        manifests = [ReleaseManifest.from_bytes(path.read_bytes()) for path in [*drafts, *home.sealed_manifests()]]
        return {manifest.release: Taken(manifest.study, manifest.sequence) for manifest in manifests}
