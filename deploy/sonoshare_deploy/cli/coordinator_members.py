"""``sonoshare coordinator admit`` and ``expel``: who belongs to the consortium."""

import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import click

from sonoshare_deploy.cli.coordinator_release import home_option
from sonoshare_deploy.cli.output import emit, insist, json_option, next_step, quiet_option
from sonoshare_deploy.cli.parameters import IDENTIFIER_NAME
from sonoshare_deploy.cli.pasted import at_home, pasted

if TYPE_CHECKING:
    from rich.console import Console

    from sonoshare_server.home import CoordinatorHome

root_key_option = click.option(
    "--root-key",
    type=click.Path(path_type=Path, dir_okay=False),
    help="File of the root key, where it is kept off this machine; root/root.key in the folder if absent.",
)


@click.command(short_help="Admit a hospital and sign a new roster.")
@click.argument("request", required=False, type=click.Path(path_type=Path, dir_okay=False))
@home_option
@click.option("--id", "hospital", type=IDENTIFIER_NAME, help="The hospital's id.")
@click.option("--identity-key", help="Its identity key, from: sonoshare hospital init")
@click.option("--node-key", help="Its node key (one line of OpenSSH text), from the same place.")
@click.option(
    "--rotate",
    "change",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Instead of the three: the file of 'sonoshare hospital keys rotate' of an admitted hospital.",
)
@click.option("--fingerprint", help="Of the identity key, as told by telephone; asked for if absent.")
@root_key_option
@quiet_option
@json_option
def admit(
    *,
    request: Path | None,
    home: Path,
    hospital: str | None,
    identity_key: str | None,
    node_key: str | None,
    change: Path | None,
    fingerprint: str | None,
    root_key: Path | None,
    as_json: bool,
) -> None:
    """Admit a hospital and sign a new roster; send roster.dsse.json to all hospitals.

    REQUEST is the file of 'sonoshare hospital join', by a hospital that was invited. It is admitted with the
    fingerprint that the hospital tells by telephone. Without an invitation give its id and its two public keys.

    One that was admitted with a wrong key is admitted again with the right one, as long as the wrong one has signed
    nothing. A new identity key is admitted with the fingerprint that the hospital tells by telephone: who has stolen
    the old key can make such a file too.

    Example: sonoshare coordinator admit west-request.json --home C
    """
    from sonoshare_deploy.coordinator import tell_superlink  # noqa: PLC0415 - keeps --help fast, here and below
    from sonoshare_server.consortium import admission, rotation  # noqa: PLC0415
    from sonoshare_server.home import CoordinatorHome  # noqa: PLC0415
    from sonoshare_shared.protocol.signed_files import KEY_CHANGE, read_signed  # noqa: PLC0415

    given = (hospital, identity_key, node_key)
    if request is not None:
        if any(given) or change is not None:
            raise click.UsageError("REQUEST says all of it: leave out --id, --identity-key, --node-key and --rotate")
        _admit_request(home, request, fingerprint, root_key, as_json=as_json)
        return
    if fingerprint is not None and change is None:
        raise click.UsageError("--fingerprint goes with --rotate or a REQUEST")
    if change is not None and any(given):
        raise click.UsageError("--rotate says all of it: leave out --id, --identity-key and --node-key")
    if change is None and not all(given):
        raise click.UsageError("give a REQUEST, or --id, --identity-key and --node-key, or --rotate FILE")
    folder = CoordinatorHome(home)
    if change is not None:
        signed = read_signed(change, KEY_CHANGE)
        hospital, version = rotation.rotate(folder, signed, fingerprint=fingerprint, root_key=root_key)
    else:
        named = (hospital or "", identity_key or "", node_key or "")
        version = admission.admit(folder, *named, root_key=root_key)
    tell_superlink(folder)
    _emit_admitted(folder, hospital or "", version, as_json=as_json)


def _admit_request(home: Path, request: Path, fingerprint: str | None, root_key: Path | None, *, as_json: bool) -> None:
    """Admit who answered an invitation, once a person has typed the fingerprint that was told by telephone.

    The file's own is never shown: who sees it types it, and has compared nothing.
    """
    from sonoshare_deploy.coordinator import tell_superlink  # noqa: PLC0415
    from sonoshare_server.consortium import inviting  # noqa: PLC0415
    from sonoshare_server.home import CoordinatorHome  # noqa: PLC0415
    from sonoshare_shared.errors import InputError  # noqa: PLC0415
    from sonoshare_shared.protocol.signed_files import JOIN_REQUEST, read_signed  # noqa: PLC0415

    folder, envelope, now = CoordinatorHome(home), read_signed(request, JOIN_REQUEST), datetime.now(UTC)
    if fingerprint is None:
        said = inviting.read_request(folder, envelope, now)
        insist(f"{said.hospital} asks to be admitted to {said.consortium}")
        if as_json or not sys.stdin.isatty():
            raise InputError(
                "nobody has compared the fingerprint",
                remedy="have the hospital tell it by telephone, then: "
                + pasted("coordinator", "admit", request, "--home", home, "--fingerprint", "FINGERPRINT"),
            )
        fingerprint = click.prompt("Type the fingerprint that the hospital tells by telephone", err=True)
    hospital, version = inviting.admit_request(folder, envelope, fingerprint, now=now, root_key=root_key)
    tell_superlink(folder)
    _emit_admitted(folder, hospital, version, as_json=as_json)


def _emit_admitted(folder: "CoordinatorHome", hospital: str, version: int, *, as_json: bool) -> None:
    result = {"hospital": hospital, "roster_version": version, "roster": str(folder.roster_path)}

    def human(console: "Console") -> None:
        for text in (
            f"{hospital} is admitted: roster version {version}",
            f"send {folder.roster_path} to all hospitals; there:",
            f"  sonoshare hospital enrol --home {hospital} --roster {folder.roster_path.name}",
        ):
            console.print(text, markup=False, highlight=False, soft_wrap=True)

    emit(result, as_json, human)
    next_step(at_home(folder.path, "coordinator", "status"))


@click.command()
@home_option
@click.option("--id", "hospital", type=IDENTIFIER_NAME, required=True, help="The hospital's id.")
@root_key_option
@json_option
def expel(home: Path, hospital: str, *, root_key: Path | None, as_json: bool) -> None:
    """Sign a new roster without a hospital; send it to the others. What it signed stays valid.

    Example: sonoshare coordinator expel --home C --id west
    """
    from sonoshare_deploy.coordinator import tell_superlink  # noqa: PLC0415
    from sonoshare_server.consortium import admission  # noqa: PLC0415
    from sonoshare_server.home import CoordinatorHome  # noqa: PLC0415

    folder = CoordinatorHome(home)
    version = admission.expel(folder, hospital, root_key=root_key)
    tell_superlink(folder)
    emit({"hospital": hospital, "roster_version": version, "roster": str(folder.roster_path)}, as_json)


@click.command(name="rotate-root", short_help="Give the consortium a new root key.")
@home_option
@root_key_option
@json_option
def rotate_root(home: Path, *, root_key: Path | None, as_json: bool) -> None:
    """Give the consortium a new root key, which the old one vouches for: the next roster is signed by both.

    Every hospital enrols anew with that roster and the new key; studies and releases go on. The new private key is
    in root/root.key of the folder: take it off the machine.

    Example: sonoshare coordinator rotate-root --home C
    """
    from sonoshare_server.consortium import rotation  # noqa: PLC0415
    from sonoshare_server.home import CoordinatorHome  # noqa: PLC0415

    folder = CoordinatorHome(home)
    new, version = rotation.rotate_root(folder, root_key=root_key)
    result = {"root_key": new.public.hex, "roster_version": version, "roster": str(folder.roster_path)}
    emit(result | {"private_key": str(folder.root_key_path)}, as_json)
