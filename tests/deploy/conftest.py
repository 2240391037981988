"""Fixtures of the deploy room."""

from pathlib import Path

import pytest
from tests.deploy.in_process import HOSPITALS, World, archives_in, build, copied, copy_folder, copy_from
from tests.deploy.masked_world import build_masked, build_ready, copy_of, opened
from tests.deploy.members import admit
from tests.deploy.once import made_once
from tests.deploy.umasks import umask
from tests.shared.consortium import make_plan

from sonoshare_deploy.provision import create_coordinator
from sonoshare_server.consortium.audit_terms import audit_policy
from sonoshare_server.consortium.members import Consortium
from sonoshare_server.federation import rounds
from sonoshare_server.release.draw import SHARD_IMAGES
from sonoshare_shared.protocol.documents import ReleasePlan
from sonoshare_shared.science.model.adapter import AFFINE, adapter_bytes, adapter_digest, adapter_state
from sonoshare_shared.science.model.base import load_base

SHARDS = 3
IMAGES = SHARDS * SHARD_IMAGES - 5


@pytest.fixture(scope="session")
def archives(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A small simulated archive for each hospital, written once."""
    folder = made_once(tmp_path_factory, "archives", archives_in)
    return {hospital: folder / hospital for hospital in HOSPITALS}


@pytest.fixture(scope="session")
def pristine(tmp_path_factory: pytest.TempPathFactory, archives: dict[str, Path]) -> World:
    """A consortium before its first round; tests work on copies."""

    def make(folder: Path) -> None:
        with umask(0):  # nothing may depend on a umask (test_planted_secrets.py)
            build(folder, archives)

    folder = made_once(tmp_path_factory, "pristine", make)
    return copy_from(folder, tmp_path_factory.mktemp("pristine") / "world", HOSPITALS)


@pytest.fixture
def world(pristine: World, tmp_path: Path) -> World:
    """A copy of it that the test may change; modules with another world have their own."""
    return copied(pristine, tmp_path / "world")


@pytest.fixture(scope="session")
def trained_world(tmp_path_factory: pytest.TempPathFactory, pristine: World) -> World:
    """The same after its last round; tests work on copies."""
    world = copied(pristine, tmp_path_factory.mktemp("trained") / "world")
    with umask(0):
        rounds.train(world.coordinator())
    return world


@pytest.fixture(scope="module")
def begun(pristine: World, tmp_path_factory: pytest.TempPathFactory) -> World:
    """Two hospitals after the first of two rounds; tests work on copies."""
    world = copied(pristine, tmp_path_factory.mktemp("begun") / "world")
    rounds.run_round(world.coordinator(), 1)
    return world


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A coordinator's folder with ``study``, whose last round is done; its release has `SHARDS` shards."""
    home = tmp_path_factory.mktemp("consortium") / "coordinator"
    consortium = Consortium("test-consortium", audit_policy(1.0, 0.6, 0.97, 0.001))
    folder = create_coordinator(home, consortium, ("localhost",))
    admit(home, "north", "south", "west")
    model, base = load_base("tiny")
    state = adapter_state(model, AFFINE)
    release = ReleasePlan(images=IMAGES, sampler_steps=2, start="phantom", seed=7)
    changes = {"study": "study", "base_digest": base, "rounds": 1, "release": release}
    plan = make_plan(IMAGES).model_copy(update=changes)
    study = folder.create_study(plan, adapter_bytes(state), adapter_digest(state))
    study.commit_round(1, adapter_bytes(state), adapter_digest(state))
    return home


@pytest.fixture(scope="session")
def masked_untouched(tmp_path_factory: pytest.TempPathFactory) -> World:
    """Four hospitals of a masked study before its first round."""
    folder = made_once(tmp_path_factory, "masked", build_masked)
    return opened(copy_folder(folder, tmp_path_factory.mktemp("masked") / "world"))


@pytest.fixture(scope="session")
def masked_ready(masked_untouched: World, tmp_path_factory: pytest.TempPathFactory) -> World:
    """The same, ready in round 1 (`build_ready`)."""
    return build_ready(copy_of(masked_untouched, tmp_path_factory.mktemp("ready") / "world"))
