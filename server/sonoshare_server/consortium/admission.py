"""Admitting and expelling hospitals: every change signs a new roster, one version above the last.

    members.json  roster.dsse.json

The roster is signed by the consortium's root key, which signs nothing else and is needed here alone; it may lie on
another medium and be named for the moment. Which couriers the SuperLink lets in follows from it (`registration`).

A hospital that was admitted with a wrong key is admitted again with the right one, as long as the wrong one never
signed a ledger head: a key that did has a ledger, and replacing it in passing would shed what was spent under it.
"""

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

from sonoshare_server.catalogue.publishing import COORDINATOR
from sonoshare_server.changing import one_at_a_time
from sonoshare_server.consortium.members import Consortium, read_members, write_members
from sonoshare_server.consortium.registration import forget_node, require_usable, retire
from sonoshare_server.federation.control import node_key_bytes
from sonoshare_server.federation.registered import same_key
from sonoshare_server.home import CoordinatorHome
from sonoshare_shared.durable import write_atomically
from sonoshare_shared.errors import InputError
from sonoshare_shared.protocol.documents import HospitalEntry, Roster
from sonoshare_shared.protocol.documents.base import Identifier, values_given
from sonoshare_shared.protocol.documents.roster import ROSTER_PAYLOAD_TYPE, KeySuccession
from sonoshare_shared.protocol.envelope import Envelope
from sonoshare_shared.protocol.keys import PublicKey, SigningKey

ROSTER_DAYS: Final = 365


@one_at_a_time
def admit(
    home: CoordinatorHome, hospital: Identifier, identity_key: str, node_key: str, *, root_key: Path | None = None
) -> int:
    """Admit a hospital, or correct its keys, and sign a new roster; returns the roster's version.

    Args:
        home: the coordinator's folder.
        hospital: the hospital's id.
        identity_key: its Ed25519 public key, 64 hexadecimal characters.
        node_key: its courier's public key, one line of OpenSSH text.
        root_key: file of the root key; in the folder if absent.

    Raises:
        InputError: a key is unusable or another hospital's; the id is taken by a key that was heard, or names the
            coordinator; or the root key is not there.
    """
    return admit_under_lock(home, hospital, identity_key, node_key, root_key)


def admit_under_lock(
    home: CoordinatorHome, hospital: Identifier, identity_key: str, node_key: str, root_key: Path | None
) -> int:
    """As `admit`, for a change of the folder that holds its lock already.

    Raises:
        InputError: as there.
    """
    members, root = read_members(home), root_signing_key(home, root_key)
    if hospital == COORDINATOR:
        raise InputError(f"{hospital} names the coordinator in evidence and revocations", remedy="choose another id")
    PublicKey.from_hex(identity_key)
    node_key_bytes(node_key)
    require_usable(home, node_key)
    with values_given("the hospital"):
        entry = HospitalEntry(id=hospital, identity_key=identity_key, node_key=node_key.strip())
    for other in members.values():
        same = other.identity_key == entry.identity_key or same_key(other.node_key, entry.node_key)
        if other.id != hospital and same:
            raise InputError(
                f"{other.id} is admitted with one of these keys",
                remedy=f"ask the hospital for its own; if {other.id} has the wrong one, correct {other.id} first",
            )
    _require_own_ledger(home, entry)
    before = members.get(hospital, entry)
    if before != entry:
        _require_unheard(home, before)
        if not same_key(before.node_key, entry.node_key):
            retire(home, hospital, before.node_key, "corrected")
    return sign_members(home, {**members, hospital: entry}, root)


@one_at_a_time
def expel(home: CoordinatorHome, hospital: Identifier, *, root_key: Path | None = None) -> int:
    """Sign a new roster without a hospital; returns the roster's version.

    Releases keep the roster that they were made under, so those that the hospital signed verify as before. A roster
    names one hospital at least: the only one, where no study is of it yet, is taken off the members, and the next
    admission signs the next roster.

    Raises:
        InputError: it is not admitted, or the only one and part of a study; or the root key is not there.
    """
    members = read_members(home)
    if hospital not in members:
        raise InputError(f"{hospital} is not admitted", remedy="see: sonoshare coordinator status")
    root = root_signing_key(home, root_key)
    rest = {name: entry for name, entry in members.items() if name != hospital}
    studies = [study.plan.study for study in home.studies() if hospital in study.plan.cohorts]
    if not rest and studies:
        raise InputError(
            f"{hospital} is the only hospital, and study {studies[0]} is of it", remedy="admit another one first"
        )
    retire(home, hospital, members[hospital].node_key, "expelled")
    if rest:
        version = sign_members(home, rest, root)
    else:
        write_members(home, rest)
        version = home.roster.version
    forget_node(home, hospital)
    return version


@one_at_a_time
def renew_roster(home: CoordinatorHome, *, root_key: Path | None = None) -> Roster:
    """Sign the present members' roster anew, one version above the last, for another `ROSTER_DAYS`.

    Raises:
        InputError: nobody is admitted, or the root key is not there.
    """
    members = read_members(home)
    if not members:
        raise InputError("nobody is admitted yet", remedy="run: sonoshare coordinator admit")
    sign_members(home, members, root_signing_key(home, root_key))
    return home.roster


def root_signing_key(home: CoordinatorHome, file: Path | None = None) -> SigningKey:
    """The consortium's root key, wherever it is kept.

    Raises:
        InputError: it is not there, or the file holds another key.
    """
    path = file or home.root_key_path
    if not path.is_file():
        raise InputError(
            f"the root key is not at {path}",
            remedy="bring it back from where it is kept, or name it: --root-key FILE",
        )
    key = SigningKey.load(path)
    if key.public != home.root:
        raise InputError(
            f"{path.name} is not the root key of this consortium", remedy=f"its public half is {home.root.hex}"
        )
    return key


def _require_unheard(home: CoordinatorHome, entry: HospitalEntry) -> None:
    """Check that nothing rests yet on a key that is to be replaced.

    Raises:
        InputError: the log holds a ledger head of the key.
    """
    if home.log().index.heads(entry.key):
        raise InputError(
            f"{entry.id} is admitted with other keys, and has signed with them",
            remedy="a new key is admitted by the file of: sonoshare hospital keys rotate (see docs/keys.md)",
        )


def _require_own_ledger(home: CoordinatorHome, entry: HospitalEntry) -> None:
    """Check that an identity key was not passed on, nor took up the ledger of a hospital of another id.

    Raises:
        InputError: it was, or did.
    """
    index = home.log().index
    if index.passed_on(entry.key) is not None:
        raise InputError(
            f"this identity key of {entry.id} was passed on to another",
            remedy="send what 'sonoshare hospital keys' shows now",
        )
    if others := {logged.head.hospital for logged in index.heads(entry.key)} - {entry.id}:
        raise InputError(
            f"this identity key has the ledger of {min(others)}",
            remedy=f"admit it as {min(others)}: an id may be given anew, a key may not",
        )


def sign_members(
    home: CoordinatorHome,
    members: Mapping[str, HospitalEntry],
    root: SigningKey,
    successions: Iterable[KeySuccession] = (),
) -> int:
    """Sign the next roster, of these hospitals, with these changes of keys; returns its version."""
    roster = next_roster(home, members, root.public, successions=successions)
    write_atomically(home.roster_path, Envelope.sign(ROSTER_PAYLOAD_TYPE, roster.canonical(), root).to_bytes())
    write_members(home, members)
    return roster.version


def next_roster(
    home: CoordinatorHome,
    members: Mapping[str, HospitalEntry],
    root: PublicKey,
    former_rosters: Iterable[str] = (),
    successions: Iterable[KeySuccession] = (),
) -> Roster:
    """The next roster, not signed yet.

    Args:
        home: the coordinator's folder.
        members: whom it names.
        root: key that will sign it.
        former_rosters: digests of rosters of the root key that it replaces; those of the last roster stay.
        successions: changes of identity keys that it names besides those of the last roster.
    """
    consortium = Consortium.read(home)
    last = home.roster if home.roster_path.exists() else None
    known = tuple((last.successions or ()) if last else ())
    changed = (*known, *(said for said in successions if said not in known))
    former = dict.fromkeys([*((last.former_rosters or ()) if last else ()), *former_rosters])
    return Roster(
        consortium=consortium.name,
        version=(last.version if last else 0) + 1,
        expires=datetime.now(UTC).replace(microsecond=0) + timedelta(days=ROSTER_DAYS),
        root_key=root.hex,
        coordinator_key=home.key.public.hex,
        hospitals=tuple(sorted(members.values(), key=lambda entry: entry.id)),
        audit_policy=consortium.audit.digest(),
        former_rosters=tuple(former) or None,
        successions=changed or None,
    )
