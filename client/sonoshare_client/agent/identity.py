"""The agent goes over to its next identity key, when its copy of the log shows that it follows the present one.

The log decides, and nothing else: neither a roster nor a command at the coordinator. Before the ledger passes to the
new key it is checked that it holds every head of itself that the log shows, so an older copy of it never passes on.

    1. state/log.jsonl shows the succession          (a kill here: done at the next start)
    2. the ledger's entry, signed by both keys       (a kill here: ended by whoever opens the ledger next)
    3. identity.next.key takes identity.key's place

A succession to a key that is not here was made by somebody else who has this hospital's key, or this folder is a
restored copy of before: the agent then does nothing more.
"""

from sonoshare_client.agent.ledger_heads import require_logged_heads
from sonoshare_client.node.home import NodeHome
from sonoshare_client.node.ledger import take_next_identity
from sonoshare_privacy.ledger import Ledger
from sonoshare_shared.errors import RefusedError
from sonoshare_shared.protocol.keys import SigningKey
from sonoshare_shared.protocol.log_index import LogIndex


def followed_identity(home: NodeHome, key: SigningKey, ledger: Ledger, index: LogIndex) -> SigningKey:
    """The identity key that this hospital has by the log; the ledger and the folder have gone over to it.

    Args:
        home: the node's folder.
        key: its identity key.
        ledger: open, with that key.
        index: its copy of the log.

    Raises:
        RefusedError: the log passes this hospital's identity to a key that is not here.
        LedgerError: the ledger is older than a head that the log holds.
    """
    require_logged_heads(ledger, index, key.public)
    passed = index.passed_on(key.public)
    if passed is None:
        return key
    said, following = passed.said.document, home.next_identity()
    if following is None or following.public != said.new_key:
        raise RefusedError(
            "the log passes this hospital's identity to a key that is not here, with fingerprint "
            + said.new_key.fingerprint,
            remedy="a copy of before was restored: bring back the newest folder; if this hospital did not change its "
            "key, somebody has it: tell coordinator and hospitals by telephone (docs/keys.md)",
        )
    ledger.succeed(following)
    take_next_identity(home, following)
    return following
