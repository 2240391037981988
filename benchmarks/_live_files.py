"""Journeys of a hospital without a line out, and of one whose agent does not run yet."""

import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from benchmarks._live_people import released
from benchmarks._live_stops import HOSPITALS, WEST
from benchmarks._live_world import JourneyError, Live, require, rules, running
from sonoshare_deploy.demo.researcher import accept_agreement

LOOK_SECONDS: Final = 0.5


@dataclass
class Carrier:
    """Somebody who walks between a hospital and the coordinator with a stick, and types what the pages say.

    Attributes:
        world: the consortium.
        hospital: without a line.
        walks: what was carried, in order.
        failed: what went wrong on a walk.
    """

    world: Live
    hospital: str = WEST
    walks: list[str] = field(default_factory=list)
    failed: list[JourneyError] = field(default_factory=list)
    _over: threading.Event = field(default_factory=threading.Event)

    @contextmanager
    def walking(self) -> Iterator[None]:
        """Walk whenever there is something to carry.

        Raises:
            JourneyError: a walk went wrong.
        """
        self._over.clear()
        thread = threading.Thread(target=self._walk_on, name="carrier", daemon=True)
        thread.start()
        try:
            yield
        finally:
            self._over.set()
            thread.join()
        if self.failed:
            raise self.failed[0]

    def _walk_on(self) -> None:
        try:
            while not self._over.wait(LOOK_SECONDS):
                for bundle in sorted((self.world.home.outbox_path / self.hospital).glob("*.bundle")):
                    self._walk(bundle)
        except JourneyError as error:
            self.failed.append(error)

    def _walk(self, bundle: Path) -> None:
        reply = self.world.folder / f"{bundle.stem}-reply.bundle"
        said = self.world.of(self.hospital, "answer", str(bundle), "--out", str(reply))
        require(self.world.at("take", str(reply))["hospital"] == self.hospital, "the coordinator takes the reply")
        self.walks.append(said["what"])


def air_gap(world: Live) -> dict[str, Any]:
    """West by files through two whole studies: with votes, and masked; both are released and verify offline."""
    ballot = world.folder / "ballot.safetensors"
    words = ("--profile", "tiny", "--clusters", "2", "--phantoms", "96", "--out", str(ballot))
    world.typed_words("coordinator", "ballot", *words)
    world.at("line", "--id", WEST, "--by", "files")
    carrier = Carrier(world)
    with world:
        world.start("north", "south")
        world.start(WEST, only="agent")
        with carrier.walking():
            world.create("votes", HOSPITALS, rounds=2, quorum=3, epsilon_calibration=1, ballot=ballot)
            world.at("study", "run", "--name", "votes")
            released(world, "votes", "r1", set(HOSPITALS))
            plain = len(carrier.walks)
            world.create("masked", HOSPITALS, rounds=1, masked=True)
            world.at("study", "run", "--name", "masked")
            released(world, "masked", "r2", set(HOSPITALS))
        out = _fetched(world, "r1")
        world.require_charged_once(*HOSPITALS)
    world.require_nothing_left()
    walks = carrier.walks[:plain]
    require(walks.count("keys") <= 1, f"walks: {walks}")
    return {"walks": walks, "walks_masked": carrier.walks[plain:], "verified_after_fetch": out}


def _fetched(world: Live, release: str) -> bool:
    """What a researcher does: the agreement, the download, and the roster and root key from elsewhere."""
    out, roster = world.folder / "fetched", ("--roster", str(world.home.roster_path), "--root", world.home.root.hex)
    catalogue = f"http://{world.ports['catalogue']}"
    server = ("--server", catalogue, "--token", accept_agreement(catalogue, release))
    got = world.typed_words("fetch", release, *server, "--out", str(out), *roster)
    require(got["verified"] is True, f"fetch: {got}")
    verified = world.typed_words("verify", str(out), *roster)
    return bool(verified["verified"])


def late_agent(world: Live) -> dict[str, Any]:
    """West's courier is there before its agent; and a hospital that rests on no other answers without an agent."""
    with running(world, "north", "south"):
        world.start(WEST, only="courier")
        world.create("s1", HOSPITALS, rounds=2, quorum=3)
        typed = world.begin("study", "run", "--name", "s1")
        world.until(lambda: world.events("s1", "update", round=1), "the others have trained")
        time.sleep(5)
        require(typed.process.poll() is None, f"the study did not wait: {typed.said()[-600:]}")
        awaited = world.state("s1")
        world.start(WEST, only="agent")
        require(typed.end() == 0, f"study run: {typed.said()[-600:]}")
        require(world.rounds("s1") == [sorted(HOSPITALS)] * 2, f"rounds: {world.rounds('s1')}")
        for part in ("courier", "agent"):
            world.signal(f"{WEST}-{part}", signal.SIGTERM)
        walks = _without_an_agent(world)
        world.require_charged_once(*HOSPITALS)
    return {"awaited": awaited["why"], "walks_without_agent": walks}


def _without_an_agent(world: Live) -> list[str]:
    """West by files, its agent not running: refused as shipped, answered where its policy rests on nobody."""
    world.at("line", "--id", WEST, "--by", "files")
    world.create("s2", HOSPITALS, rounds=1, quorum=3)
    typed = world.begin("study", "run", "--name", "s2")
    outbox = world.home.outbox_path / WEST
    world.until(lambda: list(outbox.glob("*.bundle")), "a bundle is to be carried")
    (bundle,) = outbox.glob("*.bundle")
    said = world.refused_of(WEST, "answer", str(bundle), "--out", str(world.folder / "no.bundle"))
    require("the agent does not run" in said, said)
    alone = rules()
    world.set_rules(WEST, alone.model_copy(update={"federation": alone.federation.model_copy(update={"peers": 0})}))
    carrier = Carrier(world)
    with carrier.walking():
        status = typed.end()
    require(status == 0, f"study run: {typed.said()[-600:]}")
    return carrier.walks
