"""The coordinator's folder, and the state of its studies: written atomically, resumable after any kill.

``state.json`` names the newest adapter; it is replaced only after the adapter's file is durable, so a server
killed at any moment continues from the last whole round (CASES 39).
"""

from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from sonoshare_server.changing import one_at_a_time
from sonoshare_server.paths import CoordinatorPaths, StudyPaths
from sonoshare_shared.durable import write_atomically
from sonoshare_shared.errors import InputError
from sonoshare_shared.events import EventLog
from sonoshare_shared.protocol.canonical import sha256_file, sha256_hex
from sonoshare_shared.protocol.documents import Roster, StudyPlan
from sonoshare_shared.protocol.documents.plan import PLAN_PAYLOAD_TYPE
from sonoshare_shared.protocol.documents.roster import ROSTER_PAYLOAD_TYPE
from sonoshare_shared.protocol.envelope import Envelope
from sonoshare_shared.protocol.keys import PublicKey, SigningKey
from sonoshare_shared.protocol.release import layout
from sonoshare_shared.protocol.signed import Signed
from sonoshare_shared.protocol.translog import TransparencyLog
from sonoshare_shared.role_folders import not_of
from sonoshare_shared.state import read_state, write_state


@dataclass(frozen=True)
class StudyState:
    """How far a study is: rounds done, and the digest of the newest adapter."""

    rounds_done: int
    adapter_digest: str


class CoordinatorHome(CoordinatorPaths):
    """The folder of a coordinator that was set up.

    Raises:
        InputError: the folder is no coordinator's.
    """

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        if not self.key_path.is_file():
            raise not_of(path, "coordinator")
        self.key = SigningKey.load(self.key_path)

    @property
    def root(self) -> PublicKey:
        """The consortium's root key."""
        return PublicKey.from_hex(self.root_public_path.read_text().strip())

    @property
    def roster_envelope(self) -> Envelope:
        """The signed roster."""
        return Envelope.load(self.roster_path)

    @property
    def roster(self) -> Roster:
        """The roster, checked against the root key beside it."""
        return Signed.opened(Roster, self.roster_envelope, self.root, ROSTER_PAYLOAD_TYPE).document

    @property
    def nodes(self) -> dict[str, int]:
        """Flower node id of each hospital."""
        return read_state(self.nodes_path, dict[str, int], remedy="put back its newest copy")

    def log(self) -> TransparencyLog:
        """The transparency log, as it is now; others may append to it (``translog``)."""
        return TransparencyLog(self.log_path, self.key, lambda: datetime.now(UTC))

    def views(self) -> dict[str, Envelope]:
        """Newest signed view of each hospital, of the whole consortium: a view spans studies."""
        paths = sorted(self.views_path.glob(f"*{layout.ENVELOPE_SUFFIX}"))
        return {path.name.removesuffix(layout.ENVELOPE_SUFFIX): Envelope.load(path) for path in paths}

    def keep_view(self, hospital: str, view: Envelope) -> None:
        """Keep a hospital's newest view, after its check."""
        self.views_path.mkdir(exist_ok=True)
        write_atomically(self.views_path / f"{hospital}{layout.ENVELOPE_SUFFIX}", view.to_bytes())

    def keep_evidence(self, evidence: bytes) -> None:
        """Keep proof that a hospital signed what cannot be true."""
        self.evidence_path.mkdir(exist_ok=True)
        write_atomically(self.evidence_path / f"{sha256_hex(evidence)}.json", evidence)

    def study(self, name: str, run: str = "") -> "Study":
        """A study that was created before, as it is or as an action on it sees it."""
        return Study(self.studies_path / name, self.key.public, run)

    def studies(self) -> list["Study"]:
        """Every study that was created, by name."""
        return [self.study(path.name) for path in sorted(self.studies_path.glob("*")) if StudyPaths(path).created]

    def sealed_releases(self) -> list[str]:
        """Names of the releases that were sealed."""
        return [path.parent.name for path in self.sealed_manifests()]

    def require_new_study(self, name: str) -> None:
        """Check that no study has this name.

        Raises:
            InputError: one has.
        """
        if StudyPaths(self.studies_path / name).created:
            remedy = f"run: sonoshare coordinator study run --name {name}; or choose another name"
            raise InputError(f"study {name} exists", remedy=remedy)

    @one_at_a_time
    def create_study(self, plan: StudyPlan, adapter: bytes, digest: str, ballot: bytes | None = None) -> "Study":
        """Sign a plan and store it with the adapter that the first round starts from, and the ballot it names if any.

        Raises:
            InputError: the study exists, or the ballot is not the plan's.
        """
        named = None if plan.calibration is None else plan.calibration.ballot
        if named != (None if ballot is None else sha256_hex(ballot)):
            raise InputError("the ballot is not the one that the plan names", remedy="give the ballot of the plan")
        self.require_new_study(plan.study)
        folder = StudyPaths(self.studies_path / plan.study)
        folder.rounds_path.mkdir(parents=True, exist_ok=True)
        signed = Envelope.sign(PLAN_PAYLOAD_TYPE, plan.canonical(), self.key)
        write_atomically(folder.plan_path, signed.to_bytes())
        if ballot is not None:
            write_atomically(folder.ballot_path, ballot)
        study = self.study(plan.study)
        study.commit_round(0, adapter, digest)
        return study


class Study(StudyPaths):
    """A study that was created.

    Args:
        path: its folder.
        coordinator: who signed its plan.
        run: id of the action that its events are of; empty for none.

    Raises:
        InputError: there is none in the folder.
    """

    def __init__(self, path: Path, coordinator: PublicKey, run: str = "") -> None:
        super().__init__(path)
        self.run = run
        if not self.plan_path.is_file():
            raise InputError(f"there is no study {path.name}", remedy="see: sonoshare coordinator study list")
        self.plan_envelope = Envelope.load(self.plan_path)
        self.plan = Signed.opened(StudyPlan, self.plan_envelope, coordinator, PLAN_PAYLOAD_TYPE).document

    @property
    def state(self) -> StudyState:
        """How far the study is."""
        return read_state(self.state_path, StudyState, remedy="put back the newest copy of the study's folder")

    def require_trained(self) -> None:
        """Check that all rounds are done.

        Raises:
            InputError: some are left.
        """
        done, name = self.state.rounds_done, self.plan.study
        if done < self.plan.rounds:
            remedy = f"run: sonoshare coordinator study run --name {name}"
            raise InputError(f"study {name} has {done} of {self.plan.rounds} rounds", remedy=remedy)

    def adapter(self) -> bytes:
        """The newest adapter."""
        return self.adapter_of(self.state.rounds_done)

    @property
    def adapter_path(self) -> Path:
        """File of the newest adapter."""
        return self._adapter_file(self.state.rounds_done)

    def adapter_of(self, number: int) -> bytes:
        """The adapter that was stored for a round; 0 is the one that the first round starts from."""
        return self._adapter_file(number).read_bytes()

    def ballot(self) -> bytes:
        """The ballot of a study that has a calibration."""
        return self.ballot_path.read_bytes()

    def commit_round(self, number: int, adapter: bytes, digest: str) -> None:
        """Make a round's adapter the newest, durably: first its file, then the state that names it."""
        self.keep_adapter(number, adapter)
        self.advance(number, digest)

    def keep_adapter(self, number: int, adapter: bytes) -> None:
        """Store a round's adapter durably; it is not the newest yet."""
        write_atomically(self._adapter_file(number), adapter)

    def kept_digest(self, number: int) -> str | None:
        """Sha256 of the adapter that is stored for a round; None if there is none."""
        path = self._adapter_file(number)
        return sha256_file(path) if path.exists() else None

    def advance(self, number: int, digest: str) -> None:
        """Make the adapter that is stored for a round the newest."""
        write_state(self.state_path, StudyState(rounds_done=number, adapter_digest=digest))

    def event(self, kind: str, **fields: object) -> None:
        """Append a line to the study's event log, which progress displays read; it names the action that it is of."""
        of = {"run": self.run} if self.run else {}
        EventLog(self.events_path).record(kind, **of, **fields)

    def events(self) -> list[dict[str, Any]]:
        """All events, oldest first; a line that a kill or a full disk cut is left out."""
        return EventLog(self.events_path).events()

    def _adapter_file(self, number: int) -> Path:
        return self.rounds_path / f"{number:04d}.safetensors"
