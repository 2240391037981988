"""Answering a request that came on a stick: the frame goes to the node's agent, whose reply goes into a bundle.

A request for an audit has the batches of its candidate in front, which the agent holds first, as over the network.

The agent is the same, and so is everything that it checks, charges and stores: signatures, policy, ledger, log and the
other hospitals' views. The same request gets the same stored bytes and no second charge. A charged reply leaves at its
slot here too: a file has a date, and whoever carries it knows when it was asked for.
"""

import base64
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from sonoshare_client.node.home import NodeHome
from sonoshare_client.node.witness import pinned_roster
from sonoshare_shared.errors import InputError
from sonoshare_shared.protocol.bundle import BundleHeader, read_bundle_file, write_bundle
from sonoshare_shared.protocol.canonical import sha256_hex
from sonoshare_shared.protocol.documents.exchange import Refusal, answer_in
from sonoshare_shared.protocol.documents.holding import Held


@dataclass(frozen=True)
class Carried:
    """An answer to carry back.

    Attributes:
        header: the reply's.
        bundle: the reply.
        refusal: the refusal in it, if it is one.
    """

    header: BundleHeader
    bundle: bytes
    refusal: Refusal | None


def require_for_this_hospital(home: NodeHome, path: Path) -> tuple[BundleHeader, bytes]:
    """Header and frame of a request, if it is for this hospital.

    Raises:
        InputError: it cannot be read, is a reply, or of another hospital or consortium, or of a roster that is not
            pinned here yet.
        IntegrityError: it is no bundle, or was cut.
    """
    try:
        header, frame = read_bundle_file(path)
    except OSError as error:
        raise InputError(f"{path.name} cannot be read: {error.strerror}", remedy="check the path") from error
    roster, name = pinned_roster(home.state_path), path.name
    if header.kind != "request":
        raise InputError(f"{name} is a reply", remedy="carry it to the coordinator: sonoshare coordinator take")
    if header.consortium != roster.consortium:
        raise InputError(
            f"{name} is of consortium {header.consortium}, not of {roster.consortium}", remedy="carry it back"
        )
    if header.hospital != home.hospital:
        raise InputError(f"{name} is for {header.hospital}, not for {home.hospital}", remedy="carry it there")
    if header.roster > roster.version:
        raise InputError(
            f"{name} was made under roster version {header.roster}; this hospital has pinned {roster.version}",
            remedy="bring roster.dsse.json too, and pin it first: sonoshare hospital enrol",
        )
    return header, frame


def answered(
    home: NodeHome, header: BundleHeader, frame: bytes, ask: Callable[[bytes], bytes], ahead: Iterable[bytes] = ()
) -> Carried:
    """Have the agent answer a request, and before it what goes ahead; a refusal of that is the request's.

    Args:
        home: the node.
        header: the request's.
        frame: the request.
        ask: passes a frame to the agent.
        ahead: what goes ahead of it; read no further than the agent needs.

    Raises:
        FederationError: the agent does not answer.
        IntegrityError: what goes ahead was cut or changed on its way.
    """
    reply = _refusal_of(home, ask, ahead) or ask(frame)
    said = answer_in(reply, home.hospital)
    changes = {"kind": "reply", "frame": sha256_hex(reply), "ahead": None}
    of_reply = header.model_copy(update=changes)
    return Carried(of_reply, write_bundle(of_reply, reply), said if isinstance(said, Refusal) else None)


def _refusal_of(home: NodeHome, ask: Callable[[bytes], bytes], ahead: Iterable[bytes]) -> bytes | None:
    """Have the agent hold what goes ahead; its reply, if that is a refusal."""
    for one in ahead:
        reply = ask(one)
        said = answer_in(reply, home.hospital)
        if isinstance(said, Refusal):
            return reply
        if said.envelope is not None and Held.from_bytes(base64.b64decode(said.envelope.payload)).whole:
            return None
    return None
