"""Several candidates of one study: planned and paid for in advance, other images each, refused before work."""

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from tests.deploy.in_process import HOSPITALS, World, build, copied, pipeline

from sonoshare_client.audit.payment import AUDIT_PURPOSE
from sonoshare_privacy.audits.gate import Finding
from sonoshare_server.consortium.audit_terms import audit_policy
from sonoshare_server.federation import rounds
from sonoshare_server.release.candidates import place_of
from sonoshare_server.release.pipeline import Pipeline, facts_for
from sonoshare_shared.errors import InputError, NewerVersionError, RefusedError, VerificationError
from sonoshare_shared.protocol.documents import StudyPlan
from sonoshare_shared.protocol.release import layout
from sonoshare_shared.protocol.release.candidate import Candidate, require_planned
from sonoshare_shared.protocol.release.verify import verify_release
from sonoshare_shared.protocol.translog import TransparencyLog

NOW = datetime(2026, 1, 2, tzinfo=UTC)


@pytest.fixture(scope="module")
def two_planned(tmp_path_factory: pytest.TempPathFactory, archives: dict[str, Path]) -> World:
    """A study of two candidates, trained; tests work on copies."""
    audit = audit_policy(12.0, 0.6, 0.97, 0.001)
    world = build(tmp_path_factory.mktemp("two"), archives, rounds=1, local_steps=1, audit=audit, candidates=2)
    rounds.train(world.coordinator())
    return world


@pytest.fixture
def world(two_planned: World, tmp_path: Path) -> World:
    return copied(two_planned, tmp_path / "world")


def drawn(world: World, release: str) -> Pipeline:
    steps = pipeline(world, release)
    steps.draw(lambda done, total: None)
    return steps


def candidate_of(steps: Pipeline) -> Candidate:
    return Candidate.from_bytes(steps.candidate.listing_path.read_bytes())


def failing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every hospital fails what it audits."""
    monkeypatch.setattr(
        "sonoshare_client.audit.auditor.gate.combine", lambda _found: Finding("FAIL", ("copies: saw about 9",))
    )


def audits_charged(world: World, hospital: str) -> int:
    entries = world.nodes[hospital].ledger.entries()
    return sum(s.charge.kind == "reserved" and s.charge.purpose.startswith(AUDIT_PURPOSE) for s in entries)


def test_a_candidate_that_failed_is_followed_by_the_next_which_is_other_images_and_can_be_published(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = drawn(world, "r1")
    with monkeypatch.context() as patch:
        failing(patch)
        first.audit()
    with pytest.raises(RefusedError, match=r"north says FAIL \(copies: saw about 9") as refused:
        first.require_passes()
    assert refused.value.remedy == "draw the next candidate under another --name: 1 more are planned and paid for"
    second = drawn(world, "r2")
    one, two = candidate_of(first), candidate_of(second)
    assert (one.number, two.number) == (None, 2)
    assert one.seed == 0 != two.seed == world.study.plan.seed_of(2)
    assert not {image.image for image in one.images} & {image.image for image in two.images}
    said = second.audit()
    assert {h: s.predicate.verdict for h, s in said.items()} == dict.fromkeys(HOSPITALS, "PASS")
    bundle = second.finish(facts_for(world.home, world.study, NOW))
    verify_release(bundle, world.home.roster_envelope, now=NOW)
    assert f",{two.seed}" in (bundle / layout.METADATA).read_text()
    assert "candidate 2 of 2 that the study planned" in (bundle / layout.DATASHEET).read_text()
    assert {audits_charged(world, hospital) for hospital in HOSPITALS} == {2}


def test_one_more_candidate_than_planned_is_refused_before_it_is_drawn_or_voted_on(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    failing(monkeypatch)
    for release in ("r1", "r2"):
        drawn(world, release).audit()
    steps, asked = pipeline(world, "r3"), len(world.fleet.asked)
    with pytest.raises(RefusedError, match="study study has 2 planned candidates, which were audited: r1, r2") as found:
        steps.draw(lambda done, total: None)
    assert "new study with more --candidates" in found.value.remedy
    assert not steps.folder.exists()
    assert not steps.folder.with_name(".r3.drawing").exists()
    assert len(world.fleet.asked) == asked
    with pytest.raises(RefusedError, match="north says FAIL") as last:
        pipeline(world, "r2").require_passes()
    assert "the plan has no candidate left" in last.value.remedy


def test_a_hospital_audits_no_candidate_out_of_turn_or_with_a_chosen_seed(world: World) -> None:
    steps = drawn(world, "r1")
    honest = candidate_of(steps)
    plan = world.study.plan
    for change, words in (
        ({"seed": 5}, "another seed than the plan's"),
        ({"number": 2, "seed": plan.seed_of(2)}, "another place among those"),
        ({"number": 3, "seed": plan.seed_of(3)}, "number 3 of 2"),
    ):
        fresh = copied(world, world.home.path.parents[1] / f"lied-{change.get('number', 0)}")
        lying = pipeline(fresh, "r1")
        lying.candidate.listing_path.write_bytes(honest.model_copy(update=change).canonical())
        # A coordinator of another version, which does not ask itself.
        lying.act("audit", "r1")
        assert lying.said() == {}
        with pytest.raises(RefusedError, match=f"north refused: .*{words}"):
            lying.require_passes()
        assert audits_charged(fresh, "north") == 0


def test_a_candidate_whose_place_another_has_taken_is_drawn_again(world: World) -> None:
    drawn(world, "r1")
    second = drawn(world, "r2")
    assert candidate_of(second).place == 1
    pipeline(world, "r1").audit()
    with pytest.raises(InputError, match="r2 was drawn for a place that another candidate has taken") as found:
        second.audit()
    assert "remove the folder candidates/r2" in found.value.remedy
    assert place_of(world.home, world.study, "r1") == 1


def test_why_a_hospital_gave_no_verdict_is_said(world: World) -> None:
    steps = drawn(world, "r1")
    world.fleet.lost = {"south"}
    rules = world.nodes["north"].home.policy_path
    rules.write_text(rules.read_text().replace("maximum_candidates = 3", "maximum_candidates = 1"))
    steps.audit()
    with pytest.raises(RefusedError) as found:
        steps.require_passes()
    assert found.value.message == (
        "not published: north refused: the plan has 2 candidates; the policy permits 1 (ask for fewer, or raise "
        "audit.maximum_candidates); south gave no verdict: it did not answer in time"
    )
    assert "run the same again" in found.value.remedy


def test_all_planned_candidates_are_within_epsilon(two_planned: World) -> None:
    plan = two_planned.study.plan
    assert plan.epsilons == plan.audit.epsilons * 2
    assert plan.audit.max_candidates == 1
    single = plan.model_copy(update={"candidates": None})
    assert single.planned_candidates == 1
    assert b"candidates" not in single.canonical().replace(b"max_candidates", b"")


def test_a_plan_of_before_means_what_it_meant_and_an_older_node_refuses_the_new_field() -> None:
    path = Path(__file__).parents[1] / "golden" / "v1" / "release" / layout.PLAN
    old = StudyPlan.from_bytes(path.read_bytes())
    assert old.planned_candidates == old.audit.max_candidates
    assert old.seed_of(1) == old.release.seed
    candidate = Candidate.from_bytes(path.with_name(layout.CANDIDATE).read_bytes())
    require_planned(candidate, old)
    with pytest.raises(VerificationError, match="number 2 of 1"):
        require_planned(candidate.model_copy(update={"number": 2}), old)
    newer: dict[str, Any] = json.loads(path.read_bytes()) | {"candidates_of_tomorrow": 2}
    with pytest.raises(NewerVersionError):
        StudyPlan.from_bytes(json.dumps(newer).encode())


def test_places_follow_the_log_and_names_that_begin_alike_are_kept_apart(world: World) -> None:
    log: TransparencyLog = world.home.log()
    for study, release in (("study", "b"), ("study-2", "a"), ("study", "a"), ("study", "b")):
        log.append({"kind": "candidate", "study": study, "release": release, "digest": "0" * 64})
    assert log.index.candidates("study") == ("b", "a")
    assert log.index.candidates("study-2") == ("a",)
    assert log.index.candidates("stud") == ()
