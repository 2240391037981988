"""What a hospital holds a coordinator to, by the sums that it was shown, and what it says where it missed one."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from tests.shared.consortium import make_plan

from sonoshare_client.agent.pooled_view import PooledView
from sonoshare_privacy.mechanisms.gaussian import gaussian_integers
from sonoshare_privacy.optimiser import Optimiser
from sonoshare_privacy.pooled_optimiser import first_state, stepped
from sonoshare_privacy.pooled_release import PooledLayout, PooledSum, share_deviation
from sonoshare_privacy.pooled_state_file import state_bytes, state_from
from sonoshare_shared.errors import InputError, IntegrityError
from sonoshare_shared.protocol.documents import StudyPlan

PLAN = StudyPlan.model_validate(
    make_plan().model_dump()
    | {"noise": "pooled", "honest": 2, "local_steps": 1, "rounds": 4, "masked": True, "quorum": 3}
)
SETTINGS = Optimiser(learning_rate=PLAN.learning_rate)
START = {"a.bias": np.zeros(5, np.float32), "b.weight": np.full((40, 5), 0.3, np.float32)}
LAYOUT = PooledLayout.of(PLAN.mechanism, {name: tensor.size for name, tensor in START.items()})


def some_sum() -> PooledSum:
    noise = sum(
        gaussian_integers(LAYOUT.words, share_deviation(LAYOUT.grid, 2)).numpy() for _ in range(3)
    )  # three shares
    words = np.asarray(noise).view(np.uint64)
    return PooledSum.of(words, LAYOUT.grid, rate=0.25, patients=300, shares=3, honest=2)


def models(sums: list[PooledSum]) -> list[dict[str, NDArray[np.float32]]]:
    state, found = first_state(START, SETTINGS), [START]
    for one in sums:
        state = stepped(state, one.mean_gradient(), SETTINGS, total=PLAN.rounds)
        found.append(state.tensors())
    return found


def shown(view: PooledView, number: int, model: Any, one: PooledSum | None) -> Any:
    seen = view.advanced(number, model, one, shown=True)
    view.keep(seen)
    return seen


def test_every_step_is_taken_again_over_restarts(tmp_path: Path) -> None:
    sums = [some_sum() for _ in range(3)]
    for number, (model, one) in enumerate(zip(models(sums), [None, *sums], strict=True), 1):
        seen = shown(PooledView(tmp_path, PLAN), number, model, one)
        assert seen.state is not None
        again = PooledView(tmp_path, PLAN).advanced(number, model, one, shown=True)
        assert again.counted.numbers == seen.counted.numbers
    assert seen.counted.numbers > 0
    assert seen.counted.check().enough


def test_another_step_is_refused_and_nothing_is_kept_of_it(tmp_path: Path) -> None:
    sums, view = [some_sum(), some_sum()], PooledView(tmp_path, PLAN)
    first, second, _ = models(sums)
    shown(view, 1, first, None)
    wrong = {name: tensor.copy() for name, tensor in second.items()}
    wrong["a.bias"][0] = np.nextafter(wrong["a.bias"][0], np.float32(1))
    for model, one in ((wrong, sums[0]), (second, sums[1]), (second, None), (first, sums[0])):
        with pytest.raises(IntegrityError, match="not what the plan's step makes"):
            view.advanced(2, model, one, shown=True)
    kept = view.read()
    assert kept is not None
    assert kept.number == 1
    assert shown(view, 2, second, sums[0]).state is not None


def test_a_round_without_a_sum_moves_nothing(tmp_path: Path) -> None:
    view, one = PooledView(tmp_path, PLAN), some_sum()
    shown(view, 1, START, None)
    assert shown(view, 2, START, None).state.step == 0
    assert shown(view, 3, models([one])[1], one).state.step == 1


def test_who_missed_a_sum_counts_on_and_takes_no_step_again(tmp_path: Path) -> None:
    view, sums = PooledView(tmp_path, PLAN), [some_sum() for _ in range(3)]
    shown(view, 1, START, None)
    seen = shown(view, 3, models(sums)[2], sums[1])
    assert seen.state is None
    assert seen.counted.numbers > 0
    after = shown(view, 4, models(sums)[3], sums[2])
    assert after.state is None
    assert after.counted.numbers > seen.counted.numbers


def test_damaged_files_are_refused(tmp_path: Path) -> None:
    view = PooledView(tmp_path, PLAN)
    shown(view, 1, START, None)
    path = next(tmp_path.glob("*.npz"))
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(IntegrityError, match="damaged"):
        view.read()
    state = first_state(START, SETTINGS)
    assert state_from(state_bytes(state)).shapes == state.shapes
    with pytest.raises(IntegrityError, match="damaged"):
        state_from(state_bytes(state)[:50])
    with pytest.raises(InputError):
        stepped(state, np.zeros(3), SETTINGS, total=1)
