"""Several processes train as one: whoever computes other bits, is gone or hangs ends the training for all of them."""

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.privacy.conftest import Cohort, Small
from tests.privacy.trainings import both, run, training
from torch import distributed, nn

from sonoshare_privacy import patient_dp
from sonoshare_privacy.noisy_adam import NoisyAdam
from sonoshare_privacy.patient_gradients.selfcheck import made_up
from sonoshare_privacy.ranks import Ranks, bits_of
from sonoshare_shared.errors import FederationError, ModelError
from sonoshare_shared.protocol.documents.plan import Mechanism


def ranks() -> Ranks:
    return Ranks(distributed.group.WORLD)


def test_a_rank_that_is_gone_is_an_error_and_never_a_smaller_sum(tmp_path: Path) -> None:
    def act(rank: int) -> None:
        here = ranks()
        here.wait_for_first()
        if rank == 1:
            os._exit(7)
        with pytest.raises(FederationError, match="gone"):
            here.add_up(torch.ones(1000, dtype=torch.int64))

    assert both(tmp_path, act) == [0, 7]


def test_a_rank_that_hangs_is_given_up(tmp_path: Path) -> None:
    def act(rank: int) -> None:
        here = ranks()
        here.wait_for_first()
        if rank == 1:
            time.sleep(4)
        with pytest.raises(FederationError, match="hangs"):
            here.add_up(torch.ones(1000, dtype=torch.int64))

    assert both(tmp_path, act, seconds=1.0) == [0, 0]


def test_every_bit_of_every_parameter_counts() -> None:
    parameters = {"a": nn.Parameter(torch.zeros(3, 2)), "b": nn.Parameter(torch.tensor(1.0))}
    before = bits_of(parameters)
    assert torch.equal(before, bits_of(parameters))
    with torch.no_grad():
        parameters["b"].copy_(torch.nextafter(torch.tensor(1.0), torch.tensor(2.0)))
    assert not torch.equal(before, bits_of(parameters))


def trained(rank: int, make_cohort: type[Cohort], small: type[Small], open_ledger: Any, mechanism: Mechanism) -> None:
    torch.manual_seed(0)
    cohort = make_cohort(small())
    ledger = open_ledger() if rank == 0 else None
    dp = training(cohort, ledger, mechanism, group=distributed.group.WORLD)
    with pytest.raises(ModelError, match="do not compute the same"):
        run(dp, cohort, steps=2)


def other_step(adam: NoisyAdam, gradient: torch.Tensor) -> None:
    """A step after which one number is off by one in its last bit."""
    step(adam, gradient)
    with torch.no_grad():
        number = adam._parameters[0].view(-1)[:1]
        number.copy_(torch.nextafter(number, torch.full_like(number, 9.0)))


step = NoisyAdam.step


@contextmanager
def other_weights(model: nn.Module) -> Iterator[None]:
    """As if kernels differed where the plan's own weights do not show it."""
    with made_up(model):
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.mul_(1 + 1e-6)
        yield


@pytest.mark.parametrize("drifts", ["in a step", "in made-up weights"])
def test_ranks_that_drift_apart_end_the_training(
    drifts: str,
    *,
    open_ledger: Callable[..., Any],
    mechanism: Mechanism,
    make_cohort: type[Cohort],
    small: type[Small],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Who computes a patient depends on the others, so weights and kernels must be the same everywhere, to the bit."""

    def act(rank: int) -> None:
        if rank == 1 and drifts == "in a step":
            monkeypatch.setattr(NoisyAdam, "step", other_step)
        if rank == 1 and drifts == "in made-up weights":
            monkeypatch.setattr(patient_dp, "made_up", other_weights)
        trained(rank, make_cohort, small, open_ledger, mechanism)

    assert both(tmp_path, act) == [0, 0]
    spent = open_ledger().spent().epsilon
    assert (spent > 0) == (drifts == "in a step")  # before the first step nothing was charged
