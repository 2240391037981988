"""Votes on phantoms through a whole release: charged once, signed, stored, and part of what everybody verifies."""

import json
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from tests.deploy.in_process import HOSPITALS, World, build, copied, patients_of, pipeline, policy
from tests.small_ballot import SIZE, small_ballot

from sonoshare_client.agent import calibrating
from sonoshare_client.node.policy_file import policy_text
from sonoshare_server.federation import rounds
from sonoshare_server.federation.calibration import collect_votes, stored_votes, votes_evidence
from sonoshare_server.release.draw import outcome_of, phantoms_of
from sonoshare_server.release.pipeline import facts_for
from sonoshare_shared.errors import FederationError, VerificationError
from sonoshare_shared.protocol.documents.exchange import VOTES_PAYLOAD_TYPE, CalibrationVotes
from sonoshare_shared.protocol.envelope import Envelope
from sonoshare_shared.protocol.release import layout
from sonoshare_shared.protocol.release.verify import verify_release
from sonoshare_shared.science.calibration.ballot import Ballot
from sonoshare_shared.science.evaluation import features


@pytest.fixture(scope="module")
def pristine(tmp_path_factory: pytest.TempPathFactory, archives: dict[str, Path]) -> World:
    """A consortium whose plan has a calibration, before its first round."""
    folder = tmp_path_factory.mktemp("calibration")
    path = folder / "ballot.safetensors"
    path.write_bytes(small_ballot().to_bytes())
    return build(folder, archives, rounds=1, ballot=path)


@pytest.fixture(scope="module")
def all_have_voted(pristine: World, tmp_path_factory: pytest.TempPathFactory) -> World:
    world = copied(pristine, tmp_path_factory.mktemp("voted") / "world")
    collect_votes(world.coordinator())
    return world


@pytest.fixture
def voted(all_have_voted: World, tmp_path: Path) -> World:
    """As ``world``, with every hospital's votes."""
    return copied(all_have_voted, tmp_path / "voted")


def votes_in(world: World, hospital: str) -> CalibrationVotes:
    envelope = stored_votes(world.study)[hospital]
    return CalibrationVotes.from_bytes(envelope.verify(world.nodes[hospital].key.public, VOTES_PAYLOAD_TYPE))


def test_a_release_is_drawn_by_votes_and_verifies(world: World) -> None:
    rounds.train(world.coordinator())
    steps = pipeline(world)
    steps.draw(lambda _done, _total: None)
    steps.audit()
    bundle = steps.finish(facts_for(world.home, world.study, datetime(2026, 1, 2, tzinfo=UTC)))
    verify_release(bundle, world.home.roster_envelope, now=datetime.now(UTC))
    assert (bundle / layout.BALLOT).read_bytes() == small_ballot().to_bytes()
    report = json.loads((bundle / layout.PRIVACY_JSON).read_text())
    assert report["calibration"]["epsilon"] == 1.0
    # The images are the model's, refined from the phantoms that the votes chose: their boxes say which.
    evidence = votes_evidence(world.study)
    outcome = outcome_of(evidence, world.study.plan, world.home.roster)
    drawn = phantoms_of(world.study.plan, 0, 16, outcome)
    written = json.loads((bundle / layout.CANDIDATE).read_text())["images"]
    np.testing.assert_allclose([image["box"] for image in written], drawn.boxes * SIZE, atol=0.01)

    (bundle / layout.votes_path("south")).write_bytes((bundle / layout.votes_path("north")).read_bytes())
    with pytest.raises(VerificationError):
        verify_release(bundle, world.home.roster_envelope, now=datetime.now(UTC))


def test_votes_are_charged_once_and_asked_twice_are_the_same(world: World) -> None:
    collect_votes(world.coordinator())
    first = {hospital: votes_in(world, hospital) for hospital in HOSPITALS}
    collect_votes(world.coordinator())
    assert {hospital: votes_in(world, hospital) for hospital in HOSPITALS} == first
    for hospital, node in world.nodes.items():
        charges = [signed.charge for signed in node.ledger.entries() if signed.charge.kind == "reserved"]
        assert [[event.epsilon for event in charge.events] for charge in charges] == [[1.0]]
        assert charges[0].purpose == f"calibration of {world.study.plan.digest()}"
        assert node.ledger.open_reservations() == ()
        assert first[hospital].ledger_head == node.ledger.head()


def test_every_trained_patient_votes_once_and_no_held_out_one(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    counted: dict[Any, Any] = {}

    def exact(chosen: Any, options: Any, _epsilon: Any) -> tuple[Any, ...]:
        counted[len(counted)] = len(chosen)
        return tuple(np.bincount(chosen, minlength=options).tolist())

    monkeypatch.setattr(calibrating, "draw_votes", exact)
    collect_votes(world.coordinator())
    trained = [len(patients_of(world, h, SIZE).trained) for h in HOSPITALS]
    assert list(counted.values()) == trained
    assert [sum(votes_in(world, h).votes) for h in HOSPITALS] == trained


def test_a_patient_votes_by_an_image_with_its_own_label_and_box(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    asked, chosen = [], Ballot.chosen

    def watched(self: Any, images: Any, labels: Any, boxes: Any, device: Any) -> NDArray[np.int64]:
        asked.append((images, labels, boxes))
        return chosen(self, images, labels, boxes, device)

    monkeypatch.setattr(Ballot, "chosen", watched)
    collect_votes(world.coordinator())
    patients = [p for h in HOSPITALS for p in patients_of(world, h, SIZE).trained]
    assert len(asked) == len(patients)
    for (image, label, box), patient in zip(asked, patients, strict=True):
        rows = [row for row in range(len(patient)) if np.array_equal(patient.images[row], image[0])]
        assert any(patient.labels[row] == label[0] and np.array_equal(patient.boxes[row], box[0]) for row in rows)


def test_another_sharpness_is_another_release(voted: World) -> None:
    outcome = outcome_of(votes_evidence(voted.study), voted.study.plan, voted.home.roster)
    assert outcome.sharpness == voted.study.plan.calibration.sharpness > 0
    flat = replace(outcome, sharpness=0.0)
    assert outcome.digest() != flat.digest()
    assert not np.allclose(outcome.chances, flat.chances)


def test_no_patient_is_described_in_one_batch_with_another(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    sizes, pooled = [], features.pooled

    def watched(images: Any, device: Any) -> NDArray[np.float32]:
        sizes.append(len(images))
        return pooled(images, device)

    monkeypatch.setattr(features, "pooled", watched)
    collect_votes(world.coordinator())
    assert set(sizes) == {1}


def test_votes_that_were_charged_and_lost_are_not_drawn_again(world: World) -> None:
    def killed(*_arguments: Any) -> None:
        raise KeyboardInterrupt

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(calibrating, "draw_votes", killed)
        with pytest.raises(KeyboardInterrupt):
            collect_votes(world.coordinator())
    world.reopen("north")
    with pytest.raises(FederationError, match=r"1 of 2 answers .*north: "):
        collect_votes(world.coordinator())
    assert "south" in stored_votes(world.study)
    assert len(world.nodes["north"].ledger.open_reservations()) == 1


def test_a_device_that_fails_is_found_out_before_the_charge_and_not_in_every_patient(world: World) -> None:
    for node in world.nodes.values():
        node.device = torch.device("meta")  # knows no numbers
    with pytest.raises(FederationError, match="0 of 2 answers"):
        collect_votes(world.coordinator())
    for node in world.nodes.values():
        assert [s.charge.kind for s in node.ledger.entries()] == ["opened"]


def test_another_ballot_is_refused_and_nothing_is_charged(world: World) -> None:
    (world.study.path / layout.BALLOT).write_bytes(b"another")
    with pytest.raises(FederationError, match=r"0 of 2 answers .*north: .*south: "):
        collect_votes(world.coordinator())
    assert all(len(node.ledger.entries()) == 1 for node in world.nodes.values())


def test_a_hospital_that_permits_no_votes_refuses_the_plan(world: World) -> None:
    rules = policy()
    training = rules.training.model_copy(update={"maximum_epsilon_calibration": 0.0})
    north = world.nodes["north"].home
    north.policy_path.write_text(policy_text(rules.model_copy(update={"training": training})))
    with pytest.raises(FederationError, match=r"1 of 2 answers .*north: "):
        collect_votes(world.coordinator())
    assert "south" in stored_votes(world.study)


def test_a_lost_hospital_stops_the_drawing_and_its_return_goes_on(world: World) -> None:
    rounds.train(world.coordinator())
    world.fleet.lost.add("south")
    with pytest.raises(FederationError, match=r"1 of 2 answers .*south: no answer"):
        pipeline(world).draw(lambda _done, _total: None)
    world.fleet.lost.clear()
    pipeline(world).draw(lambda _done, _total: None)
    assert set(stored_votes(world.study)) == set(HOSPITALS)


@pytest.mark.parametrize("change", ["study", "ballot", "epsilon", "hospital"])
def test_votes_under_other_terms_are_not_used(voted: World, change: str) -> None:
    said = votes_in(voted, "north")
    other = {"study": "other", "ballot": "0" * 64, "epsilon": 9.0, "hospital": "south"}[change]
    forged = said.model_copy(update={change: other})
    envelope = Envelope.sign(VOTES_PAYLOAD_TYPE, forged.canonical(), voted.nodes["north"].key)
    path = voted.study.path / layout.votes_path("north")
    path.write_bytes(envelope.to_bytes())
    with pytest.raises(VerificationError) as caught:
        outcome_of(votes_evidence(voted.study), voted.study.plan, voted.home.roster)
    assert caught.value.cause == "calibration"
