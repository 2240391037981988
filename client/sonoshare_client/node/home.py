"""The folder of a hospital node: made completely or not at all, and opened.

Private keys are made here and never leave. Where each thing lies is in ``node.paths``.
"""

import re
import tomllib
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from sonoshare_client.node.ledger import make_ledger
from sonoshare_client.node.paths import NewNode, NodePaths
from sonoshare_client.node.policy import Policy, read_policy
from sonoshare_client.node.policy_file import policy_text
from sonoshare_client.node.private_folder import private_folder
from sonoshare_client.node.sealed import make_key_file
from sonoshare_shared.durable import create, write_atomically
from sonoshare_shared.errors import InputError
from sonoshare_shared.protocol.documents.base import IDENTIFIER
from sonoshare_shared.protocol.keys import SigningKey
from sonoshare_shared.role_folders import not_of
from sonoshare_shared.science.device_word import AUTO


@dataclass(frozen=True)
class NodeHome(NodePaths):
    """An existing node folder.

    Attributes:
        path: the folder.
        hospital: id of the hospital.
        vault_key_path: where the vault key lies.
        device: where the node computes: ``auto`` (a GPU where there is one), ``cpu``, ``cuda`` or ``cuda:N``.
    """

    path: Path
    hospital: str
    vault_key_path: Path
    device: str

    @classmethod
    def create(
        cls,
        path: Path,
        hospital_id: str,
        *,
        policy: Policy | None = None,
        vault_key: Path | None = None,
        device: str = AUTO,
    ) -> "NodeHome":
        """Make the folder with fresh keys and a policy file.

        Args:
            path: the folder; must not exist, or be empty.
            hospital_id: lowercase letters, digits and hyphens.
            policy: the hospital's rules; the cautious defaults if absent.
            vault_key: where the vault key goes or, if the file exists, lies; ``vault.key`` in the folder if absent.
            device: where the node computes.

        Raises:
            InputError: a bad id, a folder in use, or no place to write.
        """
        if not re.fullmatch(IDENTIFIER, hospital_id):
            raise InputError(
                "a hospital id has lowercase letters, digits and hyphens", remedy="choose one such as 'st-elsewhere'"
            )
        with private_folder(path, durable=True) as folder:
            key_path = vault_key.absolute() if vault_key else None
            _fill(NewNode(folder), hospital_id, policy or Policy(), key_path, device)
        return cls.open(path)

    @classmethod
    def open(cls, path: Path) -> "NodeHome":
        """Open a node folder.

        Raises:
            InputError: it is not one.
        """
        given, path = path, path.absolute()
        try:
            entries = tomllib.loads(NewNode(path).home_path.read_text(encoding="utf-8"))
            device = str(entries.get("device", AUTO))  # homes of before name none
            return cls(path, str(entries["hospital"]), path / str(entries["vault_key"]), device)
        except (FileNotFoundError, NotADirectoryError) as error:
            raise not_of(given, "hospital") from error
        except (tomllib.TOMLDecodeError, KeyError) as error:
            raise InputError("home.toml cannot be read", remedy="restore it from backup") from error

    @property
    def node_public_key(self) -> str:
        """The courier's public key, one line of OpenSSH text."""
        return self.node_public_key_path.read_text(encoding="ascii").strip()

    @property
    def node_public_keys(self) -> tuple[str, ...]:
        """The courier's public key, and the next one while it is being changed; one line of OpenSSH text each."""
        following = self.next_node_public_key_path
        return (self.node_public_key, *((following.read_text(encoding="ascii").strip(),) if following.exists() else ()))

    def identity(self) -> SigningKey:
        """Load the identity key."""
        return SigningKey.load(self.identity_key_path)

    def next_identity(self) -> SigningKey | None:
        """Load the next identity key; None while it is not being changed."""
        path = self.next_identity_key_path
        try:
            return SigningKey.load(path) if path.exists() else None
        except InputError:
            if path.exists():
                raise
            return None  # it has taken the other one's place between the two looks

    def policy(self) -> Policy:
        """Read the hospital's rules as they stand now."""
        return read_policy(self.policy_path)


def _fill(node: NewNode, hospital_id: str, policy: Policy, vault_key: Path | None, device: str) -> None:
    identity = SigningKey.generate()
    identity.save(node.identity_key_path)
    write_node_key(node.node_key_path, node.node_public_key_path)
    if vault_key is None:
        make_key_file(node.vault_key_path)
    elif not vault_key.exists():
        make_key_file(vault_key)
    for folder in (node.vault_path, node.statements_path, node.state_path):
        folder.mkdir(mode=0o700)
    create(node.policy_path, policy_text(policy).encode())
    make_ledger(node.ledger_path, identity, hospital_id, policy, lambda: datetime.now(UTC))
    key_place = str(vault_key) if vault_key else node.vault_key_path.name
    home = f'hospital = "{hospital_id}"\n# Relative to this folder, or absolute.\nvault_key = {_quoted(key_place)}\n'
    home += "# Where the node computes: auto (a GPU where there is one), cpu, cuda, cuda:1 ...\n"
    home += f"device = {_quoted(device)}\n"
    create(node.home_path, home.encode())


def _quoted(text: str) -> str:
    """A TOML basic string."""
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def write_node_key(private_path: Path, public_path: Path) -> None:
    """Make a key for a courier. Flower authenticates nodes by elliptic-curve keys in OpenSSH format (P-384)."""
    private = ec.generate_private_key(ec.SECP384R1())
    pem = private.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.OpenSSH, serialization.NoEncryption()
    )
    public = private.public_key().public_bytes(serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH)
    # No comment after the key: two hospitals' lines are equal exactly when their keys are. The private half last: where
    # it is, the public one is too.
    write_atomically(public_path, public + b"\n")
    create(private_path, pem, mode=0o600)
