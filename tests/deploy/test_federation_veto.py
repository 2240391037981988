"""The veto through a whole release: a copied image is dropped, and nobody signs a release that keeps it."""

from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest
from tests.deploy.in_process import HOSPITALS, World, build, copied, patients_of, pipeline

from sonoshare_server.consortium.audit_terms import audit_policy
from sonoshare_server.federation import rounds
from sonoshare_server.release import build as release_build
from sonoshare_server.release.build import Samples, build_candidate
from sonoshare_server.release.facts import Facts
from sonoshare_server.release.pipeline import Pipeline, facts_for
from sonoshare_shared.errors import FederationError, VerificationError
from sonoshare_shared.protocol.documents.plan import VetoPlan
from sonoshare_shared.protocol.release import layout
from sonoshare_shared.protocol.release.candidate import Candidate
from sonoshare_shared.protocol.release.verify import verify_release
from sonoshare_shared.protocol.release.veto import vetoed_images
from sonoshare_shared.science.phantom import simulate

# Two hospitals' noises hide one vote, or invent one, with a chance of 1.2e-5 each: 2e-4 for the 16 clusters here.
VETO = VetoPlan(epsilon=12.0, threshold=1)
COPIED = 3


@pytest.fixture(scope="module")
def audited(tmp_path_factory: pytest.TempPathFactory, archives: dict[str, Path]) -> World:
    """Trained; image 3 of the candidate is a patient of north's, image 9 its mirror image; audited by both."""
    audit = audit_policy(16.0, 0.6, 0.97, 0.001, VETO)
    world = build(tmp_path_factory.mktemp("veto"), archives, rounds=1, audit=audit)
    rounds.train(world.coordinator())
    phantoms = simulate(16, seed=91, size=32)
    images = phantoms.images.copy()
    images[COPIED] = patients_of(world, "north", 32).trained[0].images[0]
    images[9] = images[COPIED][:, ::-1]
    samples = Samples(
        images,
        phantoms.masks,
        np.arange(16) % 2,
        np.full(16, -1),
        phantoms.boxes,
        np.arange(16),
        np.full((16, 2), np.nan),
    )
    build_candidate(
        pipeline(world).folder,
        [samples],
        release="r1",
        plan=world.study.plan,
        model_digest=world.study.state.adapter_digest,
    )
    pipeline(world).audit()
    return world


@pytest.fixture
def world(audited: World, tmp_path: Path) -> World:
    return copied(audited, tmp_path / "world")


def candidate_of(world: World) -> Candidate:
    return Candidate.from_bytes((pipeline(world).folder / layout.CANDIDATE).read_bytes())


def facts(world: World) -> Facts:
    return facts_for(world.home, world.study, datetime(2026, 1, 2, tzinfo=UTC))


def test_the_copy_and_its_near_copy_are_dropped_and_the_release_verifies(world: World) -> None:
    said, candidate = pipeline(world).said(), candidate_of(world)
    assert candidate.clusters[COPIED] == candidate.clusters[9]
    assert len(set(candidate.clusters)) == 15
    assert {h: s.predicate.verdict for h, s in said.items()} == dict.fromkeys(HOSPITALS, "PASS")
    assert vetoed_images(candidate, VETO, tuple(said.values())) == {COPIED, 9}
    bundle = pipeline(world).finish(facts(world))
    assert verify_release(bundle, world.home.roster_envelope, now=datetime.now(UTC)).manifest.counts == {
        "benign": 8,
        "malignant": 6,
    }
    assert not (bundle / layout.image_path(COPIED)).exists()


def test_votes_are_charged_as_an_event_of_their_own(world: World) -> None:
    for node in world.nodes.values():
        (audit,) = [s.charge for s in node.ledger.entries() if s.charge.purpose.startswith("audit")][:1]
        assert [event.epsilon for event in audit.events] == [8.0, 8.0, VETO.epsilon]


def test_nobody_signs_or_accepts_a_release_that_keeps_a_vetoed_image(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Pipeline, "_vetoed", lambda _self: frozenset())
    with pytest.raises(FederationError, match="north, south did not sign"):
        pipeline(world).finish(facts(world))
    draft = pipeline(world).folder / "draft"
    with pytest.raises(VerificationError, match="minus the vetoed"):
        verify_release(draft, world.home.roster_envelope, now=datetime.now(UTC))


def test_nobody_signs_a_table_that_says_more_than_the_candidate(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(release_build, "metadata_csv", lambda *_: b"file_name,label\nimages/000000.png,whatever\n")
    with pytest.raises(FederationError, match=r"north, south did not sign.*metadata\.csv says something else"):
        pipeline(world).finish(facts(world))


def test_votes_that_do_not_fit_the_candidate_are_refused(world: World) -> None:
    said, candidate = tuple(pipeline(world).said().values()), candidate_of(world)
    predicate = said[0].predicate.model_copy(update={"veto_votes": (1,)})
    with pytest.raises(VerificationError, match="every cluster"):
        vetoed_images(candidate, VETO, (said[0].model_copy(update={"predicate": predicate}), said[1]))
    bare = candidate.model_copy(
        update={"images": tuple(image.model_copy(update={"cluster": None}) for image in candidate.images)}
    )
    with pytest.raises(VerificationError, match="not clustered"):
        vetoed_images(bare, VETO, said)
    assert vetoed_images(bare, None, said) == frozenset()
