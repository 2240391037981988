"""A step of base training leaves nothing behind on the processor.

Torch's ``meta`` device stands for a GPU that is not here: it knows every shape and no number, and refuses to mix with
the processor's tensors. It has no generator and no fused optimiser: these are left to a real GPU, where one is here.
"""

import pytest
import torch
from tests.shared.base_pictures import SIDE, pictures, source

from sonoshare_shared.protocol.documents.plan import Precision
from sonoshare_shared.science.device import CPU, chosen_device
from sonoshare_shared.science.device_word import AUTO
from sonoshare_shared.science.model import base_batches
from sonoshare_shared.science.model.base_batches import TrainingSet, training_batch
from sonoshare_shared.science.model.base_run import BaseTraining
from sonoshare_shared.science.model.loss import denoising_loss
from sonoshare_shared.science.model.network import ConditionedUNet
from sonoshare_shared.science.model.profiles import Profile
from sonoshare_shared.science.model.public_images import public_part
from sonoshare_shared.science.model.recipe import TrainSettings
from sonoshare_shared.science.precision import BFLOAT16, FLOAT32, TF32, computing_in

META = torch.device("meta")
GPU = chosen_device(AUTO)
MINUTE = Profile("minute", size=SIDE, patch=4, channels=(16, 16), attention=(False, True), head_channels=16)
SETTINGS = TrainSettings(batch_size=8)


def data() -> TrainingSet:
    return TrainingSet(pictures(6, SIDE, 90), public_part([source("one", 5, 40, 1.0)]))


def test_nothing_of_a_batch_or_its_loss_is_left_on_the_processor(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(base_batches, "device_generator", lambda device, seed: None)
    batch = training_batch(data().to(META), SETTINGS, 0)
    model = ConditionedUNet(MINUTE).to(META)
    loss = denoising_loss(model, batch.images, batch.masks, batch.condition, batch.t, batch.noise).mean()
    loss.backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    assert {tensor.device for tensor in (batch.images, batch.masks, batch.t, batch.noise, loss)} == {META}
    assert batch.images.shape == (8, 1, SIDE, SIDE)


@pytest.mark.skipif(GPU == CPU, reason="no CUDA device here: what runs on one was not seen")
@pytest.mark.parametrize("precision", [FLOAT32, TF32, BFLOAT16])
def test_a_run_on_a_gpu_takes_steps_and_goes_on_from_its_parts(precision: Precision) -> None:
    with computing_in(precision):
        run = BaseTraining(MINUTE, SETTINGS, data(), device=GPU, precision=precision)
        before = float(run.advance())
        for _ in range(20):
            last = run.advance()
        assert float(last) < before
        other = BaseTraining(MINUTE, SETTINGS, data(), device=GPU, precision=precision)
        other.restore(run.checkpoint())
        assert float(other.advance()) == pytest.approx(float(run.advance()), rel=1e-2)
