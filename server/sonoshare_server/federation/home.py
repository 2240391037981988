"""The coordinator's folder, and the state of its studies: written atomically, resumable after any kill.

    coordinator.key  roster.dsse.json  nodes.json  pki/  log.jsonl  releases/  catalogue.db
    studies/<study>/plan.dsse.json  state.json  witness.json  events.jsonl  rounds/0000.safetensors ...
                    ballot.safetensors  votes/

``state.json`` names the newest adapter; it is replaced only after the adapter's file is durable, so a server
killed at any moment continues from the last whole round (CASES 39).
"""

import fcntl
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from sonoshare_shared.durable import write_atomically
from sonoshare_shared.errors import FederationError, InputError
from sonoshare_shared.protocol.canonical import sha256_hex
from sonoshare_shared.protocol.documents import Roster, StudyPlan
from sonoshare_shared.protocol.documents.plan import PLAN_PAYLOAD_TYPE
from sonoshare_shared.protocol.documents.roster import ROSTER_PAYLOAD_TYPE
from sonoshare_shared.protocol.envelope import Envelope
from sonoshare_shared.protocol.keys import PublicKey, SigningKey
from sonoshare_shared.protocol.release import layout
from sonoshare_shared.protocol.translog import TransparencyLog

EVENTS: Final = "events.jsonl"


@dataclass(frozen=True)
class Witness:
    """What the coordinator last saw of a hospital: the log size it has witnessed, and its ledger's head."""

    log_size: int = 0
    ledger_head: str | None = None


@dataclass(frozen=True)
class StudyState:
    """How far a study is: rounds done, and the digest of the newest adapter."""

    rounds_done: int
    adapter_digest: str


class CoordinatorHome:
    """The coordinator's folder."""

    def __init__(self, path: Path) -> None:
        if not (path / "coordinator.key").is_file():
            raise InputError(f"{path.name} is not a coordinator's folder", remedy="run: sonoshare coordinator init")
        self.path = path
        self.key = SigningKey.load(path / "coordinator.key")
        self.releases = path / "releases"

    @property
    def roster_envelope(self) -> Envelope:
        """The signed roster."""
        return Envelope.load(self.path / "roster.dsse.json")

    @property
    def roster(self) -> Roster:
        """The roster, checked against the root key beside it."""
        root = PublicKey.from_hex((self.path / "root.pub").read_text().strip())
        return Roster.from_bytes(self.roster_envelope.verify(root, ROSTER_PAYLOAD_TYPE))

    @property
    def nodes(self) -> dict[str, int]:
        """Flower node id of each hospital."""
        nodes: dict[str, int] = json.loads((self.path / "nodes.json").read_text())
        return nodes

    def log(self) -> TransparencyLog:
        """The transparency log; open it only inside ``exclusive``."""
        return TransparencyLog(self.path / "log.jsonl", self.key, lambda: datetime.now(UTC))

    def study(self, name: str) -> "Study":
        """A study that was created before."""
        return Study(self.path / "studies" / name, self.key.public)

    def create_study(self, plan: StudyPlan, adapter: bytes, digest: str, ballot: bytes | None = None) -> "Study":
        """Sign a plan and store it with the adapter that the first round starts from, and the ballot it names if any.

        Raises:
            InputError: the study exists, or the ballot is not the plan's.
        """
        named = None if plan.calibration is None else plan.calibration.ballot
        if named != (None if ballot is None else sha256_hex(ballot)):
            raise InputError("the ballot is not the one that the plan names", remedy="give the ballot of the plan")
        folder = self.path / "studies" / plan.study
        if (folder / "state.json").exists():
            raise InputError(f"study {plan.study} exists", remedy="resume it, or choose another name")
        (folder / "rounds").mkdir(parents=True, exist_ok=True)
        signed = Envelope.sign(PLAN_PAYLOAD_TYPE, plan.canonical(), self.key)
        write_atomically(folder / "plan.dsse.json", signed.to_bytes())
        if ballot is not None:
            write_atomically(folder / layout.BALLOT, ballot)
        study = Study(folder, self.key.public)
        study.commit_round(0, adapter, digest)
        return study

    @contextmanager
    def exclusive(self) -> Iterator[None]:
        """Hold the coordinator's lock: one action at a time writes the log and the studies (CASES 71)."""
        with (self.path / ".lock").open("w") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                raise FederationError(
                    "another action of this coordinator is running", remedy="wait for it, or stop it"
                ) from error
            yield


class Study:
    """One study's folder."""

    def __init__(self, path: Path, coordinator: PublicKey) -> None:
        if not (path / "plan.dsse.json").is_file():
            raise InputError(f"no study {path.name}", remedy="run: sonoshare coordinator study create")
        self.path = path
        self.plan_envelope = Envelope.load(path / "plan.dsse.json")
        self.plan = StudyPlan.from_bytes(self.plan_envelope.verify(coordinator, PLAN_PAYLOAD_TYPE))

    @property
    def state(self) -> StudyState:
        """How far the study is."""
        return StudyState(**json.loads((self.path / "state.json").read_text()))

    def adapter(self) -> bytes:
        """The newest adapter."""
        return self._adapter_file(self.state.rounds_done).read_bytes()

    def ballot(self) -> bytes:
        """The ballot of a study that has a calibration."""
        return (self.path / layout.BALLOT).read_bytes()

    def commit_round(self, number: int, adapter: bytes, digest: str) -> None:
        """Make a round's adapter the newest, durably: first its file, then the state that names it."""
        write_atomically(self._adapter_file(number), adapter)
        state = StudyState(rounds_done=number, adapter_digest=digest)
        write_atomically(self.path / "state.json", json.dumps(asdict(state)).encode())

    @property
    def witnesses(self) -> dict[str, Witness]:
        """What was last seen of each hospital."""
        path = self.path / "witness.json"
        if not path.exists():
            return {}
        return {hospital: Witness(**fields) for hospital, fields in json.loads(path.read_text()).items()}

    def witness(self, hospital: str, seen: Witness) -> None:
        """Remember what was seen of a hospital."""
        known = {**self.witnesses, hospital: seen}
        fields = {name: asdict(witness) for name, witness in known.items()}
        write_atomically(self.path / "witness.json", json.dumps(fields).encode())

    def event(self, kind: str, **fields: object) -> None:
        """Append a line to the study's event log, which progress displays read."""
        line = json.dumps({"time": datetime.now(UTC).isoformat(), "kind": kind, **fields})
        with (self.path / EVENTS).open("ab+") as file:
            end = file.seek(0, os.SEEK_END)
            file.seek(max(0, end - 1))
            cut = file.read(1) not in {b"", b"\n"}  # by a kill or a full disk: it keeps its own line
            file.write(b"\n" * cut + line.encode() + b"\n")

    def events(self) -> list[dict[str, Any]]:
        """All events, oldest first; a line that a kill or a full disk cut is left out."""
        path = self.path / EVENTS
        found: list[dict[str, Any]] = []
        for line in path.read_text(errors="replace").splitlines() if path.exists() else ():
            with suppress(json.JSONDecodeError):
                found.append(json.loads(line))
        return found

    def _adapter_file(self, number: int) -> Path:
        return self.path / "rounds" / f"{number:04d}.safetensors"
