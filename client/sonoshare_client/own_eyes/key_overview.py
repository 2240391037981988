"""The keys of a hospital's node, by their public halves: which there are, how old, and where each counts.

A fingerprint is the first 16 characters of a sha256, for two people to compare on the telephone: of the raw key for
identity keys, of the OpenSSH key's bytes for node keys. Private keys are not read but for the identity keys, whose
public halves lie nowhere else.
"""

import base64
import binascii
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from sonoshare_client.node.home import NodeHome
from sonoshare_client.node.witness import pinned_roster
from sonoshare_shared.errors import InputError
from sonoshare_shared.protocol.canonical import sha256_hex
from sonoshare_shared.protocol.keys import FINGERPRINT_CHARACTERS


@dataclass(frozen=True)
class KeyLine:
    """One key.

    Attributes:
        name: what it is for.
        public: the public half, as others write it; empty for a secret that has none.
        fingerprint: for people to compare; empty for a secret.
        made: when its file was written.
        rostered: whether the pinned roster names it; None where no roster is pinned, or it belongs in none.
    """

    name: str
    public: str
    fingerprint: str
    made: datetime
    rostered: bool | None

    def days(self, now: datetime) -> int:
        """Its age."""
        return (now - self.made).days


def key_overview(home: NodeHome) -> list[KeyLine]:
    """The keys of a node."""
    identity, entry = home.identity().public, None
    try:
        entry = pinned_roster(home.state_path).hospital(home.hospital)
        enrolled = True
    except InputError:
        enrolled = False
    paths = (home.node_public_key_path, home.next_node_public_key_path)
    nodes = zip(("node", "next node"), paths, home.node_public_keys, strict=False)
    identities = [("identity", identity, home.identity_key_path)]
    if (following := home.next_identity()) is not None:
        identities.append(("next identity", following.public, home.next_identity_key_path))
    lines = [
        KeyLine(
            name,
            public.hex,
            public.fingerprint,
            _written(path),
            (entry is not None and entry.key == public) if enrolled else None,
        )
        for name, public, path in identities
    ]
    for name, path, line in nodes:
        known = (entry is not None and entry.node_key.split()[:2] == line.split()[:2]) if enrolled else None
        lines.append(KeyLine(name, line, node_fingerprint(line), _written(path), known))
    if home.vault_key_path.exists():
        lines.append(KeyLine("vault", "", "", _written(home.vault_key_path), None))
    return lines


def node_fingerprint(line: str) -> str:
    """Fingerprint of a node key (one line of OpenSSH text).

    Raises:
        InputError: it is none.
    """
    try:
        return sha256_hex(base64.b64decode(line.split()[1], validate=True))[:FINGERPRINT_CHARACTERS]
    except (IndexError, binascii.Error) as error:
        raise InputError("the node key is not one line of OpenSSH text", remedy="bring node.key.pub back") from error


def _written(path: Path) -> datetime:
    return datetime.fromtimestamp(path.stat().st_mtime, UTC)
