"""Simulated couriers for ``benchmarks.round``: many in one process, each a thread that speaks Flower's fleet routes.

Run as ``python -m benchmarks._round_light FOLDER ADDRESS HOSPITAL...``. Each has the node key of its hospital, opens a
connection of its own with TLS and node authentication, asks for messages as often as a SuperNode does, pulls their
objects, passes the frame to its hospital's agent over the Unix socket, and pushes the reply. What is left out is what
a hospital's machine has of its own: the SuperNode's and the worker's processes, and what passes between the two.
"""

import signal
import sys
import threading
import time
from functools import partial
from pathlib import Path
from typing import Any, Final

from cryptography.hazmat.primitives.serialization import load_ssh_private_key
from flwr.app import Message
from flwr.supercore.inflatable.inflatable_object import (
    get_all_nested_objects,
    get_object_tree,
    iterate_object_tree,
    no_object_id_recompute,
)
from flwr.supercore.inflatable.inflatable_utils import inflate_object_from_contents, pull_objects
from flwr.supernode.fleet_http_connection import http_request_response

from benchmarks._round_world import socket_of
from sonoshare_client.courier.flower import content_of, frame_in
from sonoshare_client.node.home import NodeHome
from sonoshare_client.node.socket import ask_agent

IDLE_SECONDS: Final = 3.0
"""As Flower's SuperNode waits when there was no message."""
AGENT_SECONDS: Final = 600.0


def carry(folder: Path, address: str, hospital: str) -> None:
    """Be one hospital's courier."""
    home = NodeHome.open(folder / hospital)
    key: Any = load_ssh_private_key(home.node_key_path.read_bytes(), None)
    authority = (folder / "coordinator" / "pki" / "ca.crt").read_bytes()
    with http_request_response(address, False, authority, (key, key.public_key())) as connection:
        _node, receive, send, _run, _fab, pull, push, confirm = connection
        while True:
            received = receive()
            if received is None:
                time.sleep(IDLE_SECONDS)
                continue
            message, tree = received
            run = message.metadata.run_id
            ids = [one.object_id for one in iterate_object_tree(tree)]
            contents = pull_objects(ids, pull_object_fn=partial(pull, run))
            confirm(run, message.metadata.message_id)
            whole: Any = inflate_object_from_contents(tree.object_id, contents)
            answer = ask_agent(socket_of(folder, hospital), frame_in(whole), AGENT_SECONDS)
            reply = Message(content_of(answer), reply_to=message)
            reply.metadata.__dict__["_message_id"] = reply.object_id
            with no_object_id_recompute():
                wanted, session = send(reply, get_object_tree(reply), 0.0)
                for one, content in get_all_nested_objects(reply).items():
                    if one in wanted:
                        push(run, session, one, content.deflate())


def main() -> None:
    """Run until told to end."""
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGTERM})
    folder, address, hospitals = Path(sys.argv[1]), sys.argv[2], sys.argv[3:]
    for hospital in hospitals:
        threading.Thread(target=carry, args=(folder, address, hospital), daemon=True).start()
    signal.sigwait({signal.SIGINT, signal.SIGTERM})


if __name__ == "__main__":
    main()
