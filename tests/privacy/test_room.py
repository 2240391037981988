"""Rows at once: from the machine's memory and public rows, and from nothing else."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from tests.privacy.conftest import Cohort
from tests.privacy.made_up_memory import MadeUp
from tests.privacy.trainings import run, training

import sonoshare_privacy.patient_dp as training_module
from sonoshare_privacy.patient_gradients.room import CPU_ROOM, Room, memory_of, most_places
from sonoshare_shared.protocol.documents.plan import Mechanism


@pytest.mark.parametrize("fixed", [0, 7, 1000])
@pytest.mark.parametrize("each", [1, 10, 300])
def test_half_of_what_is_free_is_given_to_places(fixed: int, each: int) -> None:
    device = MadeUp(10_000, fixed, each)
    places = most_places(device.compute, device)
    assert fixed + each * places <= 5000 < fixed + each * (places + 1)


def test_a_device_that_holds_hardly_anything_computes_one_patient_at_a_time() -> None:
    assert most_places((small := MadeUp(100, 0, 40)).compute, small) == 1
    assert most_places((tight := MadeUp(100, 60, 9)).compute, tight) == 1


def test_what_a_training_left_on_a_card_does_not_decide_the_places_of_the_next(monkeypatch: pytest.MonkeyPatch) -> None:
    """The card is looked at once in a process's life: what is free later follows from who was on it."""
    card, held = torch.device("cuda:7"), {"bytes": 0}
    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: None)
    monkeypatch.setattr(torch.cuda, "synchronize", lambda _: None)
    monkeypatch.setattr(torch.cuda, "reset_peak_memory_stats", lambda _: None)
    monkeypatch.setattr(torch.cuda, "memory_allocated", lambda _: 0)
    monkeypatch.setattr(torch.cuda, "max_memory_allocated", lambda _: 10 * places[-1])
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda _: (10_000 - held["bytes"], 10_000))
    places: list[int] = []
    memory_of.cache_clear()
    found: list[int] = []
    for bytes_held in (0, 3_000):
        held["bytes"] = bytes_held
        memory = memory_of(card)
        assert memory is not None
        found.append(most_places(places.append, memory))
    memory_of.cache_clear()
    assert found == [500, 500]
    assert memory.free() == 7_000, "pictures go where there is room now: no bit depends on where they lie"


def test_a_cpu_has_a_constant() -> None:
    assert memory_of(torch.device("cpu")) is None
    assert CPU_ROOM.most_places(draws=4, row_bytes=100) == 8
    assert CPU_ROOM.most_places(draws=4, row_bytes=20 << 20) == 4
    assert Room(8, 1).most_places(draws=9, row_bytes=2) == 0


def test_a_measured_machine_settles_the_places_before_the_charge_and_on_public_rows(
    cohort: Cohort, open_ledger: Callable[..., Any], mechanism: Mechanism, monkeypatch: pytest.MonkeyPatch
) -> None:
    ledger = open_ledger()
    device = MadeUp(1 << 20, 100, 1 << 14)

    def peak_of(work: Callable[[], object]) -> int:
        assert ledger.spent().epsilon == 0
        device.places.append(2 * len(device.places) + 2)
        work()
        return 100 + (device.places[-1] << 14)

    monkeypatch.setattr(device, "peak_of", peak_of)
    monkeypatch.setattr(training_module, "memory_of", lambda _: device)
    dp = training(cohort, ledger, mechanism, divisor=100)
    run(dp, cohort, steps=1, patients=8)
    assert dp.patients_per_chunk == 16, "of 31 that fit, the largest power of two that costs least"
