"""An identity key is changed without a stop, and nothing that was spent is shed by it: the attacks first."""

import json
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from tests.deploy.command import sonoshare
from tests.deploy.in_process import World, copied, kind_of, pipeline
from tests.deploy.masked_world import MEMBERS, charges, copy_of, events, ready_envelopes
from tests.deploy.members import node_key

from sonoshare_client.agent.node import Node
from sonoshare_client.agent.service import Agent
from sonoshare_client.agent.signing import sign_manifest
from sonoshare_client.node.home import NodeHome
from sonoshare_client.node.identity_rotation import prepare_identity
from sonoshare_client.node.joining import enrol
from sonoshare_client.node.ledger import make_ledger, open_ledger
from sonoshare_server.consortium.admission import admit, expel
from sonoshare_server.consortium.rotation import rotate
from sonoshare_server.federation import rounds
from sonoshare_server.federation.introduction import introduce
from sonoshare_server.release.pipeline import Pipeline, facts_for
from sonoshare_shared.errors import (
    InputError,
    IntegrityError,
    LedgerError,
    MisconductError,
    PassedOnError,
    RefusedError,
    VerificationError,
)
from sonoshare_shared.protocol.closed_rounds import closed_rounds
from sonoshare_shared.protocol.documents.charge import LedgerExport
from sonoshare_shared.protocol.documents.identity_succession import IdentitySuccession, opened_succession
from sonoshare_shared.protocol.documents.release import ReleaseManifest
from sonoshare_shared.protocol.documents.view import LEDGER_HEAD_PAYLOAD_TYPE
from sonoshare_shared.protocol.envelope import Envelope
from sonoshare_shared.protocol.keys import SigningKey
from sonoshare_shared.protocol.log_index import plan_entry
from sonoshare_shared.protocol.misconduct import verify_evidence
from sonoshare_shared.protocol.release import layout
from sonoshare_shared.protocol.release.evidence import view
from sonoshare_shared.protocol.release.verify import verify_release
from sonoshare_shared.protocol.translog import TransparencyLog

NOW = datetime(2026, 1, 2, tzinfo=UTC)


@pytest.fixture(scope="module")
def begun(pristine: World, tmp_path_factory: pytest.TempPathFactory) -> World:
    """Two hospitals after the first of two rounds."""
    world = copied(pristine, tmp_path_factory.mktemp("rotated") / "world")
    rounds.run_round(world.coordinator(), 1)
    return world


@pytest.fixture
def world(begun: World, tmp_path: Path) -> World:
    return copied(begun, tmp_path / "world")


def changed(world: World, hospital: str) -> str:
    """A hospital's key is changed as far as the coordinator; returns the new one. Nobody enrols the new roster."""
    envelope, new = prepare_identity(world.nodes[hospital].home)
    admitted(world, envelope)
    return new.hex


def admitted(world: World, envelope: Envelope) -> tuple[str, int]:
    """A file is admitted by a person who has compared the fingerprint."""
    return rotate(world.home, envelope, fingerprint=opened_succession(envelope)[0].document.new_key.fingerprint)


def introduced(world: World) -> None:
    """Show everybody the whole log, and log what they say of their ledgers."""
    introduce(world.coordinator(), sorted(world.nodes))


def restored(world: World, hospital: str, folder: Path) -> Node:
    """The hospital's folder gives way to an older copy, and its agent is started again."""
    home = world.nodes[hospital].home.path
    shutil.rmtree(home)
    shutil.copytree(folder, home)
    return world.reopen(hospital)


def rostered(world: World, hospital: str) -> str:
    entry = world.home.roster.hospital(hospital)
    assert entry is not None
    return entry.identity_key


# Attacks: a budget that would be shed, a key that is not the hospital's.


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


# Without a stop.


def test_a_study_goes_on_over_changes_of_keys_and_its_release_verifies_for_ever(world: World) -> None:
    """Keys change before a round, between audit and manifest, and between manifest and signature; nobody enrols."""
    first = world.home.roster_envelope
    changed(world, "north")
    rounds.train(world.coordinator())
    assert {n: closed.hospitals for n, closed in closed_rounds(world.home.log().index, "study").items()} == {
        1: ("north", "south"),
        2: ("north", "south"),
    }
    steps = pipeline(world)
    steps.draw(lambda _done, _total: None)
    assert {said.predicate.verdict for said in steps.audit().values()} == {"PASS"}
    changed(world, "south")
    draft = replace(steps, act=lambda *_: None)
    facts = facts_for(world.home, world.study, NOW)
    with pytest.raises(Exception, match="did not sign the manifest"):
        draft.finish(facts)
    refuses_words_that_are_not_its_own(world, steps)
    governing = world.home.roster_envelope
    changed(world, "north")
    release = steps.finish(facts)
    verified = verify_release(release, world.home.roster_envelope, now=NOW, log=view(world.home.log()))
    assert verified.hospitals == ("north", "south")
    assert verified.roster.version == governing_version(governing)
    for old in (first, governing):  # the roster that the release was made under does not know north's next key
        with pytest.raises(VerificationError):
            verify_release(release, old, now=NOW)
    for hospital in ("north", "south"):
        entries = world.nodes[hospital].ledger.entries()
        purposes = [signed.charge.purpose for signed in entries if signed.charge.kind == "reserved"]
        assert len(purposes) == len(set(purposes)) == 3  # two rounds and one audit, once each
    admit(world.home, "east", SigningKey.generate().public.hex, node_key())
    expel(world.home, "north")
    assert verify_release(release, world.home.roster_envelope, now=NOW).manifest == verified.manifest


def refuses_words_that_are_not_its_own(world: World, steps: Pipeline) -> None:
    """A thief of south's old key, whose signature a release would take where south's new key vouches for it."""
    manifest = ReleaseManifest.from_bytes(steps.candidate.manifest_path.read_bytes())
    statements, path = tuple(steps.statements().values()), layout.attestation_path("south")
    files = [entry.model_copy(update={"sha256": "1" * 64}) if entry.path == path else entry for entry in manifest.files]
    introduced(world)
    forged = manifest.model_copy(update={"files": tuple(files)})
    with pytest.raises(RefusedError, match=f"{path} is not what this hospital signed"):
        sign_manifest(world.nodes["south"], forged.canonical(), statements)
    sign_manifest(world.nodes["south"], manifest.canonical(), statements)


def governing_version(roster: Envelope) -> int:
    return int(json.loads(roster.decoded())["version"])


@dataclass
class ChangingMeanwhile:
    """A fleet in which a hospital's change of key is admitted while it works at its first request of a kind."""

    world: World
    hospital: str
    kind: str
    done: bool = False

    def ask(self, requests: Any, deadline_seconds: Any) -> Iterator[dict[Any, Any]]:
        for answers in self.world.fleet.ask(requests, deadline_seconds):
            if not self.done and self.hospital in answers and kind_of(requests[self.hospital]) == self.kind:
                self.done = True
                changed(self.world, self.hospital)
            yield answers


@pytest.mark.parametrize("kind", ["train", "keys"])
def test_an_answer_that_was_on_its_way_is_given_again_under_the_new_key(world: World, kind: str) -> None:
    coordinator = world.coordinator()
    world.reopen("south")  # so that there is an introduction
    rounds.run_round(replace(coordinator, fleet=ChangingMeanwhile(world, "north", kind)), 2)
    assert closed_rounds(world.home.log().index, "study")[2].hospitals == ("north", "south")
    assert charges(world, "north") == 2
    assert world.nodes["north"].key.public.hex == rostered(world, "north")


def test_a_hospital_far_behind_is_shown_the_log_in_parts_up_to_its_change(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It answers the first of them with the key that it still has, and is believed how far it is."""
    log, whole = world.home.log(), TransparencyLog.part
    for number in range(5):
        log.append(plan_entry(f"before-{number}", "0" * 64))
    new = changed(world, "north")
    log.append(plan_entry("after", "0" * 64))
    monkeypatch.setattr(TransparencyLog, "part", lambda log, first: whole(log, first, at_most=2))
    monkeypatch.setattr("sonoshare_server.federation.introduction.MAX_PART_ENTRIES", 2)
    introduced(world)
    assert world.nodes["north"].key.public.hex == new
    heads = world.home.log().index.heads(world.nodes["north"].key.public)
    assert heads[-1].head.identity_key == new


@pytest.mark.parametrize("hospital", ["west", "east"])
def test_a_masked_set_of_before_holds_and_the_round_is_not_void(
    masked_ready: World, tmp_path: Path, hospital: str
) -> None:
    world = copy_of(masked_ready, tmp_path / "world")
    ready = ready_envelopes(world)
    changed(world, hospital)
    introduce(world.coordinator(), MEMBERS)
    rounds.run_round(world.coordinator(), 1)
    assert ready_envelopes(world) == ready
    (event,) = events(world, "aggregated")
    assert event["hospitals"] == list(MEMBERS)
    assert {name: charges(world, name) for name in MEMBERS} == dict.fromkeys(MEMBERS, 1)
    rounds.run_round(world.coordinator(), 2)
    assert [event["hospitals"] for event in events(world, "aggregated")] == [list(MEMBERS)] * 2


def test_the_thief_of_a_key_that_was_passed_on_has_a_key_for_nothing(masked_ready: World, tmp_path: Path) -> None:
    """What it signs about a round that began after the change counts nowhere."""
    world = copy_of(masked_ready, tmp_path / "world")
    old = world.nodes["west"].key
    changed(world, "west")
    rounds.run_round(world.coordinator(), 1)
    world.fleet.agents["west"]._node.key = old
    rounds.run_round(world.coordinator(), 2)
    assert [event["hospitals"] for event in events(world, "aggregated")][1] == ["east", "north", "south"]


# Kills, and what a person sees.


@pytest.mark.parametrize("at", ["the log", "the ledger", "the key"])
def test_a_change_that_is_killed_anywhere_is_ended_by_the_next_start(
    world: World, at: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    north, new = world.nodes["north"], changed(world, "north")

    def killed(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        if at == "the log":
            patch.setattr(north.ledger, "succeed", killed)
        elif at == "the ledger":
            patch.setattr("sonoshare_client.agent.identity.take_next_identity", killed)
        else:
            patch.setattr(Node, "record", lambda _node, kind, **_: killed() if kind == "identity-changed" else None)
        with pytest.raises(KeyboardInterrupt):
            introduced(world)
    if at == "the ledger":  # a look at the ledger ends it as well
        open_ledger(north.home, lambda: NOW).close()
        assert north.home.identity().public.hex == new
    node = world.reopen("north")
    assert node.key.public.hex == node.home.identity().public.hex == new
    assert [signed.charge.kind for signed in node.ledger.entries()].count("succession") == 1
    rounds.run_round(world.coordinator(), 2)
    assert charges(world, "north") == 2


def test_a_change_that_the_coordinator_cut_off_after_the_log_is_ended_by_the_same_command(world: World) -> None:
    roster, members = world.home.roster_path.read_bytes(), world.home.members_path.read_bytes()
    envelope, new = prepare_identity(world.nodes["north"].home)
    admitted(world, envelope)
    world.home.roster_path.write_bytes(roster)
    world.home.members_path.write_bytes(members)
    size = len(world.home.log())
    admitted(world, envelope)
    assert (rostered(world, "north"), len(world.home.log())) == (new.hex, size)
    (named,) = world.home.roster.successions or ()
    assert named.succession == opened_succession(envelope)[0].digest


def test_another_process_that_has_the_old_key_open_writes_nothing_more(world: World) -> None:
    beside = open_ledger(world.nodes["north"].home, lambda: NOW)
    changed(world, "north")
    introduced(world)
    assert beside.head() == world.nodes["north"].ledger.head()  # it reads on
    with pytest.raises(PassedOnError):
        beside.succeed(SigningKey.generate())
    beside.close()


def test_a_hospital_enrols_the_roster_that_names_its_next_key_or_one_that_names_its_last(world: World) -> None:
    north, before = world.nodes["north"].home, world.home.roster_envelope
    changed(world, "north")
    enrol(north, world.home.roster_envelope, world.home.root)
    south = world.nodes["south"].home
    changed(world, "south")
    introduced(world)
    assert enrol(south, before, world.home.root).version == 3 - 1  # of before its change, pinned again
    stranger = NodeHome.create(world.home.path / "x", "south")
    with pytest.raises(RefusedError, match="with another identity key"):
        enrol(stranger, world.home.roster_envelope, world.home.root)


def test_the_commands_of_a_change(world: World, tmp_path: Path) -> None:
    home, out = world.nodes["north"].home.path, tmp_path / "change.json"
    for wrong in ((), ("--node", "--identity")):
        assert sonoshare("hospital", "keys", "rotate", *wrong, "--home", home).returncode == 2
    made = json.loads(
        sonoshare("hospital", "keys", "rotate", "--identity", "--home", home, "--out", out, "--json").stdout
    )
    shown = sonoshare("hospital", "keys", "--home", home).stdout
    assert f"next identity key  {made['identity_public_key']}\n" in shown
    assert made["fingerprint"] in shown
    admit_it = ("coordinator", "admit", "--home", world.home.path, "--rotate", out, "--json")
    assert "have the hospital tell" in sonoshare(*admit_it).stderr
    refused = sonoshare(*admit_it, "--fingerprint", "0" * 16).stderr
    assert "do not admit it" in refused
    assert made["fingerprint"] not in refused
    run = sonoshare(*admit_it, "--fingerprint", made["fingerprint"])
    assert json.loads(run.stdout)["hospital"] == "north"
    introduced(world)
    assert Agent(world.reopen("north")) is not None
    assert rostered(world, "north") == made["identity_public_key"]
    ledger = sonoshare("hospital", "ledger", "--home", home)
    assert ledger.returncode == 0
    assert "succession" in ledger.stdout
