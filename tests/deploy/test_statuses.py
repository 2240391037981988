"""Looking at a node and at a coordinator: what people see is true, and looking leaves no trace."""

import json
import logging
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from tests.deploy.command import sonoshare
from tests.deploy.in_process import policy
from tests.deploy.members import admit
from tests.deploy.registry import Registry
from tests.shared.consortium import make_plan

from sonoshare_client.agent.server import MOST_CONNECTIONS, AgentServer
from sonoshare_client.node.home import NodeHome
from sonoshare_client.node.ledger import open_ledger
from sonoshare_client.node.link import LinkState, write_link
from sonoshare_client.node.policy_file import policy_text
from sonoshare_client.node.socket import ask_agent, pulse_of
from sonoshare_client.node.spent import spent_at_a_glance, spent_of_life
from sonoshare_deploy.coordinator_view import coordinator_view
from sonoshare_deploy.coordinator_watch import look
from sonoshare_deploy.provision import create_coordinator
from sonoshare_privacy.budget import ChargeRequest, Spent
from sonoshare_server.consortium.audit_terms import audit_policy
from sonoshare_server.consortium.members import Consortium
from sonoshare_server.home import CoordinatorHome
from sonoshare_server.queue.actions import begun
from sonoshare_shared.errors import InputError
from sonoshare_shared.locks import locked
from sonoshare_shared.protocol.canonical import sha256_hex
from sonoshare_shared.protocol.documents.charge import PureDP, SampledGaussian
from sonoshare_shared.protocol.envelope import Envelope
from sonoshare_shared.protocol.keys import SigningKey


class Slow:
    """Works at a request until it is let go."""

    def __init__(self) -> None:
        self.go = threading.Event()

    def answer(self, frame: bytes) -> bytes:
        self.go.wait(10)
        return frame


@contextmanager
def served(path: Path) -> Iterator[Slow]:
    agent = Slow()
    server = AgentServer(path, agent)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    try:
        yield agent
    finally:
        agent.go.set()
        server.shutdown()
        thread.join()
        server.server_close()


def test_a_sign_of_life_is_given_at_once_while_the_agent_works_and_leaves_no_line_in_its_log(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    path = tmp_path / "agent.sock"
    assert pulse_of(path).state == "stopped"
    with served(path) as agent:
        assert (pulse_of(path).state, pulse_of(path).busy) == ("answering", None)
        asking = threading.Thread(target=ask_agent, args=(path, b"work", 20.0))
        asking.start()
        end = time.monotonic() + 5
        while pulse_of(path).busy is None and time.monotonic() < end:
            time.sleep(0.05)
        assert pulse_of(path).state == "answering"
        assert pulse_of(path).busy is not None
        agent.go.set()
        asking.join()
        assert pulse_of(path).busy is None
    assert caplog.messages == []


def test_an_agent_whose_connections_are_all_taken_for_a_moment_is_not_called_stopped(tmp_path: Path) -> None:
    import socket  # noqa: PLC0415 - peers that hold a connection and say nothing

    path = tmp_path / "agent.sock"
    with served(path), ExitStack() as taken:
        for _ in range(MOST_CONNECTIONS):
            taken.enter_context(socket.socket(socket.AF_UNIX)).connect(str(path))
        time.sleep(0.1)
        assert pulse_of(path, 0.2).state == "hung"
        freed = threading.Timer(0.2, taken.close)
        freed.start()
        assert pulse_of(path, 5.0).state == "answering"
        freed.join()


def test_an_agent_that_takes_connections_and_never_answers_is_called_hung(tmp_path: Path) -> None:
    import socket  # noqa: PLC0415 - a listener that nobody serves, as of a process that was stopped

    with socket.socket(socket.AF_UNIX) as held:
        held.bind(str(tmp_path / "agent.sock"))
        held.listen()
        assert pulse_of(tmp_path / "agent.sock", 0.1).state == "hung"


@pytest.mark.parametrize(
    ("state", "cause", "shown"),
    [
        ("connected", "", "connected to fed:9092 for 5 min"),
        ("down", "nothing listens at fed:9092", "no link to fed:9092 for 5 min: nothing listens at fed:9092 (do this)"),
        ("turned-away", "not known", "turned away by fed:9092 for 5 min: not known (do this); last contact 2 h ago"),
    ],
)
def test_a_hospital_sees_its_link_and_not_only_its_agent(tmp_path: Path, state: str, cause: str, shown: str) -> None:
    home, now = NodeHome.create(tmp_path / "home", "north"), datetime.now(UTC)
    link = LinkState(
        state=state,  # type: ignore[arg-type]
        since=now - timedelta(minutes=5),
        looked=now,
        superlink="fed:9092",
        root_certificate="ca.crt",
        cause=cause,
        remedy="do this" if cause else "",
        last_contact=now - timedelta(hours=2),
        roster_version=7,
    )
    write_link(home.state.link_path, link)

    def connection() -> str:
        said = json.loads(sonoshare("hospital", "status", "--home", home.path, "--json").stdout)
        assert said["link"]["cause"] == (cause or None)
        return str(said["connection"])

    assert connection() == "stopped"  # no courier runs: it was ended, or killed
    with locked(home.state.courier_lock_path, InputError("held")):
        run = sonoshare("hospital", "status", "--home", home.path)
        assert shown in " ".join(run.stdout.split())
        assert connection() == state
        write_link(
            home.state.link_path,
            link.seen(link.state, now - timedelta(hours=1), cause=cause, remedy="", roster_version=None),
        )
        assert connection() == "stopped"  # nobody has looked for an hour: it is no longer true


def test_a_look_at_the_budget_asks_the_accountant_once_for_each_head_and_delta(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = NodeHome.create(tmp_path / "home", "north", policy=policy())
    ledger = open_ledger(home, lambda: datetime.now(UTC))
    asked, compute = [], ledger.spent

    def counted(delta: float) -> Spent:
        asked.append(delta)
        return compute(delta)

    monkeypatch.setattr(ledger, "spent", counted)
    ledger.reserve(ChargeRequest("s", "audit", (PureDP(0.5),), 1e-3, 30))
    first = spent_of_life(home, ledger)
    assert first == compute(3e-3)
    assert spent_of_life(home, ledger) == first
    ledger.reserve(ChargeRequest("s", "audit", (PureDP(0.25),), 1e-3, 30))
    assert spent_of_life(home, ledger) == compute(3e-3) != first
    assert asked == [3e-3, 3e-3]
    home.policy_path.write_text(policy_text(policy(delta=2e-3)))
    assert spent_of_life(home, ledger) == compute(2e-3)  # a budget at another delta is another number
    assert asked == [3e-3, 3e-3, 2e-3]
    ledger.close()


def test_a_look_after_a_charge_shows_the_bound_that_decided_it_and_the_number_of_record_once_it_was_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = NodeHome.create(tmp_path / "home", "north", policy=policy())
    with closing(open_ledger(home, lambda: datetime.now(UTC))) as ledger:
        ledger.reserve(ChargeRequest("s", "round 1", (SampledGaussian(1.0, 2.0, 33),), 1e-3, 30))
        with monkeypatch.context() as without:
            without.setattr(ledger, "spent", None)  # who looks does not wait for it
            glance = spent_at_a_glance(home, ledger)
        exact = ledger.spent(3e-3)
        assert not glance.exact
        assert exact.epsilon < glance.epsilon == ledger.entries()[-1].charge.epsilon_lifetime < 1.1 * exact.epsilon

    def shown() -> tuple[str, bool]:
        run = sonoshare("hospital", "status", "--home", home.path)
        said = json.loads(sonoshare("hospital", "status", "--home", home.path, "--json").stdout)
        return " ".join(run.stdout.split()), said["budget"]["spent_is_exact"]

    assert shown()[1] is False
    assert f"spent at most {glance.epsilon:.3f} (exactly: sonoshare hospital ledger --home" in shown()[0]
    assert f"spent epsilon {exact.epsilon:.3f} of" in sonoshare("hospital", "ledger", "--home", home.path).stdout
    assert shown()[1] is True
    assert f"spent {exact.epsilon:.3f} " in shown()[0]


def test_a_coordinator_shows_who_is_online_who_was_heard_and_who_is_awaited(tmp_path: Path) -> None:
    made = Consortium("c", audit_policy(1.0, 0.6, 0.97, 0.001))
    home = create_coordinator(tmp_path / "c", made, ("localhost",))
    admit(home.path, "north", "south")
    study = home.create_study(make_plan(), b"adapter", sha256_hex(b"adapter"))
    registry, now = Registry(), datetime.now(UTC)
    view = coordinator_view(home, now)
    assert [(m.id, m.registered, m.online, m.last_heard) for m in view.members] == [
        ("north", False, None, None),
        ("south", False, None, None),
    ]
    look(home, registry, now)
    registry.online = {home.nodes["south"]}
    look(home, registry, now)
    home.keep_view("south", Envelope.sign("text/plain", b"as with every answer", SigningKey.generate()))
    view = coordinator_view(home, now)
    assert [(m.id, m.registered, m.online, m.last_heard is None) for m in view.members] == [
        ("north", True, None, True),
        ("south", True, None, False),
    ]  # it does not run: who is online now nobody knows
    with begun(study, "train"):
        study.event("waiting", round=1, answered=["south"], awaited=["north"], until="2026-11-28T20:33:17+01:00")
        run = sonoshare("coordinator", "status", "--home", home.path)
        (shown,) = json.loads(sonoshare("coordinator", "status", "--home", home.path, "--json").stdout)["studies"]
        assert (shown["does"], shown["answered"], shown["awaited"]) == ("train", ["south"], ["north"])
        assert (shown["rounds_done"], shown["rounds"]) == (0, study.plan.rounds)
        told = sonoshare("coordinator", "study", "status", "--home", home.path, "--name", study.plan.study).stdout
        assert "answered: south; awaited: north, until 2026-11-28 19:33 UTC" in told
    assert "{" not in run.stdout + told
    assert coordinator_view(home, now).studies[0].awaited == ()  # nothing runs: nobody is awaited
    study.event("failed", action="train", reason="round 1 has 1 of 2 updates")
    study.event("round", round=1)
    told = sonoshare("coordinator", "study", "status", "--home", home.path, "--name", study.plan.study).stdout
    assert "paused, 0 of 2 rounds done; train failed: round 1 has 1 of 2 updates" in told
    row = next(
        line for line in sonoshare("coordinator", "status", "--home", home.path).stdout.splitlines() if "0 of 2" in line
    )
    assert "paused" in row


@pytest.fixture
def watched(tmp_path: Path) -> Iterator[CoordinatorHome]:
    """A coordinator that runs, as far as its folder says, with two hospitals."""
    made = Consortium("c", audit_policy(1.0, 0.6, 0.97, 0.001))
    home = create_coordinator(tmp_path / "c", made, ("localhost",))
    admit(home.path, "north", "south")
    with locked(home.start_lock_path, InputError("held")):
        yield home


def members_of(home: CoordinatorHome, now: datetime) -> dict[str, tuple[bool | None, datetime | None]]:
    return {member.id: (member.online, member.last_heard) for member in coordinator_view(home, now).members}


def test_who_is_online_was_heard_and_who_went_was_heard_until_then(watched: CoordinatorHome) -> None:
    registry, began = Registry(), datetime.now(UTC)
    look(watched, registry, began)
    registry.online = {watched.nodes["north"]}
    look(watched, registry, began)  # connected, and nothing was asked of it yet
    assert members_of(watched, began) == {"north": (True, began), "south": (False, None)}
    shown = sonoshare("coordinator", "status", "--home", watched.path).stdout
    assert "coordinator  running" in shown
    assert "never" not in next(line for line in shown.splitlines() if "north" in line)
    registry.online = set()
    later = began + timedelta(minutes=3)
    look(watched, registry, later)
    assert members_of(watched, later) == {"north": (False, began), "south": (False, None)}


def test_a_coordinator_whose_superlink_says_nothing_runs_and_does_not_know_who_is_online(
    watched: CoordinatorHome,
) -> None:
    registry, began = Registry(), datetime.now(UTC)
    look(watched, registry, began)
    registry.online = {watched.nodes["north"]}
    look(watched, registry, began)
    later = began + timedelta(minutes=5)
    assert coordinator_view(watched, later).running
    assert members_of(watched, later) == {"north": (None, began), "south": (None, None)}


def test_the_statuses_load_neither_torch_nor_the_accountant(tmp_path: Path) -> None:
    import subprocess  # noqa: PLC0415
    import sys  # noqa: PLC0415

    NodeHome.create(tmp_path / "home", "north")
    program = (
        "import sys\n"
        "from sonoshare_deploy.cli.main import cli\n"
        f"cli(['hospital', 'status', '--home', {str(tmp_path / 'home')!r}], standalone_mode=False)\n"
        "heavy = {'torch', 'dp_accounting', 'scipy', 'flwr'} & set(sys.modules)\n"
        "sys.exit(f'loaded {heavy}' if heavy else 0)\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_what_a_coordinator_asks_of_hospitals_loads_no_torch() -> None:
    """``study run`` waits for hours: half a gigabyte less, and five seconds sooner."""
    import subprocess  # noqa: PLC0415
    import sys  # noqa: PLC0415

    program = (
        "import sys, sonoshare_deploy.coordinator\n"
        "heavy = {'torch', 'diffusers', 'dp_accounting', 'scipy'} & set(sys.modules)\n"
        "sys.exit(f'loaded {heavy}' if heavy else 0)\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
