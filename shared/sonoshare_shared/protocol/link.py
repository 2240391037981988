"""A courier's question to the coordinator's published listener: do you know this node key?

    POST /link   {"key": "ecdsa-sha2-nistp384 AAAA...", "time": "2026-11-28T09:30:00+00:00", "signature": "base64"}
    ->           {"admitted": true, "hospital": "north", "roster_version": 3}

The signature is the node key's over ``sonoshare link`` and the time, which is no message that Flower would take for its
own. It proves that whoever asks holds the key, so nobody learns of another's key whether it is admitted. The server
checks nothing of the time: a clock that is wrong is what the question may be about.

Not promised: anything about Flower's own state. It answers a person's "am I admitted?", and nothing rests on it.
"""

import base64
import binascii
import json
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from sonoshare_shared.errors import FederationError, IntegrityError

LINK_PATH: Final = "/link"
HEALTH_PATH: Final = "/health"
"""Flower's own, of the same listener."""
MOST_REQUEST_BYTES: Final = 4096
MOST_ANSWER_BYTES: Final = 4096
_DOMAIN: Final = b"sonoshare link "
_MALFORMED: Final = (ValueError, KeyError, TypeError, RecursionError, binascii.Error)


@dataclass(frozen=True)
class LinkAnswer:
    """What the coordinator says.

    Attributes:
        admitted: whether the roster names the key.
        hospital: under which id; None where it is not admitted.
        roster_version: of the newest roster; None before the first, and for who is not admitted.
    """

    admitted: bool
    hospital: str | None
    roster_version: int | None

    def to_bytes(self) -> bytes:
        """As it is sent."""
        return json.dumps(
            {"admitted": self.admitted, "hospital": self.hospital, "roster_version": self.roster_version}
        ).encode()

    @classmethod
    def from_bytes(cls, data: bytes) -> "LinkAnswer":
        """Parse an answer.

        Raises:
            FederationError: it is none.
        """
        try:
            said = json.loads(data)
            hospital, version = said["hospital"], said["roster_version"]
            return cls(
                said["admitted"] is True,
                None if hospital is None else str(hospital),
                None if version is None else int(version),
            )
        except _MALFORMED as error:
            raise FederationError("the server's answer is not understood", remedy="check both versions") from error


def key_line(key: ec.EllipticCurvePublicKey) -> str:
    """A public key as one line of OpenSSH text, without a comment."""
    return key.public_bytes(serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH).decode()


def link_request(key: ec.EllipticCurvePrivateKey, now: datetime) -> bytes:
    """The question, signed."""
    time = now.isoformat()
    signature = key.sign(_DOMAIN + time.encode(), ec.ECDSA(hashes.SHA256()))
    said = {"key": key_line(key.public_key()), "time": time, "signature": base64.b64encode(signature).decode()}
    return json.dumps(said).encode()


def asking_key(data: bytes) -> str:
    """The key, as one line of OpenSSH text, whose holder asks.

    Raises:
        IntegrityError: it is no question, or the key did not sign it.
    """
    try:
        said: Any = json.loads(data)
        line, time, signature = str(said["key"]), str(said["time"]), base64.b64decode(said["signature"], validate=True)
        key = serialization.load_ssh_public_key(line.encode())
        if not isinstance(key, ec.EllipticCurvePublicKey):
            raise IntegrityError("the key is on no elliptic curve")
        key.verify(signature, _DOMAIN + time.encode(), ec.ECDSA(hashes.SHA256()))
    except (*_MALFORMED, UnsupportedAlgorithm, InvalidSignature) as error:
        raise IntegrityError("this is no question of a courier") from error
    return key_line(key)
