"""A site whose only way out is a proxy: the courier and its test go through it by CONNECT, and nothing local does."""

import os
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import pytest
from flwr.proto.fleet_pb2 import ActivateNodeRequest
from flwr.supernode.fleet_http_client import FleetHttpClient
from tests.deploy.fleet_listener import listener

from sonoshare_client.courier.supernode import environment
from sonoshare_client.courier.way import Way, try_way
from sonoshare_client.node.home import NodeHome
from sonoshare_deploy.provision import create_coordinator
from sonoshare_server.consortium.admission import admit
from sonoshare_server.consortium.audit_terms import audit_policy
from sonoshare_server.consortium.members import Consortium
from sonoshare_server.home import CoordinatorHome
from sonoshare_shared.loopback import loopback_direct


@dataclass
class Proxy:
    """A proxy that passes connections through; it answers ``status`` to CONNECT and keeps what it was asked."""

    port: int
    status: bytes = b"200 Connection established"
    asked: list[bytes] = field(default_factory=list)
    carried: list[bytes] = field(default_factory=list)


def _pass_on(source: socket.socket, sink: socket.socket, keep: list[bytes]) -> None:
    with suppress(OSError):
        while block := source.recv(65536):
            keep.append(block)
            sink.sendall(block)
    with suppress(OSError):
        sink.shutdown(socket.SHUT_WR)


def _serve(proxy: Proxy, client: socket.socket) -> None:
    with client:
        head = b""
        while b"\r\n\r\n" not in head:
            head += client.recv(4096)
        proxy.asked.append(head)
        client.sendall(b"HTTP/1.1 " + proxy.status + b"\r\n\r\n")
        if not proxy.status.startswith(b"200"):
            return
        host, _, port = head.split()[1].decode().rpartition(":")
        with socket.create_connection((host, int(port)), 5) as server:
            back = threading.Thread(target=_pass_on, args=(server, client, []), daemon=True)
            back.start()
            _pass_on(client, server, proxy.carried)
            back.join(5)


@contextmanager
def serving() -> Iterator[Proxy]:
    with socket.create_server(("127.0.0.1", 0)) as door:
        proxy = Proxy(door.getsockname()[1])

        def accept() -> None:
            with suppress(OSError):
                while True:
                    client, _ = door.accept()
                    threading.Thread(target=_serve, args=(proxy, client), daemon=True).start()

        threading.Thread(target=accept, daemon=True).start()
        yield proxy


@pytest.fixture
def proxy(monkeypatch: pytest.MonkeyPatch) -> Iterator[Proxy]:
    for name in ("NO_PROXY", "no_proxy", "ALL_PROXY", "all_proxy", "https_proxy"):
        monkeypatch.delenv(name, raising=False)
    with serving() as running:
        monkeypatch.setenv("HTTPS_PROXY", f"http://ward:s%40cret@127.0.0.1:{running.port}")
        yield running


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> NodeHome:
    return NodeHome.create(tmp_path_factory.mktemp("node") / "home", "north")


@pytest.fixture(scope="module")
def coordinator(tmp_path_factory: pytest.TempPathFactory, node: NodeHome) -> CoordinatorHome:
    made = Consortium("c", audit_policy(1.0, 0.6, 0.97, 0.001))
    home = create_coordinator(tmp_path_factory.mktemp("c") / "home", made, ("127.0.0.1",))
    admit(home, "north", node.identity().public.hex, node.node_public_key)
    return home


def test_the_test_of_the_way_goes_through_the_proxy_and_tls_passes_unopened(
    proxy: Proxy, coordinator: CoordinatorHome, node: NodeHome
) -> None:
    with listener(coordinator) as (port, _):
        tested = try_way(Way(f"127.0.0.1:{port}", coordinator.authority_path, node.node_key_path))
    assert tested.failed is None
    assert tested.steps[1].found == f"through the proxy 127.0.0.1:{proxy.port}"
    assert proxy.asked[0].startswith(f"CONNECT 127.0.0.1:{port} HTTP/1".encode())
    assert b"Proxy-Authorization: Basic d2FyZDpzQGNyZXQ=" in proxy.asked[0]
    assert b"/health" not in b"".join(proxy.carried)


def test_flowers_own_client_takes_the_same_way(proxy: Proxy, coordinator: CoordinatorHome) -> None:
    with listener(coordinator) as (port, _):
        address, pem = f"127.0.0.1:{port}", coordinator.authority_path.read_bytes()
        # No SuperLink stands behind this listener: that it answers at all is what was to be seen.
        with (
            FleetHttpClient.from_server_address(
                address, insecure=False, root_certificates=pem, interceptors=[]
            ) as client,
            pytest.raises(httpx.HTTPStatusError, match="500"),
        ):
            client.ActivateNode(ActivateNodeRequest(public_key=b"x", heartbeat_interval=30))
    assert proxy.asked[0].startswith(f"CONNECT 127.0.0.1:{port} HTTP/1".encode())


def test_a_proxy_that_says_no_is_named(proxy: Proxy, coordinator: CoordinatorHome, node: NodeHome) -> None:
    proxy.status = b"403 Forbidden"
    failed = try_way(Way("127.0.0.1:443", coordinator.authority_path, node.node_key_path)).failed
    assert failed is not None
    assert failed.name == "reach"
    assert f"no way to the proxy 127.0.0.1:{proxy.port}" in failed.found
    assert "403" in failed.found
    assert "cret" not in failed.found + failed.remedy


def test_processes_of_one_machine_never_ask_the_proxy_for_each_other(proxy: Proxy, tmp_path: Path) -> None:
    variables = environment(tmp_path / "agent.sock", tmp_path / "flower")
    assert variables["HTTPS_PROXY"] == os.environ["HTTPS_PROXY"]
    assert variables["NO_PROXY"] == variables["no_proxy"] == "127.0.0.1,localhost"
    assert loopback_direct({"no_proxy": "intranet,127.0.0.1"})["NO_PROXY"] == "intranet,127.0.0.1,localhost"
