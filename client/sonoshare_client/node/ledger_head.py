"""How far a hospital's ledger has come, signed by it: what a view and a change of its identity key both name."""

from sonoshare_privacy.ledger import Ledger
from sonoshare_shared.protocol.documents.view import LEDGER_HEAD_PAYLOAD_TYPE, LedgerHead
from sonoshare_shared.protocol.envelope import Envelope
from sonoshare_shared.protocol.keys import SigningKey


def signed_ledger_head(hospital: str, ledger: Ledger, key: SigningKey) -> Envelope:
    """The newest head of a ledger, signed.

    Args:
        hospital: whose ledger it is.
        ledger: open and intact; it has at least one entry.
        key: the hospital's identity key.
    """
    # One reading: a charge of another process between two would make this a head that no ledger ever had.
    entries = ledger.entries()
    head = LedgerHead(
        hospital=hospital,
        identity_key=key.public.hex,
        entries=len(entries),
        head=entries[-1].charge.digest(),
    )
    return Envelope.sign(LEDGER_HEAD_PAYLOAD_TYPE, head.canonical(), key)
