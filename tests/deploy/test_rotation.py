"""Keys are changed without a stop: both sign, both count meanwhile, and the old one goes when the new one is there."""

import json
import logging
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest
from tests.deploy.command import sonoshare
from tests.deploy.fleet_listener import listener
from tests.deploy.members import node_key
from tests.deploy.registry import Registry

from sonoshare_client.courier.supernode import Connection
from sonoshare_client.courier.watch import NEXT_KEY, NEXT_KEY_KNOWN
from sonoshare_client.courier.way import Way, try_way
from sonoshare_client.node import witness
from sonoshare_client.node.home import NodeHome
from sonoshare_client.node.joining import enrol
from sonoshare_client.node.link import begun, read_link
from sonoshare_client.node.rotation import prepare_node_key, take_next_key
from sonoshare_deploy.courier_place import CourierPlace
from sonoshare_deploy.link_watch import _Follower, watched_link
from sonoshare_deploy.provision import create_coordinator
from sonoshare_server.consortium.admission import admit, expel
from sonoshare_server.consortium.audit_terms import audit_policy
from sonoshare_server.consortium.members import Consortium
from sonoshare_server.consortium.registration import register_nodes
from sonoshare_server.consortium.rotation import rotate_node_key, rotate_root
from sonoshare_server.federation.registered import couriers
from sonoshare_server.home import CoordinatorHome
from sonoshare_shared.errors import InputError, IntegrityError, RefusedError, VerificationError
from sonoshare_shared.protocol.documents.node_key_change import NODE_KEY_CHANGE_PAYLOAD_TYPE, NodeKeyChange
from sonoshare_shared.protocol.documents.roster import ROSTER_PAYLOAD_TYPE
from sonoshare_shared.protocol.envelope import Envelope
from sonoshare_shared.protocol.keys import SigningKey


def wait_for(value: Callable[[], Any], holds: Callable[[Any], bool]) -> Any:
    end = time.monotonic() + 30
    while time.monotonic() < end:
        if (found := value()) is not None and holds(found):
            return found
        time.sleep(0.05)
    raise AssertionError("it never came")


@pytest.fixture
def node(tmp_path: Path) -> NodeHome:
    return NodeHome.create(tmp_path / "north", "north")


@pytest.fixture
def home(tmp_path: Path, node: NodeHome) -> CoordinatorHome:
    made = Consortium("c", audit_policy(1.0, 0.6, 0.97, 0.001))
    home = create_coordinator(tmp_path / "c", made, ("127.0.0.1",))
    admit(home, "north", node.identity().public.hex, node.node_public_key)
    admit(home, "south", SigningKey.generate().public.hex, node_key())
    return home


def test_a_node_key_is_changed_while_frames_go_on(home: CoordinatorHome, node: NodeHome) -> None:
    registry, old = Registry(), node.node_public_key
    register_nodes(home, registry)
    first = home.nodes["north"]
    registry.online = {first}
    change = prepare_node_key(node)
    following = node.node_public_keys[1]
    prepare_node_key(node)
    assert node.node_public_keys == (old, following)  # the courier goes on with the old one; there is one next key
    assert rotate_node_key(home, change) == ("north", 3)
    register_nodes(home, registry)
    second = home.nodes["north"]
    assert couriers(home)["north"] == (second, first)  # both count
    assert registry.let_in() >= {old, node.node_public_keys[1]}
    register_nodes(home, registry)
    assert old in registry.let_in()  # the new one is not online yet
    assert take_next_key(node)
    registry.online = {second}
    register_nodes(home, registry)
    assert old not in registry.let_in()
    assert couriers(home)["north"] == (second,)
    assert rotate_node_key(home, change) == ("north", 3)  # once more changes nothing
    entry = home.roster.hospital("north")
    assert entry is not None
    assert entry.node_key == node.node_public_key
    assert entry.identity_key == node.identity().public.hex


def test_both_keys_are_known_to_the_coordinator_until_the_old_one_is_off(home: CoordinatorHome, node: NodeHome) -> None:
    change = prepare_node_key(node)
    with listener(home) as (port, _):
        known = Way(f"127.0.0.1:{port}", home.authority_path, node.node_key_path)
        following = Way(f"127.0.0.1:{port}", home.authority_path, node.next_node_key_path)
        assert (try_way(known).link, try_way(following).link) == ("connected", "turned-away")
        rotate_node_key(home, change)
        assert (try_way(known).link, try_way(following).link) == ("connected", "connected")


def test_a_change_that_the_hospital_did_not_sign_is_refused(home: CoordinatorHome, node: NodeHome) -> None:
    identity, thief = node.identity(), SigningKey.generate()
    honest = NodeKeyChange.from_bytes(prepare_node_key(node).verify(identity.public, NODE_KEY_CHANGE_PAYLOAD_TYPE))

    def signed(key: SigningKey, **fields: Any) -> Envelope:
        said = honest.model_copy(update=fields)
        return Envelope.sign(NODE_KEY_CHANGE_PAYLOAD_TYPE, said.canonical(), key)

    with pytest.raises(InputError, match="of no admitted hospital"):
        rotate_node_key(home, signed(thief))
    forged = signed(thief).model_copy(update={"signatures": signed(identity).signatures})
    tampered = signed(thief, new=node_key()).model_copy(update={"signatures": signed(identity).signatures})
    assert rotate_node_key(home, forged) is not None  # the very bytes that the identity signed
    with pytest.raises(VerificationError):
        rotate_node_key(home, tampered)
    with pytest.raises(IntegrityError, match="a node key did not sign the file that names it"):
        rotate_node_key(home, signed(identity, new=node_key()))
    with pytest.raises(InputError, match="of no admitted hospital"):
        rotate_node_key(home, signed(identity, hospital="south"))
    with pytest.raises(IntegrityError, match="did not sign"):
        rotate_node_key(home, signed(identity, old_signature=honest.new_signature))


def test_a_lost_node_key_is_replaced_on_the_word_of_the_identity_alone(home: CoordinatorHome, node: NodeHome) -> None:
    node.node_key_path.unlink()
    assert rotate_node_key(home, prepare_node_key(node)) == ("north", 3)


@pytest.mark.parametrize("left", ["public", "both"])
def test_a_change_that_is_cut_off_leaves_a_whole_pair(node: NodeHome, left: str) -> None:
    prepare_node_key(node)
    following = node.node_public_keys[1]
    node.next_node_key_path.replace(node.node_key_path)  # killed between the two halves of taking it
    if left == "both":
        prepare_node_key(node)
        assert node.node_public_keys[1] != following
    else:
        assert not take_next_key(node)
        assert node.node_public_keys == (following,)
    assert node.node_public_key == following


def test_the_running_node_goes_over_when_the_coordinator_knows_the_key(node: NodeHome) -> None:
    place = CourierPlace(
        None, node.state.socket_path, Connection("fed:1", node.home_path, node.node_key_path, 1), node.state.flower_path
    )
    assert node.node_key_path.with_name(NEXT_KEY) == node.next_node_key_path
    prepare_node_key(node)
    following, restarts = node.node_public_keys[1], []
    follower = _Follower(node, place, lambda: restarts.append(node.node_public_key))
    state = begun(node.state.link_path, "fed:1", node.home_path)
    follower.lines([f"{NEXT_KEY_KNOWN}\n".encode(), b"cut off"], state)  # type: ignore[arg-type]
    assert restarts == [following]  # the courier is started again after the key is there, not before
    follower.lines([f"{NEXT_KEY_KNOWN}\n".encode()], state)  # type: ignore[arg-type]
    assert len(restarts) == 1


def test_a_running_node_tells_a_change_of_its_link_once_and_changes_its_key_on_the_way(
    home: CoordinatorHome, node: NodeHome, caplog: pytest.LogCaptureFixture
) -> None:
    """The watching process is the real one; the listener is the coordinator's own."""
    others = set(psutil.Process().children())  # of whatever this worker ran before
    enrol(node, home.roster_envelope, home.root)
    caplog.set_level(logging.INFO)
    with listener(home) as (port, _):
        connection = Connection(f"127.0.0.1:{port}", home.authority_path, node.node_key_path, 1)
        place = CourierPlace(None, node.state.socket_path, connection, node.state.flower_path)
        restarted = threading.Event()
        with watched_link(node, place, home.authority_path, restarted.set):
            link = wait_for(lambda: read_link(node.state.link_path), lambda seen: seen.state == "connected")
            assert (link.admitted, link.roster_version) == (True, home.roster.version)
            rotate_node_key(home, prepare_node_key(node))
            following = node.node_public_keys[1]
            # Whoever writes to the child asks for a look at once; here it looks by itself after its pause.
            assert restarted.wait(40)
            assert node.node_public_keys == (following,)
    assert [line for line in caplog.messages if line.startswith("link:")] == [
        f"link: 127.0.0.1:{port} answers and knows this node"
    ]
    assert set(psutil.Process().children()) <= others


def test_who_was_expelled_comes_back_with_a_new_node_key(home: CoordinatorHome, node: NodeHome) -> None:
    registry = Registry()
    register_nodes(home, registry)
    expel(home, "north")
    register_nodes(home, registry)
    identity = node.identity().public.hex
    with pytest.raises(InputError, match="Flower takes no key twice"):
        admit(home, "north", identity, node.node_public_key)
    prepare_node_key(node)
    admit(home, "north", identity, node.node_public_keys[1])
    register_nodes(home, registry)
    assert node.node_public_keys[1] in registry.let_in()


def test_the_commands_of_a_change(home: CoordinatorHome, node: NodeHome, tmp_path: Path) -> None:
    out = tmp_path / "change.json"
    assert sonoshare("hospital", "keys", "rotate", "--home", node.path).returncode == 2
    made = sonoshare("hospital", "keys", "rotate", "--node", "--home", node.path, "--out", out, "--json")
    said = json.loads(made.stdout)
    assert said["node_public_key"] == node.node_public_keys[1]
    shown = sonoshare("hospital", "keys", "--home", node.path).stdout
    assert f"next node key  {said['node_public_key']}\n" in shown
    assert sonoshare("coordinator", "admit", "--home", home.path, "--rotate", out, "--id", "north").returncode == 2
    assert sonoshare("coordinator", "admit", "--home", home.path).returncode == 2
    run = sonoshare("coordinator", "admit", "--home", home.path, "--rotate", out, "--json")
    assert json.loads(run.stdout)["hospital"] == "north"


@pytest.fixture
def enrolled(home: CoordinatorHome, node: NodeHome) -> NodeHome:
    enrol(node, home.roster_envelope, home.root)
    return node


def test_hospitals_follow_a_new_root_key_that_the_old_one_signed_too(
    home: CoordinatorHome, enrolled: NodeHome, tmp_path: Path
) -> None:
    old = home.root
    (tmp_path / "stick.key").write_bytes(home.root_key_path.read_bytes())
    home.root_key_path.unlink()
    run = sonoshare("coordinator", "rotate-root", "--home", home.path, "--root-key", tmp_path / "stick.key", "--json")
    assert json.loads(run.stdout)["root_key"] == home.root.hex != old.hex
    pinned = enrol(enrolled, home.roster_envelope, home.root)
    assert (pinned.root_key, pinned.version) == (home.root.hex, 3)
    assert witness.pinned_roster(enrolled.state_path) == pinned
    admit(home, "east", SigningKey.generate().public.hex, node_key())  # by the new key, from its usual place
    assert enrol(enrolled, home.roster_envelope, home.root).version == 4
    with pytest.raises(InputError, match="is not the root key of this consortium"):
        expel(home, "east", root_key=tmp_path / "stick.key")
    newcomer = NodeHome.create(tmp_path / "w", "west")
    admit(home, "west", newcomer.identity().public.hex, newcomer.node_public_key)
    assert enrol(newcomer, home.roster_envelope, home.root).version == 5  # who never saw the old key


def test_a_new_root_key_that_the_pinned_one_did_not_sign_is_refused(home: CoordinatorHome, enrolled: NodeHome) -> None:
    old, thief = SigningKey.load(home.root_key_path), SigningKey.generate()
    said = home.roster.model_copy(update={"root_key": thief.public.hex, "version": 9})
    alone = Envelope.sign(ROSTER_PAYLOAD_TYPE, said.canonical(), thief)
    for forged in (alone, alone.countersigned(SigningKey.generate())):
        with pytest.raises(RefusedError, match="which has not signed it too"):
            enrol(enrolled, forged, thief.public)
    unwilling = Envelope.sign(ROSTER_PAYLOAD_TYPE, said.canonical(), old)  # names a key that is silent
    with pytest.raises(VerificationError):
        enrol(enrolled, unwilling, thief.public)
    earlier = said.model_copy(update={"version": home.roster.version})
    both = Envelope.sign(ROSTER_PAYLOAD_TYPE, earlier.canonical(), thief).countersigned(old)
    with pytest.raises(RefusedError, match="which has not signed it too"):
        enrol(enrolled, both, thief.public)  # a change is a new version
    assert witness.pinned_roster(enrolled.state_path).root_key == old.public.hex


def test_a_root_change_that_is_cut_off_anywhere_works_and_is_ended_by_the_same_command(
    home: CoordinatorHome, enrolled: NodeHome, tmp_path: Path
) -> None:
    kept = tmp_path / "kept.key"
    kept.write_bytes(home.root_key_path.read_bytes())
    before = home.root_public_path.read_bytes()
    new, version = rotate_root(home)
    new.save(
        home.next_root_key_path
    )  # as if killed after the roster: key in waiting, old public half, old key in place
    home.root_public_path.write_bytes(before)
    home.root_key_path.write_bytes(kept.read_bytes())
    assert home.roster.version == version  # it verifies with the old key
    assert rotate_root(home)[0].public == new.public
    assert (home.roster.version, home.root, SigningKey.load(home.root_key_path).public) == (
        version,
        new.public,
        new.public,
    )
    # And at the hospital: the new roster is there and the old key still pinned.
    enrolled.state.roster_path.write_bytes(home.roster_envelope.to_bytes())
    assert witness.pinned_roster(enrolled.state_path).version == version
    assert enrol(enrolled, home.roster_envelope, home.root).version == version
