"""Who belongs to a consortium, and under which rules: its name, its audit policy, and the admitted hospitals.

    consortium.json  audit-policy.json  members.json

Reading alone; who is admitted is changed in ``admission``.
"""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from sonoshare_server.paths import CoordinatorPaths
from sonoshare_shared.durable import write_atomically
from sonoshare_shared.errors import InputError
from sonoshare_shared.protocol.documents import AuditPlan, HospitalEntry


@dataclass(frozen=True)
class Consortium:
    """What the coordinator's folder says of the consortium besides keys: its name and its audit policy."""

    name: str
    audit: AuditPlan

    def write(self, home: CoordinatorPaths) -> None:
        """Store both."""
        write_atomically(home.consortium_path, json.dumps({"name": self.name}).encode())
        write_atomically(home.audit_policy_path, self.audit.canonical())

    @classmethod
    def read(cls, home: CoordinatorPaths) -> "Consortium":
        """Read both.

        Raises:
            InputError: the folder is no coordinator's.
        """
        try:
            name = str(json.loads(home.consortium_path.read_text())["name"])
            return cls(name, AuditPlan.from_bytes(home.audit_policy_path.read_bytes()))
        except FileNotFoundError as error:
            raise InputError(
                f"{home.path.name} is not a coordinator's folder", remedy="run: sonoshare coordinator init"
            ) from error


def read_members(home: CoordinatorPaths) -> dict[str, HospitalEntry]:
    """Admitted hospitals by id."""
    if not home.members_path.exists():
        return {}
    entries = [HospitalEntry.model_validate(entry) for entry in json.loads(home.members_path.read_text())]
    return {entry.id: entry for entry in entries}


def write_members(home: CoordinatorPaths, members: Mapping[str, HospitalEntry]) -> None:
    """Store who is admitted."""
    listed = [member.model_dump(mode="json") for member in members.values()]
    write_atomically(home.members_path, json.dumps(listed).encode())


def require_members(home: CoordinatorPaths, hospitals: Iterable[str]) -> None:
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
