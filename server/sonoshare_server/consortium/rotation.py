"""Changes of keys that a hospital, or the consortium's root, has signed itself.

A node key: the hospital's identity key vouches for the new one; the old one stays registered until the new one is
online (``registration``). An identity key: both sign, the log shows it before the roster does, and its readers take the
two for one ledger (``protocol.key_lines``). The root key: the new roster is signed by both, and names the new one
(`rotate_root`).
"""

import base64
from pathlib import Path

from sonoshare_server.changing import one_at_a_time
from sonoshare_server.consortium.admission import next_roster, root_signing_key, sign_members
from sonoshare_server.consortium.members import read_members
from sonoshare_server.consortium.registration import require_usable, retire
from sonoshare_server.federation.control import node_key_bytes
from sonoshare_server.federation.registered import same_key
from sonoshare_server.home import CoordinatorHome
from sonoshare_shared.durable import move, write_atomically
from sonoshare_shared.errors import InputError, MisconductError
from sonoshare_shared.protocol.documents import HospitalEntry, Roster
from sonoshare_shared.protocol.documents.identity_succession import SUCCESSION_PAYLOAD_TYPE, opened_succession
from sonoshare_shared.protocol.documents.node_key_change import NODE_KEY_CHANGE_PAYLOAD_TYPE, NodeKeyChange
from sonoshare_shared.protocol.documents.roster import ROSTER_PAYLOAD_TYPE, KeySuccession
from sonoshare_shared.protocol.envelope import Envelope
from sonoshare_shared.protocol.keys import PublicKey, SigningKey, told_fingerprint
from sonoshare_shared.protocol.log_index import succession_entry
from sonoshare_shared.protocol.misconduct import require_ledger_not_older
from sonoshare_shared.protocol.release import layout
from sonoshare_shared.protocol.signed import Signed


def rotate(
    home: CoordinatorHome, change: Envelope, *, fingerprint: str | None = None, root_key: Path | None = None
) -> tuple[str, int]:
    """Take the change of a node key or an identity key; returns the hospital and the roster's version.

    Args:
        home: the coordinator's folder.
        change: what the hospital has signed.
        fingerprint: of the new identity key, as the hospital has told it by telephone; not for a node key.
        root_key: file of the root key; in the folder if absent.

    Raises:
        InputError, IntegrityError: as `rotate_node_key` and `rotate_identity`.
    """
    if change.payloadType == SUCCESSION_PAYLOAD_TYPE:
        if fingerprint is None:
            raise InputError(
                "the file changes an identity key, and who has stolen the old one can make such a file too",
                remedy="have the hospital tell the new key's fingerprint by telephone, and give it: --fingerprint",
            )
        return rotate_identity(home, change, fingerprint, root_key=root_key)
    if fingerprint is not None:
        raise InputError("the file changes a node key", remedy="leave out --fingerprint")
    return rotate_node_key(home, change, root_key=root_key)


@one_at_a_time
def rotate_node_key(home: CoordinatorHome, change: Envelope, *, root_key: Path | None = None) -> tuple[str, int]:
    """Take a hospital's new node key into the roster; returns the hospital and the roster's version.

    Raises:
        InputError: the hospital is not admitted, the key is another hospital's or was taken off before, or the root
            key is not there.
        IntegrityError: the file is not signed by the hospital's identity key, or by the new node key.
    """
    members, root = read_members(home), root_signing_key(home, root_key)
    entry, said = _vouched(members, change)
    said.require_possession()
    node_key_bytes(said.new)
    if same_key(entry.node_key, said.new):
        return entry.id, home.roster.version  # done before
    if not same_key(entry.node_key, said.old):
        raise InputError(
            f"{entry.id} is admitted with another node key than the one that this file replaces",
            remedy="make the file again: sonoshare hospital keys rotate --node",
        )
    require_usable(home, said.new)
    if any(same_key(other.node_key, said.new) for other in members.values()):
        raise InputError("another hospital is admitted with this node key", remedy="make the file again")
    retire(home, entry.id, entry.node_key, "rotated")
    changed = entry.model_copy(update={"node_key": said.new})
    return entry.id, sign_members(home, {**members, entry.id: changed}, root)


@one_at_a_time
def rotate_identity(
    home: CoordinatorHome, change: Envelope, fingerprint: str, *, root_key: Path | None = None
) -> tuple[str, int]:
    """Take a hospital's new identity key into the log and then the roster; returns the hospital and roster's version.

    Checked before anything is written; a change that was cut off after the log is ended by the same command.

    Raises:
        InputError: the fingerprint is another key's, the hospital is not admitted with the old key, the old key was
            passed on to another, the new one was used before by anybody, or the root key is not there.
        IntegrityError: not both keys signed, or the ledger in it is older than the log shows; as MisconductError, it
            is another ledger of the same length, and the evidence was kept.
    """
    members, root = read_members(home), root_signing_key(home, root_key)
    signed, head = opened_succession(change)
    said, log = signed.document, home.log()
    if told_fingerprint(fingerprint) != said.new_key.fingerprint:
        raise InputError(
            "the new key in the file has another fingerprint than the one that was told",
            remedy="ask the hospital again; if it is sure, the file is not the hospital's: do not admit it",
        )
    passed = log.index.passed_on(said.old_key)
    if passed is not None and passed.said.document.new != said.new:
        raise InputError(
            f"{said.hospital} has passed its identity key on to another before",
            remedy="ask the hospital by telephone: of two files of one key, one was made by a thief",
        )
    entry = members.get(said.hospital)
    if passed is not None and entry is not None and entry.identity_key == said.new:
        return entry.id, home.roster.version  # done before
    if entry is None or entry.identity_key != said.old:
        raise InputError("the file is of no admitted hospital", remedy="see: sonoshare coordinator status")
    if passed is None:
        _require_unused(home, members, said.new_key)
        try:
            require_ledger_not_older(head, said.ledger, log.index)
        except MisconductError as error:
            home.keep_evidence(error.evidence)
            raise
        log.append(succession_entry(said.old, change))
        digest = signed.digest
    else:
        digest = passed.said.digest  # a file made again names more of the ledger: the log's counts
    changed = entry.model_copy(update={"identity_key": said.new})
    named = KeySuccession(hospital=entry.id, old=said.old, new=said.new, succession=digest)
    return entry.id, sign_members(home, {**members, entry.id: changed}, root, [named])


def _require_unused(home: CoordinatorHome, members: dict[str, HospitalEntry], new: PublicKey) -> None:
    """Check that nobody has, or had, a key."""
    taken = {entry.identity_key for entry in members.values()} | {home.root.hex, home.key.public.hex}
    if new.hex in taken or home.log().index.is_used(new):
        raise InputError("the new identity key was used before", remedy="remove identity.next.key, make the file again")


def _vouched(members: dict[str, HospitalEntry], change: Envelope) -> tuple[HospitalEntry, NodeKeyChange]:
    """The hospital whose identity key signed the file, and what it says."""
    for entry in members.values():
        if entry.identity_key in {signature.keyid for signature in change.signatures}:
            said = Signed.opened(NodeKeyChange, change, entry.key, NODE_KEY_CHANGE_PAYLOAD_TYPE).document
            if (said.hospital, said.identity_key) == (entry.id, entry.identity_key):
                return entry, said
    raise InputError("the file is of no admitted hospital", remedy="see: sonoshare coordinator status")


@one_at_a_time
def rotate_root(home: CoordinatorHome, *, root_key: Path | None = None) -> tuple[SigningKey, int]:
    """Give the consortium a new root key: the next roster is signed by both; returns the key and the roster's version.

    Hospitals that have pinned the old key follow only because it signed too. The roster names every roster that a
    release rests on by its digest, so that old releases verify with the new roster, and the old key is trusted with
    nothing any more. A change that was cut off is ended by the same command.

    Args:
        home: the coordinator's folder.
        root_key: file of the old key; in the folder if absent.

    Raises:
        InputError: nobody is admitted yet, or the old key is not there.
    """
    members = read_members(home)
    if not members:
        raise InputError("nobody is admitted yet", remedy="run: sonoshare coordinator admit")
    path = home.next_root_key_path
    if not path.exists():
        old = root_signing_key(home, root_key)
        SigningKey.generate().save(path)
    new = SigningKey.load(path)
    if home.roster.root_key != new.public.hex:
        old = root_signing_key(home, root_key)
        roster = next_roster(home, members, new.public, [*_rosters_of_releases(home), home.roster.digest()])
        signed = Envelope.sign(ROSTER_PAYLOAD_TYPE, roster.canonical(), new).countersigned(old)
        write_atomically(home.roster_path, signed.to_bytes())
    # Until here the old key is this folder's root, and the roster is signed by it too: a kill leaves what works.
    write_atomically(home.root_public_path, f"{new.public.hex}\n".encode())
    move(path, home.root_key_path)
    return new, home.roster.version


def _rosters_of_releases(home: CoordinatorHome) -> list[str]:
    """Digests of the rosters that sealed releases rest on."""
    found: dict[str, None] = {}
    for release in home.sealed_releases():
        envelope = Envelope.load(home.releases / release / layout.ROSTER)
        found[Signed.opened(Roster, envelope, _named_root(envelope), ROSTER_PAYLOAD_TYPE).digest] = None
    return list(found)


def _named_root(envelope: Envelope) -> PublicKey:
    """The root key that a roster of one's own folder names."""
    return PublicKey.from_hex(Roster.from_bytes(base64.b64decode(envelope.payload)).root_key)
