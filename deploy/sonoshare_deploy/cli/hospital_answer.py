"""``sonoshare hospital answer``: a request that came on a stick, for a hospital without a line out."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from sonoshare_deploy.cli.output import emit, json_option, progress_console, quiet_option
from sonoshare_deploy.cli.parameters import node_home_option

if TYPE_CHECKING:
    from sonoshare_client.node.home import NodeHome

ANSWER_SECONDS: Final = 48 * 3600.0
"""A training or an audit, and its slot."""


@click.command(short_help="Answer a request that came on a stick.")
@click.argument("request", type=click.Path(path_type=Path, dir_okay=False))
@node_home_option
@click.option("--out", required=True, type=click.Path(path_type=Path, dir_okay=False), help="The reply: a new file.")
@quiet_option
@json_option
def answer(request: Path, home_path: Path, out: Path, *, as_json: bool) -> None:
    """Have this node's agent answer the bundle REQUEST, and write its reply for the way back.

    The agent checks, charges and stores as over the network. Let it run from walk to walk: hospital start --only agent.
    Exit 1 where the request is refused; carry the reply back all the same, it says why.

    Example: sonoshare hospital answer ask.bundle --home NODE --out reply.bundle
    """
    from sonoshare_client.agent.carried import answered, require_for_this_hospital  # noqa: PLC0415 - keeps --help fast
    from sonoshare_client.node.home import NodeHome  # noqa: PLC0415
    from sonoshare_shared.durable import write_atomically  # noqa: PLC0415
    from sonoshare_shared.errors import InputError, RefusedError  # noqa: PLC0415
    from sonoshare_shared.protocol.bundle import frames_ahead  # noqa: PLC0415

    home = NodeHome.open(home_path)
    if out.exists():
        raise InputError(f"{out.name} exists", remedy="give the name of a new file")
    header, frame = require_for_this_hospital(home, request)
    before = _last_charge(home)
    with progress_console().status(f"{header.study}: {header.what}"), _agent_of(home) as ask:
        carried = answered(home, header, frame, ask, frames_ahead(request))
    write_atomically(out, carried.bundle)
    refusal = carried.refusal
    result = {
        "hospital": home.hospital,
        "study": header.study,
        "what": header.what,
        "reply": str(out),
        "charged": _last_charge(home) != before,
        "refused": None if refusal is None else refusal.message,
    }
    emit(result, as_json)
    if refusal is not None:
        raise RefusedError(f"the request was refused: {refusal.message}", remedy=refusal.remedy)


@contextmanager
def _agent_of(home: "NodeHome") -> Iterator[Callable[[bytes], bytes]]:
    """Passes frames to the agent that runs; or to one of this process, where nothing rests on when it was started."""
    from sonoshare_client.node.socket import ask_agent  # noqa: PLC0415
    from sonoshare_shared.errors import FederationError, InputError  # noqa: PLC0415
    from sonoshare_shared.locks import is_locked, locked  # noqa: PLC0415

    if is_locked(home.state.agent_lock_path):
        yield lambda frame: ask_agent(home.state.socket_path, frame, ANSWER_SECONDS)
        return
    if home.policy().federation.peers > 0:
        raise InputError(
            "the agent does not run, and others answer the challenge of one that runs from walk to walk",
            remedy="run: sonoshare hospital start --only agent; then the same again",
        )
    busy = FederationError("an agent of this node has just been started", remedy="run the same again")
    with locked(home.state.agent_lock_path, busy):
        yield _alone(home)


def _alone(home: "NodeHome") -> Callable[[bytes], bytes]:
    """An agent of this process, whose caller has the lock that an agent holds."""
    from sonoshare_client.agent.node import Node  # noqa: PLC0415
    from sonoshare_client.agent.service import Agent  # noqa: PLC0415
    from sonoshare_deploy.hospital_node import write_no_core_files  # noqa: PLC0415

    write_no_core_files()
    return Agent(Node.open(home)).answer


def _last_charge(home: "NodeHome") -> str:
    """Which charge the ledger has last."""
    from contextlib import closing  # noqa: PLC0415
    from datetime import UTC, datetime  # noqa: PLC0415

    from sonoshare_client.node.ledger import open_ledger  # noqa: PLC0415

    with closing(open_ledger(home, lambda: datetime.now(UTC))) as ledger:
        return ledger.last_charge()
