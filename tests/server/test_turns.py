"""Whose turn it is to ask the hospitals, and whether anybody still waits for what an action does."""

import os
import signal
import threading
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import pytest

from sonoshare_server.paths import CoordinatorPaths, StudyPaths
from sonoshare_server.queue.actions import begun, require_asked_for, running
from sonoshare_server.queue.turns import Ticket, tickets, turn
from sonoshare_server.queue.wanted import Wish, want, wanted
from sonoshare_shared.errors import FederationError, RefusedError, StoppedError


@pytest.fixture
def home(tmp_path: Path) -> CoordinatorPaths:
    return CoordinatorPaths(tmp_path)


@pytest.fixture
def study(tmp_path: Path) -> StudyPaths:
    (tmp_path / "s").mkdir()
    return StudyPaths(tmp_path / "s")


def wait(_ahead: list[Ticket]) -> None:
    """Wait for whoever goes first."""


def killed(work: Callable[[], object]) -> None:
    """Do something in a process of its own, and kill it while it does it; ``work`` raises when it fails to begin."""
    held, tell = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            with ExitStack() as stack:
                stack.callback(os._exit, 1)
                work()
                os.write(tell, b"1")
                signal.pause()
        finally:
            os._exit(1)
    os.close(tell)
    assert os.read(held, 1) == b"1"
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    os.close(held)


def test_of_those_who_wait_the_highest_priority_goes_first_and_then_the_oldest(home: CoordinatorPaths) -> None:
    order, waiting = [], []
    names = [("late", 0), ("later", 0), ("urgent", 5)]

    def take(name: str, priority: int) -> None:
        with turn(home, Ticket(name, "train", name, priority), wait):
            order.append(name)

    with turn(home, Ticket("first", "train", "first"), wait):
        for count, (name, priority) in enumerate(names, start=2):
            waiting.append(threading.Thread(target=take, args=(name, priority)))
            waiting[-1].start()
            while len(tickets(home)) < count:
                pass
        assert [ticket.study for ticket in tickets(home)] == ["first", "urgent", "late", "later"]
    for thread in waiting:
        thread.join()
    assert order == ["urgent", "late", "later"]
    assert tickets(home) == []
    assert list(home.turns_path.iterdir()) == []


def test_two_studies_of_one_priority_alternate(home: CoordinatorPaths) -> None:
    order, both = [], threading.Barrier(2)

    def rounds(name: str) -> None:
        both.wait()
        for _ in range(3):
            with turn(home, Ticket(name, "train", name), wait):
                order.append(name)
                while not any(ticket.study != name for ticket in tickets(home)) and len(order) < 6 - 1:
                    pass

    threads = [threading.Thread(target=rounds, args=(name,)) for name in ("a", "b")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert order in (list("ababab"), list("bababa"))


def test_case_71_a_killed_process_holds_no_turn_and_waits_for_none(home: CoordinatorPaths) -> None:
    stack = ExitStack()
    killed(lambda: stack.enter_context(turn(home, Ticket("dead", "train", "dead", 9), wait)))
    assert len(list(home.turns_path.glob("*.json"))) == 1
    with turn(home, Ticket("s", "train", "s"), wait):
        assert [ticket.study for ticket in tickets(home)] == ["s"]


def test_a_wait_ends_with_what_the_look_raises_and_leaves_no_ticket(home: CoordinatorPaths) -> None:
    def look(ahead: list[Ticket]) -> None:
        assert [ticket.study for ticket in ahead] == ["first"]
        raise StoppedError("stopped")

    with turn(home, Ticket("first", "train", "first"), wait):
        with pytest.raises(StoppedError), turn(home, Ticket("second", "train", "second"), look):
            pass
        assert [ticket.study for ticket in tickets(home)] == ["first"]


def test_an_action_is_asked_for_as_long_as_its_command_lives(study: StudyPaths) -> None:
    with begun(study, "train") as action:
        require_asked_for(study, action)
        assert running(study) == [action]
    assert running(study) == []
    with pytest.raises(StoppedError, match="the command that asked for it ended"):
        require_asked_for(study, action)


def test_another_command_of_the_same_kind_does_not_keep_an_older_action_alive(study: StudyPaths) -> None:
    with begun(study, "train") as older:
        pass
    with begun(study, "train") as newer:
        require_asked_for(study, newer)
        with pytest.raises(StoppedError):
            require_asked_for(study, older)


def test_a_killed_command_asks_for_nothing(study: StudyPaths) -> None:
    stack = ExitStack()
    killed(lambda: stack.enter_context(begun(study, "train")))
    assert (study.actions_path / "train.json").exists()
    assert running(study) == []
    with begun(study, "train") as action:
        assert running(study) == [action]


def test_one_command_trains_a_study_and_releases_of_it_are_audited_side_by_side(study: StudyPaths) -> None:
    with begun(study, "train"), begun(study, "audit", "r1"), begun(study, "audit", "r2"):
        for action, release in (("train", ""), ("audit", "r1")):
            with pytest.raises(FederationError, match="another command"), begun(study, action, release):
                pass
        assert [action.words for action in running(study)] == ["train", "audit r1", "audit r2"]


@pytest.mark.parametrize("state", ["paused", "cancelled", "retired"])
def test_what_is_not_wanted_stops_and_does_not_begin(study: StudyPaths, state: Wish) -> None:
    with begun(study, "train") as action:
        want(study, state)
        with pytest.raises(StoppedError, match=f"study s was {state}"):
            require_asked_for(study, action)
    with pytest.raises(StoppedError, match=state), begun(study, "train"):
        pass


def test_a_paused_study_runs_again_and_a_cancelled_one_never(study: StudyPaths) -> None:
    assert wanted(study).state == "run"
    want(study, "run", 7)
    want(study, "paused")
    assert want(study, "run").priority == 7
    want(study, "cancelled")
    for state in ("run", "paused", "retired"):
        with pytest.raises(RefusedError, match="final"):
            want(study, state)
    assert wanted(study).state == "cancelled"
