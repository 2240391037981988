"""What is told to compute on a device computes all of it there.

Torch's ``meta`` device stands for a GPU that is not here: it knows every shape and no number, refuses to mix with the
processor's tensors, and can give nothing back. So whoever fails only as the result is copied to the processor has left
nothing behind on the way. A GPU that is here is computed on, and compared with the processor.
"""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Final

import numpy as np
import pytest
import torch

from sonoshare_client.agent.attack import ModelAttack
from sonoshare_client.agent.draws import loss_of, probe, rows_of
from sonoshare_client.vault.cohort import Cohort, PatientArrays
from sonoshare_privacy.audits import correlation, nearest, twins
from sonoshare_privacy.patient_gradients import PatientGradients, check_engine
from sonoshare_server.consortium.studies import phantom_clip_norm
from sonoshare_shared.science.calibration.views import seen
from sonoshare_shared.science.device import CPU, chosen_device
from sonoshare_shared.science.device_word import AUTO
from sonoshare_shared.science.evaluation import classifier, features
from sonoshare_shared.science.model import sampler
from sonoshare_shared.science.model.adapter import trained_parameters
from sonoshare_shared.science.model.base import load_base
from sonoshare_shared.science.model.conditions import Condition
from sonoshare_shared.science.model.network import ConditionedUNet
from sonoshare_shared.science.precision import BFLOAT16, FLOAT32, TF32

META: Final = torch.device("meta")
GPU: Final = chosen_device(AUTO)
on_gpu = pytest.mark.skipif(GPU == CPU, reason="no CUDA device here: what runs on one was not seen")
LEFT_BEHIND_NOTHING: Final = "Cannot copy out of meta tensor|cannot be called on meta tensors|torch.nonzero"
"""What torch says once all work was given to a device that computes nothing, and a result is asked for."""

PICTURES: Final = np.random.default_rng(0).random((40, 64, 64)).astype(np.float32)
BOXES: Final = np.full((40, 4), 0.25, np.float32)
SMALL: Final = np.ascontiguousarray(PICTURES[:2, :32, :32])
CONDITION: Final = Condition.of(np.array([0, 1]), np.array([0, 1]), BOXES[:2])


def network(device: torch.device) -> ConditionedUNet:
    return load_base("tiny")[0].to(device)


def drawn(device: torch.device, start: str = sampler.NOISE) -> Any:
    settings = sampler.SamplerSettings(steps=4, start=start, guidance=sampler.Guidance(label=1.0))
    images, masks = (SMALL, SMALL > 0.5) if start == sampler.PHANTOM else (None, None)
    return sampler.sample(network(device), settings, CONDITION, seed=3, images=images, masks=masks).images


def attacked(device: torch.device) -> Any:
    attack = ModelAttack(network(device))
    return attack.losses(attack.reference(SMALL)[0], np.array([5, 600]), SMALL)


def predicted(device: torch.device) -> Any:
    return classifier.fit(PICTURES, np.arange(40) % 2, steps=2, device=device).predict(PICTURES)


WORK: Final[dict[str, Callable[[torch.device], Any]]] = {
    "features": lambda device: features.pooled(PICTURES[:3], device),
    "features of a grid": lambda device: features.grid(PICTURES[:3], device),
    "views of votes": lambda device: seen(PICTURES[:3], BOXES[:3], device),
    "pictures from noise": drawn,
    "pictures from phantoms": lambda device: drawn(device, sampler.PHANTOM),
    "losses of the attack": attacked,
    "scores of all pairs": lambda device: correlation.best_correlations(PICTURES, PICTURES[:9], device),
    "scores of some pairs": lambda device: correlation.paired_correlations(PICTURES[None, :9], PICTURES[:9], device),
    "nearest pictures": lambda device: nearest.nearest(PICTURES, PICTURES[:9], device).scores,
    "twins": lambda device: twins.find_twins(PICTURES, np.arange(40), np.ones(40, np.bool_), device),
    "a classifier": predicted,
    "the clip norm": lambda device: phantom_clip_norm(network(device), "affine", 2),
}


@pytest.mark.parametrize("what", WORK)
def test_nothing_is_left_behind_on_the_processor(what: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def nothing(*_: Any, **__: Any) -> AbstractContextManager[None]:
        return nullcontext()

    # Torch has neither autocast nor random numbers on this device.
    monkeypatch.setattr(sampler, "forward_in", nothing)
    monkeypatch.setattr(torch.random, "fork_rng", nothing)
    with pytest.raises((NotImplementedError, RuntimeError), match=LEFT_BEHIND_NOTHING):
        WORK[what](META)


@on_gpu
@pytest.mark.parametrize("what", sorted(set(WORK) - {"a classifier", "twins"}))
def test_a_gpu_computes_what_the_processor_computes(what: str) -> None:
    np.testing.assert_allclose(WORK[what](GPU), WORK[what](CPU), rtol=1e-3, atol=1e-3)


@on_gpu
def test_a_gpu_gives_the_same_bits_twice() -> None:
    for what in ("features", "pictures from noise", "losses of the attack", "nearest pictures"):
        np.testing.assert_array_equal(WORK[what](GPU), WORK[what](GPU))


@on_gpu
def test_patients_rows_have_the_same_bits_wherever_their_pictures_lie() -> None:
    """Which of the two it is follows from how many patients there are."""
    levels = np.arange(1024, dtype=np.float32).reshape(1, 32, 32) % 256 / np.float32(255)
    one = PatientArrays(
        pseudonym="",
        held_out=False,
        images=levels,
        masks=levels > 0.5,
        has_mask=np.ones(1, np.bool_),
        boxes=np.array([[0.1, 0.2, 0.3, 0.4]], np.float32),
        labels=np.zeros(1, np.int64),
        scanners=np.zeros(1, np.int64),
    )
    cohort, chosen, mirrored = Cohort.of([one]), torch.tensor([0, 0]), torch.tensor([False, True])
    here, there = rows_of(cohort, chosen, mirrored), rows_of(cohort.on(GPU), chosen.to(GPU), mirrored.to(GPU))
    for name, rows in here.items():
        assert torch.equal(rows, there[name].cpu()), name


@on_gpu
@pytest.mark.parametrize("precision", [FLOAT32, TF32, BFLOAT16])
@pytest.mark.parametrize("trained", ["affine", "full"])
def test_the_engine_passes_its_check_on_a_gpu(trained: Any, precision: Any) -> None:
    model = network(GPU)
    engine = PatientGradients(
        model,
        trained_parameters(model, trained),
        draws=2,
        clip_norm=1.0,
        clip_mode="clip",
        places=4,
        precision=precision,
    )
    check_engine(engine, probe(model, 2), loss_of(model))
