"""Which consortium this hospital has joined: the roster that it pinned, and what follows from it for a plan.

A request is acted on only if its plan is signed by the coordinator of the pinned roster. What the hospital has seen of
the consortium's log since is ``node.log_copy``.
"""

from datetime import UTC, datetime
from pathlib import Path

from sonoshare_client.node.changing import changing
from sonoshare_client.node.paths import StatePaths
from sonoshare_shared.durable import write_atomically
from sonoshare_shared.errors import InputError, IntegrityError, RefusedError
from sonoshare_shared.protocol.documents import Roster, StudyPlan
from sonoshare_shared.protocol.documents.plan import PLAN_PAYLOAD_TYPE
from sonoshare_shared.protocol.documents.roster import ROSTER_PAYLOAD_TYPE
from sonoshare_shared.protocol.envelope import Envelope
from sonoshare_shared.protocol.keys import PublicKey
from sonoshare_shared.protocol.signed import Signed


def enrol(folder: Path, roster: Envelope, root_key: PublicKey) -> Roster:
    """Pin a consortium: check the roster against its root key and store both.

    Raises:
        VerificationError: the roster is not signed by this root key.
        RefusedError: the roster is older than the one pinned before, of another root, or another of its version.
        FederationError: another command pins one too.
    """
    checked = checked_roster(roster, root_key)
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    with changing(StatePaths(folder)):
        _require_newer(folder, roster, checked)
        paths, key = StatePaths(folder), f"{root_key.hex}\n".encode()
        if not paths.roster_path.exists():
            # The roster last: until it is there, the hospital can be enrolled anew.
            write_atomically(paths.root_key_path, key)
        write_atomically(paths.roster_path, roster.to_bytes())
        # A new root key after its roster, which the old one has signed too: a kill between leaves what verifies.
        write_atomically(paths.root_key_path, key)
    return checked


def _require_newer(folder: Path, roster: Envelope, checked: Roster) -> None:
    """Check a roster against the one that is pinned, if one is."""
    if not StatePaths(folder).roster_path.exists():
        return
    before = pinned_roster(folder)
    if before.root_key != checked.root_key and not _follows(roster, before):
        raise RefusedError(
            "this roster is of another root key than the one pinned, which has not signed it too",
            remedy="ask the consortium's root: a change of the root key is signed by both",
        )
    if checked.version < before.version:
        raise RefusedError("an older roster is not accepted", remedy="ask the consortium's root for the newest")
    if checked.version == before.version and checked.canonical() != before.canonical():
        raise RefusedError(
            f"this is another roster of version {before.version} than the one enrolled before",
            remedy="compare it with the other hospitals, and ask the consortium's root for one of a higher version",
        )


def pinned_roster(folder: Path) -> Roster:
    """The roster this hospital has pinned, checked again.

    Raises:
        InputError: the hospital is not enrolled.
    """
    if not StatePaths(folder).root_key_path.exists() or not StatePaths(folder).roster_path.exists():
        raise InputError("this hospital is not enrolled in a consortium", remedy="run: sonoshare hospital enrol")
    root_key = PublicKey.from_hex(StatePaths(folder).root_key_path.read_text().strip())
    roster = Envelope.load(StatePaths(folder).roster_path)
    said = Signed.opened(Roster, roster, root_key, ROSTER_PAYLOAD_TYPE).document
    # Of another root key only where a change of it was cut off: the pinned one signed, and so must the one it names.
    return checked_roster(roster, PublicKey.from_hex(said.root_key))


def _follows(roster: Envelope, before: Roster) -> bool:
    """Whether a roster of another root key is signed by the one that is pinned too, and follows what it signed."""
    try:
        said = Signed.opened(Roster, roster, PublicKey.from_hex(before.root_key), ROSTER_PAYLOAD_TYPE).document
    except IntegrityError:
        return False
    return said.version > before.version and said.consortium == before.consortium


def checked_plan(plan: Envelope, roster: Roster, hospital: str) -> StudyPlan:
    """Check a plan's signature and that this hospital takes part.

    Raises:
        VerificationError: not signed by the roster's coordinator.
        RefusedError: the roster has expired or this hospital is not in the plan.
    """
    coordinator = PublicKey.from_hex(roster.coordinator_key)
    checked = Signed.opened(StudyPlan, plan, coordinator, PLAN_PAYLOAD_TYPE).document
    require_current(roster)
    if hospital not in checked.cohorts or roster.hospital(hospital) is None:
        raise RefusedError(f"{hospital} is not part of this study", remedy="ask the coordinator")
    return checked


def require_current(roster: Roster) -> None:
    """Refuse to act under a roster that has expired.

    Raises:
        RefusedError: it has.
    """
    if roster.expired(datetime.now(UTC)):
        raise RefusedError("the roster has expired", remedy="ask the coordinator for a new one")


def checked_roster(roster: Envelope, root_key: PublicKey) -> Roster:
    """A roster whose signature is the root's.

    Raises:
        VerificationError: it is not signed by this root key.
        RefusedError: it names another root key.
    """
    checked = Signed.opened(Roster, roster, root_key, ROSTER_PAYLOAD_TYPE).document
    if checked.root_key != root_key.hex:
        raise RefusedError("the roster names another root key", remedy="ask the consortium's root")
    return checked
