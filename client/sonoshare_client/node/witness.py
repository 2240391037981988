"""What this hospital has seen of the consortium: the pinned roster, and the newest log head.

A request is acted on only if its plan is signed by the coordinator of the pinned roster and the log shows the
object that it names; the log must extend the one seen before (CASES 35, 61). The head is stored before the request
is acted on, so that a server cannot show one log now and another later.
"""

from datetime import UTC, datetime
from pathlib import Path

from sonoshare_shared.durable import write_atomically
from sonoshare_shared.errors import InputError, IntegrityError, RefusedError
from sonoshare_shared.protocol import merkle
from sonoshare_shared.protocol.canonical import canonical_bytes
from sonoshare_shared.protocol.documents import LogHead, Roster, StudyPlan
from sonoshare_shared.protocol.documents.exchange import LogEvidence
from sonoshare_shared.protocol.documents.plan import PLAN_PAYLOAD_TYPE
from sonoshare_shared.protocol.documents.roster import ROSTER_PAYLOAD_TYPE
from sonoshare_shared.protocol.envelope import Envelope
from sonoshare_shared.protocol.keys import PublicKey
from sonoshare_shared.protocol.signed import Signed
from sonoshare_shared.protocol.translog import require_extension, verified_head

ROSTER_FILE = "roster.dsse.json"
ROOT_KEY_FILE = "root.pub"
HEAD_FILE = "log-head.json"


def enrol(folder: Path, roster: Envelope, root_key: PublicKey) -> Roster:
    """Pin a consortium: check the roster against its root key and store both.

    Raises:
        VerificationError: the roster is not signed by this root key.
        RefusedError: the roster is older than, or of another root than, the one pinned before.
    """
    checked = _checked_roster(roster, root_key)
    if (folder / ROSTER_FILE).exists():
        before = pinned_roster(folder)
        if before.root_key != checked.root_key or checked.version < before.version:
            raise RefusedError("an older or foreign roster is not accepted", remedy="ask the consortium's root")
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    # The roster last: until it is there, the hospital can be enrolled anew.
    write_atomically(folder / ROOT_KEY_FILE, f"{root_key.hex}\n".encode())
    write_atomically(folder / ROSTER_FILE, roster.to_bytes())
    return checked


def pinned_roster(folder: Path) -> Roster:
    """The roster this hospital has pinned, checked again.

    Raises:
        InputError: the hospital is not enrolled.
    """
    if not (folder / ROOT_KEY_FILE).exists() or not (folder / ROSTER_FILE).exists():
        raise InputError("this hospital is not enrolled in a consortium", remedy="run: sonoshare hospital enrol")
    root_key = PublicKey.from_hex((folder / ROOT_KEY_FILE).read_text().strip())
    return _checked_roster(Envelope.load(folder / ROSTER_FILE), root_key)


def checked_plan(plan: Envelope, roster: Roster, hospital: str) -> StudyPlan:
    """Check a plan's signature and that this hospital takes part.

    Raises:
        VerificationError: not signed by the roster's coordinator.
        RefusedError: the roster has expired or this hospital is not in the plan.
    """
    coordinator = PublicKey.from_hex(roster.coordinator_key)
    checked = Signed.opened(StudyPlan, plan, coordinator, PLAN_PAYLOAD_TYPE).document
    if roster.expired(datetime.now(UTC)):
        raise RefusedError("the roster has expired", remedy="ask the coordinator for a new one")
    if hospital not in checked.cohorts or roster.hospital(hospital) is None:
        raise RefusedError(f"{hospital} is not part of this study", remedy="ask the coordinator")
    return checked


class LogWitness:
    """The newest log head this hospital has seen, in one file."""

    def __init__(self, folder: Path, coordinator: PublicKey) -> None:
        self._path, self._coordinator = folder / HEAD_FILE, coordinator

    @property
    def head(self) -> LogHead | None:
        """The newest head, or None before the first."""
        return LogHead.from_bytes(self._path.read_bytes()) if self._path.exists() else None

    @property
    def size(self) -> int:
        """Size of the log seen so far."""
        return self.head.size if self.head else 0

    def require(self, evidence: LogEvidence, entry: dict[str, object]) -> LogHead:
        """Check that the log shows ``entry`` and extends what was seen; remember its head.

        Raises:
            IntegrityError: it does not.
        """
        head = verified_head(evidence.head, self._coordinator)
        seen = self.head
        if seen is not None:
            if evidence.witnessed_size != seen.size:
                raise IntegrityError("the log evidence starts elsewhere", remedy="ask for the hospital's keys again")
            require_extension(seen, head, list(evidence.consistency))
        proof = [bytes.fromhex(node) for node in evidence.inclusion]
        root = bytes.fromhex(head.root)
        if not merkle.verify_inclusion(canonical_bytes(entry), evidence.index, head.size, proof, root):
            raise IntegrityError(
                "the log does not show what was sent to this hospital",
                remedy="tell the other hospitals: the server may be showing different models",
            )
        write_atomically(self._path, head.canonical())
        return head


def _checked_roster(roster: Envelope, root_key: PublicKey) -> Roster:
    checked = Signed.opened(Roster, roster, root_key, ROSTER_PAYLOAD_TYPE).document
    if checked.root_key != root_key.hex:
        raise RefusedError("the roster names another root key", remedy="ask the consortium's root")
    return checked
