"""What the network should learn to predict, and how times should weigh: one recipe, several targets.

    python -m benchmarks.targets --work DIR [--profile small] [--steps 1000] [--phantoms 6000] [--images 256]
        [--targets velocity,noise,picture,velocity_min_snr] [--json]

The recipe of ``sonoshare base train`` (same network, first weights, batches, times, noise, optimiser, averaging) with
other objectives: squared error of the velocity (what ships), of the noise, of the picture, and of the velocity weighed
by min(SNR, 5) / (SNR + 1) (Hang et al. 2023). A prediction is turned into a velocity before it is sampled from, so that
one sampler serves all. Trained and measured on phantoms only: no patient has a say in the choice.

Prints one JSON object as the last line of stdout, by target: Fréchet distance in EfficientNet-Lite0 features between
``--images`` phantoms of another seed and as many pictures drawn from ``noise`` (20 steps) or refined from times ``120``
and ``250`` (8 steps); ``class_auc``, the AUC with which the small CNN, trained on phantoms, finds the class that these
were drawn under. ``phantoms`` are the phantoms that were refined, as they are: nothing to be reached below that.
One training seed: differences as small as between two samplings (``velocity_again``) say nothing.
Every trained network is kept in ``--work``.
"""

import argparse
import json
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sonoshare_shared.science.evaluation import features
from sonoshare_shared.science.evaluation.auc import auc
from sonoshare_shared.science.evaluation.classifier import Classifier, fit
from sonoshare_shared.science.evaluation.distances import frechet
from sonoshare_shared.science.evaluation.units import Units
from sonoshare_shared.science.model.base_batches import TrainingSet
from sonoshare_shared.science.model.base_pictures import SIMULATED_SCANNER_SLOT
from sonoshare_shared.science.model.base_run import BaseTraining, Objective
from sonoshare_shared.science.model.conditions import Condition
from sonoshare_shared.science.model.diffusion import add_noise, normalise, scales, velocity
from sonoshare_shared.science.model.loss import MASK_WEIGHT, mask_entropy
from sonoshare_shared.science.model.network import ConditionedUNet, Output
from sonoshare_shared.science.model.phantom_cache import cached_phantoms
from sonoshare_shared.science.model.profiles import Profile, profile_named
from sonoshare_shared.science.model.recipe import TrainSettings
from sonoshare_shared.science.model.sampler import PHANTOM, SamplerSettings, sample
from sonoshare_shared.science.model.tensors import read_tensors, write_tensors
from sonoshare_shared.science.phantom import PhantomBatch, simulate

WORK = Path(__file__).resolve().parents[1] / "work" / "targets"
MOST_SNR = 5.0
HELD_OUT_SEED, REFINED_SEED, JUDGE_SEED, JUDGE_PHANTOMS = 70, 71, 72, 1000
START_TIMES, REFINING_STEPS, NOISE_STEPS = (120, 250), 8, 20
Images = NDArray[np.float32]


@dataclass(frozen=True)
class Target:
    """What a network predicts.

    Attributes:
        truth: of picture, noise and times, normalised.
        as_velocity: of a prediction, the noisy picture and times.
        weight: of alpha and sigma, how much a time counts.
    """

    truth: Callable[[Tensor, Tensor, Tensor], Tensor]
    as_velocity: Callable[[Tensor, Tensor, Tensor], Tensor]
    weight: Callable[[Tensor, Tensor], Tensor]


def _level(alpha: Tensor, _sigma: Tensor) -> Tensor:
    return torch.ones_like(alpha)


def _min_snr(alpha: Tensor, sigma: Tensor) -> Tensor:
    ratio = (alpha / sigma).square()
    return ratio.clamp_max(MOST_SNR) / (ratio + 1)


def _from_noise(predicted: Tensor, x: Tensor, t: Tensor) -> Tensor:
    alpha, sigma = scales(t)
    return (predicted - sigma * x) / alpha


def _from_picture(predicted: Tensor, x: Tensor, t: Tensor) -> Tensor:
    alpha, sigma = scales(t)
    return (alpha * x - predicted) / sigma


def _as_it_is(predicted: Tensor, _x: Tensor, _t: Tensor) -> Tensor:
    return predicted


TARGETS = {
    "velocity": Target(velocity, _as_it_is, _level),
    "noise": Target(lambda _x0, noise, _t: noise, _from_noise, _level),
    "picture": Target(lambda x0, _noise, _t: x0, _from_picture, _level),
    "velocity_min_snr": Target(velocity, _as_it_is, _min_snr),
}


def objective(target: Target) -> Objective:
    """The loss of `denoising_loss` with another target: weighed squared error plus .1 of the mask's cross-entropy."""

    def loss(  # noqa: PLR0917 - as the recipe calls it
        model: ConditionedUNet, images: Tensor, masks: Tensor | None, condition: Condition, t: Tensor, noise: Tensor
    ) -> Tensor:
        x0 = normalise(images)
        output: Output = model(add_noise(x0, noise, t), t, condition)
        weight = target.weight(*scales(t))
        found: Tensor = (weight * (output.v - target.truth(x0, noise, t)).square()).mean(dim=(1, 2, 3))
        return (
            found if masks is None else found + MASK_WEIGHT * mask_entropy(output.mask_logits, masks.to(images.dtype))
        )

    return loss


class Predicting(ConditionedUNet):
    """A trained network whose output is turned into the velocity that the sampler asks for."""

    def __init__(self, profile: Profile, target: Target) -> None:
        super().__init__(profile)
        self._target = target

    def forward(self, x: Tensor, t: Tensor, condition: Condition) -> Output:
        """As the network's, with ``v`` a velocity."""
        output = super().forward(x, t, condition)
        return Output(v=self._target.as_velocity(output.v, x, t), mask_logits=output.mask_logits)


def trained(name: str, profile: Profile, settings: TrainSettings, steps: int, units: Units) -> ConditionedUNet:
    """The averaged network of a target, trained if need be."""

    def make(path: Path) -> None:
        folder = units.folder / "phantoms"
        phantoms = cached_phantoms(folder, count=settings.phantoms, seed=settings.seed, size=profile.size)
        run = BaseTraining(profile, settings, TrainingSet(phantoms), objective=objective(TARGETS[name]))
        for _ in range(steps):
            run.advance()
        write_tensors(path, run.averaged())

    model = Predicting(profile, TARGETS[name])
    model.load_state_dict(read_tensors(units.file(f"{name}.safetensors", make)))
    return model.eval()


def drawn(model: ConditionedUNet, phantoms: PhantomBatch, start_time: int | None, seed: int) -> Images:
    """Pictures from noise (None), or the phantoms refined, under their class, scanner and box."""
    condition = Condition.of(phantoms.labels, phantoms.scanners + SIMULATED_SCANNER_SLOT, phantoms.boxes)
    if start_time is None:
        return sample(model, SamplerSettings(steps=NOISE_STEPS), condition, seed=seed).images
    settings = SamplerSettings(steps=REFINING_STEPS, start=PHANTOM, start_time=start_time)
    return sample(model, settings, condition, seed=seed, images=phantoms.images, masks=phantoms.masks).images


def measure(
    model: ConditionedUNet, phantoms: PhantomBatch, held_out: NDArray[np.float64], judge: Classifier, seed: int
) -> dict[str, object]:
    """Distances and class of what one network draws."""
    made = {"noise": drawn(model, phantoms, None, seed)}
    made |= {str(time): drawn(model, phantoms, time, seed) for time in START_TIMES}
    return judged(made, phantoms.labels, held_out, judge)


def judged(
    made: dict[str, Images], labels: NDArray[np.int64], held_out: NDArray[np.float64], judge: Classifier
) -> dict[str, object]:
    """Fréchet distance to held-out phantoms and AUC of the class, by way of drawing."""
    return {
        "frechet": {way: frechet(held_out, described(images)) for way, images in made.items()},
        "class_auc": {way: auc(labels, judge.predict(images)) for way, images in made.items()},
    }


def described(images: Images) -> NDArray[np.float64]:
    """Features of pictures."""
    return np.asarray(features.pooled(images), dtype=np.float64)


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--work", type=Path, default=WORK, help="folder of phantoms and trained networks")
    parser.add_argument("--profile", default="small")
    parser.add_argument("--steps", type=int, default=1000, help="of training")
    parser.add_argument("--phantoms", type=int, default=6000, help="trained on")
    parser.add_argument("--images", type=int, default=256, help="on each side of a distance")
    parser.add_argument("--targets", default=",".join(TARGETS))
    parser.add_argument("--json", action="store_true", help="the result is JSON in any case")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    names = arguments.targets.split(",")
    if set(names) - set(TARGETS):
        parser.error(f"targets are some of {', '.join(TARGETS)}")
    profile, settings = profile_named(arguments.profile), TrainSettings(phantoms=arguments.phantoms)
    pinned = {"profile": profile.digest, "settings": asdict(settings), "steps": arguments.steps}
    units = Units(arguments.work, pinned, say=lambda unit: print(unit, file=sys.stderr, flush=True))
    size, count = profile.size, arguments.images
    held_out = described(simulate(count, seed=HELD_OUT_SEED, size=size).images)
    phantoms = simulate(count, seed=REFINED_SEED, size=size)
    judging = simulate(JUDGE_PHANTOMS, seed=JUDGE_SEED, size=size)
    judge = fit(judging.images, judging.labels, seed=JUDGE_SEED)
    found = {"phantoms": judged({"raw": phantoms.images}, phantoms.labels, held_out, judge)}
    for name in names:
        model = trained(name, profile, settings, arguments.steps, units)
        found[name] = measure(model, phantoms, held_out, judge, seed=0)
        if name == "velocity":
            found["velocity_again"] = measure(model, phantoms, held_out, judge, seed=1)
        print(name, found[name], file=sys.stderr, flush=True)
    print(json.dumps({"profile": profile.name, "steps": arguments.steps, "images": count, **found}))


if __name__ == "__main__":
    main()
