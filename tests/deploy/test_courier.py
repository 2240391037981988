"""The courier: it runs no code from the server, and its processes live and end together."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import httpx
import psutil
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from flwr.supercore.constant import TaskType
from flwr.supercore.superexec.executor import ExecutionSpec
from flwr.supercore.superexec.executor.types import LaunchResultStatus

from sonoshare_client.courier import flower
from sonoshare_client.courier.supernode import Connection, command, environment
from sonoshare_deploy.provision import create_coordinator
from sonoshare_server.consortium.audit_terms import audit_policy
from sonoshare_server.consortium.members import Consortium

END_SECONDS = 30.0


def python(code: str, *arguments: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=False)


def test_case_37_a_message_is_answered_by_installed_code_and_its_archive_is_never_unpacked() -> None:
    check = """
import sys
from sonoshare_client.courier import flower
import flwr.supernode.runtime.run_clientapp as runtime
flower.require_flower()
make, made, seen = flower.client_app, [], {}
flower.client_app = lambda answer: made.append(make(answer)) or made[0]
def program(address, token, insecure, runtime_dependency_install):
    seen["loaded"] = runtime.get_load_client_app_fn("evil:app", None, True)("fab", "1", "hash") is made[0]
    seen["unpacked"] = runtime.install_from_fab(b"evil archive", skip_prompt=True)
    seen["installed"] = runtime.install_app_dependencies("/nowhere")
    seen["asked to install"] = runtime_dependency_install
runtime.run_clientapp = program
flower.answer_task(flower.Task("127.0.0.1:1", "token"), bytes)
assert seen == {"loaded": True, "unpacked": None, "installed": None, "asked to install": False}, seen
assert "torch" not in sys.modules, "the courier must start without torch"
"""
    done = python(check)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("kind", [kind for kind in TaskType if kind != TaskType.CLIENT_APP])
def test_case_37_a_task_that_would_run_code_of_the_server_is_refused(kind: TaskType) -> None:
    """A server may call its run an agent's: Flower's own loop would then start a program that runs the archive."""
    started: list[flower.Task] = []
    taker = flower.TaskTaker(started.append, lambda: None)
    assert taker.get_eligible_capacity({kind}) == ({kind}, set())
    assert taker.launch(_spec(kind)).status is LaunchResultStatus.FAILED
    assert started == []
    assert taker.launch(_spec(TaskType.CLIENT_APP)).status is LaunchResultStatus.ACCEPTED
    assert started == [flower.Task("127.0.0.1:1", "token")]


def _spec(kind: TaskType) -> ExecutionSpec:
    return ExecutionSpec(
        task_type=kind,
        runtime_api_address="127.0.0.1:1",
        token="token",
        insecure=True,
        root_certificates_path=None,
        runtime_dependency_install=False,
        parent_pid=None,
        suppress_output=False,
        task_id=1,
    )


WAITING = """
import os, sys, threading, time
from sonoshare_client.courier import flower, worker
def wait_for_a_lock(task, answer):
    print(os.getpid(), flush=True)
    held = threading.Lock()
    with held:
        held.acquire()
flower.answer_task = wait_for_a_lock
worker.Children(bytes).start(flower.Task("", ""))
time.sleep(600)
"""


def test_a_message_ends_with_its_worker_even_while_it_waits_for_a_lock() -> None:
    with subprocess.Popen([sys.executable, "-c", WAITING], stdout=subprocess.PIPE, text=True) as worker:
        assert worker.stdout is not None
        child = psutil.Process(int(worker.stdout.readline()))
        worker.kill()
    assert ended([child])


BROKEN = """
import os, sys, time
from sonoshare_client.courier import flower, worker
def fail(task, answer):
    raise ValueError("a message that cannot be answered")
flower.answer_task = fail
children = worker.Children(bytes)
children.start(flower.Task("", ""))
while children._pids:
    children.reap()
    time.sleep(0.01)
print("the worker goes on")
"""


def test_what_goes_wrong_with_a_message_ends_with_it() -> None:
    done = python(BROKEN)
    assert done.returncode == 0, done.stderr
    assert done.stdout == "the worker goes on\n"


@dataclass(frozen=True)
class Courier:
    """A running courier, and where its SuperNode serves its runtime routes."""

    process: "subprocess.Popen[bytes]"
    address: str

    @property
    def supernode(self) -> psutil.Process:
        (supernode,) = psutil.Process(self.process.pid).children(recursive=True)
        return supernode


@pytest.fixture
def courier(tmp_path: Path) -> Iterator[Courier]:
    """A real courier of a federation that does not answer."""
    key = ec.generate_private_key(ec.SECP384R1())
    (tmp_path / "node.key").write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.OpenSSH, serialization.NoEncryption())
    )
    home = create_coordinator(tmp_path / "c", Consortium("test", audit_policy(4, 0.2, 0.7, 0.001)), ("localhost",))
    connection = Connection("127.0.0.1:1", home.authority_path, tmp_path / "node.key", free_port())
    with (tmp_path / "log").open("wb") as log:
        process = subprocess.Popen(
            command(connection),
            env=environment(tmp_path / "agent.sock", tmp_path / "flower"),
            start_new_session=True,
            stdout=log,
            stderr=subprocess.STDOUT,
        )
    started = Courier(process, f"http://127.0.0.1:{connection.runtime_port}")
    wait_until_it_serves(started)
    yield started
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def wait_until_it_serves(courier: Courier) -> None:
    end = time.monotonic() + 120
    while time.monotonic() < end and courier.process.poll() is None:
        with suppress(httpx.TransportError):
            httpx.get(f"{courier.address}/health", timeout=5)
            return
        time.sleep(0.1)
    raise AssertionError("the courier does not start")


def ended(processes: list[psutil.Process]) -> bool:
    return not psutil.wait_procs(processes, timeout=END_SECONDS)[1]


def test_a_supernode_ends_with_a_killed_worker_and_gives_no_message_to_who_lacks_the_secret(
    courier: Courier,
) -> None:
    asked = httpx.post(
        f"{courier.address}/v1/runtime/acquire-task",
        headers={"content-type": "application/x-protobuf"},
        timeout=10,
    )
    assert asked.is_client_error
    supernode = courier.supernode
    courier.process.kill()
    assert ended([supernode])


def test_a_worker_ends_with_its_supernode(courier: Courier) -> None:
    courier.supernode.kill()
    assert courier.process.wait(END_SECONDS) == 1


def test_a_courier_that_is_told_to_end_ends_both(courier: Courier) -> None:
    supernode = courier.supernode
    courier.process.send_signal(signal.SIGINT)
    courier.process.wait(END_SECONDS)
    assert ended([supernode])
