"""Somebody who carries requests and replies between a coordinator and a hospital without a line out."""

import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from click.testing import CliRunner
from tests.deploy.in_process import World

from sonoshare_deploy.cli.coordinator import command as coordinator_command
from sonoshare_deploy.cli.hospital import command as hospital_command
from sonoshare_server.federation.carried import by_files, mixed_fleet
from sonoshare_server.federation.coordinator import Coordinator
from sonoshare_server.federation.statements import collect_signatures, collect_statements
from sonoshare_server.release.pipeline import Pipeline

WEST = "west"
"""The hospital that is reached by files alone."""


@dataclass
class Carrier:
    """Somebody who walks between west's node and the coordinator, with a stick, as long as an action runs."""

    world: World
    stick: Path
    walks: list[str] = field(default_factory=list)
    charged: list[str] = field(default_factory=list)
    _over: threading.Event = field(default_factory=threading.Event)
    _failed: list[BaseException] = field(default_factory=list)

    def require_well(self) -> None:
        """End the action that waits where a walk has failed."""
        if self._failed:
            raise self._failed[0]

    def walk(self, bundle: Path) -> Path:
        """Carry a request there, and the reply back as far as the coordinator's door."""
        reply = self.stick / f"{len(self.walks)}-{bundle.stem}-reply.bundle"
        done = run(hospital_command, "answer", bundle, "--home", self.world.nodes[WEST].home.path, "--out", reply)
        self.walks.append(done["what"])
        self.charged += [done["what"]] if done["charged"] else []
        return reply

    @contextmanager
    def walking(self) -> Iterator[None]:
        """Walk whenever there is something to carry."""
        thread = threading.Thread(target=self._walk_or_fail)
        thread.start()
        try:
            yield
        finally:
            self._over.set()
            thread.join()
            self._over.clear()

    def _walk_or_fail(self) -> None:
        try:
            self._walk_on()
        except BaseException as error:  # noqa: BLE001 - told to the thread that waits
            self._failed.append(error)

    def _walk_on(self) -> None:
        while not self._over.is_set():
            for path in sorted((self.world.home.outbox_path / WEST).glob("*.bundle")):
                taken = run(coordinator_command, "take", self.walk(path), "--home", self.world.home.path)
                assert taken["hospital"] == WEST
            time.sleep(0.05)


def run(command: Any, *arguments: Any) -> Any:
    done = CliRunner().invoke(command, [*map(str, arguments), "--json"])
    assert done.exception is None, done.exception
    return json.loads(done.stdout.splitlines()[-1])


def action(world: World, look: Callable[[], None] = lambda: None) -> Coordinator:
    carried = by_files(world.home)
    fleet = mixed_fleet(world.home, world.study, world.fleet, carried, look)
    return Coordinator(world.home, world.study, fleet, world.home.log(), by_files=carried)


def pipeline(world: World, look: Callable[[], None]) -> Pipeline:
    def act(kind: Any, release: str) -> None:
        {"audit": collect_statements, "sign": collect_signatures}[kind](action(world, look), release)

    return Pipeline(home=world.home, study=world.study, release="r1", act=act)
