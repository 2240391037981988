"""Changing a node's identity key without a stop: what the hospital makes for the coordinator (docs/keys.md).

1. `prepare_identity` makes ``identity.next.key`` and a file for the coordinator, signed by the old and the new key. It
   names how far the ledger has come. The node goes on with the old key.
2. The coordinator puts the file into the log, and then the new key into the roster (``coordinator admit --rotate``).
3. The agent sees its succession in its copy of the log, and takes the next key (``agent.identity``): the ledger passes
   to it in an entry that both keys sign, and the old private key is replaced.

Each step can be repeated, and a kill between two leaves a node that goes on with the one key or with the other.
"""

from contextlib import closing
from datetime import UTC, datetime

from sonoshare_client.node.changing import changing
from sonoshare_client.node.home import NodeHome
from sonoshare_client.node.ledger import open_ledger
from sonoshare_client.node.ledger_head import signed_ledger_head
from sonoshare_shared.protocol.documents.identity_succession import IdentitySuccession
from sonoshare_shared.protocol.envelope import Envelope
from sonoshare_shared.protocol.keys import PublicKey, SigningKey


def prepare_identity(home: NodeHome) -> tuple[Envelope, PublicKey]:
    """Make the next identity key, or take the one that was made before, and sign the succession with both.

    Returns:
        The file for the coordinator, and the new public key.

    Raises:
        InputError: a key cannot be read.
        LedgerError: the ledger is missing or not intact.
        FederationError: another command changes the keys.
    """
    with changing(home.state):
        return _prepared(home)


def _prepared(home: NodeHome) -> tuple[Envelope, PublicKey]:
    with closing(open_ledger(home, lambda: datetime.now(UTC))) as ledger:
        if not home.next_identity_key_path.exists():
            SigningKey.generate().save(home.next_identity_key_path)
        old, new = home.identity(), SigningKey.load(home.next_identity_key_path)
        head = signed_ledger_head(home.hospital, ledger, old)
    said = IdentitySuccession(
        hospital=home.hospital,
        old=old.public.hex,
        new=new.public.hex,
        ledger=head,
    )
    return said.signed(old, new), new.public
