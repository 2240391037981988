"""What a backup of a coordinator holds, in the order that keeps it true while the coordinator runs.

Who belongs and how they are reached is read at one moment, under the lock of those who change it. What names something
(the state of a study) comes before what it names (its rounds), and the transparency log last of all: whatever was
signed before stands in it.

Not promised: that a backup is new. A coordinator whose log is older than what a hospital holds stops (docs/witness.md).
"""

import stat
from collections.abc import Iterator
from itertools import chain
from typing import Final

from sonoshare_server.changing import changing
from sonoshare_server.home import CoordinatorHome
from sonoshare_shared.backup.archive import Member
from sonoshare_shared.backup.folder import folder_members

KIND: Final = "coordinator"


def coordinator_databases(home: CoordinatorHome) -> list[str]:
    """The coordinator's databases, by their names: a catalogue may be told to keep its own here under any."""
    return [path.name for path in home.path.glob("*.db")]


def coordinator_members(home: CoordinatorHome) -> Iterator[Member]:
    """Everything of a coordinator but what belongs to its running processes.

    Raises:
        InputError: there is a link in the folder.
        FederationError: another command changes the folder, and does not end.
        OSError: a file cannot be read.
    """
    members = (home.consortium_path, home.audit_policy_path, home.members_path, home.nodes_path, home.retired_path)
    with changing(home):
        alone = (*members, home.roster_path, home.root_public_path, home.key_path, home.sequences_path)
        together = [
            Member(path.name, stat.S_IMODE(path.stat().st_mode), len(data), (data,))
            for path in alone
            if path.exists()
            for data in (path.read_bytes(),)
        ]
    passing = (home.addresses_path, home.fleet_path, home.run_path, home.logs_path, home.turns_path, home.flower_path)
    without = [path.name for path in passing] + [member.name for member in together]
    yield from chain(
        together,
        folder_members(
            home.path,
            databases=coordinator_databases(home),
            without=without,
            first=("state.json",),
            last=(home.log_path.name,),
        ),
    )
