"""Heads of this hospital's ledger that lie outside of it: a ledger that lacks one was restored, copied or replaced.

They stand in the hospital's own stored results and statements, and in its copy of the transparency log, where the
coordinator has logged them as the hospital signed them.
"""

import base64
import binascii
import json
from collections.abc import Iterable
from typing import Any

from sonoshare_client.agent.replies import ReplyStore
from sonoshare_client.node.home import NodeHome
from sonoshare_client.node.log_copy import LogCopy
from sonoshare_privacy.ledger import Ledger
from sonoshare_shared.errors import IntegrityError
from sonoshare_shared.protocol.envelope import Envelope
from sonoshare_shared.protocol.keys import PublicKey
from sonoshare_shared.protocol.log_index import LogIndex


def require_newest(home: NodeHome, ledger: Ledger) -> None:
    """Check that a ledger holds every head of itself that the node's folder shows; before a charge beside the agent.

    Raises:
        LedgerError: it does not: it was restored, copied or replaced.
        IntegrityError: something in the folder is damaged.
    """
    require_logged_heads(ledger, LogCopy.open(home.state_path).index, home.identity().public)
    require_kept_heads(home, ledger)


def require_kept_heads(home: NodeHome, ledger: Ledger) -> None:
    """Check that a ledger holds every head of itself that the node's own results and statements name.

    Raises:
        LedgerError: it does not.
        IntegrityError: one of them is damaged.
    """
    require_signed_heads(ledger, (result.envelope for result in ReplyStore(home.state.replies_path).results()))
    require_signed_heads(ledger, map(Envelope.load, sorted(home.statements_path.glob("*.dsse.json"))))


def require_logged_heads(ledger: Ledger, log: LogIndex, key: PublicKey) -> None:
    """Check that the ledger holds every head of itself in the log.

    Raises:
        LedgerError: it does not.
    """
    ledger.require_not_older_than([logged.head.head for logged in log.heads(key)])


def require_signed_heads(ledger: Ledger, signed: Iterable[Envelope]) -> None:
    """Check that the ledger holds every head that results and statements of this hospital name.

    Raises:
        LedgerError: it does not.
        IntegrityError: a stored envelope is damaged.
    """
    ledger.require_not_older_than([head for envelope in signed if (head := _head_in(envelope)) is not None])


def _head_in(envelope: Envelope) -> str | None:
    """The ledger head that a signed document names, if it names one."""
    try:
        said: Any = json.loads(base64.b64decode(envelope.payload))
    except (ValueError, binascii.Error) as error:
        raise IntegrityError("a stored reply is damaged", remedy="bring back the newest copy of state/") from error
    head = said.get("ledger_head", said.get("predicate", {}).get("ledger_head")) if isinstance(said, dict) else None
    return head if isinstance(head, str) else None
