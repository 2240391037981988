"""Inviting hospitals, and admitting those that answer: one code a hospital, used once, decided by a person.

    invited.json    {"west": {"code_key": "…", "expires": "…"}}    public halves of codes alone

Promise: a request is taken only if it is signed by the code of the invitation that waits for that hospital, in time,
and a person has told the fingerprint of its identity key. Then the invitation is spent. A new invitation for the same
hospital takes the place of the old one.
Not promised: that the person heard the fingerprint from the hospital.
"""

import secrets
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

from sonoshare_server.catalogue.publishing import COORDINATOR
from sonoshare_server.changing import one_at_a_time
from sonoshare_server.consortium.admission import admit_under_lock
from sonoshare_server.consortium.members import Consortium, read_members
from sonoshare_server.home import CoordinatorHome
from sonoshare_shared.errors import InputError, IntegrityError, RefusedError
from sonoshare_shared.protocol.documents import HospitalEntry
from sonoshare_shared.protocol.documents.base import Identifier
from sonoshare_shared.protocol.documents.invitation import INVITATION_PAYLOAD_TYPE, Invitation, JoinRequest
from sonoshare_shared.protocol.envelope import Envelope
from sonoshare_shared.protocol.keys import PublicKey, told_fingerprint
from sonoshare_shared.state import read_state, write_state

INVITATION_DAYS: Final = 14
_ANEW: Final = "invite the hospital again: sonoshare coordinator invite"


@dataclass(frozen=True)
class Invited:
    """An invitation that waits.

    Attributes:
        code_key: public half of its code (hex).
        expires: when it is too late.
    """

    code_key: str
    expires: datetime


def read_invited(home: CoordinatorHome) -> dict[str, Invited]:
    """Invitations that wait, by hospital."""
    if not home.invited_path.exists():
        return {}
    return read_state(home.invited_path, dict[str, Invited], remedy="remove it, and invite again who waits")


@one_at_a_time
def invite(
    home: CoordinatorHome, hospital: Identifier, superlink: str, *, days: int = INVITATION_DAYS, now: datetime
) -> Envelope:
    """Make an invitation with a fresh code; an older one for the same hospital is worth nothing any more.

    Args:
        home: the coordinator's folder.
        hospital: id that the hospital will have.
        superlink: ``host:port`` that hospitals connect to.
        days: how long it holds.
        now: the present.

    Raises:
        InputError: the hospital is admitted already, or the id is the coordinator's.
    """
    if hospital == COORDINATOR:
        raise InputError(f"{hospital} names the coordinator in evidence and revocations", remedy="choose another id")
    if hospital in read_members(home):
        raise InputError(f"{hospital} is admitted already", remedy="see: sonoshare coordinator status")
    roster = home.roster_envelope.to_bytes().decode().strip() if home.roster_path.exists() else None
    said = Invitation(
        consortium=Consortium.read(home).name,
        hospital=hospital,
        superlink=superlink,
        authority=home.authority_path.read_text(encoding="ascii"),
        root_key=home.root.hex,
        coordinator_key=home.key.public.hex,
        roster=roster,
        code=secrets.token_hex(32),
        expires=now.astimezone(UTC).replace(microsecond=0) + timedelta(days=days),
    )
    waiting = Invited(said.code_key.public.hex, said.expires)
    # First that it waits: an invitation that was given out and is unknown here would be the worse half.
    write_state(home.invited_path, {**read_invited(home), hospital: waiting})
    return Envelope.sign(INVITATION_PAYLOAD_TYPE, said.canonical(), home.key)


def read_request(home: CoordinatorHome, request: Envelope, now: datetime) -> JoinRequest:
    """The request that answers an invitation which waits; nothing is changed.

    Raises:
        InputError: no invitation waits for such a request.
        RefusedError: the invitation's time is over, or the request is for another consortium.
        IntegrityError: a signature is missing.
    """
    signers = {signature.keyid for signature in request.signatures}
    for hospital, waiting in read_invited(home).items():
        if waiting.code_key in signers:
            said = JoinRequest.opened(request, PublicKey.from_hex(waiting.code_key))
            if (said.hospital, said.consortium, said.root_key) != (hospital, Consortium.read(home).name, home.root.hex):
                raise RefusedError("the request is not for what the invitation was for", remedy=_ANEW)
            if now >= waiting.expires:
                raise RefusedError(f"the invitation of {hospital} ended on {waiting.expires.date()}", remedy=_ANEW)
            return said
    raise InputError("no invitation waits for this request: it was used, replaced, or never made here", remedy=_ANEW)


@one_at_a_time
def admit_request(
    home: CoordinatorHome, request: Envelope, fingerprint: str, *, now: datetime, root_key: Path | None = None
) -> tuple[str, int]:
    """Admit who answered an invitation, by a person's decision; returns the hospital and the roster's version.

    The same command again, after a kill or a second click, finds the hospital admitted and changes nothing.

    Args:
        home: the coordinator's folder.
        request: as it came.
        fingerprint: of the identity key, as the hospital has told it by telephone.
        now: the present.
        root_key: file of the root key; in the folder if absent.

    Raises:
        InputError: no invitation waits for it, the fingerprint is another key's, a key is another hospital's, or the
            root key is not there.
        RefusedError, IntegrityError: as `read_request`.
    """
    try:
        said = read_request(home, request, now)
    except InputError:
        if (known := _admitted_before(home, request)) is None:
            raise
        return known.id, home.roster.version
    if told_fingerprint(fingerprint) != said.fingerprint:
        raise InputError(
            "the key in the file has another fingerprint than the one that was told",
            remedy="ask the hospital again; if it is sure, the file is not the hospital's: do not admit it",
        )
    version = admit_under_lock(home, said.hospital, said.identity_key, said.node_key, root_key)
    # After the roster: a kill between the two leaves an invitation that admits the same keys again.
    write_state(home.invited_path, {name: one for name, one in read_invited(home).items() if name != said.hospital})
    return said.hospital, version


def _admitted_before(home: CoordinatorHome, request: Envelope) -> HospitalEntry | None:
    """The member whose own request this is, admitted with the very keys in it."""
    try:
        said = JoinRequest.from_bytes(request.decoded())
    except IntegrityError:
        return None
    entry = read_members(home).get(said.hospital)
    same = entry is not None and (entry.identity_key, entry.node_key) == (said.identity_key, said.node_key.strip())
    return entry if same else None
