"""What the agent and a process that trains beside it say to each other, over a Unix socket that only these two have.

    agent                                      process
    job, plan, adapter                    →
                                          ←    facts (what must be alike for the same bits)
    (both form the group; the charge is made durable)
    extent and descriptor of the cohort   →

The process gets no ledger, no key, no vault and no pseudonym. Closing the socket ends it, whatever it is doing: so does
the agent's death, however that comes.
"""

import json
import os
import select
import socket
import threading
from dataclasses import asdict, dataclass
from importlib.metadata import version
from typing import Final

import torch

from sonoshare_client.node.socket import receive_frame, send_frame
from sonoshare_client.vault.cohort import Cohort, Extent
from sonoshare_shared.errors import FederationError
from sonoshare_shared.science.device import device_kind

EXCHANGE_SECONDS: Final = 3600
"""How long a process waits for the others at an exchange. The node's own, and long: the work between two exchanges
follows from who is sampled, so a plan that could shorten the wait would see by a refusal how many there are."""

_MOST_EXTENT: Final = 4096
_GONE: Final = 3
"""Exit status of a process whose agent is gone."""


@dataclass(frozen=True)
class Job:
    """What a process must know beside plan and adapter.

    Attributes:
        hospital: whose training.
        round: number of the round.
        threads: of torch; other numbers give other bits.
        seconds: after which an exchange that does not end is given up.
        imported: folder of imported bases.
        rank: its number, 1 or more.
        size: how many processes train, the agent included.
        device: where it computes.
        store: file over which the group finds itself.
    """

    hospital: str
    round: int
    threads: int
    seconds: int
    imported: str
    rank: int = 0
    size: int = 1
    device: str = ""
    store: str = ""


def facts_of(device: torch.device) -> dict[str, str | int]:
    """What must be alike in all processes of a training, for the same bits: code, libraries, device, threads."""
    cudnn = torch.backends.cudnn.version() if device.type == "cuda" else None  # type: ignore[no-untyped-call]
    return {
        "sonoshare": version("sonoshare"),
        "torch": f"{torch.__version__}, cuDNN {cudnn}",
        "device": device_kind(device),
        "threads": torch.get_num_threads(),
    }


def send_job(channel: socket.socket, job: Job, plan: bytes, adapter: bytes) -> None:
    """Agent: say what is trained; all of it is public."""
    for part in (json.dumps(asdict(job)).encode(), plan, adapter):
        send_frame(channel, part)


def receive_job(channel: socket.socket) -> tuple[Job, bytes, bytes]:
    """Process: job, plan and adapter."""
    job, plan, adapter = (receive_frame(channel) for _ in range(3))
    return Job(**json.loads(job)), plan, adapter


def send_facts(channel: socket.socket, device: torch.device) -> None:
    """Process: say that it is ready, and with what."""
    send_frame(channel, json.dumps(facts_of(device)).encode())


def require_facts(channel: socket.socket, device: torch.device, seconds: float) -> None:
    """Agent: hear that a process is ready, and check that it has what the agent has.

    Raises:
        FederationError: it does not start, or differs.
        OSError: it does not answer in time.
    """
    facts, mine = json.loads(receive_frame(channel, seconds)), facts_of(device)
    different = [f"{name} ({mine[name]}; there {facts.get(name)})" for name in mine if facts.get(name) != mine[name]]
    if different:
        raise FederationError(
            f"a process of this training has another {different[0]}",
            remedy="restart the agent after an upgrade; name GPUs of one kind with --devices",
        )


def send_cohort(channel: socket.socket, cohort: Cohort) -> None:
    """Agent, under a charge: hand over the trained patients.

    Raises:
        OSError: the process is gone.
        ValueError: the cohort has no block of its own.
    """
    if cohort.descriptor is None or cohort.extent.held_out:
        raise ValueError("only trained patients in a block are handed over")
    socket.send_fds(channel, [json.dumps(asdict(cohort.extent)).encode()], [cohort.descriptor])


def receive_cohort(channel: socket.socket) -> Cohort:
    """Process: wait for the patients, however long the agent opens them.

    Raises:
        FederationError: the agent has closed the socket.
    """
    channel.settimeout(None)
    extent, descriptors, _, _ = socket.recv_fds(channel, _MOST_EXTENT, 1)
    if len(descriptors) != 1:
        raise FederationError("no patients were handed over", remedy="see the agent's log")
    return Cohort.attached(descriptors[0], Extent(**json.loads(extent)))


def end_with(channel: socket.socket) -> None:
    """Process: end at once when the other side of the socket is closed or its process is gone, whatever runs here.

    Not by a signal that follows the parent's death: that is tied to the *thread* that started this process, and the
    agent answers each request in a thread of its own.
    """
    watched = select.poll()
    watched.register(channel, select.POLLRDHUP)

    def watch() -> None:
        watched.poll()
        os._exit(_GONE)

    threading.Thread(target=watch, daemon=True, name="leash").start()
