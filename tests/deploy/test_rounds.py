"""Rounds that hospitals leave and come back to: three of a roster of four train, two close a round."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from tests.deploy.in_process import World, build, copied, kind_of, pipeline
from tests.deploy.members import admit as admit_stranger

from sonoshare_client.agent.signing import sign_manifest
from sonoshare_client.node import witness
from sonoshare_server.consortium.admission import admit, expel
from sonoshare_server.federation import rounds
from sonoshare_server.federation.coordinator import Coordinator
from sonoshare_server.federation.statements import collect_statements
from sonoshare_server.release.pipeline import facts_for
from sonoshare_shared.errors import FederationError, RefusedError, VerificationError
from sonoshare_shared.protocol.canonical import canonical_bytes
from sonoshare_shared.protocol.closed_rounds import closed_rounds
from sonoshare_shared.protocol.documents.release import ReleaseManifest
from sonoshare_shared.protocol.documents.statement import STATEMENT_PAYLOAD_TYPE
from sonoshare_shared.protocol.documents.view import LEDGER_HEAD_PAYLOAD_TYPE, LedgerHead
from sonoshare_shared.protocol.envelope import Envelope
from sonoshare_shared.protocol.keys import SigningKey
from sonoshare_shared.protocol.log_index import LogIndex, ledger_head_entry
from sonoshare_shared.protocol.release import layout
from sonoshare_shared.protocol.release.evidence import view
from sonoshare_shared.protocol.release.verify import verify_release

TRAINING = ("north", "south", "west")
ALL = ("east", *TRAINING)
NOW = datetime(2026, 1, 2, tzinfo=UTC)


@pytest.fixture(scope="module")
def wide(tmp_path_factory: pytest.TempPathFactory, archives: dict[str, Path]) -> World:
    """Four hospitals, of which three are in the study and two close a round."""
    places = {name: archives["north" if place % 2 else "south"] for place, name in enumerate(ALL)}
    folder = tmp_path_factory.mktemp("wide")
    return build(folder, places, local_steps=1, cohorts=TRAINING, quorum=2)


@pytest.fixture(scope="module")
def begun(wide: World, tmp_path_factory: pytest.TempPathFactory) -> World:
    """All three have taken part in the first round."""
    world = copied(wide, tmp_path_factory.mktemp("begun") / "world")
    rounds.run_round(world.coordinator(), 1)
    return world


@pytest.fixture(scope="module")
def audited(wide: World, tmp_path_factory: pytest.TempPathFactory) -> World:
    """A candidate of two rounds, in which every answer of west was lost; its audits are done."""
    world = copied(wide, tmp_path_factory.mktemp("audited") / "world")
    rounds.train(with_fleet(world, Dropping(world, "west", times=9)))
    assert named(world) == {1: ("north", "south"), 2: ("north", "south")}
    steps = pipeline(world)
    steps.draw(lambda _done, _total: None)
    steps.audit()
    return world


@pytest.fixture
def world(wide: World, tmp_path: Path) -> World:
    return copied(wide, tmp_path / "world")


def events(world: World, kind: str) -> list[dict[str, Any]]:
    return [event for event in world.study.events() if event["kind"] == kind]


def purposes(world: World, hospital: str) -> list[str]:
    entries = world.nodes[hospital].ledger.entries()
    return [signed.charge.purpose for signed in entries if signed.charge.kind == "reserved"]


def named(world: World, study: str = "study") -> dict[int, tuple[str, ...]]:
    """Who took part in which round, as the log says."""
    return {n: closed.hospitals for n, closed in closed_rounds(world.home.log().index, study).items()}


@dataclass
class Dropping:
    """A fleet that loses the answers of a hospital to one kind of request: it did what it was asked."""

    world: World
    hospital: str
    times: int = 1
    kind: str = "train"

    def ask(self, requests: Any, deadline_seconds: Any) -> Iterator[dict[Any, Any]]:
        for answers in self.world.fleet.ask(requests, deadline_seconds):
            for hospital in tuple(answers):
                if hospital == self.hospital and kind_of(requests[hospital]) == self.kind and self.times > 0:
                    self.times -= 1
                    del answers[hospital]
            yield answers


def with_fleet(world: World, fleet: Any) -> Coordinator:
    return Coordinator(world.home, world.study, fleet, world.home.log())


def test_case_38_a_hospital_lost_before_it_sends_and_after_leaves_the_round_and_comes_back(world: World) -> None:
    """West is away in round 1; in round 2 its answer is lost; it is started again for round 3."""
    longer = world.study.plan.model_copy(update={"study": "longer", "rounds": 3})
    study = world.home.create_study(longer, world.study.adapter(), world.study.state.adapter_digest, None)
    coordinator = Coordinator(world.home, study, Dropping(world, "west"), world.home.log())
    world.fleet.lost, world.fleet.lost_at = {"west"}, "train"
    rounds.run_round(coordinator, 1)
    world.fleet.lost = set()
    rounds.run_round(coordinator, 2)
    world.reopen("west")
    rounds.run_round(coordinator, 3)
    assert named(world, "longer") == {1: ("north", "south"), 2: ("north", "south"), 3: TRAINING}
    assert purposes(world, "west") == ["training round 2", "training round 3"]
    assert purposes(world, "north") == [f"training round {number}" for number in (1, 2, 3)]
    told = [event for event in study.events() if event["kind"] in {"missing", "refused"}]
    assert [(event["kind"], event["hospital"], event["round"]) for event in told] == [
        ("missing", "west", 1),
        ("missing", "west", 2),
    ]
    assert all(event["reason"].startswith("no answer within") for event in told)
    assert [e["left_out"] for e in study.events() if e["kind"] == "aggregated"] == [["west"], ["west"], []]


def test_a_round_says_who_has_answered_and_who_is_awaited_until_when(begun: World) -> None:
    told = [(event["answered"], event["awaited"]) for event in events(begun, "waiting")]
    assert told == [([], list(TRAINING)), (["north"], ["south", "west"]), (["north", "south"], ["west"])]
    moment, until = (datetime.fromisoformat(events(begun, "waiting")[0][name]) for name in ("time", "until"))
    assert 1790 < (until - moment).total_seconds() < 1810


def test_with_too_few_the_round_says_who_is_missing_and_why_and_resumes(world: World) -> None:
    world.fleet.lost, world.fleet.lost_at = {"south", "west"}, "train"
    with pytest.raises(FederationError, match=r"round 1 has 1 of 2 answers it needs \(south: no answer .*; west: no"):
        rounds.run_round(world.coordinator(), 1)
    world.fleet.lost = {"south"}
    rounds.run_round(world.coordinator(), 1)
    assert named(world) == {1: ("north", "west")}
    assert purposes(world, "north") == ["training round 1"]


def test_a_release_is_of_those_who_took_part_and_of_nobody_else(audited: World, tmp_path: Path) -> None:
    """West trained and its answers were lost; east is in the roster alone: neither is asked for anything."""
    world = copied(audited, tmp_path / "world")
    assert purposes(world, "west") == ["training round 1"]
    bundle = pipeline(world).finish(facts_for(world.home, world.study, NOW))
    asked = [*audited.fleet.asked, *world.fleet.asked]
    kinds = {hospital: {kind_of(frame) for h, frame in asked if h == hospital} - {"keys", "train"} for hospital in ALL}
    assert kinds == {
        "north": {"hold", "audit", "sign"},
        "south": {"hold", "audit", "sign"},
        "east": set(),
        "west": set(),
    }
    log = view(world.home.log())
    verified = verify_release(bundle, world.home.roster_envelope, now=datetime.now(UTC), log=log)
    assert verified.manifest.participants == verified.hospitals == ("north", "south")
    for stated in verified.manifest.privacy.hospitals:
        spent = world.nodes[stated.hospital].ledger.spent(stated.delta, study="study")
        assert stated.epsilon >= spent.epsilon - 1e-9
    refused_when_changed(world, bundle)


def refused_when_changed(world: World, bundle: Path) -> None:
    """A list that is stripped off, or cut short, is not what was signed."""
    data = (bundle / layout.MANIFEST).read_bytes()
    for change in ({"participants": None}, {"participants": ["north"]}):
        value = {key: v for key, v in (json.loads(data) | change).items() if v is not None}
        (bundle / layout.MANIFEST).write_bytes(canonical_bytes(value))
        sums = {e["path"]: e["sha256"] for e in value["files"]}
        sums[layout.MANIFEST] = ReleaseManifest.from_bytes(canonical_bytes(value)).digest()
        (bundle / layout.SHA256SUMS).write_bytes(layout.sha256sums(sums))
        with pytest.raises(VerificationError) as refused:
            verify_release(bundle, world.home.roster_envelope, now=datetime.now(UTC))
        assert refused.value.cause in {"quorum", "file-extra"}


@pytest.mark.parametrize("listed", [("north",), TRAINING, None])
def test_a_hospital_signs_no_other_list_than_its_log_names(
    audited: World, tmp_path: Path, listed: tuple[str, ...] | None
) -> None:
    world = copied(audited, tmp_path / "world")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sonoshare_server.release.pipeline.participants", lambda *_: listed)
        patch.setattr("sonoshare_server.release.build.require_passes", lambda *_: None)
        with pytest.raises(FederationError, match="north, south did not sign"):
            pipeline(world).finish(facts_for(world.home, world.study, NOW))
    reasons = {event["reason"] for event in events(world, "refused")}
    wanted = "is not about the hospitals of its study" if listed is None else "names other hospitals than took part"
    assert all(wanted in reason for reason in reasons)


def test_a_hospital_signs_only_beside_a_pass_of_everybody_who_took_part(audited: World, tmp_path: Path) -> None:
    world = copied(audited, tmp_path / "world")
    statements = world.study.candidate("r1").statements_path
    data = {name: (statements / f"{name}.dsse.json").read_bytes() for name in ("north", "south")}
    with pytest.MonkeyPatch.context() as patch:
        (statements / "south.dsse.json").write_bytes(data["north"])
        patch.setattr("sonoshare_server.release.build.require_passes", lambda *_: None)
        patch.setattr("sonoshare_server.release.pipeline.Pipeline.require_passes", lambda *_: None)
        with pytest.raises(VerificationError):
            pipeline(world).finish(facts_for(world.home, world.study, NOW))
    assert not (world.home.releases / "r1").exists()


def test_nobody_passes_a_release_under_the_id_of_another_who_took_part(audited: World, tmp_path: Path) -> None:
    """South is expelled, and its id given to a key of the coordinator's own: its patients stay in the model."""
    world = copied(audited, tmp_path / "world")
    bundle = pipeline(world).finish(facts_for(world.home, world.study, NOW))
    manifest = (bundle / layout.MANIFEST).read_bytes()
    passed = [Envelope.load(bundle / layout.attestation_path(name)) for name in ("north", "south")]
    sign_manifest(world.nodes["north"], manifest, passed)
    entry, stranger = world.home.roster.hospital("south"), SigningKey.generate()
    assert entry is not None
    expel(world.home, "south")
    admit(world.home, "south", stranger.public.hex, entry.node_key)
    north = world.nodes["north"]
    witness.enrol(north.home.state_path, world.home.roster_envelope, world.home.root)
    said = passed[1].verify(entry.key, STATEMENT_PAYLOAD_TYPE)
    forged = Envelope.sign(STATEMENT_PAYLOAD_TYPE, said, stranger)
    with pytest.raises(RefusedError, match="south took part in round 1 of study with another key"):
        sign_manifest(north, manifest, [passed[0], forged])
    # The same of a key that the log has known before the round, as that of a hospital of another id.
    head = LedgerHead(hospital="west", identity_key=stranger.public.hex, entries=1, head="5" * 64)
    known = ledger_head_entry(head, Envelope.sign(LEDGER_HEAD_PAYLOAD_TYPE, head.canonical(), stranger))
    index = LogIndex()
    for line in (canonical_bytes(known), *world.home.log().entries):
        assert index.add(line) is None
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(north.log, "index", index)
        with pytest.raises(RefusedError, match="south took part in round 1 of study with another key"):
            sign_manifest(north, manifest, [passed[0], forged])


def test_a_hospital_that_took_no_part_spends_nothing_on_a_release(audited: World, tmp_path: Path) -> None:
    world = copied(audited, tmp_path / "world")
    before = world.nodes["west"].ledger.head()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sonoshare_server.federation.statements.whom_to_ask", lambda *_: TRAINING)
        collect_statements(world.coordinator(), "r1")
    assert events(world, "refused")[-1]["reason"].startswith(
        "west refused: this hospital took part in no round of study"
    )
    assert world.nodes["west"].ledger.head() == before


def test_a_hospital_that_was_expelled_leaves_the_study_and_stops_its_release_in_one_line(
    begun: World, tmp_path: Path
) -> None:
    world = copied(begun, tmp_path / "world")
    entry = world.home.roster.hospital("west")
    assert entry is not None
    expel(world.home, "west")
    rounds.train(world.coordinator())
    assert named(world) == {1: TRAINING, 2: ("north", "south")}
    (missing,) = events(world, "missing")
    assert (missing["hospital"], missing["reason"]) == ("west", "it is not in the roster any more")
    steps = pipeline(world)
    with pytest.raises(
        RefusedError, match="west took part in study study and is not in the roster any more"
    ) as refused:
        steps.draw(lambda _done, _total: None)
    assert "admit west again, by its identity key and a new node key" in refused.value.remedy
    admit(world.home, "west", entry.identity_key, entry.node_key)
    assert steps.require_asked() == TRAINING


def test_a_hospital_that_is_admitted_while_a_study_runs_does_not_disturb_it(begun: World, tmp_path: Path) -> None:
    """The others hold the roster of before, and nobody runs the newcomer's node yet."""
    world = copied(begun, tmp_path / "world")
    admit_stranger(world.home.path, "fifth")
    world.fleet.lost = {"fifth"}
    for hospital in TRAINING:
        assert world.nodes[hospital].roster().version < world.home.roster.version
    rounds.train(world.coordinator())
    assert named(world) == {1: TRAINING, 2: TRAINING}
    assert {event["kind"] for event in world.study.events()}.isdisjoint({"missing", "refused"})


def test_case_39_a_kill_anywhere_in_the_closing_completes_once_with_one_entry(world: World) -> None:
    """Who answered before a kill need not answer after it: a round that the log closed stays as it was closed."""
    study = world.home.create_study(
        world.study.plan.model_copy(update={"study": "short", "rounds": 1}),
        world.study.adapter(),
        world.study.state.adapter_digest,
        None,
    )

    def run(away: str, killed_at: str | None = None) -> None:
        world.fleet.lost, world.fleet.lost_at = {away}, "train"
        coordinator = Coordinator(world.home, study, world.fleet, world.home.log())
        with pytest.MonkeyPatch.context() as patch:
            if killed_at is not None:
                patch.setattr(killed_at, killed_in_closing)
                with pytest.raises(KeyboardInterrupt):
                    rounds.train(coordinator)
            else:
                rounds.train(coordinator)

    run("west", "sonoshare_server.home.Study.keep_adapter")
    run("south", "sonoshare_server.federation.closing.ClosedRound")
    assert named(world, "short") == {}
    run("nobody", "sonoshare_server.home.Study.advance")
    assert named(world, "short") == {1: TRAINING}
    assert study.state.rounds_done == 0
    run("west")
    assert study.state.rounds_done == 1
    assert named(world, "short") == {1: TRAINING}
    assert study.state.adapter_digest == closed_rounds(world.home.log().index, "short")[1].adapter
    for hospital in TRAINING:
        assert purposes(world, hospital) == ["training round 1"]


def killed_in_closing(*_arguments: Any, **_fields: Any) -> Any:
    raise KeyboardInterrupt


def test_a_closed_round_whose_model_is_gone_stops_with_one_line(begun: World, tmp_path: Path) -> None:
    world = copied(begun, tmp_path / "world")
    study = world.study
    study.commit_round(0, b"older", "0" * 64)
    study.keep_adapter(1, b"another")
    with pytest.raises(FederationError, match="with a model that the study's folder does not hold"):
        rounds.train(world.coordinator())


@pytest.mark.parametrize("days", [-1, 1])
def test_case_40_a_clock_a_day_off_trains_nothing_twice(begun: World, tmp_path: Path, days: int) -> None:
    """The coordinator asks for round 1 once more, and north has been started again with another clock."""
    world = copied(begun, tmp_path / "world")

    class Shifted(datetime):
        @classmethod
        def now(cls, tz: Any = None) -> Any:
            return datetime.now(tz) + timedelta(days=days)

    before = {hospital: world.nodes[hospital].ledger.head() for hospital in TRAINING}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sonoshare_client.agent.node.datetime", Shifted)
        patch.setattr("sonoshare_client.agent.service.datetime", Shifted)
        world.reopen("north")
        first = world.study.kept_digest(0)
        assert first is not None
        world.study.advance(0, first)
        rounds.run_round(world.coordinator(), 1)
    assert named(world) == {1: TRAINING}
    assert {hospital: world.nodes[hospital].ledger.head() for hospital in TRAINING} == before
