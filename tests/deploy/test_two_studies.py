"""Two studies on one federation: they take turns of one round, and each ends as if it had been alone."""

import base64
import json
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.deploy.in_process import HOSPITALS, STUDY, DirectFleet, World, copied

from sonoshare_server.federation import rounds
from sonoshare_server.federation.coordinator import Coordinator
from sonoshare_server.queue.actions import begun
from sonoshare_server.queue.turns import tickets
from sonoshare_shared.protocol.documents.exchange import decode_frame
from sonoshare_shared.protocol.log_index import LogIndex

OTHER = "other"


@pytest.fixture
def world(pristine: World, tmp_path: Path) -> World:
    made = copied(pristine, tmp_path / "world")
    plan = made.study.plan.model_copy(update={"study": OTHER, "local_steps": 1})
    made.home.create_study(plan, made.study.adapter(), made.study.state.adapter_digest)
    return made


class Watched(DirectFleet):
    """Writes down which study's round is asked for, and waits in the first one until the other study queues."""

    def __init__(self, world: World, order: list[tuple[str, int]]) -> None:
        super().__init__(world.fleet.agents)
        self.world, self.order = world, order

    def ask(self, requests: Any, deadline_seconds: Any) -> Iterator[dict[Any, Any]]:
        for frame in requests.values():
            request = json.loads(decode_frame(frame)[0])
            if request["kind"] == "train":
                study = json.loads(_payload(request["plan"]))["study"]
                self.order.append((study, request["round"]))
        end = time.monotonic() + 60
        while len(self.order) <= len(HOSPITALS) and len(tickets(self.world.home)) < 2:
            assert time.monotonic() < end
            time.sleep(0.01)
        return super().ask(requests, deadline_seconds)


def test_two_studies_alternate_and_both_are_trained(world: World) -> None:
    order: list[tuple[str, int]] = []

    def train(name: str) -> None:
        with begun(world.home.study(name), "train") as action:
            study = world.home.study(name, action.run)
            rounds.train(Coordinator(world.home, study, Watched(world, order), world.home.log(), action=action))

    threads = [threading.Thread(target=train, args=(name,)) for name in (STUDY, OTHER)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    turns = order[:: len(HOSPITALS)]
    assert order == [turn for turn in turns for _ in HOSPITALS]  # one round at a time, of all hospitals
    first, second = turns[0][0], turns[1][0]
    assert turns == [(first, 1), (second, 1), (first, 2), (second, 2)]
    assert {first, second} == {STUDY, OTHER}
    assert all(world.home.study(name).state.rounds_done == 2 for name in (STUDY, OTHER))
    for node in world.nodes.values():
        charged = [s.charge.study for s in node.ledger.entries() if s.charge.kind == "reserved"]
        assert sorted(charged) == [OTHER, OTHER, STUDY, STUDY]
    index = LogIndex()
    assert [fault for fault in map(index.add, world.home.log().entries) if fault is not None] == []
    queued = [event for event in world.home.study(second).events() if event["kind"] == "queued"]
    assert queued[0]["ahead"] == [{"study": first, "what": "train"}]


def _payload(envelope: Any) -> bytes:
    return base64.b64decode(envelope["payload"])
