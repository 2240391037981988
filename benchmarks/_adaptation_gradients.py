"""Where patients' gradient is: which share of its energy each set of trained parameters catches, for how many numbers.

The energy of a parameter is the product of the mean gradients of two groups with no patient in common: its expectation
is the square of the mean gradient alone, without the variance of patients and draws. Low-rank layers start with a
product of zero, so at first only ``up`` has a gradient: what their ``down``, drawn at random, lets through of the
weight's. Noise is the same for every trained number, so energy for each number says what a set gives under DP at the
start of a training; it does not say how far that set can go.
"""

from collections.abc import Mapping
from typing import Final

import torch
from torch import Tensor

from benchmarks._utility_adapters import Training, batches_of
from sonoshare_client.agent.draws import PatientDraws, loss_of
from sonoshare_client.vault.cohort import PatientArrays
from sonoshare_shared.science.model.adapter import AFFINE, FULL, LORA, OUTER, prepare, trained_parameters
from sonoshare_shared.science.model.lora import LowRank
from sonoshare_shared.science.model.network import ConditionedUNet

EVERY: Final = 4
"""Each group has a quarter of the patients: enough to tell shares of tenths."""
SETS: Final = (AFFINE, OUTER, FULL)


def gradient_shares(patients: list[PatientArrays], training: Training) -> dict[str, dict[str, float]]:
    """By set of trained parameters ``numbers`` and ``share`` of the energy of the whole gradient at the base."""
    model = training.prepared()
    one, two = (_mean_gradient(model, patients[first::EVERY], training, first) for first in (0, 1))
    whole = sum(_energy(one[name], two[name]) for name in one)
    shares = {}
    for trained in SETS:
        chosen = trained_parameters(model, trained)
        energy = sum(_energy(one[name], two[name]) for name in chosen)
        shares[trained] = {"numbers": sum(p.numel() for p in chosen.values()), "share": energy / whole}
    prepare(model, LORA)
    low_rank = trained_parameters(model, LORA)
    numbers = sum(p.numel() for p in low_rank.values())
    energy = sum(_energy(one[name], two[name]) for name in low_rank if name in one)  # the embeddings
    for name, part in model.named_modules():
        if isinstance(part, LowRank):
            kept = torch.linalg.qr(part.down.weight.detach().flatten(1).T).Q
            energy += _energy(*(group[f"{name}.weight"].flatten(1) @ kept for group in (one, two)))
    return shares | {LORA: {"numbers": numbers, "share": energy / whole}}


def _mean_gradient(
    model: ConditionedUNet, patients: list[PatientArrays], training: Training, seed: int
) -> Mapping[str, Tensor]:
    """Mean gradient over patients and their draws, by name of the parameter."""
    parameters, loss = dict(model.named_parameters()), loss_of(model)
    drawing = PatientDraws(patients, training.draws, training.on, training.latest_time)
    generator = torch.Generator(training.on).manual_seed(seed)
    total = {name: torch.zeros_like(parameter) for name, parameter in parameters.items()}
    for batch in batches_of(drawing, list(range(len(patients))), generator, training.draws):
        gradients = torch.autograd.grad(
            loss(batch).sum(), list(parameters.values()), allow_unused=True, materialize_grads=True
        )
        for name, gradient in zip(parameters, gradients, strict=True):
            total[name] += gradient / (len(patients) * training.draws)
    return total


def _energy(one: Tensor, two: Tensor) -> float:
    return float((one.double() * two.double()).sum())
