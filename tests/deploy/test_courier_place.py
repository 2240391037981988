"""The courier under a user of its own: what that user can reach, tried by a real process that runs as that user."""

import json
import logging
import os
import stat
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner
from tests.deploy.in_process import World, copied

from sonoshare_client.agent.slots import SystemTiming
from sonoshare_client.courier.supernode import Connection
from sonoshare_client.node.home import NodeHome
from sonoshare_deploy import courier_place
from sonoshare_deploy.cli.main import cli
from sonoshare_deploy.courier_place import courier_user, own_place, require_runnable, usual_courier_user
from sonoshare_deploy.hospital_node import log_vault, run_node, start_agent, start_courier
from sonoshare_deploy.processes import Supervisor
from sonoshare_shared.errors import InputError
from sonoshare_shared.locks import locked

SYSTEM_PYTHON = "/usr/bin/python3"  # the tests' own may lie in root's home, where no other user may go
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can start a process as another user")
NOBODY = "nobody"

TRIES = """
import json, os, socket, struct, sys
home, path = sys.argv[1:]
def readable(name):
    try:
        return bool(open(name, "rb").read(1))
    except OSError:
        return False
closed = ["vault.key", "identity.key", "node.key", "policy.toml", "ledger.db", "vault/index.db", "state/events.jsonl"]
peer = socket.socket(socket.AF_UNIX)
peer.connect(os.environ["SONOSHARE_AGENT_SOCKET"])
frame = struct.pack(">I", 15) + b'{"kind":"keys"}'
peer.sendall(struct.pack(">Q", len(frame)) + frame)
place = os.path.dirname(os.environ["SONOSHARE_AGENT_SOCKET"])
print(json.dumps({
    "who": [os.getuid(), os.getgid(), os.getgroups()],
    "reads": [name for name in closed if readable(os.path.join(home, name))],
    "answered": len(peer.recv(8)),
    "own key": readable(os.path.join(place, "node.key")),
    "certificate": readable(os.path.join(place, "ca.crt")),
    "writes": [name for name in (".", "flower") if os.access(os.path.join(place, name), os.W_OK)],
    "home": os.environ["HOME"] == os.path.join(place, "flower") == os.getcwd(),
}))
"""


@pytest.fixture
def home(pristine: World, tmp_path: Path) -> NodeHome:
    """A node whose vault key lies in its own folder, as it does unless somebody asks otherwise."""
    place = copied(pristine, tmp_path / "world").nodes["north"].home.path
    place.chmod(0o700)
    (place / "vault.key").write_bytes(NodeHome.open(place).vault_key_path.read_bytes())
    (place / "vault.key").chmod(0o600)
    (place / "home.toml").write_text('hospital = "north"\nvault_key = "vault.key"\n')
    return NodeHome.open(place)


@pytest.fixture
def connection(home: NodeHome, tmp_path: Path) -> Connection:
    certificate = tmp_path / "ca.crt"
    certificate.write_text("a certificate")
    certificate.chmod(0o600)  # even where only the owner may read it
    return Connection("localhost:1", certificate, home.node_key_path, 1)


@as_root
@pytest.mark.skipif(not os.path.exists(SYSTEM_PYTHON), reason="needs a Python that every user may run")  # noqa: PTH110
def test_the_couriers_user_reaches_the_agent_and_nothing_that_the_agent_keeps(
    home: NodeHome, connection: Connection
) -> None:
    user, timing = courier_user(NOBODY, home), SystemTiming()
    with own_place(connection, user) as place, Supervisor(home.state_path / "logs") as supervisor:
        start_agent(home, place, timing, group_access=False)
        start_courier(place, supervisor, [SYSTEM_PYTHON, "-c", TRIES, str(home.path), str(place.socket)])
        (started,) = supervisor._started
        assert started.process.wait(60) == 0, started.log.read_text()
        found = json.loads(started.log.read_text().splitlines()[-1])
        assert (home.state_path / "agent.sock").resolve() == place.socket.resolve()
        assert stat.S_IMODE(place.socket.stat().st_mode) == 0o660
        assert place.connection.node_key.read_bytes() == home.node_key_path.read_bytes()
    assert found == {
        "who": [user.uid, user.gid, []],
        "reads": [],
        "answered": 8,
        "own key": True,
        "certificate": True,
        "writes": ["flower"],
        "home": True,
    }
    assert not place.socket.parent.exists()
    timing.stop()


@as_root
def test_a_user_who_cannot_run_the_programs_is_told_so(
    home: NodeHome, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    user = courier_user(NOBODY, home)
    monkeypatch.setattr(sys, "executable", SYSTEM_PYTHON)
    require_runnable(user, "import json")
    with pytest.raises(InputError, match="'nobody' cannot run"):
        require_runnable(user, "import no_such_module")
    hidden = tmp_path / "python"
    hidden.symlink_to(SYSTEM_PYTHON)
    tmp_path.chmod(0o700)
    monkeypatch.setattr(sys, "executable", str(hidden))
    with pytest.raises(InputError, match="'nobody' cannot run"):
        require_runnable(user, "import json")


@as_root
def test_a_user_who_could_read_the_key_is_refused(home: NodeHome) -> None:
    with pytest.raises(InputError, match="no user 'nosuchuser'"):
        courier_user("nosuchuser", home)
    with pytest.raises(InputError, match="'root' can read"):
        courier_user("root", home)
    nobody = courier_user(NOBODY, home)
    os.chown(home.vault_key_path, nobody.uid, nobody.gid)
    with pytest.raises(InputError, match="'nobody' can read"):
        courier_user(NOBODY, home)
    os.chown(home.vault_key_path, 0, 0)
    home.path.chmod(0o755)
    with pytest.raises(InputError, match="chmod 700"):
        courier_user(NOBODY, home)


@as_root
def test_a_user_that_was_made_for_the_courier_is_taken_without_asking(
    home: NodeHome, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(courier_place, "USUAL_USER", "nosuchuser")
    assert usual_courier_user(home) is None
    monkeypatch.setattr(courier_place, "USUAL_USER", NOBODY)
    monkeypatch.setattr(courier_place, "require_runnable", lambda user: None)  # Python may lie in root's home
    assert usual_courier_user(home) == courier_user(NOBODY, home)
    home.path.chmod(0o755)
    with pytest.raises(InputError, match="other users may enter") as refused:
        usual_courier_user(home)
    assert refused.value.remedy.endswith("or decline: --courier-user ''")
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert usual_courier_user(home) is None


def test_without_root_there_is_no_other_user(home: NodeHome, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    with pytest.raises(InputError, match="only root"):
        courier_user(NOBODY, home)


def test_a_courier_of_its_own_goes_with_no_part_alone(tmp_path: Path) -> None:
    certificate = tmp_path / "ca.crt"
    certificate.touch()
    asked = ["--superlink", "localhost:1", "--root-certificate", str(certificate), "--courier-user", NOBODY]
    run = CliRunner().invoke(cli, ["hospital", "start", "--home", str(tmp_path), "--only", "agent", *asked])
    assert run.exit_code == 2
    assert "leave out --only" in run.output


def test_the_nodes_own_log_says_how_the_vault_stands(home: NodeHome, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        log_vault(home)
    assert "trained and" in caplog.text
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]
    text = home.policy_path.read_text()
    home.policy_path.write_text(text.replace("minimum_trained = 5", "minimum_trained = 5000"))
    log_vault(home)
    assert "asks for 5000: do not join" in caplog.text


def test_a_second_agent_of_one_node_is_refused_before_it_takes_the_socket(home: NodeHome, tmp_path: Path) -> None:
    """It would answer while the first one trains, and its ledger head would show the moment when that ends."""
    connection = Connection("127.0.0.1:1", tmp_path / "ca.crt", home.node_key_path, 1)
    first_socket = home.state.socket_path
    first_socket.write_text("the first one's")
    with locked(home.state.agent_lock_path, InputError("free")), pytest.raises(InputError, match="runs already"):
        run_node(home, connection, only="agent")
    assert first_socket.read_text() == "the first one's"
