"""Attacks on the change of an identity key: a budget that would be shed, a key that is not the hospital's."""

import json
import shutil
from datetime import UTC, datetime
from pathlib import Path

import pytest
from tests.deploy.in_process import World, copied
from tests.deploy.members import node_key
from tests.deploy.rotated import admitted, changed, introduced, restored, rostered

from sonoshare_client.node.home import NodeHome
from sonoshare_client.node.identity_rotation import prepare_identity
from sonoshare_client.node.joining import enrol
from sonoshare_client.node.ledger import make_ledger
from sonoshare_server.consortium.admission import admit, expel
from sonoshare_server.consortium.rotation import rotate
from sonoshare_server.federation import rounds
from sonoshare_shared.errors import (
    InputError,
    IntegrityError,
    LedgerError,
    MisconductError,
    RefusedError,
)
from sonoshare_shared.protocol.documents.charge import LedgerExport
from sonoshare_shared.protocol.documents.identity_succession import IdentitySuccession, opened_succession
from sonoshare_shared.protocol.documents.view import LEDGER_HEAD_PAYLOAD_TYPE
from sonoshare_shared.protocol.envelope import Envelope
from sonoshare_shared.protocol.keys import SigningKey
from sonoshare_shared.protocol.misconduct import verify_evidence

NOW = datetime(2026, 1, 2, tzinfo=UTC)


@pytest.fixture
def world(begun: World, tmp_path: Path) -> World:
    return copied(begun, tmp_path / "world")


def test_a_hospital_that_changes_its_key_has_spent_what_it_had_spent(world: World) -> None:
    north, old = world.nodes["north"], world.nodes["north"].key.public
    before, spent = north.ledger.entries(), north.ledger.spent()
    new = changed(world, "north")
    assert north.key.public == old  # it has not seen the log yet
    introduced(world)
    assert (north.key.public.hex, north.home.identity().public.hex) == (new, new)
    assert not north.home.next_identity_key_path.exists()
    assert north.ledger.entries()[:-1] == before
    assert north.ledger.entries()[-1].charge.kind == "succession"
    assert north.ledger.spent() == spent
    assert north.ledger.entries()[-1].charge.epsilon_lifetime == before[-1].charge.epsilon_lifetime
    heads = world.home.log().index.heads(north.key.public)
    assert {logged.head.identity_key for logged in heads} == {old.hex, new}
    assert heads[-1].head.head == north.ledger.head()
    export = LedgerExport.from_bytes(json.dumps(north.ledger.export()).encode())
    assert len(export.verify(north.key.public)) == len(before) + 1
    with pytest.raises(IntegrityError):
        export.verify(old)
    north.ledger.verify()


def test_a_key_is_changed_twice_and_the_ledgers_of_before_are_refused(world: World, tmp_path: Path) -> None:
    shutil.copytree(world.nodes["north"].home.path, tmp_path / "first")
    changed(world, "north")
    introduced(world)
    shutil.copytree(world.nodes["north"].home.path, tmp_path / "second")
    changed(world, "north")
    introduced(world)
    kinds = [signed.charge.kind for signed in world.nodes["north"].ledger.entries()]
    assert kinds.count("succession") == 2
    for folder in ("second", "first"):
        node = restored(world, "north", tmp_path / folder)
        length = len(node.ledger.entries())
        introduced(world)
        reason = [event["reason"] for event in world.study.events() if event["kind"] == "refused"][-1]
        assert "does not contain its witnessed head" in reason or " entries and had 5" in reason
        assert len(node.ledger.entries()) == length  # and passes on to nobody
        with pytest.raises(LedgerError):
            world.reopen("north")


def test_a_new_ledger_under_the_new_key_is_refused(world: World) -> None:
    changed(world, "north")
    introduced(world)
    home = world.nodes["north"].home
    world.nodes["north"].ledger.close()
    for file in home.path.glob(f"{home.ledger_path.name}*"):
        file.unlink()
    make_ledger(home.ledger_path, home.identity(), "north", home.policy(), lambda: NOW)
    with pytest.raises(LedgerError, match="does not contain its witnessed head"):
        world.reopen("north")
    shutil.rmtree(home.state_path / "replies")  # and whatever else of before is in its way
    shutil.rmtree(home.statements_path)
    home.statements_path.mkdir()
    (home.state.log_path).unlink()
    (home.state.log_head_path).unlink()
    node, before = world.reopen("north"), len(world.home.log())
    introduced(world)
    assert [event["kind"] for event in world.study.events()][-1] == "refused"
    assert len(world.home.log()) == before
    assert len(node.ledger.entries()) == 1


def test_a_change_made_from_an_older_copy_is_refused_and_a_fork_is_proved(
    pristine: World, world: World, tmp_path: Path
) -> None:
    stale = NodeHome.open(pristine.nodes["north"].home.path)
    shutil.copytree(stale.path, tmp_path / "stale")
    envelope, _ = prepare_identity(NodeHome.open(tmp_path / "stale"))
    with pytest.raises(IntegrityError, match="has 1 entries and had 3"):
        admitted(world, envelope)
    honest, _ = prepare_identity(world.nodes["north"].home)
    said, head = opened_succession(honest)
    key, following = world.nodes["north"].key, world.nodes["north"].home.next_identity()
    assert following is not None
    other = Envelope.sign(LEDGER_HEAD_PAYLOAD_TYPE, head.model_copy(update={"head": "7" * 64}).canonical(), key)
    with pytest.raises(MisconductError, match="two different ledgers of 3 entries"):
        admitted(world, said.document.model_copy(update={"ledger": other}).signed(key, following))
    (proof,) = world.home.evidence_path.glob("*.json")
    assert verify_evidence(proof.read_bytes(), world.home.roster)[0] == "north"
    assert rostered(world, "north") == key.public.hex
    assert world.home.log().index.passed_on(key.public) is None


def test_a_ledger_that_lost_a_charge_is_not_passed_on(world: World, tmp_path: Path) -> None:
    """The next key and the succession are there, and the ledger is a copy of before the last charge."""
    changed(world, "north")
    shutil.copytree(world.nodes["north"].home.path, tmp_path / "older")
    world.fleet.lost = {"north"}  # so that it has not seen the succession
    world.fleet.lost = set()
    rounds.run_round(world.coordinator(), 2)
    node = world.nodes["north"]
    assert node.ledger.entries()[-1].charge.kind == "committed"
    restored(world, "north", tmp_path / "older")
    introduced(world)
    assert [signed.charge.kind for signed in world.nodes["north"].ledger.entries()].count("succession") == 0
    with pytest.raises(LedgerError, match="does not contain its witnessed head"):
        world.reopen("north")


def test_a_thief_of_the_old_key_who_is_admitted_does_not_get_the_hospital(world: World) -> None:
    """A person at the coordinator was deceived: the hospital stops, says why, and spends nothing more."""
    north = world.nodes["north"]
    _, head = opened_succession(prepare_identity(north.home)[0])
    north.home.next_identity_key_path.unlink()
    thief = SigningKey.generate()
    ledger = Envelope.sign(LEDGER_HEAD_PAYLOAD_TYPE, head.canonical(), north.key)
    said = IdentitySuccession(hospital="north", old=north.key.public.hex, new=thief.public.hex, ledger=ledger)
    admitted(world, said.signed(north.key, thief))
    before = north.ledger.head()
    introduced(world)
    (event,) = [event for event in world.study.events() if event["kind"] == "refused"]
    assert "the log passes this hospital's identity to a key that is not here" in event["reason"]
    assert "tell coordinator and hospitals by telephone" in event["reason"]
    assert north.ledger.head() == before
    with pytest.raises(RefusedError, match="a key that is not here"):
        world.reopen("north")


def test_a_coordinator_cannot_pass_on_a_key_without_both_signatures(world: World) -> None:
    honest, _ = prepare_identity(world.nodes["north"].home)
    said = opened_succession(honest)[0].document
    north, other, thief = world.nodes["north"].key, world.nodes["south"].key, SigningKey.generate()
    to_thief = said.model_copy(update={"new": thief.public.hex})
    following = world.nodes["north"].home.next_identity()
    assert following is not None
    for forged in (
        to_thief.signed(thief, thief),
        to_thief.signed(other, thief),
        said.signed(north, thief),
        honest.model_copy(update={"signatures": honest.signatures[:1]}),
        honest.model_copy(update={"signatures": honest.signatures[1:]}),
        honest.model_copy(update={"signatures": honest.signatures[::-1]}),
        honest.countersigned(thief),
        said.model_copy(update={"hospital": "south"}).signed(north, following),
    ):
        with pytest.raises(IntegrityError):
            rotate(world.home, forged, fingerprint=thief.public.fingerprint)
    assert rostered(world, "north") == north.public.hex


def test_a_new_key_that_anybody_has_or_had_is_refused(world: World) -> None:
    north, south = world.nodes["north"], world.nodes["south"]
    said = opened_succession(prepare_identity(north.home)[0])[0].document
    old = south.key
    changed(world, "south")
    introduced(world)
    root = SigningKey.load(world.home.root_key_path)
    for used in (old, south.key, root, world.home.key):
        with pytest.raises(InputError, match="was used before"):
            admitted(world, said.model_copy(update={"new": used.public.hex}).signed(north.key, used))


def test_a_key_has_one_successor_and_comes_back_under_no_id(world: World) -> None:
    north = world.nodes["north"]
    said, old = opened_succession(prepare_identity(north.home)[0])[0].document, north.key
    new = changed(world, "north")
    again, _ = prepare_identity(north.home)
    assert admitted(world, again)[0] == "north"  # the same once more, also from a ledger that grew
    second = SigningKey.generate()
    with pytest.raises(InputError, match="has passed its identity key on to another before"):
        admitted(world, said.model_copy(update={"new": second.public.hex}).signed(old, second))
    introduced(world)
    with pytest.raises(InputError, match="was passed on to another"):
        admit(world.home, "north", old.public.hex, north.home.node_public_key)
    expel(world.home, "north")
    for hospital in ("north", "east"):
        with pytest.raises(InputError, match="was passed on to another"):
            admit(world.home, hospital, old.public.hex, node_key())
    with pytest.raises(InputError, match="has the ledger of north"):
        admit(world.home, "east", new, node_key())
    with pytest.raises(InputError, match="of no admitted hospital"):
        admitted(world, again)


def test_a_roster_alone_changes_no_key(world: World) -> None:
    """A coordinator that keeps the succession out of the log stops a hospital, and gains nothing."""
    north, line = world.nodes["north"], world.home.log_path.read_bytes()
    changed(world, "north")
    world.home.log_path.write_bytes(line)
    enrol(north.home, world.home.roster_envelope, world.home.root)
    old, before = north.key.public, north.ledger.head()
    introduced(world)
    assert (north.key.public, north.ledger.head()) == (old, before)
