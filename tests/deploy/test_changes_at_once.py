"""Two commands that change the same files take turns: nobody's change is lost, and no half of one is left."""

import base64
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from tests.deploy.members import admit, node_key
from tests.shared.consortium import make_plan

from sonoshare_client.node import changing as at_node
from sonoshare_client.node import witness
from sonoshare_client.node.home import NodeHome
from sonoshare_client.node.identity_rotation import prepare_identity
from sonoshare_client.node.ledger import open_ledger, take_next_identity
from sonoshare_client.node.rotation import prepare_node_key, take_next_key
from sonoshare_deploy import certificates
from sonoshare_deploy.provision import create_coordinator
from sonoshare_server import changing as at_coordinator
from sonoshare_server.consortium import admission, rotation
from sonoshare_server.consortium.audit_terms import audit_policy
from sonoshare_server.consortium.members import Consortium, read_members
from sonoshare_server.federation.carried import by_files, set_by_files
from sonoshare_server.federation.file_fleet import Boxes
from sonoshare_server.home import CoordinatorHome, Study
from sonoshare_server.queue import wanted as wishes
from sonoshare_server.queue.wanted import want, wanted
from sonoshare_server.release.sequence import take_sequence
from sonoshare_shared.errors import FederationError, InputError, RefusedError
from sonoshare_shared.locks import locked
from sonoshare_shared.protocol.canonical import sha256_hex
from sonoshare_shared.protocol.documents.exchange import KeysRequest, encode_frame
from sonoshare_shared.protocol.documents.node_key_change import NodeKeyChange
from sonoshare_shared.protocol.envelope import Envelope
from sonoshare_shared.protocol.keys import SigningKey

NOW = datetime(2026, 1, 2, tzinfo=UTC)
MANY = ("east", "north", "south", "west")


@pytest.fixture
def home(tmp_path: Path) -> CoordinatorHome:
    return create_coordinator(tmp_path / "c", Consortium("c", audit_policy(1.0, 0.6, 0.97, 0.001)), ("localhost",))


def a_study(home: CoordinatorHome) -> Study:
    return home.create_study(make_plan(), b"adapter", sha256_hex(b"adapter"))


def at_once(change: Callable[[str], object]) -> None:
    """Every hospital's change, all begun in the same moment."""
    together = threading.Barrier(len(MANY))

    def begun(hospital: str) -> None:
        together.wait(10)
        change(hospital)

    with ThreadPoolExecutor(len(MANY)) as pool:
        for done in [pool.submit(begun, hospital) for hospital in MANY]:
            done.result()


def test_hospitals_that_are_admitted_at_once_are_all_in_the_last_roster(home: CoordinatorHome) -> None:
    at_once(lambda hospital: admission.admit(home, hospital, SigningKey.generate().public.hex, node_key()))
    assert sorted(read_members(home)) == [entry.id for entry in home.roster.hospitals] == list(MANY)
    assert home.roster.version == len(MANY)
    at_once(lambda hospital: set_by_files(home, hospital, files=True))
    assert by_files(home) == frozenset(MANY)


def test_of_two_who_create_one_study_one_is_told_that_it_exists(home: CoordinatorHome) -> None:
    made: list[str] = []

    def create(hospital: str) -> None:
        adapter = hospital.encode()
        try:
            home.create_study(make_plan(), adapter, sha256_hex(adapter))
        except InputError:
            return
        made.append(hospital)

    at_once(create)
    (maker,) = made
    (study,) = home.studies()
    assert study.adapter() == maker.encode()
    assert study.state.adapter_digest == sha256_hex(maker.encode())


def test_a_priority_does_not_bring_back_a_study_that_is_cancelled_meanwhile(
    home: CoordinatorHome, monkeypatch: pytest.MonkeyPatch
) -> None:
    study = a_study(home)
    read, looked = wishes.wanted, threading.Event()

    def slowly(of: Any) -> Any:
        found = read(of)
        if threading.current_thread() is not threading.main_thread():
            looked.set()
            late.wait(0.3)
        return found

    late = threading.Event()
    monkeypatch.setattr(wishes, "wanted", slowly)
    with ThreadPoolExecutor(1) as pool:
        raised = pool.submit(want, study, "run", 5)
        assert looked.wait(5)
        want(study, "cancelled")
        late.set()
        raised.result()
    assert wanted(study).state == "cancelled"


COORDINATORS: dict[str, Callable[[CoordinatorHome], object]] = {
    "admit": lambda home: admission.admit(home, "east", SigningKey.generate().public.hex, node_key()),
    "expel": lambda home: admission.expel(home, "north"),
    "renew the roster": admission.renew_roster,
    "rotate a node key": lambda home: rotation.rotate_node_key(home, Envelope.sign("a/b", b"{}", home.key)),
    "rotate an identity": lambda home: rotation.rotate_identity(home, Envelope.sign("a/b", b"{}", home.key), "00"),
    "rotate the root": rotation.rotate_root,
    "line": lambda home: set_by_files(home, "north", files=True),
    "renew the certificate": certificates.renew,
    "create a study": a_study,
    "take a release's number": lambda home: take_sequence(home, "study", "r1"),
    "lay out a bundle": lambda home: Boxes(home).put(home.roster, "north", "study", encode_frame(KeysRequest())),
    "take in a reply": lambda home: Boxes(home).take("north", "0" * 64, b""),
}


@pytest.mark.parametrize("change", COORDINATORS)
def test_a_change_waits_for_another_of_the_same_folder(
    home: CoordinatorHome, monkeypatch: pytest.MonkeyPatch, change: str
) -> None:
    admit(home.path, "north", "south")
    monkeypatch.setattr(at_coordinator, "WAIT_SECONDS", 0.0)
    before = files_of(home.path)
    with held(home.change_lock_path), pytest.raises(FederationError, match="another command changes this folder"):
        COORDINATORS[change](home)
    assert files_of(home.path) == before


def test_what_is_wanted_of_a_study_waits_for_another_wish(
    home: CoordinatorHome, monkeypatch: pytest.MonkeyPatch
) -> None:
    study = a_study(home)
    monkeypatch.setattr(wishes, "WAIT_SECONDS", 0.0)
    with held(study.wanted_lock_path), pytest.raises(FederationError, match="another command says"):
        want(study, "cancelled")
    assert wanted(study).state == "run"


def test_a_nodes_keys_and_roster_are_changed_by_one_at_a_time(
    home: CoordinatorHome, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    node = NodeHome.create(tmp_path / "north", "north")
    admission.admit(home, "north", node.identity().public.hex, node.node_public_key)
    older = home.roster_envelope
    made: list[NodeKeyChange] = []
    at_once(lambda _: made.append(NodeKeyChange.from_bytes(base64.b64decode(prepare_node_key(node).payload))))
    assert {change.new for change in made} == {" ".join(node.node_public_keys[-1].split()[:2])}
    for change_made in made:
        change_made.require_possession()
    admission.renew_roster(home)
    witness.enrol(node.state_path, home.roster_envelope, home.root)
    with pytest.raises(RefusedError, match="an older roster"):
        witness.enrol(node.state_path, older, home.root)
    monkeypatch.setattr(at_node, "WAIT_SECONDS", 0.0)
    for change in (
        lambda: prepare_node_key(node),
        lambda: take_next_key(node),
        lambda: witness.enrol(node.state_path, home.roster_envelope, home.root),
    ):
        with held(node.state.change_lock_path), pytest.raises(FederationError, match="another command changes this"):
            change()
    assert take_next_key(node)


def test_an_identity_that_is_changed_by_several_at_once_gets_one_next_key(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    node = NodeHome.create(tmp_path / "north", "north")
    made: list[str] = []
    save, together = SigningKey.save, threading.Barrier(len(MANY))

    def late(key: SigningKey, path: Path) -> None:
        with suppress(threading.BrokenBarrierError):
            together.wait(0.3)  # without turns, everybody has seen by now that there is no next key
        save(key, path)

    monkeypatch.setattr(SigningKey, "save", late)
    at_once(lambda _: made.append(prepare_identity(node)[1].hex))
    following = node.next_identity()
    assert following is not None
    assert made == [following.public.hex] * len(MANY)
    monkeypatch.setattr(at_node, "WAIT_SECONDS", 0.0)
    with held(node.state.change_lock_path), pytest.raises(FederationError, match="another command changes this"):
        prepare_identity(node)


def passed_on(folder: Path) -> tuple[NodeHome, SigningKey]:
    """A node that was killed between its ledger's last entry with the old key and the key's file; and its next key."""
    node = NodeHome.create(folder / "north", "north")
    prepare_identity(node)
    following = node.next_identity()
    assert following is not None
    with closing(open_ledger(node, lambda: NOW)) as ledger:
        ledger.succeed(following)
    return node, following


def test_whoever_is_late_to_take_a_next_identity_takes_no_further_one(tmp_path: Path) -> None:
    """It would put a key in the place of the one that has the ledger, and that one would be gone for ever."""
    node, following = passed_on(tmp_path)
    take_next_identity(node, following)
    further = prepare_identity(node)[1]
    take_next_identity(node, following)
    assert node.identity().public == following.public
    assert (kept := node.next_identity()) is not None
    assert kept.public == further
    open_ledger(node, lambda: NOW).close()


def test_a_change_of_identity_that_was_cut_off_is_ended_once_by_all_who_open_the_ledger(tmp_path: Path) -> None:
    node, following = passed_on(tmp_path)
    further: list[str] = []

    def opened(hospital: str) -> None:
        if hospital in MANY[:2]:
            further.append(prepare_identity(node)[1].hex)  # which opens the ledger under its own lock
        else:
            open_ledger(node, lambda: NOW).close()

    at_once(opened)
    assert node.identity().public == following.public
    assert (kept := node.next_identity()) is not None
    assert further == [kept.public.hex] * 2


def test_the_next_identity_is_taken_by_one_at_a_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    node, following = passed_on(tmp_path)
    monkeypatch.setattr(at_node, "WAIT_SECONDS", 0.0)
    for change in (lambda: take_next_identity(node, following), lambda: open_ledger(node, lambda: NOW)):
        with held(node.state.identity_lock_path), pytest.raises(FederationError, match="another process changes this"):
            change()
    assert node.next_identity() is not None


@contextmanager
def held(lock: Path) -> Iterator[None]:
    with locked(lock, FederationError("held")):
        yield


def files_of(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file() and path.suffix != ".lock"}
