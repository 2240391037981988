"""Provisioning a coordinator: a new folder with keys and certificates.

Private keys are made where they stay: the coordinator's keys in its folder, each hospital's in the hospital's. What
travels is public: identity keys, node keys, the authority's certificate and the signed roster. The consortium's root
key signs the roster and nothing else; it lies in ``root/`` and should be taken off the machine after admissions.
"""

from collections.abc import Iterable
from pathlib import Path

from sonoshare_deploy.certificates import issue_certificates
from sonoshare_server.consortium.members import Consortium
from sonoshare_server.home import CoordinatorHome
from sonoshare_server.paths import CoordinatorPaths
from sonoshare_shared.durable import appearing, create
from sonoshare_shared.errors import InputError
from sonoshare_shared.protocol.keys import SigningKey
from sonoshare_shared.state import write_state


def create_coordinator(path: Path, consortium: Consortium, hosts: Iterable[str]) -> CoordinatorHome:
    """Make a coordinator's folder, whole or not at all: what the consortium is, keys, and a TLS certificate.

    Args:
        path: the folder; absent or empty.
        consortium: its name and audit policy.
        hosts: names and addresses of the server, for its certificate.

    Raises:
        InputError: the folder is in use.
    """
    if path.exists() and any(path.iterdir()):
        raise InputError(f"{path} is not empty", remedy="choose another folder for the coordinator")
    with appearing(path, durable=True, mode=0o700) as folder:  # candidates lie there before anybody may see them
        home = CoordinatorPaths(folder)
        home.root_key_path.parent.mkdir(mode=0o700)
        home.authority_path.parent.mkdir(mode=0o700)
        home.releases.mkdir()
        root = SigningKey.generate()
        root.save(home.root_key_path)
        create(home.root_public_path, f"{root.public.hex}\n".encode())
        issue_certificates(home, hosts)
        consortium.write(home)
        write_state(home.nodes_path, {})
        SigningKey.generate().save(home.key_path)
    return CoordinatorHome(path)
