"""What a coordinator does with a running SuperLink: admit hospitals, run studies, make releases.

Used by ``sonoshare coordinator`` and by the demonstration alike; nothing is done twice in two ways.
"""

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from sonoshare_deploy.addresses import Addresses
from sonoshare_deploy.provision import CA_CERTIFICATE, forget_node, record_node, sign_roster
from sonoshare_deploy.superlink import FLOWER_APP
from sonoshare_server.federation.control import Control, node_key_bytes
from sonoshare_server.federation.home import CoordinatorHome, Study
from sonoshare_server.release.pipeline import Pipeline
from sonoshare_shared.durable import write_atomically
from sonoshare_shared.errors import FederationError, InputError
from sonoshare_shared.protocol.documents import AuditPlan, HospitalEntry
from sonoshare_shared.protocol.documents.base import values_given
from sonoshare_shared.protocol.documents.plan import Identifier
from sonoshare_shared.protocol.keys import PublicKey

ACTION_SECONDS: Final = 24 * 3600.0
MEMBERS_FILE: Final = "members.json"
CONSORTIUM_FILE: Final = "consortium.json"
AUDIT_FILE: Final = "audit-policy.json"

Watch = Callable[[], None]


@dataclass(frozen=True)
class Consortium:
    """What the coordinator's folder says of the consortium besides keys: its name and its audit policy."""

    name: str
    audit: AuditPlan

    def write(self, home: Path) -> None:
        """Store both."""
        write_atomically(home / CONSORTIUM_FILE, json.dumps({"name": self.name}).encode())
        write_atomically(home / AUDIT_FILE, self.audit.canonical())

    @classmethod
    def read(cls, home: Path) -> "Consortium":
        """Read both.

        Raises:
            InputError: the folder is no coordinator's.
        """
        try:
            name = str(json.loads((home / CONSORTIUM_FILE).read_text())["name"])
            return cls(name, AuditPlan.from_bytes((home / AUDIT_FILE).read_bytes()))
        except FileNotFoundError as error:
            raise InputError(
                f"{home.name} is not a coordinator's folder", remedy="run: sonoshare coordinator init"
            ) from error


def admit(home: Path, hospital: Identifier, identity_key: str, node_key: str) -> int:
    """Admit a hospital and sign a new roster; returns the roster's version.

    Args:
        home: the coordinator's folder.
        hospital: the hospital's id.
        identity_key: its Ed25519 public key, 64 hexadecimal characters.
        node_key: its courier's public key, one line of OpenSSH text.

    Raises:
        InputError: a key is unusable or another hospital's, or the id is taken by another key.
    """
    members = read_members(home)
    PublicKey.from_hex(identity_key)
    node_key_bytes(node_key)
    with values_given("the hospital"):
        entry = HospitalEntry(id=hospital, identity_key=identity_key, node_key=node_key.strip())
    if members.get(hospital, entry) != entry:
        raise InputError(
            f"{hospital} is admitted with other keys",
            remedy="choose another id, or first: sonoshare coordinator expel",
        )
    for other in members.values():
        if other.id != hospital and {other.identity_key, other.node_key} & {entry.identity_key, entry.node_key}:
            raise InputError(f"{other.id} is admitted with one of these keys", remedy="ask the hospital for its own")
    return _sign_members(home, {**members, hospital: entry})


def expel(home: Path, hospital: Identifier) -> int:
    """Sign a new roster without a hospital; returns the roster's version.

    Releases keep the roster that they were made under, so those that the hospital signed verify as before.

    Raises:
        InputError: it is not admitted, or the only one.
    """
    members = read_members(home)
    if hospital not in members:
        raise InputError(f"{hospital} is not admitted", remedy="see: sonoshare coordinator status")
    if len(members) == 1:
        raise InputError(f"{hospital} is the only hospital", remedy="admit another one first")
    version = _sign_members(home, {name: entry for name, entry in members.items() if name != hospital})
    forget_node(home, hospital)
    return version


def _sign_members(home: Path, members: Mapping[str, HospitalEntry]) -> int:
    consortium = Consortium.read(home)
    roster = sign_roster(home, consortium.name, members.values(), consortium.audit.digest())
    listed = [member.model_dump(mode="json") for member in members.values()]
    write_atomically(home / MEMBERS_FILE, json.dumps(listed).encode())
    return roster.version


def require_members(home: Path, hospitals: Iterable[str]) -> None:
    """Check that a study is of all admitted hospitals: each must pass and sign its release.

    Raises:
        InputError: one is not admitted, or one that is admitted is left out.
    """
    named, admitted = set(hospitals), set(read_members(home))
    if strangers := sorted(named - admitted):
        raise InputError(f"{strangers[0]} is not admitted", remedy="run: sonoshare coordinator admit")
    if left_out := sorted(admitted - named):
        raise InputError(
            f"{left_out[0]} is admitted and not in the study, and a release needs every hospital of the roster",
            remedy=f"add --cohort {left_out[0]}=N, or run: sonoshare coordinator expel",
        )


def read_members(home: Path) -> dict[str, HospitalEntry]:
    """Admitted hospitals by id."""
    path = home / MEMBERS_FILE
    if not path.exists():
        return {}
    entries = [HospitalEntry.model_validate(entry) for entry in json.loads(path.read_text())]
    return {entry.id: entry for entry in entries}


def control_of(home: Path) -> Control:
    """Control routes of the running SuperLink."""
    return Control(Addresses.read(home).control, home / CA_CERTIFICATE)


def register_nodes(home: Path, control: Control | None = None) -> None:
    """Register the couriers of all admitted hospitals with the running SuperLink, each once."""
    control, known = control or control_of(home), CoordinatorHome(home).nodes
    for hospital, entry in read_members(home).items():
        if hospital not in known:
            record_node(home, hospital, control.register(hospital, entry.node_key))


def act(home: Path, study: Study, action: str, release: str = "", *, watch: Watch | None = None) -> None:
    """Run one federated action to its end.

    Args:
        home: the coordinator's folder.
        study: the study.
        action: ``train``, ``audit`` or ``sign``.
        release: the release it is about, if any.
        watch: called while it runs, for progress.

    Raises:
        FederationError: the action failed; the reason is the study's last event.
    """
    control = control_of(home)
    run = control.start(FLOWER_APP, {"action": action, "study": study.plan.study, "release": release})
    status = control.wait(run, ACTION_SECONDS, watch=watch)
    if not status.succeeded:
        raise FederationError(
            f"{action} failed: {_failure(study) or status.details or 'no reason given'}",
            remedy="see the study's events, then resume it",
        )


def pipeline(home: Path, study: Study, release: str, *, watch: Watch | None = None) -> Pipeline:
    """The release pipeline over the running SuperLink."""
    return Pipeline(
        home=CoordinatorHome(home),
        study=study,
        release=release,
        act=lambda action, name: act(home, study, action, name, watch=watch),
    )


def now() -> datetime:
    """The present, to the second."""
    return datetime.now(UTC).replace(microsecond=0)


def _failure(study: Study) -> str:
    failures = [event for event in study.events() if event["kind"] == "failed"]
    return str(failures[-1]["reason"]) if failures else ""
