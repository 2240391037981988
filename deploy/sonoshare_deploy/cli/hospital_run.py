"""``sonoshare hospital enrol`` and ``start``: joining a consortium, and taking part in its studies."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from sonoshare_deploy.cli.device import node_device_option, told_device
from sonoshare_deploy.cli.output import emit, json_option, next_step, quiet_option
from sonoshare_deploy.cli.parameters import node_home_option
from sonoshare_deploy.cli.pasted import at_home

if TYPE_CHECKING:
    import torch

    from sonoshare_deploy.hospital_node import Only

NO_LINE = "127.0.0.1:1"
"""Stands for the coordinator's address where an agent alone is started, which connects to nothing."""


@click.command(short_help="Pin the consortium.")
@node_home_option
@click.option("--roster", required=True, type=click.Path(path_type=Path, dir_okay=False), help="roster.dsse.json")
@click.option(
    "--root-key",
    help="The consortium's root key (hex), got by another way than the roster; the invitation's if absent.",
)
@quiet_option
@json_option
def enrol(home_path: Path, roster: Path, root_key: str | None, *, as_json: bool) -> None:
    """Pin the consortium: from now on only its roster, coordinator and log are believed.

    Example: sonoshare hospital enrol --home NODE --roster roster.dsse.json
    """
    from sonoshare_client.node import joining  # noqa: PLC0415 - keeps --help fast, here and below
    from sonoshare_client.node.home import NodeHome  # noqa: PLC0415
    from sonoshare_client.node.invitation import read_joined  # noqa: PLC0415
    from sonoshare_shared.protocol.keys import PublicKey  # noqa: PLC0415
    from sonoshare_shared.protocol.signed_files import ROSTER, read_signed  # noqa: PLC0415

    home = NodeHome.open(home_path)
    joined = read_joined(home)
    if root_key is None and joined is None:
        raise click.UsageError("this node was made without an invitation: give --root-key")
    key = PublicKey.from_hex(root_key or (joined.root_key if joined else ""))
    pinned = joining.enrol(home, read_signed(roster, ROSTER), key, joined)
    hospitals = [entry.id for entry in pinned.hospitals]
    emit({"consortium": pinned.consortium, "version": pinned.version, "hospitals": hospitals}, as_json)
    next_step(at_home(home_path, "hospital", "check"), at_home(home_path, "hospital", "start"))


@click.command()
@node_home_option
@click.option("--superlink", help="host:port of the coordinator's fleet listener; the invitation's if absent.")
@click.option(
    "--root-certificate",
    type=click.Path(path_type=Path, dir_okay=False, exists=True),
    help="Certificate of the authority of the coordinator's TLS certificate (ca.crt); the invitation's if absent.",
)
@click.option(
    "--runtime-port", type=click.IntRange(1, 65535), help="Loopback port of the courier's own runtime; else a free one."
)
@click.option(
    "--only",
    type=click.Choice(["agent", "courier", "both"]),
    default="both",
    show_default=True,
    help="The agent has the vault's key and no network, the courier the network and no key.",
)
@click.option("--socket", type=click.Path(path_type=Path), help="The agent's socket; in the node's folder if absent.")
@click.option(
    "--courier-user",
    metavar="NAME",
    help="Run the courier, which talks to the network, as this user, who cannot read the vault's key; needs root. "
    "Without it: sonoshare-courier, where root starts this and there is such a user; '' for the same user.",
)
@node_device_option
@click.option(
    "--gpus",
    metavar="N|all",
    help="Train on so many GPUs of this machine, a process for each; by default on --device alone.",
)
@click.option("--devices", metavar="LIST", help="Train on these devices: cuda:0,cuda:2 or cpu,cpu.")
@click.option("--monitor", metavar="HOST:PORT", help="Answer /healthz and /metrics there; on loopback only.")
def start(
    home_path: Path,
    superlink: str | None,
    root_certificate: Path | None,
    runtime_port: int | None,
    *,
    only: "Only",
    socket: Path | None,
    courier_user: str | None,
    device: str | None,
    gpus: str | None,
    devices: str | None,
    monitor: str | None,
) -> None:
    """Run agent and courier until interrupted.

    As one user, somebody who breaks into the courier can read whatever the agent can, the vault's key too: give the
    courier a user of its own.

    Example: sonoshare hospital start --home NODE
    """
    from sonoshare_client.courier.supernode import Connection  # noqa: PLC0415
    from sonoshare_client.node.home import NodeHome  # noqa: PLC0415
    from sonoshare_client.node.invitation import read_joined  # noqa: PLC0415
    from sonoshare_deploy import courier_place  # noqa: PLC0415
    from sonoshare_deploy.addresses import endpoint  # noqa: PLC0415
    from sonoshare_deploy.hospital_node import ANY_PORT, run_node  # noqa: PLC0415

    if sum(asked is not None for asked in (device, gpus, devices)) > 1:
        raise click.UsageError("--device, --gpus and --devices say the same thing; give one of them")
    if gpus not in {None, "all"} and not gpus.isdecimal():
        raise click.UsageError("--gpus takes a number or 'all'")
    if courier_user and (only != "both" or socket is not None):
        raise click.UsageError("--courier-user starts both parts on a socket of its own; leave out --only and --socket")
    home = NodeHome.open(home_path)
    if only != "agent" and (joined := read_joined(home)) is not None:
        superlink, root_certificate = superlink or joined.superlink, root_certificate or home.state.authority_path
    if only != "agent" and (superlink is None or root_certificate is None):
        raise click.UsageError("a courier needs --superlink and --root-certificate")
    superlink, root_certificate = superlink or NO_LINE, root_certificate or Path("none")
    endpoint(superlink)
    connection = Connection(superlink, root_certificate.absolute(), home.node_key_path, runtime_port or ANY_PORT)
    courier = None
    if courier_user:
        courier = courier_place.courier_user(courier_user, home)
        courier_place.require_runnable(courier)
    elif courier_user is None and only == "both" and socket is None:
        courier = courier_place.usual_courier_user(home)
    where = () if only == "courier" else _devices(device or home.device, gpus, devices)
    run_node(home, connection, only=only, socket=socket, courier=courier, devices=where, monitor=monitor)


def _devices(device: str, gpus: str | None, devices: str | None) -> "tuple[torch.device, ...]":
    """Where the agent computes, and the processes beside it."""
    from sonoshare_shared.science.device import chosen_devices, gpus_here  # noqa: PLC0415 - keeps --help fast

    if devices is not None:
        return chosen_devices(devices)
    if gpus is not None:
        return gpus_here(None if gpus == "all" else int(gpus))
    return (told_device(device)[0],)
