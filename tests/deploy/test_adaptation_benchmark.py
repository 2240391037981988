"""The adaptation benchmark on phantoms that stand for patients: ways to adapt side by side, resumable."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from benchmarks._adaptation_gradients import gradient_shares
from benchmarks._adaptation_work import Adaptation, Variant, variant_of
from benchmarks._utility_adapters import Training, patients_of
from benchmarks.adaptation import told
from tests.shared.labelled_phantoms import one_each

from sonoshare_shared.errors import InputError
from sonoshare_shared.science.evaluation.labelled import LabelledImages
from sonoshare_shared.science.evaluation.units import Units

torch.set_num_threads(1)
TRAINING = Training(profile="tiny")


@pytest.fixture(scope="module")
def stand_in() -> LabelledImages:
    return one_each(32)


def test_a_variant_is_read_from_one_line() -> None:
    name, variant = variant_of("more,trained=outer,latest_time=150,steps=48,epsilon=3,method=plain", TRAINING)
    assert (name, variant.method, variant.epsilon) == ("more", "plain", 3.0)
    assert variant.training == Training(profile="tiny", trained="outer", latest_time=150, steps=48)
    assert variant_of("today", TRAINING) == ("today", Variant(TRAINING))


@pytest.mark.parametrize("text", ["x,colour=red", "x,method=magic", "x,steps=many", "x,profile=large"])
def test_a_variant_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(InputError):
        variant_of(text, TRAINING)


def test_every_method_adapts_on_other_folds_and_a_second_run_computes_nothing(
    stand_in: LabelledImages, tmp_path: Path
) -> None:
    said: list[str] = []
    texts = [f"v,method={method},rate=1,steps=2,latest_time=150" for method in ("dp", "plain", "minibatch")]
    variants = [variant_of(text, TRAINING)[1] for text in texts]

    def figures() -> list[object]:
        bench = Adaptation(stand_in, (1,), Units(tmp_path, {}, say=said.append), TRAINING, images=4)
        assert set(bench.tested.folds) == {1}
        return [told(bench, variant, [], 1) for variant in (None, *variants)]

    first = figures()
    made = len(said)
    assert made == 2 + 3 * (1 + 1 + 2)  # losses of two ranges; of each variant the adapter and its cost too
    losses = [entry["refined"]["loss"] for entry in first]  # type: ignore[index]
    assert len(set(losses)) == len(losses)
    assert figures() == first
    assert len(said) == made


def test_shares_of_the_gradient_are_parts_of_a_whole(stand_in: LabelledImages) -> None:
    inverted = replace(stand_in, images=1 - stand_in.images)  # so strange to the base that all pull the same way
    shares = gradient_shares(patients_of(inverted), Training(profile="tiny", latest_time=150))
    assert shares["full"]["share"] == pytest.approx(1.0)
    assert 0 < shares["affine"]["share"] < shares["outer"]["share"] < 1
    assert shares["affine"]["numbers"] == 9_680
