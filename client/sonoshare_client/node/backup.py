"""What a backup of a node holds, in the order that keeps it true while the node runs.

Keys first, under the lock of those who change them. Then the head of the log's copy and the state, then the log's copy,
and the ledger last of all: a result that the state names is in the log and in the ledger that were copied after it. So
the ledger of a backup may know of a charge whose result is missing (spent, as it stays), never the other way round.
The vault's index and its pictures are copied while no intake writes.

Not promised: that a backup is new. A ledger that is older than what others have seen does not train (docs/witness.md).
"""

import stat
from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from typing import Final

from sonoshare_client.node.changing import changing
from sonoshare_client.node.home import NodeHome
from sonoshare_client.node.paths import NodePaths
from sonoshare_shared.backup.archive import Member
from sonoshare_shared.backup.folder import folder_members
from sonoshare_shared.errors import InputError
from sonoshare_shared.locks import locked

KIND: Final = "hospital"
_INDEX: Final = "index.db"
"""Of the vault (``vault.store``)."""


def node_databases(home: NodePaths) -> tuple[str, ...]:
    """The node's databases, by their paths in its folder."""
    return _name(home, home.ledger_path), _name(home, home.vault_path / _INDEX)


def node_members(home: NodeHome) -> Iterator[Member]:
    """Everything of a node but what belongs to its running processes.

    Raises:
        InputError: an intake writes, or there is a link in the folder.
        FederationError: a command changes its keys.
        OSError: a file cannot be read.
    """
    state = home.state
    with changing(state):
        keys = [_read(home, path) for path in _key_files(home) if path.exists()]
    passing = (state.unpacked_path, state.path / "bin", state.flower_path, state.logs_path)
    without = [_name(home, path) for path in passing] + [member.name for member in keys]
    busy = InputError("an intake is writing to the vault", remedy="wait until it has ended")
    with locked(home.vault_path / "lock", busy):
        yield from chain(
            keys,
            folder_members(
                home.path,
                databases=node_databases(home),
                without=without,
                first=(state.log_head_path.name, state.log_head_alone_path.name, _INDEX),
                last=(_name(home, state.log_path), _name(home, home.ledger_path)),
            ),
        )


def _key_files(home: NodePaths) -> tuple[Path, ...]:
    return (
        home.home_path,
        home.identity_key_path,
        home.next_identity_key_path,
        home.node_key_path,
        home.node_public_key_path,
        home.next_node_key_path,
        home.next_node_public_key_path,
    )


def _read(home: NodeHome, path: Path) -> Member:
    data = path.read_bytes()
    return Member(_name(home, path), stat.S_IMODE(path.stat().st_mode), len(data), (data,))


def _name(home: NodePaths, path: Path) -> str:
    return path.relative_to(home.path).as_posix()
