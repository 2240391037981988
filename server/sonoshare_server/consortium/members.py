"""Who belongs to a consortium, and under which rules: its name, its audit policy, and the admitted hospitals.

    consortium.json  audit-policy.json  members.json

Reading alone; who is admitted is changed in ``admission``.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from sonoshare_server.paths import CoordinatorPaths
from sonoshare_shared.durable import write_atomically
from sonoshare_shared.errors import InputError
from sonoshare_shared.protocol.documents import AuditPlan, HospitalEntry
from sonoshare_shared.role_folders import not_of
from sonoshare_shared.state import read_state, write_state


@dataclass(frozen=True)
class _Named:
    """What ``consortium.json`` holds."""

    name: str


@dataclass(frozen=True)
class Consortium:
    """What the coordinator's folder says of the consortium besides keys: its name and its audit policy."""

    name: str
    audit: AuditPlan

    def write(self, home: CoordinatorPaths) -> None:
        """Store both."""
        write_state(home.consortium_path, _Named(self.name))
        write_atomically(home.audit_policy_path, self.audit.canonical())

    @classmethod
    def read(cls, home: CoordinatorPaths) -> "Consortium":
        """Read both.

        Raises:
            InputError: the folder is no coordinator's.
        """
        try:
            named = read_state(home.consortium_path, _Named, remedy="put back its newest copy")
            return cls(named.name, AuditPlan.from_bytes(home.audit_policy_path.read_bytes()))
        except FileNotFoundError as error:
            raise not_of(home.path, "coordinator") from error


def read_members(home: CoordinatorPaths) -> dict[str, HospitalEntry]:
    """Admitted hospitals by id."""
    if not home.members_path.exists():
        return {}
    entries = read_state(home.members_path, list[HospitalEntry], remedy="put back its newest copy")
    return {entry.id: entry for entry in entries}


def write_members(home: CoordinatorPaths, members: Mapping[str, HospitalEntry]) -> None:
    """Store who is admitted."""
    write_state(home.members_path, list(members.values()))


def require_members(home: CoordinatorPaths, hospitals: Iterable[str]) -> None:
    """Check that the hospitals of a study are admitted; it need not name all that are.

    Raises:
        InputError: one is not admitted.
    """
    if strangers := sorted(set(hospitals) - set(read_members(home))):
        raise InputError(f"{strangers[0]} is not admitted", remedy="see who is: sonoshare coordinator status")
