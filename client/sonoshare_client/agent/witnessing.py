"""What this hospital must have seen before it acts, and what it signs that it has seen.

Before anything that is charged or published, in this order: no evidence of misconduct stands; the log shown extends the
hospital's own copy (``node.log_copy``); the ledger contains every head of itself that the log holds; if the log shows
that this hospital's identity key was changed, it is (``agent.identity``); the log holds the ledger's newest head; the
log shows what is asked for; and other hospitals hold the same log (``node.peers``).
An introduction passes all but the last three, and is answered even while evidence stands: the view says so.
"""

from collections.abc import Sequence

from sonoshare_client.agent.node import Node
from sonoshare_client.node.ledger_head import signed_ledger_head
from sonoshare_client.node.peers import Asker, require_peers
from sonoshare_shared.errors import WitnessError
from sonoshare_shared.protocol.documents.exchange import KeysRequest
from sonoshare_shared.protocol.documents.view import (
    VIEW_PAYLOAD_TYPE,
    HospitalView,
    LogPart,
    Shown,
)
from sonoshare_shared.protocol.envelope import Envelope
from sonoshare_shared.protocol.keys import PublicKey
from sonoshare_shared.protocol.log_index import Entry
from sonoshare_shared.protocol.views import result_digest


def require_shown(node: Node, shown: Shown, entries: Sequence[Entry], *, after: Entry) -> None:
    """Check that the hospital, and others with it, has seen what it must before it acts.

    Args:
        node: the hospital.
        shown: log part and views from the request.
        entries: what the log must show.
        after: an entry whose slot (whatever digest it names) the other hospitals must have seen filled.

    Raises:
        RefusedError: evidence stands here or elsewhere; or, as WitnessError, something is not shown yet.
        LedgerError: the ledger is older than a head that the log holds.
        IntegrityError: the log is not what it should be; as MisconductError, that is proved and was kept.
    """
    node.evidence.require_none()
    with node.evidence.keeping():
        _extend(node, shown.log)
        _require_ledger_logged(node)
        roster = node.roster()  # once the log is seen: it says which keys the others have now
        _require_entries(node, entries)
        step = node.log.index.place(after)
        if step is None:
            raise WitnessError("the log does not show the step before this one", remedy="resume the study")
        require_peers(
            Asker(node.hospital, node.challenge, roster, node.log),
            shown.views,
            needed=node.home.policy().federation.peers,
            reach=node.log.index.must_have_seen(node.key.public, step),
        )


def require_logged(node: Node, part: LogPart, entries: Sequence[Entry]) -> None:
    """Check that the log shows what is asked for: enough where nothing is charged or published.

    Raises:
        RefusedError: evidence stands here; or, as WitnessError, something is not shown yet.
        IntegrityError: the log is not what it should be; as MisconductError, that is proved and was kept.
    """
    node.evidence.require_none()
    with node.evidence.keeping():
        _extend(node, part)
        _require_entries(node, entries)


def introduced(node: Node, request: KeysRequest) -> Envelope:
    """Take in the log that an introduction shows, and sign a view that answers its challenges.

    Raises:
        LedgerError: the ledger is older than a head that the log holds.
        IntegrityError: the log is not what it should be; as MisconductError, that is proved and was kept.
    """
    if request.log is not None and node.evidence.standing() is None and request.log.first <= node.log.size:
        with node.evidence.keeping():
            _extend(node, request.log)
    node.follow_identity()
    others = {hospital.id for hospital in node.roster().hospitals} - {node.hospital}
    # What was answered once stays answered: a later view is no older than the challenge either.
    node.answered.update({name: challenge for name, challenge in request.challenges.items() if name in others})
    return signed_view(node)


def signed_view(node: Node, result: Envelope | None = None) -> Envelope:
    """Sign what this hospital has seen by now.

    Args:
        node: the hospital.
        result: what the view goes with; None with an introduction.
    """
    key = node.key
    view = HospitalView(
        hospital=node.hospital,
        identity_key=key.public.hex,
        ledger=signed_ledger_head(node.hospital, node.ledger, key),
        log=node.log.head,
        challenge=node.challenge,
        answers=dict(node.answered),
        evidence=node.evidence.standing(),
        result=None if result is None else result_digest(result),
    )
    return Envelope.sign(VIEW_PAYLOAD_TYPE, view.canonical(), key)


def _require_entries(node: Node, entries: Sequence[Entry]) -> None:
    for entry in entries:
        node.log.require_entry(entry)


def _extend(node: Node, part: LogPart) -> None:
    node.log.extend(part, PublicKey.from_hex(node.roster().coordinator_key))
    node.masks.forget_closed(node.log.index)


def _require_ledger_logged(node: Node) -> None:
    """The next charge waits until the log, and with it every other hospital, knows of the one before."""
    node.follow_identity()
    newest = node.log.index.newest_head(node.key.public)
    if newest is None or newest.head.head != node.ledger.head():
        raise WitnessError(
            "the log does not hold the newest head of this hospital's ledger", remedy="ask for its keys and log them"
        )
