"""Whose word a researcher takes: everything that verification says rests on one root key, and on how that was got.

    roster-file    the caller gave the consortium's signed roster
    root           the caller gave the root key; the roster is the release's own, signed by it
    by-hand        a person pinned the root key when logging in
    first-use      the root key is the one that the catalogue showed at the first login
    release-only   nothing is known: the roster inside the release speaks for itself

The last is good against accidents and not against a dishonest catalogue; the one before is good against whoever comes
later than the first login.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from sonoshare_deploy.researcher.places import Place
from sonoshare_shared.errors import VerificationError
from sonoshare_shared.protocol.envelope import Envelope
from sonoshare_shared.protocol.keys import PublicKey
from sonoshare_shared.protocol.release.verify import open_roster

How = Literal["roster-file", "root", "by-hand", "first-use", "release-only"]


@dataclass(frozen=True)
class Trust:
    """A roster and a root key to verify with.

    Attributes:
        how: where they are from.
        roster: the signed roster; None: the one inside the release.
        root: the root key, if it is known apart from the roster.
    """

    how: How
    roster: Envelope | None = None
    root: PublicKey | None = None

    @property
    def pinned(self) -> bool:
        """Whether it rests on something that was got by another way than from the catalogue."""
        return self.how in {"roster-file", "root", "by-hand"}


def trust_of(
    place: Place, *, roster_file: Path | None = None, root: str | None = None, shown: Envelope | None = None
) -> Trust:
    """What to verify with.

    Args:
        place: what is remembered of the catalogue.
        roster_file: signed roster that the caller gives.
        root: root key (hex) that the caller gives.
        shown: roster that the catalogue shows now.

    Raises:
        VerificationError: cause ``roster``: it is none, or signed by another root key than the pinned one.
        InputError: the root key is no key.
    """
    key = None if root is None else PublicKey.from_hex(root)
    if roster_file is not None:
        return Trust("roster-file", read_roster(roster_file), key)
    if key is not None:
        return Trust("root", None, key)
    if place.pin is None:
        return Trust("release-only")
    pinned = PublicKey.from_hex(place.pin.root)
    here = [envelope for envelope in (shown, place.roster) if envelope is not None]
    return Trust(place.pin.by, newest_roster(pinned, *here) if here else None, pinned)


def newest_roster(root: PublicKey, first: Envelope, *others: Envelope | None) -> Envelope:
    """Of several rosters, the one of the highest version.

    Raises:
        VerificationError: cause ``roster``: one of them is signed by another root key.
    """
    best: list[tuple[int, Envelope]] = []
    for envelope in filter(None, (first, *others)):
        try:
            roster = open_roster(envelope, root)
        except VerificationError as error:
            raise VerificationError(
                error.cause,
                error.message,
                remedy="ask a hospital; if the consortium has a new root key: sonoshare login URL --root KEY",
            ) from error
        best.append((roster.version, envelope))
    return max(best, key=lambda pair: pair[0])[1]


def read_roster(path: Path) -> Envelope:
    """A signed roster in a file; its signature is not checked here.

    Raises:
        VerificationError: cause ``roster``.
    """
    try:
        return Envelope.load(path)
    except VerificationError as error:
        raise VerificationError("roster", error.message, remedy="give the consortium's signed roster") from error
