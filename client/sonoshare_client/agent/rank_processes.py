"""The processes that train beside the agent, one for each further device, for the length of one training.

They are started, joined to a group over the loopback interface, handed the patients once the charge is durable, and
ended by their numbers, whether the training went well or not: the next one starts its own. So nothing of a patient
outlives a training in them, and one that is killed, hangs or was upgraded spoils one training and no more.

Nobody else may join or listen. The group finds itself over a file that only this user can open; back ends listen on
loopback ports, which any local user could connect to before the right process does. So before anything is charged,
every connection of every process is looked at: its other end must be one of them.

What a failure means: before the charge an ordinary refusal; after it the constant one, and the charge stands.
Not promised: protection from root, or from processes of the agent's own user.
"""

import os
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import psutil
import torch
from torch import distributed

from sonoshare_client.agent.rank_channel import Job, require_facts, send_cohort, send_job
from sonoshare_client.agent.rank_group import LOOPBACK, joined_group
from sonoshare_client.vault.cohort import Cohort
from sonoshare_shared.errors import FederationError, InputError

PROGRAM: Final = (sys.executable, "-P", "-m", "sonoshare_client.agent.rank_main")
START_SECONDS: Final = 180.0
"""To load torch and the model, on a machine where several processes do so at once."""


def require_loopback() -> None:
    """Check that this machine, or the container or namespace that the agent is confined to, has a loopback interface.

    Raises:
        InputError: it has none, or it is down.
    """
    stats = psutil.net_if_stats().get(LOOPBACK)
    if stats is None or not stats.isup:
        raise InputError(
            "several devices need the loopback interface, and it is down here",
            remedy="bring it up ('ip link set lo up'), or train on one device",
        )


@dataclass(frozen=True)
class RankProcesses:
    """The other processes of a training; none where there is one device.

    Attributes:
        group: to compute in; None for this process alone.
        channels: one to each other process.
    """

    group: distributed.ProcessGroup | None = None
    channels: tuple[socket.socket, ...] = ()

    def hand_over(self, cohort: Cohort) -> None:
        """Give them the trained patients; only once the charge is durable.

        Raises:
            FederationError: one of them is gone.
        """
        for channel in self.channels:
            try:
                send_cohort(channel, cohort)
            except OSError as error:
                raise _gone() from error


@contextmanager
def rank_processes(
    device: torch.device, others: Sequence[torch.device], job: Job, plan: bytes, adapter: bytes
) -> Iterator[RankProcesses]:
    """Have a process on each other device, and end them all at the end.

    Args:
        device: of this process.
        others: of the others; none for a training in this process alone.
        job: as for every one of them; rank, size, device and store are filled in here.
        plan: bytes of the plan.
        adapter: the global adapter.

    Raises:
        FederationError: one does not start, is not like this one, or cannot be reached; or somebody else is connected.
    """
    if not others:
        yield RankProcesses()
        return
    with ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="sonoshare-", ignore_cleanup_errors=True))
        store = str(Path(folder) / "store")
        started = [stack.enter_context(_started()) for _ in others]
        channels = tuple(channel for _, channel in started)
        try:
            for rank, (channel, where) in enumerate(zip(channels, others, strict=True), start=1):
                channel.settimeout(START_SECONDS)
                here = replace(job, rank=rank, size=len(others) + 1, device=str(where), store=store)
                send_job(channel, here, plan, adapter)
            for channel in channels:
                require_facts(channel, device, START_SECONDS)
            pids = {process.pid for process, _ in started}
            group = stack.enter_context(_group(store, len(others) + 1, job.seconds, pids))
        except (OSError, RuntimeError, psutil.Error) as error:
            raise _gone() from error
        yield RankProcesses(group, channels)


@contextmanager
def _started() -> Iterator[tuple[subprocess.Popen[bytes], socket.socket]]:
    """One process and the socket to it; at the end it is killed by its number and reaped."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
    with ours:
        with theirs:
            # A session of its own: a terminal's Ctrl-C reaches the agent, and the closed socket the process.
            process = subprocess.Popen(
                [*PROGRAM, str(theirs.fileno())],
                stdin=subprocess.DEVNULL,
                pass_fds=(theirs.fileno(),),
                cwd="/",
                start_new_session=True,
            )
        try:
            yield process, ours
        finally:
            process.kill()  # not yet reaped: the number is still this process's
            process.wait()


@contextmanager
def _group(store: str, size: int, seconds: int, processes: set[int]) -> Iterator[distributed.ProcessGroup]:
    """The group of all processes, this one first; nobody else is connected to any of them."""
    before = set(_connections(os.getpid()))
    with joined_group(store, 0, size, seconds) as group:
        require_among_themselves(
            [
                *(set(_connections(os.getpid())) - before),
                *(connection for process in processes for connection in _connections(process)),
            ],
            size,
        )
        yield group


Ends = tuple[tuple[str, int], tuple[str, int]]
"""Address and port of this end of a connection, and of the other."""


def require_among_themselves(connections: Sequence[Ends], processes: int) -> None:
    """Check that every process is connected to every other one, and each connection has its other end among them.

    Raises:
        FederationError: somebody else is connected, or a connection is still to come, which nobody would look at.
    """
    known = set(connections)
    if len(known) < processes * (processes - 1):
        raise FederationError(
            "the processes of this training are not all connected to each other",
            remedy="start the agent without TORCH_GLOO_LAZY_INIT",
        )
    if any((there, here) not in known for here, there in known):
        raise FederationError(
            "somebody else is connected to the processes of this training",
            remedy="look for a foreign process on this machine before anything is asked again",
        )


def _connections(process: int) -> Iterator[Ends]:
    for one in psutil.Process(process).net_connections("tcp"):
        if one.raddr:
            yield tuple(one.laddr), tuple(one.raddr)


def _gone() -> FederationError:
    return FederationError(
        "a process of this training does not start, or is gone",
        remedy="see the agent's log; check devices, memory, and that the loopback interface is up",
    )
