"""The step release alone: what was paid for, and not one sum more."""

import copy
import os
import pickle
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.privacy.conftest import Cohort, Small
from torch import distributed

import sonoshare_privacy.step_release as release_module
from sonoshare_privacy import Optimiser
from sonoshare_privacy.accounting import SampledGaussian, epsilon
from sonoshare_privacy.mechanisms.draw_words import KEY_WORDS
from sonoshare_privacy.mechanisms.gaussian import add_gaussian_integers
from sonoshare_privacy.noisy_adam import NoisyAdam
from sonoshare_privacy.patient_gradients import PatientGradients
from sonoshare_privacy.ranks import Ranks
from sonoshare_privacy.step_release import Patients, StepRelease
from sonoshare_shared.errors import ContributionError, InputError, LedgerError, ModelError
from sonoshare_shared.protocol.documents.plan import Mechanism


@pytest.fixture
def paid(cohort: Cohort, open_ledger: Callable[..., Any], mechanism: Mechanism) -> Callable[..., Any]:
    """Makes a release of some steps with its engine and patients."""

    def pay(
        steps: Any, ledger: Any = None, draw: Callable[[torch.Tensor, torch.Tensor], dict[Any, Any]] = cohort.draw
    ) -> tuple[StepRelease, PatientGradients, Patients]:
        engine = PatientGradients(
            cohort.model,
            dict(cohort.model.named_parameters()),
            draws=mechanism.draws,
            clip_norm=mechanism.clip_norm,
            clip_mode=mechanism.clip_mode,
            places=4,
        )
        ledger = ledger or open_ledger()
        release = StepRelease(
            engine, mechanism, ledger=ledger, study="study-a", purpose="round 0", steps=steps, cohort=40
        )
        return release, engine, Patients(40, draw, cohort.loss, cohort.probe()[0])

    return pay


def test_it_charges_when_it_is_made_and_gives_as_many_sums(
    paid: Callable[..., Any], open_ledger: Callable[..., Any]
) -> None:
    ledger = open_ledger()
    release, engine, patients = paid(3, ledger)
    assert ledger.spent().epsilon == epsilon([SampledGaussian(0.25, 2.0, 3)], 1e-5)
    with engine:
        sums = [release.next(patients).integers for _ in range(3)]
        assert release.steps_left == 0
        with pytest.raises(LedgerError, match="every charged step"):
            release.next(patients)
    assert len({tuple(one.tolist()) for one in sums}) == 3


def test_a_step_that_fails_is_used_up(paid: Callable[..., Any], cohort: Cohort) -> None:
    calls = []

    def draw(indices: Any, keys: Any) -> None:
        calls.append(indices)
        raise OSError("the vault's disk is gone")

    release, engine, patients = paid(2, draw=draw)
    with engine:
        for _ in range(2):
            with pytest.raises(OSError, match="disk"):
                release.next(patients)
        with pytest.raises(LedgerError):
            release.next(Patients(40, cohort.draw, cohort.loss, cohort.probe()[0]))


@pytest.mark.parametrize("twin", [copy.copy, copy.deepcopy, pickle.dumps])
def test_a_right_cannot_be_doubled(paid: Callable[..., Any], twin: Callable[..., Any] | Callable[..., bytes]) -> None:
    release, _, _ = paid(1)
    with pytest.raises(LedgerError, match=r"copied|stored"):
        twin(release)


def test_a_forked_child_has_no_right(paid: Callable[..., Any]) -> None:
    release, engine, patients = paid(1)
    child = os.fork()
    if child == 0:
        status = 1
        try:
            with engine:
                release.next(patients)
        except LedgerError:
            status = 0
        finally:
            os._exit(status)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert release.steps_left == 1


def test_two_threads_share_one_right(paid: Callable[..., Any]) -> None:
    release, _, _ = paid(5)
    won, start = [], threading.Barrier(4)

    def take() -> None:
        start.wait()
        for _ in range(50):
            try:
                release._use_one()
                won.append(1)
            except LedgerError:
                return

    threads = [threading.Thread(target=take) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(won) == 5


def test_nothing_is_made_without_ledger_or_steps(
    paid: Callable[..., Any], cohort: Cohort, mechanism: Mechanism
) -> None:
    _, engine, _ = paid(1)
    for ledger, steps, error in ((None, 1, LedgerError), (None, 0, InputError)):
        with pytest.raises(error):
            StepRelease(engine, mechanism, ledger=ledger, study="s", purpose="p", steps=steps, cohort=40)


def test_every_patient_has_a_key_of_their_own_in_every_step(paid: Callable[..., Any], cohort: Cohort) -> None:
    seen: list[tuple[int, ...]] = []

    def draw(indices: torch.Tensor, keys: torch.Tensor) -> dict[Any, Any]:
        assert keys.shape == (len(indices), KEY_WORDS)
        seen.extend(tuple(key.tolist()) for key in keys)
        return cohort.draw(indices, keys)

    release, engine, patients = paid(4, draw=draw)
    with engine:
        for _ in range(4):
            release.next(patients)
    assert len(set(seen)) == len(seen) > 4
    assert all(0 <= word < 1 << 32 for key in seen for word in key)


def test_the_optimiser_may_run_elsewhere(paid: Callable[..., Any], cohort: Cohort, small: type[Small]) -> None:
    """Parameters that move between steps, by an optimiser that has only what was released."""
    release, engine, patients = paid(3)
    elsewhere = small()
    elsewhere.load_state_dict(cohort.model.state_dict())
    adam = NoisyAdam(dict(elsewhere.named_parameters()), Optimiser(), total_steps=3)
    with engine:
        for _ in range(3):
            released = release.next(patients)
            adam.step(released.mean_gradient(10.0))
            assert released.mean_gradient(10.0).dtype is torch.float32
            assert torch.allclose(
                released.mean_gradient(10.0).double(), released.integers[:-1].double() * released.grid.step / 10.0
            )
            cohort.model.load_state_dict(elsewhere.state_dict())
    assert all(bool(torch.isfinite(p).all()) for p in elsewhere.parameters())


def _compare(rank: int, folder: Path, value: int) -> int:
    distributed.init_process_group("gloo", init_method=f"file://{folder}/store", rank=rank, world_size=2)
    ranks = Ranks(distributed.group.WORLD)
    ranks.require_same(torch.tensor([1, 2, 3]))
    try:
        ranks.require_same(torch.tensor([1, 2, value]))
    except ModelError:
        return 0
    return 1


def test_processes_that_compute_other_bits_are_refused(tmp_path: Path) -> None:
    """Which of them computes a patient depends on who else was sampled."""
    children = []
    for rank in range(2):
        child = os.fork()
        if child == 0:
            status = 2
            try:
                status = _compare(rank, tmp_path, 3 + rank)
            finally:
                os._exit(status)
        children.append(child)
    assert [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children] == [0, 0]


@pytest.mark.parametrize("waits", [False, True], ids=["the host computes", "the host waits for a device"])
def test_each_sum_has_one_fresh_noise_wherever_it_is_drawn(
    waits: bool, paid: Callable[..., Any], cohort: Cohort, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn: list[torch.Tensor] = []

    def noise(total: torch.Tensor, deviation: float) -> None:
        before = total.clone()
        add_gaussian_integers(total, deviation)
        drawn.append(total - before)

    monkeypatch.setattr(release_module, "_waits", lambda _: waits)
    monkeypatch.setattr(release_module, "add_gaussian_integers", noise)
    release, engine, _ = paid(3)
    nobody = Patients(0, cohort.draw, cohort.loss, cohort.probe()[0])
    with engine:
        sums = [release.next(nobody).integers for _ in range(3)]
    assert len(drawn) == 3
    assert all(torch.equal(one, other) for one, other in zip(sums, drawn, strict=True)), "nobody adds nothing"
    assert len({tuple(one.tolist()) for one in sums}) == 3


def test_noise_drawn_beside_a_step_that_fails_is_never_released(
    paid: Callable[..., Any], cohort: Cohort, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A contribution that is too large is met while the noise is drawn: the step gives nothing."""
    monkeypatch.setattr(release_module, "_waits", lambda _: True)
    release, engine, patients = paid(2)
    right = engine.add_rows

    def too_large(*_: Any, **__: Any) -> None:
        raise ContributionError("a contribution is larger than the noise was made for")

    with engine:
        monkeypatch.setattr(engine, "add_rows", too_large)
        with pytest.raises(ContributionError):
            release.next(Patients(400, lambda i, k: cohort.draw(i % 40, k), cohort.loss, cohort.probe()[0]))
        monkeypatch.setattr(engine, "add_rows", right)
        assert release.steps_left == 1
        assert release.next(patients).integers.shape == (engine.dimension + 1,)
    assert not [thread for thread in threading.enumerate() if "ThreadPool" in thread.name]
