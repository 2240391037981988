"""Fetching pictures from the hospital's archive into the node's inbox.

The process that asks bounds its own memory first: what an archive answers must not take the machine down.
"""

import resource
from typing import Final

from sonoshare_client.node.home import NodeHome
from sonoshare_client.sources.inbox import MIB, Inbox
from sonoshare_client.sources.moving import Moved, move
from sonoshare_client.sources.query import Query
from sonoshare_client.sources.web import Fetched, checked_session, fetch
from sonoshare_shared.errors import InputError
from sonoshare_shared.locks import is_locked

MEMORY_BYTES: Final = 4096 * MIB
WRITER: Final = "pull"


def pull_by_dicomweb(home: NodeHome, query: Query) -> Fetched:
    """Ask a DICOMweb server.

    Raises:
        PolicyError: the policy does not name it.
        FederationError: it is not there, or does not answer as it should.
        InputError: it leads elsewhere, too many studies fit, or the password cannot be read.
    """
    rules = home.policy().intake.sources
    session = checked_session(query.permitted_origin(rules), rules.maximum_object_mib * MIB)
    if query.authority is not None:
        session.verify = str(query.authority)
    if query.user is not None:
        session.auth = (query.user, _password(query))
    _bound_memory()
    inbox = Inbox(home.inbox_path, rules.maximum_inbox_mib * MIB, WRITER)
    return fetch(query.source, session, query.match, inbox)


def pull_by_move(home: NodeHome, query: Query) -> Moved:
    """Have an archive send to the receiver.

    Raises:
        PolicyError: the policy does not name it.
        InputError: no receiver runs, or too many studies fit.
        FederationError: the archive is not there, or refuses.
    """
    rules = home.policy().intake.sources
    peer = query.permitted_peer(rules)
    if not is_locked(home.state.receiver_lock_path):
        raise InputError(
            "nothing receives what the archive would send", remedy="run 'sonoshare hospital receive' beside this"
        )
    _bound_memory()
    return move(peer, rules.title, query.match)


def _password(query: Query) -> str:
    if query.password_file is None:
        raise InputError("the query names a user and no password_file", remedy="add password_file")
    return query.password_file.read_text(encoding="utf-8").strip()


def _bound_memory() -> None:
    _, hard = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, hard))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
