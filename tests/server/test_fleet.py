"""Frames over a Flower grid: taken as they arrive, one message at a time for a hospital, and no wait for the dead."""

from collections.abc import Iterable
from types import SimpleNamespace
from typing import Any

import pytest

from sonoshare_server.federation import fleet as fleet_module
from sonoshare_server.federation.fleet import FlowerFleet, Frames, answers_of
from sonoshare_shared.protocol.documents.exchange import KeysRequest, encode_frame
from sonoshare_shared.protocol.frame_parts import RECORD_BYTES, WHOLE_BYTES, frame_parts


class Grid:
    """A grid whose nodes answer at given moments of a clock that moves when somebody sleeps."""

    def __init__(self, delays: dict[int, float], online: Iterable[int] = (), errors: Iterable[int] = ()) -> None:
        self.delays, self.online, self.errors, self.now = delays, set(online), set(errors), 0.0
        self.sent: list[tuple[str, int, float, bytes]] = []
        self.contents: list[Any] = []

    def sleep(self, seconds: float) -> None:
        self.now += seconds

    def get_node_ids(self) -> list[int]:
        return sorted(self.online)

    def push_messages(self, messages: Any) -> list[str]:
        self.contents += [message.content for message in messages]
        made = [
            (f"m{len(self.sent) + i}", message.metadata.dst_node_id, self.now, self._frame(message))
            for i, message in enumerate(messages)
        ]
        self.sent += made
        return [message for message, *_ in made]

    def pull_messages(self, messages: list[str]) -> list[Any]:
        return [
            self._reply(message, node, frame)
            for message, node, sent, frame in self.sent
            if message in messages and self.now >= sent + self.delays[node]
        ]

    def _frame(self, message: Any) -> bytes:
        return fleet_module._frame_of(message) or b""

    def _reply(self, message: str, node: int, frame: bytes) -> Any:
        content = fleet_module._content((b"answer to " + frame, b""), {})
        failed = node in self.errors
        return SimpleNamespace(
            metadata=SimpleNamespace(reply_to_message_id=message), has_error=lambda: failed, content=content
        )


def message(content: Any, *, dst_node_id: int, message_type: str) -> Any:
    """A message; Flower's own takes the run's number from the process that it runs in."""
    return SimpleNamespace(content=content, metadata=SimpleNamespace(dst_node_id=dst_node_id, type=message_type))


@pytest.fixture
def clocked(monkeypatch: pytest.MonkeyPatch) -> Any:
    def use(grid: Grid, **nodes: int | tuple[int, ...]) -> FlowerFleet:
        clock = SimpleNamespace(monotonic=lambda: grid.now, sleep=grid.sleep)
        monkeypatch.setattr(fleet_module, "time", clock)
        monkeypatch.setattr(fleet_module, "Message", message)
        ids = {name: (node,) if isinstance(node, int) else node for name, node in nodes.items()}
        return FlowerFleet(grid, lambda: ids)  # type: ignore[arg-type]

    return use


def test_answers_are_given_as_they_arrive_and_the_deadline_ends_the_wait(clocked: Any) -> None:
    grid = Grid({1: 0.0, 2: 5.0, 3: 1e9})
    fleet = clocked(grid, a=1, b=2, c=3)
    seen: dict[str, tuple[bytes | None, int]] = {}
    for arrived in fleet.ask({"a": b"x", "b": b"y", "c": b"z"}, 20.0):
        seen |= {hospital: (frame, round(grid.now)) for hospital, frame in arrived.items()}
    assert seen == {"a": (b"answer to x", 0), "b": (b"answer to y", 5)}
    assert 20.0 <= grid.now < 21.0


def test_case_34_a_hospital_without_a_node_is_reached_by_nobody(clocked: Any) -> None:
    """A node id is the coordinator's own record: no reply, and no message, comes to speak for another."""
    grid = Grid({7: 0.0}, online={7})
    fleet = clocked(grid, a=1)
    assert answers_of(fleet.ask({"sybil": b"x"}, 5.0)) == {}
    assert grid.sent == []
    assert fleet.wait_for({"a"}, 0.0, enough=1, grace_seconds=0.0) == set()


def test_an_error_and_a_hospital_without_a_node_come_back_as_such_at_once(clocked: Any) -> None:
    grid = Grid({1: 0.0, 2: 0.0}, errors={2})
    fleet = clocked(grid, a=1, b=2)
    looks = list(fleet.ask({"a": b"x", "b": b"y", "third": b"z"}, 20.0))
    assert {h: f for look in looks for h, f in look.items()} == {"a": b"answer to x", "b": None, "third": None}
    assert grid.now == 0.0
    assert answers_of(fleet.ask({"third": b"z"}, 20.0)) == {}


def test_a_hospital_is_sent_the_next_message_when_the_one_before_came_back(clocked: Any) -> None:
    """Hung for three rounds it has one of them to catch up with."""
    grid = Grid({1: 0.0, 2: 100.0})
    fleet = clocked(grid, a=1, b=2)
    for number in range(3):
        assert answers_of(fleet.ask({"a": b"x", "b": b"round %d" % number}, 10.0)) == {"a": b"answer to x"}
    assert [frame for _, node, _, frame in grid.sent if node == 2] == [b"round 0"]
    grid.delays[2] = 0.0
    assert answers_of(fleet.ask({"b": b"round 3"}, 10.0)) == {"b": b"answer to round 3"}
    assert [frame for _, node, _, frame in grid.sent if node == 2] == [b"round 0", b"round 3"]


@pytest.mark.parametrize(("online", "seconds"), [({1, 2, 3}, 0), ({1, 2}, 10), ({1}, 120)])
def test_with_a_quorum_online_the_dead_are_not_waited_for(clocked: Any, online: set[int], seconds: int) -> None:
    grid = Grid({}, online=online)
    fleet = clocked(grid, a=1, b=2, c=3)
    present = fleet.wait_for({"a", "b", "c"}, 120.0, enough=2, grace_seconds=10.0)
    assert present == {name for name, node in {"a": 1, "b": 2, "c": 3}.items() if node in online}
    assert seconds <= grid.now < seconds + 1


def test_a_hospital_that_was_expelled_is_not_online_and_fails_nothing(clocked: Any) -> None:
    fleet = clocked(Grid({}, online={1}), a=1)
    assert fleet.wait_for({"a", "third"}, 0.0, enough=1, grace_seconds=0.0) == {"a"}


@pytest.mark.parametrize("size", [WHOLE_BYTES + 1, RECORD_BYTES + 1])
def test_what_all_hospitals_get_is_held_once_and_sent_once(clocked: Any, size: int) -> None:
    payload = bytes(size)
    frames = Frames({name: encode_frame(KeysRequest(challenges={name: "0" * 64})) for name in "abc"}, payload)
    assert {id(shared) for _, shared in frames.parts().values()} == {id(payload)}
    assert dict(frames) == {name: frames[name] for name in "abc"} == dict(frames.of("abc"))
    assert all(frame_parts(frames[name]) == frames.parts()[name] for name in "abc")
    grid = Grid({1: 1e9, 2: 1e9, 3: 1e9})
    fleet = clocked(grid, a=1, b=2, c=3)
    assert answers_of(fleet.ask(frames, 1.0)) == {}
    assert len({id(content["payload"]) for content in grid.contents}) == 1
    assert len(grid.contents) == 3
