"""The way to the coordinator, step by step: each cause in one line with its remedy, over real sockets and real TLS."""

import json
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from tests.deploy.command import sonoshare
from tests.deploy.fleet_listener import listener

from sonoshare_client.courier.way import Outcome, Way, as_json, from_json, superlink_address, try_way
from sonoshare_client.node.home import NodeHome
from sonoshare_client.node.joining import enrol
from sonoshare_client.node.link import begun, read_link, write_link
from sonoshare_deploy.addresses import free_ports
from sonoshare_deploy.link_watch import after, told
from sonoshare_deploy.provision import create_coordinator
from sonoshare_server.consortium.admission import admit
from sonoshare_server.consortium.audit_terms import audit_policy
from sonoshare_server.consortium.members import Consortium
from sonoshare_server.home import CoordinatorHome
from sonoshare_shared.errors import InputError


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> NodeHome:
    return NodeHome.create(tmp_path_factory.mktemp("node") / "home", "north")


@pytest.fixture(scope="module")
def coordinator(tmp_path_factory: pytest.TempPathFactory, node: NodeHome) -> CoordinatorHome:
    made = Consortium("c", audit_policy(1.0, 0.6, 0.97, 0.001))
    home = create_coordinator(tmp_path_factory.mktemp("c") / "home", made, ("127.0.0.1",))
    admit(home, "north", node.identity().public.hex, node.node_public_key)
    return home


@pytest.fixture(scope="module")
def fleet(coordinator: CoordinatorHome) -> Iterator[int]:
    with listener(coordinator) as (port, _):
        yield port


@contextmanager
def answering(answer: bytes) -> Iterator[int]:
    """Something that is no coordinator: it answers so to whatever it is sent."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            while True:
                try:
                    connection, _ = server.accept()
                except OSError:
                    return
                with connection:
                    connection.recv(4096)
                    connection.sendall(answer)

        threading.Thread(target=serve, daemon=True).start()
        yield server.getsockname()[1]


def way(port: int, home: CoordinatorHome, node: NodeHome, host: str = "127.0.0.1") -> Way:
    return Way(f"{host}:{port}", home.authority_path, node.node_key_path)


def failure(tested: Outcome) -> tuple[str, str, str]:
    assert tested.failed is not None
    return tested.failed.name, tested.failed.found, tested.failed.remedy


def test_an_admitted_node_passes_every_step(fleet: int, coordinator: CoordinatorHome, node: NodeHome) -> None:
    tested = try_way(way(fleet, coordinator, node))
    assert [(step.name, step.ok) for step in tested.steps] == [
        (name, True) for name in ("address", "reach", "tls", "server", "clock", "admitted")
    ]
    assert (tested.link, tested.roster_version) == ("connected", coordinator.roster.version)
    assert from_json(as_json(tested)) == tested


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("https://fed.example.org:9092/", r"begins with a scheme \(write host and port alone: fed.example.org:9092\)"),
        ("fed.example.org", "is not host:port"),
        ("fed.example.org:70000", "is not host:port"),
        (":9092", "is not host:port"),
    ],
)
def test_an_address_that_is_none_is_refused_before_anything_starts(text: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        superlink_address(text)


def test_a_server_that_is_down_and_a_wrong_port(coordinator: CoordinatorHome, node: NodeHome) -> None:
    name, found, remedy = failure(tested := try_way(way(free_ports(1)[0], coordinator, node)))
    assert (name, tested.link) == ("reach", "down")
    assert "nothing listens at 127.0.0.1:" in found
    assert "the port is another" in remedy
    assert "goes on trying" not in remedy  # `hospital check` tries once and ends
    with answering(b"SSH-2.0-OpenSSH\r\n") as port:
        name, found, _ = failure(try_way(way(port, coordinator, node)))
    assert name == "tls"
    assert "does not speak TLS" in found


def test_a_certificate_of_another_authority_and_one_for_another_name(
    fleet: int, coordinator: CoordinatorHome, node: NodeHome, tmp_path: Path
) -> None:
    other = create_coordinator(tmp_path / "other", Consortium("d", audit_policy(1.0, 0.6, 0.97, 0.001)), ("x",))
    name, found, remedy = failure(try_way(Way(f"127.0.0.1:{fleet}", other.authority_path, node.node_key_path)))
    assert name == "tls"
    assert "not of the authority in ca.crt" in found
    assert "get ca.crt from the coordinator again" in remedy
    name, found, remedy = failure(try_way(way(fleet, coordinator, node, host="localhost")))
    assert found == "the server's certificate is not for localhost"
    assert "renew --host localhost" in remedy


@pytest.mark.parametrize(("hours", "ok"), [(1, False), (-1, False), (0, True)])
def test_a_clock_that_is_off_by_an_hour(
    fleet: int, coordinator: CoordinatorHome, node: NodeHome, hours: int, *, ok: bool
) -> None:
    tested = try_way(way(fleet, coordinator, node), lambda: datetime.now(UTC) + timedelta(hours=hours))
    assert (tested.failed is None) is ok
    if not ok:
        name, found, remedy = failure(tested)
        assert (name, tested.link) == ("clock", "turned-away")
        assert f"60 min {'ahead' if hours > 0 else 'behind'}" in found
        assert remedy.startswith("set this machine's clock")


def test_a_node_that_is_not_admitted_and_one_that_is_expelled_later(
    fleet: int, coordinator: CoordinatorHome, node: NodeHome, tmp_path: Path
) -> None:
    stranger = NodeHome.create(tmp_path / "south", "south")
    name, found, remedy = failure(tested := try_way(way(fleet, coordinator, stranger)))
    assert (name, tested.link) == ("admitted", "turned-away")
    assert found == "the coordinator does not know this node's key"
    assert "coordinator admit" in remedy
    admit(coordinator, "south", stranger.identity().public.hex, stranger.node_public_key)
    assert try_way(way(fleet, coordinator, stranger)).failed is None


def test_the_link_tells_a_change_once_and_remembers_the_last_contact(
    fleet: int, coordinator: CoordinatorHome, node: NodeHome, tmp_path: Path
) -> None:
    path, now = tmp_path / "link.json", datetime.now(UTC)
    state = begun(path, f"127.0.0.1:{fleet}", coordinator.authority_path)
    assert (state.state, state.admitted) == ("connecting", None)
    up = after(state, try_way(way(fleet, coordinator, node)), now)
    down_tested = try_way(way(free_ports(1)[0], coordinator, node))
    down = after(up, down_tested, now + timedelta(seconds=20))
    later = after(down, down_tested, now + timedelta(seconds=40))
    assert (up.state, up.admitted, up.last_contact) == ("connected", True, now)
    assert (down.state, down.since, down.last_contact) == ("down", now + timedelta(seconds=20), now)
    assert (later.since, later.looked) == (down.since, now + timedelta(seconds=40))
    assert "\n" not in told(down)
    assert "nothing listens" in told(down)
    write_link(path, down)
    assert read_link(path) == down
    assert not down.stale(down.looked)
    assert down.stale(down.looked + timedelta(hours=1))


def test_the_check_is_lines_or_one_object_and_names_the_cause(
    fleet: int, coordinator: CoordinatorHome, tmp_path: Path
) -> None:
    path = tmp_path / "east"
    home = NodeHome.create(path, "east")
    called = ("hospital", "check", "--home", path)
    assert sonoshare(*called, "--superlink", f"127.0.0.1:{fleet}").returncode == 2
    assert "no coordinator is known yet: " in sonoshare(*called).stdout
    asked = (*called, "--superlink", f"127.0.0.1:{fleet}", "--root-certificate", coordinator.authority_path)
    run = sonoshare(*asked, "--json")
    said = json.loads(run.stdout.splitlines()[-1])
    assert (run.returncode, said["ok"], said["steps"][-1]["step"]) == (1, False, "admitted")
    assert run.errors == [f"error: {said['cause']} ({said['remedy']})"]
    admit(coordinator, "east", home.identity().public.hex, home.node_public_key)
    roster, root = coordinator.roster_path, coordinator.root.hex
    assert sonoshare("hospital", "enrol", "--home", path, "--roster", roster, "--root-key", root).returncode == 0
    run = sonoshare(*asked)
    assert run.returncode == 0, run.stderr
    assert "roster version" in run.stdout
    assert "fail " not in run.stdout
    assert sonoshare(*asked, "--strict").returncode == 1  # an empty vault is a warning


def test_a_roster_that_is_not_about_this_node_is_refused_with_the_cure(
    coordinator: CoordinatorHome, tmp_path: Path
) -> None:
    roster, root = coordinator.roster_path, coordinator.root.hex

    def refused(path: Path) -> str:
        (line,) = sonoshare("hospital", "enrol", "--home", path, "--roster", roster, "--root-key", root).errors
        return line

    stranger = NodeHome.create(tmp_path / "a", "west")
    assert f"not name west (send the keys that 'sonoshare hospital keys --home {stranger.path}' shows" in refused(
        stranger.path
    )
    impostor = NodeHome.create(tmp_path / "b", "north")
    assert "names north with another identity key than this node's" in refused(impostor.path)
    admit(coordinator, "typo", stranger.identity().public.hex, stranger.node_public_key)
    assert "names this node's key as typo, and this node is west (the coordinator expels typo" in refused(stranger.path)
    assert not stranger.state.roster_path.exists()


def test_keys_are_shown_with_fingerprints_and_whether_the_roster_names_them(
    coordinator: CoordinatorHome, node: NodeHome
) -> None:
    run = sonoshare("hospital", "keys", "--home", node.path, "--json")
    shown = {line["key"]: line for line in json.loads(run.stdout)["keys"]}
    assert set(shown) == {"identity", "node", "vault"}
    assert shown["identity"]["public"] == node.identity().public.hex
    assert shown["vault"]["public"] is shown["vault"]["fingerprint"] is None
    assert {line["in_roster"] for line in shown.values()} == {None}
    enrol(node, coordinator.roster_envelope, coordinator.root)
    run = sonoshare("hospital", "keys", "--home", node.path)
    assert run.returncode == 0
    assert f"node key  {node.node_public_key}\n" in run.stdout
    assert shown["node"]["fingerprint"] in run.stdout
