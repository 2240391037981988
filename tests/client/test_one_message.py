"""A run that ends while its message is on the way upsets no SuperNode: Flower's own steps, with Flower's own state."""

import importlib
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from threading import Thread
from typing import Any

import pytest
from flwr.app import ConfigRecord, Message, RecordDict
from flwr.common.constant import Status
from flwr.supercore.inflatable.inflatable_object import (
    get_all_nested_objects,
    get_object_tree,
    no_object_id_recompute,
)
from flwr.supercore.object_store import ObjectStoreFactory
from flwr.supercore.run import Run, RunNotRunningException
from flwr.supercore.task_identity import TaskIdentity
from flwr.supernode.nodestate import NodeStateFactory

from sonoshare_client.courier.flower import SUPERNODE
from sonoshare_client.courier.one_message import OneMessage

STOPPED, NEXT = 1, 2


@pytest.fixture(autouse=True)
def _in_a_task(monkeypatch: pytest.MonkeyPatch) -> None:
    """Flower makes messages inside a task alone."""
    for name in ("_run_id", "_node_id", "_task_id"):
        monkeypatch.setattr(TaskIdentity, name, STOPPED)


def message_of(run: int) -> Message:
    made = Message(
        RecordDict({"document": ConfigRecord({"bytes": b"x"})}), dst_node_id=7, message_type="query.sonoshare"
    )
    made.metadata.__dict__["_run_id"] = run
    made.metadata.__dict__["_message_id"] = made.object_id
    return made


@dataclass
class SuperNode:
    """Flower's state of a node, and a server whose first run can end at any call."""

    ends_at: str
    stores: ObjectStoreFactory = field(default_factory=ObjectStoreFactory)
    sent: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.state = NodeStateFactory(self.stores).state()
        self.state.set_node_id(7)
        self.store = self.stores.store()
        loop = importlib.import_module(SUPERNODE)
        self.steps = OneMessage(loop._pull_and_store_message, loop._push_messages, RunNotRunningException)
        for run in (STOPPED, NEXT):
            self.state.store_run(Run.create_empty(run))

    def take(self, message: Message) -> int | None:
        """The loop's first step; ``ends_at`` names the call at which the run has ended."""
        objects = get_all_nested_objects(message)

        def ending(name: str, call: Callable[..., Any]) -> Callable[..., Any]:
            def called(run: int, *rest: Any) -> Any:
                if run == STOPPED and name == self.ends_at:
                    raise RunNotRunningException
                return call(run, *rest)

            return called

        return self.steps.take(
            state=self.state,
            object_store=self.store,
            node_config={},
            receive=lambda: (message, get_object_tree(message)),
            get_run=None,
            get_fab=None,
            pull_object=ending("pull", lambda _run, name: objects[name].deflate()),
            confirm_message_received=ending("confirm", lambda *_: None),
            trusted_entities=None,
        )

    def reply(self, message: Message) -> None:
        """What a child does at the end: the reply lies in the node's state."""
        reply = Message(RecordDict(), reply_to=message)
        with no_object_id_recompute():
            reply.metadata.__dict__["_message_id"] = reply.object_id
            self.state.store_message(reply)
            self.store.preregister(reply.metadata.run_id, get_object_tree(reply))
            for name, part in get_all_nested_objects(reply).items():
                self.store.put(name, part.deflate())

    def send(self) -> None:
        """The loop's second step."""

        def sent(reply: Message, *_rest: Any) -> Any:
            self.sent.append(reply.metadata.reply_to_message_id)
            if reply.metadata.run_id == STOPPED:
                raise RunNotRunningException
            return set(), "session"

        self.steps.send(state=self.state, object_store=self.store, send=sent, push_object=lambda *_: None)


@pytest.mark.parametrize("call", ["pull", "confirm"])
def test_case_38_a_message_whose_run_ends_on_the_way_leaves_no_task_and_no_object(call: str) -> None:
    node, message = SuperNode(call), message_of(STOPPED)
    assert node.take(message) is None
    (task,) = node.state.get_tasks()
    assert task.status.status == Status.FINISHED, "else whoever took it waits for two hours"
    assert len(node.store) == 0
    assert not node.state.get_messages_legacy(is_reply=False)


def test_case_38_a_reply_to_a_message_of_an_ended_run_is_not_taken_for_that_to_the_next() -> None:
    """The agent was quick, and has answered what the node then ignored."""
    node, old, new = SuperNode("confirm"), message_of(STOPPED), message_of(NEXT)
    node.take(old)
    node.reply(old)
    assert node.take(new) == NEXT
    loop = Thread(target=node.send, daemon=True)
    loop.start()
    end = time.monotonic() + 20
    while not node.sent and time.monotonic() < end:
        time.sleep(0.01)
    assert loop.is_alive(), "it waits for the reply to the new message"
    node.reply(new)
    loop.join(20)
    assert not loop.is_alive()
    assert node.sent == [old.metadata.message_id, new.metadata.message_id]
