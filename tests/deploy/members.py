"""Hospitals whose keys nobody holds, admitted to a coordinator's folder."""

from pathlib import Path

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from sonoshare_server.consortium import admission
from sonoshare_server.home import CoordinatorHome
from sonoshare_shared.protocol.keys import SigningKey


def node_key() -> str:
    """A courier's public key, one line of OpenSSH text."""
    public = ec.generate_private_key(ec.SECP384R1()).public_key()
    return public.public_bytes(serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH).decode()


def admit(home: Path, *hospitals: str) -> None:
    """Admit hospitals with fresh keys."""
    for hospital in hospitals:
        admission.admit(CoordinatorHome(home), hospital, SigningKey.generate().public.hex, node_key())
