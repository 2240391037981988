"""A place for the courier under a user of its own: what that user can reach is what the courier needs, and no more.

    /tmp/sonoshare-XXXX/        0711, of the user who starts the node (root)
        agent.sock              0660, the courier's group: the only way to the agent
        node.key                0600, the courier's: authenticates it to the federation
        ca.crt                  the certificate that it trusts
        flower/                 0700, the courier's: where Flower keeps its own files

The node's folder stays closed to that user (0700): vault, vault key, identity key, ledger, policy and log. The place is
made anew at every start and removed at the end.

Not promised: protection from root, or from a courier whose user owns the node's folder (refused here).
"""

import os
import pwd
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from sonoshare_client.courier.supernode import Connection
from sonoshare_client.node.home import NodeHome
from sonoshare_shared.durable import write_atomically
from sonoshare_shared.errors import InputError

SOCKET_FILE: Final = "agent.sock"
TEMPORARY_PREFIX: Final = "sonoshare-"
USUAL_USER: Final = "sonoshare-courier"
"""Whom the courier runs as where there is such a user and nobody says otherwise."""


@dataclass(frozen=True)
class CourierUser:
    """The operating-system user of a courier.

    Attributes:
        name: login name.
        uid: user id, not root's.
        gid: its own group, which may open the agent's socket.
    """

    name: str
    uid: int
    gid: int


@dataclass(frozen=True)
class CourierPlace:
    """Where a courier finds what it needs.

    Attributes:
        user: who runs it; None for the user who started the node.
        socket: the agent's socket.
        connection: with the key and certificate that the courier reads.
        flower: where Flower keeps its own files.
    """

    user: CourierUser | None
    socket: Path
    connection: Connection
    flower: Path

    def lay_out(self, key: Path, name: str) -> None:
        """Give a courier under a user of its own a copy of a node key as it is now; none where there is none.

        Args:
            key: in the node's folder, which that user cannot enter.
            name: of the copy, beside the node key that the courier reads.

        Raises:
            OSError: it cannot be read or written.
        """
        if self.user is None:
            return  # it reads the node's own
        copy = self.connection.node_key.with_name(name)
        if not key.exists():
            copy.unlink(missing_ok=True)
        elif not copy.exists() or copy.read_bytes() != key.read_bytes():
            write_atomically(copy, key.read_bytes(), mode=0o600)
            os.chown(copy, self.user.uid, self.user.gid)


def courier_user(name: str, home: NodeHome) -> CourierUser:
    """The user whom a courier is to run as.

    Raises:
        InputError: this process is not root's, there is no such user, or that user could read the node's folder.
    """
    if os.geteuid() != 0:
        raise InputError(
            "only root can start the courier as another user",
            remedy="start as root, or start the two parts by themselves with --only",
        )
    try:
        entry = pwd.getpwnam(name)
    except KeyError as error:
        raise InputError(f"there is no user '{name}' on this machine", remedy="make one without a login") from error
    if entry.pw_uid in {0, home.path.stat().st_uid, home.vault_key_path.stat().st_uid}:
        raise InputError(
            f"'{name}' can read the node's folder or its vault key", remedy="choose a user who owns nothing of the node"
        )
    if home.path.stat().st_mode & 0o077:
        raise InputError("other users may enter the node's folder", remedy="chmod 700 the folder")
    return CourierUser(name, entry.pw_uid, entry.pw_gid)


def usual_courier_user(home: NodeHome) -> CourierUser | None:
    """Whom a courier is to run as where nobody says: `USUAL_USER`, where root asks and there is such a user.

    Raises:
        InputError: there is one, and it could read the node's folder, or cannot run this installation.
    """
    if os.geteuid() != 0 or USUAL_USER not in {entry.pw_name for entry in pwd.getpwall()}:
        return None
    try:
        user = courier_user(USUAL_USER, home)
        require_runnable(user)
    except InputError as error:  # made for this: to go on without it would take down a wall that somebody built
        raise InputError(error.message, remedy=f"{error.remedy}, or decline: --courier-user ''") from error
    return user


def require_runnable(user: CourierUser, check: str = "import sonoshare_client.courier") -> None:
    """Check that a user can run this installation, before anything is started.

    Args:
        user: whom the courier runs as.
        check: what is tried.

    Raises:
        InputError: the user may not read the programs.
    """
    command = [sys.executable, "-c", check]
    try:
        tried = subprocess.run(
            command, user=user.uid, group=user.gid, extra_groups=(), cwd="/", capture_output=True, check=False
        )
        works = tried.returncode == 0
    except OSError:
        works = False
    if not works:
        raise InputError(
            f"'{user.name}' cannot run {sys.executable}",
            remedy="install SonoShare where every user may read it, for example /opt",
        )


@contextmanager
def own_place(connection: Connection, user: CourierUser) -> Iterator[CourierPlace]:
    """Make the courier's place, and remove it at the end.

    Args:
        connection: with the node's own key, and the coordinator's certificate wherever it lies.
        user: whom the courier runs as.
    """
    folder = Path(tempfile.mkdtemp(prefix=TEMPORARY_PREFIX))
    try:
        folder.chmod(0o711)
        key, certificate, flower = folder / "node.key", folder / "ca.crt", folder / "flower"
        write_atomically(key, connection.node_key.read_bytes(), mode=0o600)
        os.chown(key, user.uid, user.gid)
        write_atomically(certificate, connection.root_certificate.read_bytes(), mode=0o600)
        certificate.chmod(0o444)
        flower.mkdir(mode=0o700)
        os.chown(flower, user.uid, user.gid)
        yield CourierPlace(
            user=user,
            socket=folder / SOCKET_FILE,
            connection=replace(connection, node_key=key, root_certificate=certificate),
            flower=flower,
        )
    finally:
        shutil.rmtree(folder, ignore_errors=True)
