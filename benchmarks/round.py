"""What a round costs besides its step: processor time, bytes on the wire and the server's memory, against stock Flower.

    python -m benchmarks.round [--hospitals 3,10,30] [--payload 1,50] [--rounds 22] [--real 10] [--quick] [--json]

For each number of hospitals and payload a consortium is made and its study trained: a real SuperLink with TLS and node
authentication, the real ServerApp, real couriers (SuperNode and worker) and real agents, whose step alone is left out
(``_round_world``). Beyond ``--real`` hospitals couriers are *simulated*: threads of one process that speak the fleet
routes (``_round_light``). Then, over the same kind of SuperLink and as many stock SuperNodes, Flower's own FedAvg
exchanges an array of the same size (``round_stock``); never with simulated couriers.

Prints one JSON object as the last line of stdout. By number of hospitals, at the first payload; ``payloads`` has all:

- ``overhead_cpu_seconds``: of all processes, a hospital and round: server's share, courier and agent;
- ``stock_cpu_seconds``: the same of stock Flower; null where it was not run;
- ``wire_over_adapter_plain``: bytes between couriers and server in a round, TLS and polling included, over the bytes
  of the adapter and the number of hospitals, in the direction that carries more;
- ``wire_over_adapter_masked``: the same with eight bytes a number on the way up: what was measured, with the encoded
  length of a masked update in the place of a plain one;
- ``server_rss_mb``: resident memory of SuperLink and what it started, after the last round;
- ``server_rss_growth_mb``: by which that grew a round (least squares, the first third of the rounds left out).

A round is counted from the end of one to the end of the next, so the start of a run is in none.
"""

import argparse
import json
import os
import shutil
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import psutil

from benchmarks import _round_world as world
from benchmarks._round_watch import Relay, used
from sonoshare_client.courier import supernode
from sonoshare_client.node.home import NodeHome
from sonoshare_deploy.addresses import LOOPBACK, Addresses, free_ports
from sonoshare_deploy.coordinator import act
from sonoshare_deploy.processes import Supervised, Supervisor
from sonoshare_deploy.superlink import FLOWER_APP, SuperLinkPart
from sonoshare_server.consortium.registration import register_nodes
from sonoshare_server.federation.control import Control
from sonoshare_server.home import CoordinatorHome

MEBI: Final = 1 << 20
STOCK_APP: Final = Path(__file__).parent / "round_stock"
ROUND_SECONDS: Final = 300.0
POLL_SECONDS: Final = 0.1


@dataclass(frozen=True)
class Moment:
    """What had been used when a round ended: processor seconds by part, bytes both ways, the server's memory."""

    server: float
    couriers: float
    agents: float
    up: int
    down: int
    resident: int


@dataclass
class Setting:
    """Running processes of one consortium.

    Attributes:
        folder: where everything lies.
        home: the coordinator's.
        hospitals: ids.
        supervisor: ends the processes.
        control: of the SuperLink.
        relay: what couriers connect to.
        superlink: the server.
    """

    folder: Path
    home: CoordinatorHome
    hospitals: list[str]
    supervisor: Supervisor
    control: Control
    relay: Relay
    superlink: psutil.Process

    @classmethod
    def start(cls, stack: ExitStack, hospitals: int, payload: int, rounds: int) -> "Setting":
        """Make a consortium and start its SuperLink."""
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="sonoshare-round-")))
        ids = world.names(hospitals)
        home = world.make(folder, ids, payload, rounds)
        supervisor = stack.enter_context(Supervisor(folder / "logs"))
        fleet, control = free_ports(2)
        addresses = Addresses(f"{LOOPBACK}:{fleet}", f"{LOOPBACK}:{control}", "")
        addresses.write(home)
        part = SuperLinkPart(home, addresses, supervisor)
        part.start()
        (superlink,) = psutil.Process().children()  # nothing else runs yet
        part.wait_until_healthy()
        routes = Control(addresses.control, home.authority_path)
        register_nodes(home, routes)
        relay = Relay((LOOPBACK, fleet))
        stack.callback(relay.close)
        return cls(folder, home, ids, supervisor, routes, relay, superlink)

    def connection(self, hospital: str, port: int) -> supernode.Connection:
        """Where a hospital's courier connects."""
        node = NodeHome.open(self.folder / hospital)
        return supernode.Connection(f"{LOOPBACK}:{self.relay.port}", self.home.authority_path, node.node_key_path, port)

    def watch(self, ends: Callable[[], int], rounds: int, parts: dict[str, list[Supervised]]) -> list[Moment]:
        """A moment at the end of each round.

        Args:
            ends: how many rounds have ended.
            rounds: that are to end.
            parts: the processes of ``couriers`` and ``agents``.
        """
        moments: list[Moment] = []
        deadline = time.monotonic() + ROUND_SECONDS
        while len(moments) < rounds:
            self.supervisor.require_running()
            if ends() > len(moments):
                moments.append(self._moment(parts))
                deadline = time.monotonic() + ROUND_SECONDS
            elif time.monotonic() > deadline:
                raise SystemExit(f"round {len(moments) + 1} did not end")
            time.sleep(POLL_SECONDS)
        return moments

    def _moment(self, parts: dict[str, list[Supervised]]) -> Moment:
        server, resident = used([self.superlink])
        couriers, agents = (
            used(psutil.Process(one.process.pid) for one in parts[part])[0] for part in ("couriers", "agents")
        )
        return Moment(server, couriers, agents, self.relay.up, self.relay.down, resident)


def our_rounds(hospitals: int, payload: int, rounds: int, *, real: bool) -> list[Moment]:
    """Rounds of a study."""
    with ExitStack() as stack:
        setting = Setting.start(stack, hospitals, payload, rounds)
        python = [sys.executable, "-m"]
        agents = setting.supervisor.start(
            "agents", [*python, "benchmarks._round_world", str(setting.folder), *setting.hospitals], _environment()
        )
        _wait_for(lambda: all(world.socket_of(setting.folder, one).exists() for one in setting.hospitals))
        if real:
            couriers = [
                setting.supervisor.start(
                    f"courier-{hospital}",
                    supernode.command(setting.connection(hospital, port)),
                    supernode.environment(
                        world.socket_of(setting.folder, hospital), setting.folder / hospital / "state" / "flower"
                    ),
                )
                for hospital, port in zip(setting.hospitals, free_ports(hospitals), strict=True)
            ]
        else:
            arguments = [str(setting.folder), f"{LOOPBACK}:{setting.relay.port}", *setting.hospitals]
            program = [*python, "benchmarks._round_light", *arguments]
            couriers = [setting.supervisor.start("couriers", program, _environment())]
        study = setting.home.study(world.STUDY)
        training = threading.Thread(target=act, args=(setting.home, study, "train"), daemon=True)
        training.start()
        moments = setting.watch(
            lambda: sum(event["kind"] == "aggregated" for event in study.events()),
            rounds,
            {"couriers": couriers, "agents": [agents]},
        )
        training.join(ROUND_SECONDS)
        return moments


def stock_rounds(hospitals: int, payload: int, rounds: int) -> list[Moment]:
    """Rounds of Flower's own FedAvg with Flower's own programs."""
    with ExitStack() as stack:
        setting = Setting.start(stack, hospitals, MEBI, rounds)
        couriers = []
        for hospital, port in zip(setting.hospitals, free_ports(hospitals), strict=True):
            program = supernode.command(setting.connection(hospital, port))[3:]
            environment = _environment() | {"FLWR_HOME": str(setting.folder / hospital / "flower")}
            couriers.append(
                setting.supervisor.start(
                    f"courier-{hospital}",
                    [str(Path(sys.executable).with_name("flower-supernode")), *program],
                    environment,
                )
            )
        app, progress = setting.folder / "app", setting.folder / "progress"
        shutil.copytree(STOCK_APP, app, ignore=shutil.ignore_patterns("__pycache__"))
        shutil.copy(FLOWER_APP / "LICENSE", app)
        config = {"nodes": hospitals, "rounds": rounds, "payload": payload, "progress": progress}
        setting.control.start(app, {name: str(value) for name, value in config.items()})
        # Its first line comes before the first round.
        ends = lambda: max(0, len(progress.read_text().splitlines()) - 1) if progress.exists() else 0  # noqa: E731
        return setting.watch(ends, rounds, {"couriers": couriers, "agents": []})


def figures(ours: list[Moment], stock: list[Moment] | None, hospitals: int, payload: int) -> dict[str, Any]:
    """What is said of one number of hospitals and payload."""
    rounds = len(ours) - 1
    up, down = (
        (getattr(ours[-1], way) - getattr(ours[0], way)) / rounds / hospitals / payload for way in ("up", "down")
    )
    resident = np.array([moment.resident for moment in ours]) / MEBI
    late = np.arange(len(ours)) >= len(ours) // 3
    growth = float(np.polyfit(np.flatnonzero(late), resident[late], 1)[0])
    parts = _by_part(ours, hospitals)
    return {
        "overhead_cpu_seconds": round(sum(parts.values()), 3),
        "overhead_by_part": {part: round(seconds, 3) for part, seconds in parts.items()},
        "stock_cpu_seconds": None if stock is None else round(sum(_by_part(stock, hospitals).values()), 3),
        "wire_over_adapter_plain": round(max(up, down), 4),
        "wire_over_adapter_masked": round(max(up + 1.0, down), 4),
        "server_rss_mb": round(float(resident[-1])),
        "server_rss_growth_mb": round(growth, 3),
    }


def _by_part(moments: list[Moment], hospitals: int) -> dict[str, float]:
    first, last = moments[0], moments[-1]
    share = hospitals * (len(moments) - 1)
    return {part: (getattr(last, part) - getattr(first, part)) / share for part in ("server", "couriers", "agents")}


def _environment() -> dict[str, str]:
    scripts = str(Path(sys.executable).parent)
    return {
        **os.environ,
        "PATH": os.pathsep.join([scripts, os.environ.get("PATH", "")]),
        "PYTHONPATH": str(Path(__file__).parents[1]),
        "OMP_NUM_THREADS": "1",
        "FLWR_TELEMETRY_ENABLED": "0",
        "FLWR_DISABLE_UPDATE_CHECK": "1",
    }


def _wait_for(there: Callable[[], bool]) -> None:
    end = time.monotonic() + ROUND_SECONDS
    while not there():
        if time.monotonic() > end:
            raise SystemExit("the agents do not start")
        time.sleep(POLL_SECONDS)


def _numbers(text: str) -> list[int]:
    return [int(part) for part in text.split(",")]


def run(options: argparse.Namespace) -> dict[str, Any]:
    """All settings, one after another."""
    by_payload: dict[str, dict[str, dict[str, Any]]] = {}
    for payload in options.payload:
        for count in options.hospitals:
            real = count <= options.real
            start = time.monotonic()
            ours = our_rounds(count, payload * MEBI, options.rounds, real=real)
            stock = stock_rounds(count, payload * MEBI, options.stock_rounds) if real and options.stock_rounds else None
            found = figures(ours, stock, count, payload * MEBI)
            for name, value in found.items():
                by_payload.setdefault(str(payload), {}).setdefault(name, {})[str(count)] = value
            print(f"{count} hospitals, {payload} MiB, {time.monotonic() - start:.0f} s: {found}", file=sys.stderr)
    return {
        **by_payload[str(options.payload[0])],
        "payloads": by_payload,
        "hospitals": options.hospitals,
        "simulated": [count for count in options.hospitals if count > options.real],
        "payload_mib": options.payload,
        "rounds": options.rounds,
        "ran": "train of a study, all but the step, and FedAvg of stock Flower, over SuperLinks with TLS",
    }


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--hospitals", type=_numbers, default=[3, 10, 30])
    parser.add_argument("--payload", type=_numbers, default=[1, 50], help="MiB of numbers in the adapter")
    parser.add_argument("--rounds", type=int, default=22)
    parser.add_argument("--stock-rounds", type=int, default=6, help="0: without stock Flower")
    parser.add_argument("--real", type=int, default=10, help="most hospitals that have real couriers")
    parser.add_argument("--quick", action="store_true", help="3 hospitals, 1 MiB, few rounds")
    parser.add_argument("--json", action="store_true", help="for uniformity: the last line is always JSON")
    options = parser.parse_args(arguments)
    if options.quick:
        options.hospitals, options.payload, options.rounds, options.stock_rounds = [3], [1], 5, 3
    print(json.dumps(run(options)))


if __name__ == "__main__":
    main()
