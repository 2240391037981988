"""An identity key is changed without a stop of the study, through kills, and as a person sees it."""

import json
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
from tests.deploy.rotated import admitted, changed, introduced, rostered

from sonoshare_client.agent.node import Node
from sonoshare_client.agent.service import Agent
from sonoshare_client.agent.signing import sign_manifest
from sonoshare_client.node.home import NodeHome
from sonoshare_client.node.identity_rotation import prepare_identity
from sonoshare_client.node.joining import enrol
from sonoshare_client.node.ledger import open_ledger
from sonoshare_server.consortium.admission import admit, expel
from sonoshare_server.federation import rounds
from sonoshare_server.federation.introduction import introduce
from sonoshare_server.release.pipeline import Pipeline, facts_for
from sonoshare_shared.errors import (
    PassedOnError,
    RefusedError,
    VerificationError,
)
from sonoshare_shared.protocol.closed_rounds import closed_rounds
from sonoshare_shared.protocol.documents.identity_succession import opened_succession
from sonoshare_shared.protocol.documents.release import ReleaseManifest
from sonoshare_shared.protocol.envelope import Envelope
from sonoshare_shared.protocol.keys import SigningKey
from sonoshare_shared.protocol.log_index import plan_entry
from sonoshare_shared.protocol.release import layout
from sonoshare_shared.protocol.release.evidence import view
from sonoshare_shared.protocol.release.verify import verify_release
from sonoshare_shared.protocol.translog import TransparencyLog

NOW = datetime(2026, 1, 2, tzinfo=UTC)


@pytest.fixture
def world(begun: World, tmp_path: Path) -> World:
    return copied(begun, tmp_path / "world")


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
