"""The folder of a hospital node, and where each thing in it lies.

    home.toml        hospital id and where the vault key lies
    identity.key     Ed25519 key that signs statements and the ledger (PEM, 0600)
    node.key         P-384 key that authenticates the courier to the federation (OpenSSH, 0600); node.key.pub beside it
    vault.key        32 bytes that open the vault (0600); may lie elsewhere and belong to another OS user
    policy.toml      the hospital's own rules
    vault/           sealed images and their index
    ledger.db        the privacy ledger
    statements/      signed audit statements
    state/           what the agent needs to go on after a restart

The folder is made completely or not at all. Private keys are made here and never leave.
"""

import re
import tomllib
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from sonoshare_client.node.ledger import make_ledger
from sonoshare_client.node.policy import Policy, read_policy
from sonoshare_client.node.policy_file import policy_text
from sonoshare_client.node.private_folder import private_folder
from sonoshare_client.node.sealed import make_key_file
from sonoshare_shared.durable import create, put
from sonoshare_shared.errors import InputError
from sonoshare_shared.protocol.documents.base import IDENTIFIER
from sonoshare_shared.protocol.keys import SigningKey

_HOME_FILE: Final = "home.toml"
_LEDGER_FILE: Final = "ledger.db"


@dataclass(frozen=True)
class NodeHome:
    """An existing node folder.

    Attributes:
        path: the folder.
        hospital: id of the hospital.
        vault_key_path: where the vault key lies.
    """

    path: Path
    hospital: str
    vault_key_path: Path

    @classmethod
    def create(
        cls, path: Path, hospital_id: str, *, policy: Policy | None = None, vault_key: Path | None = None
    ) -> "NodeHome":
        """Make the folder with fresh keys and a policy file.

        Args:
            path: the folder; must not exist, or be empty.
            hospital_id: lowercase letters, digits and hyphens.
            policy: the hospital's rules; the cautious defaults if absent.
            vault_key: where the vault key goes or, if the file exists, lies; ``vault.key`` in the folder if absent.

        Raises:
            InputError: a bad id, a folder in use, or no place to write.
        """
        if not re.fullmatch(IDENTIFIER, hospital_id):
            raise InputError(
                "a hospital id has lowercase letters, digits and hyphens", remedy="choose one such as 'st-elsewhere'"
            )
        with private_folder(path, durable=True) as folder:
            _fill(folder, hospital_id, policy or Policy(), vault_key.absolute() if vault_key else None)
        return cls.open(path)

    @classmethod
    def open(cls, path: Path) -> "NodeHome":
        """Open a node folder.

        Raises:
            InputError: it is not one.
        """
        path = path.absolute()
        try:
            entries = tomllib.loads((path / _HOME_FILE).read_text(encoding="utf-8"))
            return cls(path, str(entries["hospital"]), path / str(entries["vault_key"]))
        except (FileNotFoundError, NotADirectoryError) as error:
            raise InputError(f"{path.name} is no node folder", remedy="run 'sonoshare hospital init' first") from error
        except (tomllib.TOMLDecodeError, KeyError) as error:
            raise InputError("home.toml cannot be read", remedy="restore it from backup") from error

    @property
    def identity_key_path(self) -> Path:
        """The Ed25519 identity key."""
        return self.path / "identity.key"

    @property
    def node_key_path(self) -> Path:
        """The courier's private key; its public half is ``node_public_key``."""
        return self.path / "node.key"

    @property
    def policy_path(self) -> Path:
        """The hospital's rules."""
        return self.path / "policy.toml"

    @property
    def vault_path(self) -> Path:
        """Sealed images and their index."""
        return self.path / "vault"

    @property
    def ledger_path(self) -> Path:
        """The privacy ledger."""
        return self.path / _LEDGER_FILE

    @property
    def statements_path(self) -> Path:
        """Signed audit statements."""
        return self.path / "statements"

    @property
    def state_path(self) -> Path:
        """What the agent needs to go on after a restart."""
        return self.path / "state"

    @property
    def node_public_key(self) -> str:
        """The courier's public key, one line of OpenSSH text."""
        return self.node_key_path.with_suffix(".key.pub").read_text(encoding="ascii").strip()

    def identity(self) -> SigningKey:
        """Load the identity key."""
        return SigningKey.load(self.identity_key_path)

    def policy(self) -> Policy:
        """Read the hospital's rules as they stand now."""
        return read_policy(self.policy_path)


def _fill(folder: Path, hospital_id: str, policy: Policy, vault_key: Path | None) -> None:
    identity = SigningKey.generate()
    identity.save(folder / "identity.key")
    _make_node_key(folder / "node.key")
    if vault_key is None:
        make_key_file(folder / "vault.key")
    elif not vault_key.exists():
        make_key_file(vault_key)
    for name in ("vault", "statements", "state"):
        (folder / name).mkdir(mode=0o700)
    put(folder, "policy.toml", policy_text(policy).encode())
    make_ledger(folder / _LEDGER_FILE, identity, hospital_id, policy, lambda: datetime.now(UTC))
    key_place = str(vault_key) if vault_key else "vault.key"
    home = f'hospital = "{hospital_id}"\n# Relative to this folder, or absolute.\nvault_key = {_quoted(key_place)}\n'
    put(folder, _HOME_FILE, home.encode())


def _quoted(text: str) -> str:
    """A TOML basic string."""
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def _make_node_key(path: Path) -> None:
    """Flower authenticates nodes by elliptic-curve keys in OpenSSH format (P-384)."""
    private = ec.generate_private_key(ec.SECP384R1())
    pem = private.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.OpenSSH, serialization.NoEncryption()
    )
    create(path, pem, mode=0o600)
    public = private.public_key().public_bytes(serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH)
    # No comment after the key: two hospitals' lines are equal exactly when their keys are.
    create(path.with_suffix(".key.pub"), public + b"\n")
