"""A hospital trains on several devices: the agent and processes beside it, with gloo, through a real request."""

import os
import secrets
import signal
import socket
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
import torch
from tests.deploy.command import sonoshare
from tests.deploy.hostile import Hostile, reply_of, said
from tests.deploy.in_process import World, copied, patients_of

from sonoshare_client.agent import node, rank_processes, training
from sonoshare_client.agent.draws import PatientDraws
from sonoshare_client.agent.rank_channel import EXCHANGE_SECONDS, Job
from sonoshare_client.agent.rank_processes import RankProcesses, require_among_themselves
from sonoshare_client.agent.service import WITHHELD
from sonoshare_privacy import step_release
from sonoshare_shared.errors import FederationError
from sonoshare_shared.protocol.documents.exchange import decode_frame
from sonoshare_shared.protocol.documents.plan import StudyPlan
from sonoshare_shared.science.model.adapter import adapter_from_bytes

NORTH = "north"
CPU = torch.device("cpu")
PROGRAM = "sonoshare_client.agent.rank_main"
FIXED_DRAWS = Path(__file__).parent / "fixed_draws"
PATIENCE_SECONDS = 60


def beside(process: int) -> list[psutil.Process]:
    """The processes that train beside a process."""
    return [one for one in psutil.Process(process).children() if PROGRAM in one.cmdline()]


def held_by(process: int) -> list[str]:
    """What a process has open or mapped, once it has mapped the patients that it was handed."""
    folder, end = Path("/proc") / str(process), time.monotonic() + PATIENCE_SECONDS
    while "sonoshare-cohort" not in (folder / "maps").read_text() and time.monotonic() < end:
        time.sleep(0.05)
    return [str(one.readlink()) for one in (folder / "fd").iterdir()] + (folder / "maps").read_text().splitlines()


@pytest.fixture
def world(pristine: World, tmp_path: Path) -> Iterator[World]:
    world = copied(pristine, tmp_path / "world")
    world.nodes[NORTH].further_devices = (CPU,)
    yield world
    assert beside(os.getpid()) == []  # none outlives a training, however that ended


@pytest.fixture
def hostile(world: World) -> Hostile:
    return Hostile(world, NORTH)


def plan(world: World, name: str, **changes: Any) -> StudyPlan:
    return world.study.plan.model_copy(update={"study": name, "local_steps": 2, **changes})


def train(hostile: Hostile, study: StudyPlan) -> bytes:
    return hostile.agent.answer(hostile.train(study, hostile.world.study.adapter()))


class FirstDraw:
    """Counts the patients that the agent's own process draws, and does something once, before the first of them."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.act: Any = None
        self.patients = 0
        draw, hold = PatientDraws.draw, PatientDraws.hold
        holding: list[Any] = []  # the check's probe is drawn in the same way

        def watched_hold(drawing: Any, patients: Any) -> int:
            holding.append(drawing)
            return hold(drawing, patients)

        def watched_draw(drawing: Any, which: Any, *arguments: Any) -> Any:
            if drawing in holding:
                self.patients += len(which)
                act, self.act = self.act, None
                if act is not None:
                    act()
            return draw(drawing, which, *arguments)

        monkeypatch.setattr(PatientDraws, "hold", watched_hold)
        monkeypatch.setattr(PatientDraws, "draw", watched_draw)


def test_two_processes_give_what_one_gives_and_one_that_is_killed_spoils_one_training(
    world: World, hostile: Hostile, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Without noise, with everybody sampled and one key for all draws, an update is a function of the patients."""
    monkeypatch.setattr(step_release, "add_gaussian_integers", lambda total, deviation: total)
    monkeypatch.setattr(step_release, "poisson_sample", lambda population, rate: np.arange(population))
    monkeypatch.setattr(secrets, "randbits", lambda count: 7)
    monkeypatch.setattr(secrets, "token_bytes", lambda count=None: bytes([7]) * (count or 32))
    monkeypatch.setenv("PYTHONPATH", str(FIXED_DRAWS), prepend=os.pathsep)
    ledger, first = world.nodes[NORTH].ledger, FirstDraw(monkeypatch)

    first.act = lambda: [one.kill() for one in beside(os.getpid())]
    assert train(hostile, plan(world, "killed")) == WITHHELD
    assert "FederationError" in caplog.text
    (stands,) = ledger.open_reservations()  # paid for nothing
    assert beside(os.getpid()) == []

    held: list[str] = []
    first.act = lambda: held.extend(held_by(beside(os.getpid())[0].pid))
    first.patients = 0
    two = train(hostile, plan(world, "two"))
    of_two = first.patients
    world.nodes[NORTH].further_devices = ()
    first.patients = 0
    one = train(hostile, plan(world, "one"))
    assert 0 < of_two < first.patients  # the other process had the rest
    assert any("sonoshare-cohort" in one for one in held)
    assert not [one for one in held if str(world.home.path.parent) in one]  # no vault, no key, no ledger
    updates = [adapter_from_bytes(decode_frame(answer)[1]) for answer in (one, two)]
    assert all(float(value.abs().max()) > 0 for value in updates[0].values())
    for name, value in updates[0].items():
        torch.testing.assert_close(updates[1][name], value, rtol=1e-3, atol=1e-5)
    assert said(two)["losses"] == pytest.approx(said(one)["losses"], rel=1e-5)
    assert ledger.open_reservations() == (stands,)


def test_an_agent_that_is_killed_leaves_no_process(
    world: World, hostile: Hostile, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    training = tmp_path / "training"
    first = FirstDraw(monkeypatch)

    def stay() -> None:
        training.touch()
        time.sleep(10 * PATIENCE_SECONDS)

    first.act = stay
    frame = hostile.train(plan(world, "s"), world.study.adapter())
    agent = os.fork()
    if agent == 0:
        try:
            hostile.agent.answer(frame)
        finally:
            os._exit(1)
    end = time.monotonic() + 2 * PATIENCE_SECONDS
    while not training.exists() and time.monotonic() < end:
        time.sleep(0.1)
    others = beside(agent)
    os.kill(agent, signal.SIGKILL)
    os.waitpid(agent, 0)
    assert len(others) == 1
    _, alive = psutil.wait_procs(others, timeout=PATIENCE_SECONDS)
    assert alive == []


def test_what_does_not_start_or_is_not_alike_is_refused_before_anything_is_charged(
    world: World, hostile: Hostile, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = len(world.nodes[NORTH].ledger.entries())
    for program in ("import sys; sys.exit(1)", _ANOTHER_VERSION):
        monkeypatch.setattr(rank_processes, "PROGRAM", (sys.executable, "-c", program))
        refusal = reply_of(train(hostile, plan(world, "s"))).refusal
        assert refusal is not None
        assert refusal.error == "FederationError"
    assert "another sonoshare" in refusal.message
    assert len(world.nodes[NORTH].ledger.entries()) == before


_ANOTHER_VERSION = """
import json, socket, sys, time
channel = socket.socket(fileno=int(sys.argv[1]))
facts = json.dumps({"sonoshare": "0.0"}).encode()
channel.sendall(len(facts).to_bytes(8, "big") + facts)
while channel.recv(1 << 20):
    pass
"""


def test_held_out_patients_are_never_handed_over(world: World) -> None:
    held_out = patients_of(world, NORTH, 32).held_out
    ours, theirs = socket.socketpair()
    with ours, theirs, pytest.raises(ValueError, match="only trained"):
        RankProcesses(None, (ours,)).hand_over(held_out)


def test_no_plan_says_how_long_processes_wait_for_each_other(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """One has a patient more than the other as chance will have it: a short wait would end where the sample is odd."""
    seen: list[Job] = []

    def started(device: Any, others: Any, job: Job, *further: Any) -> Any:
        seen.append(job)
        raise FederationError("far enough")

    monkeypatch.setattr(training, "rank_processes", started)
    hostile = Hostile(world, NORTH)
    for seconds in (1, 10**9):
        train(hostile, plan(world, f"s{seconds}", round_deadline_seconds=seconds))
    assert {job.seconds for job in seen} == {EXCHANGE_SECONDS}
    assert len(seen) == 2


def test_a_node_looks_at_its_devices_memory_before_anybody_is_in_it(
    pristine: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    looked: list[torch.device] = []
    monkeypatch.setattr(node, "memory_of", looked.append)
    node.Node.open(pristine.nodes[NORTH].home, CPU)
    assert looked == [CPU]


def test_a_stranger_on_a_port_of_the_group_is_noticed() -> None:
    here, there, stranger = (("127.0.0.1", port) for port in (1000, 2000, 3000))
    require_among_themselves([(here, there), (there, here)], processes=2)
    with pytest.raises(FederationError, match="somebody else"):
        require_among_themselves([(here, there), (there, here), (here, stranger)], processes=2)
    for missing in ([], [(here, there), (there, here)]):  # connections made later would be looked at by nobody
        with pytest.raises(FederationError, match="not all connected"):
            require_among_themselves(missing, processes=3)


def test_the_command_takes_one_way_to_name_devices_and_says_what_is_not_here(tmp_path: Path) -> None:
    certificate = tmp_path / "ca.crt"
    certificate.touch()
    start = ("hospital", "start", "--home", tmp_path, "--superlink", "localhost:1", "--root-certificate", certificate)
    for wrong in (("--gpus", "2", "--devices", "cpu,cpu"), ("--device", "cpu", "--gpus", "all"), ("--gpus", "some")):
        assert sonoshare(*start, *wrong).returncode == 2
