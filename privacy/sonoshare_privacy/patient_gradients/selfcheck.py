"""Is this engine right on this very model? Found out on public rows, before anything is charged or any patient read.

Three questions, each answered for the model, loss, number of places and machine that will train:

1. *Rules*: is each row the gradient of that patient's loss? Compared with plain autograd on the same chunk, one
   backward pass for each patient. Wrong per-patient gradients raise no exception: they only spoil the training, and in
   engines that bound norms another way the promise (Opacus 1.6 on channels-last strides gave zero gradients and
   contributions of 1.2 C). This also catches rows in another order, buffers that change, and losses that draw their own
   random numbers. Both sides have one shape, so what separates them is rounding of weight gradients, 1e-6 as a rule.
   A rule is a matter of mathematics, so it is judged in float32 whatever the training computes in, both sides alike;
   a training in TF32 or bfloat16 is then compared once more, coarsely, in its own precision. There are adapters, low
   rank on the shipped base among them, with nearly constant group norms that make a hundredth of a gradient out of a
   last bit; where float32 cannot tell, the same engine is judged in float64, and in float32 coarsely.
2. *Places*: is a patient's row the same, bit by bit, in whichever place and company? Each probe is computed in several
   places, beside other probes and beside rows of NaN. If so, a chunk's sum is the sum of what its patients give
   alone, and integers add exactly: nobody's contribution depends on who else was sampled.
3. *Kernels*: question 2 again, with weights that are made up here (`made_up`). Which arithmetic a place gets depends
   on shapes, not on values; a base or adapter chosen so that probes hide a difference cannot hide it here.

The probes should show every kind of row that patients have: conditions present, absent one by one, and all absent.
Question 1 takes the first and the last, question 3 as many as fill a chunk.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Final

import torch
from torch import nn

from sonoshare_privacy.patient_gradients.buffer import PatientBuffer
from sonoshare_privacy.patient_gradients.chunk import Batch, fill_places, together
from sonoshare_privacy.patient_gradients.per_patient import Loss, PatientGradients
from sonoshare_shared.errors import ModelError
from sonoshare_shared.science.precision import FLOAT32, computing_in

_TOLERANCE: Final = {torch.float32: 2e-4, torch.float64: 1e-9}
_COARSE: Final = 0.05
"""Of the whole gradient: bfloat16 keeps eight bits and TF32 eleven, and many layers' roundings add up."""
# A tensor's error is judged against its own norm plus this part of the whole gradient: where large terms cancel
# (affine parameters of an adapted UNet whose gradient is a hundredth of the whole), rounding is of the whole's size.
# A wrong rule errs by the tensor's own norm, which is caught unless that is below 1e-5 of the whole.
_SMALL_TENSOR: Final = 0.05
_MIXED: Final = 1e-3
"""Relative difference between places from which it is no rounding: operations mix patients."""
_SEED: Final = 20_262  # of the made-up weights


class GradientsDifferError(ModelError):
    """A per-patient gradient is not the one that autograd finds."""


class PlacesDifferError(ModelError):
    """On this machine a row's last bits depend on its place in the chunk; with a single place they cannot."""


def check_engine(engine: PatientGradients, probes: Sequence[Batch], loss: Loss) -> None:
    """Answer the three questions.

    Args:
        engine: an engine; entered and left here.
        probes: at least two patients' draws, K public rows each, the first of which also serves as padding.
        loss: the training loss.

    Raises:
        PlacesDifferError: last bits depend on the place.
        ModelError: a gradient is wrong, patients are mixed or buffers change; the message names no number.
    """
    if len(probes) < 2:
        raise ModelError("the self-check needs two patients", remedy="give draws of at least two")
    state = {name: value.clone() for name, value in engine.model.named_buffers()}
    ends = (probes[0], probes[-1])  # a rule is the same for every kind of row
    with _in_float32(engine):
        _check_mathematics(engine, ends, loss)
    if engine.precision != FLOAT32:
        check_rules(engine, ends, loss)
    for name, value in engine.model.named_buffers():
        if name not in state or not torch.equal(state[name], value):
            raise ModelError(f"buffer {name} changes in a forward pass", remedy="remove running statistics")
    check_places(engine, probes, loss)
    with made_up(engine.model):
        check_places(engine, probes[: max(2, engine.places)], loss)


def _check_mathematics(engine: PatientGradients, patients: Sequence[Batch], loss: Loss) -> None:
    """Compare in float32 and, where that may be rounding, in float64 exactly and in float32 coarsely."""
    try:
        check_rules(engine, patients, loss)
    except GradientsDifferError as refused:
        if engine.buffer.dtype is torch.float64:
            raise
        try:
            with _in_float64(engine):
                check_rules(engine, [_doubled(rows) for rows in patients], loss)
        except RuntimeError:  # a model that holds float32 constants of its own cannot be looked at more closely
            raise refused from None
        check_rules(engine, patients, loss, coarse=True)


def check_rules(engine: PatientGradients, patients: Sequence[Batch], loss: Loss, *, coarse: bool | None = None) -> None:
    """Compare rows and losses with plain autograd on the same chunks, both in the engine's precision.

    Args:
        engine: an engine; entered and left here.
        patients: draws, K rows each.
        loss: the training loss.
        coarse: whether a twentieth of the whole gradient passes for rounding; None where the precision is not float32.

    Raises:
        GradientsDifferError: a gradient differs; the message names the parameter and no number.
        ModelError: a loss differs.
    """
    exact = engine.precision == FLOAT32 if coarse is None else not coarse
    tolerance, of_whole = (_TOLERANCE[engine.buffer.dtype], _SMALL_TENSOR) if exact else (_COARSE, 1.0)
    for start in range(0, len(patients), engine.places):
        part = patients[start : start + engine.places]
        batch = fill_places(together(part), patients[0], engine.places)
        with computing_in(engine.precision):  # without it a GPU's convolutions are TF32 on one side alone
            references = _references(engine, batch, len(part), loss)
        with engine:
            _, losses = engine.rows_of(batch, loss)
            _compare(engine, losses, references, tolerance, of_whole)


def check_places(engine: PatientGradients, probes: Sequence[Batch], loss: Loss) -> None:
    """Compare every probe's row, loss and clip factor in several places and companies, bit by bit.

    Raises:
        PlacesDifferError: last bits differ.
        ModelError: they differ by more than rounding, or are not finite.
    """
    places, kinds = engine.places, len(probes)
    stranger = {name: torch.full_like(v, torch.nan) if v.is_floating_point() else v for name, v in probes[0].items()}
    seen: dict[int, tuple[torch.Tensor, ...]] = {}
    with engine:
        for turn in range(2):
            for first in range(0, kinds, places):
                # Second turn: everybody one place further, and strangers whose numbers are all NaN in between.
                here = {place: (first + place + turn) % kinds for place in range(places) if not (turn and place % 2)}
                batch = [probes[here[place]] if place in here else stranger for place in range(places)]
                rows, losses = engine.rows_of(fill_places(together(batch), probes[0], places), loss)
                factors = engine.factors(rows)
                for place, kind in here.items():
                    _require_same(seen, kind, (rows[place], losses[place], factors[place]))


def _require_same(seen: dict[int, tuple[torch.Tensor, ...]], kind: int, found: tuple[torch.Tensor, ...]) -> None:
    before = seen.setdefault(kind, tuple(value.clone() for value in found))
    if not all(bool(torch.isfinite(value).all()) for value in before):
        raise ModelError("public draws have no finite gradient", remedy="use another base or adapter")
    if all(torch.equal(one, other) for one, other in zip(before, found, strict=True)):
        return
    for one, other in zip(before, found, strict=True):
        if not bool((one.double() - other.double()).norm() <= _MIXED * one.double().norm()):
            raise ModelError(
                "a patient's gradient depends on the others",
                remedy="remove cross-patient operations; no row of a batch may depend on another",
            )
    raise PlacesDifferError(
        "on this machine a gradient's last bits depend on its place", remedy="compute one patient at a time"
    )


@contextmanager
def _in_float32(engine: PatientGradients) -> Iterator[None]:
    asked, engine.precision = engine.precision, FLOAT32
    try:
        yield
    finally:
        engine.precision = asked


@contextmanager
def _in_float64(engine: PatientGradients) -> Iterator[None]:
    """The very same engine with model and rows in float64; afterwards all is as before."""
    buffer, anchor = engine.buffer, engine.anchor
    with _restored(engine.model):
        for parameter in engine.model.parameters():
            parameter.data = parameter.data.double()
        for module in engine.model.modules():
            module._buffers.update(_doubled(module._buffers))  # noqa: SLF001 (no public way)
        engine.buffer = PatientBuffer(engine.parameters, buffer.patients)
        engine.anchor = anchor.detach().double().requires_grad_()
        try:
            yield
        finally:
            engine.buffer, engine.anchor = buffer, anchor


def _doubled(tensors: Mapping[str, Any]) -> dict[str, Any]:
    """The same with floating-point tensors in float64."""
    return {
        name: value.double() if isinstance(value, torch.Tensor) and value.is_floating_point() else value
        for name, value in tensors.items()
    }


@contextmanager
def made_up(model: nn.Module) -> Iterator[None]:
    """Weights of ordinary size that nobody else chose: normal numbers, and about 1 for norms, by a fixed seed."""
    generator = torch.Generator().manual_seed(_SEED)
    with _restored(model):
        for module in model.modules():
            for name, parameter in module.named_parameters(recurse=False):
                value = torch.randn(parameter.shape, generator=generator)
                if parameter.dim() > 1:
                    value /= max(1, parameter[0].numel()) ** 0.5
                elif name == "weight":
                    value = 1 + value / 8
                parameter.data = torch.empty_like(parameter).copy_(value)
        yield


@contextmanager
def _restored(model: nn.Module) -> Iterator[None]:
    """Parameters and buffers may be replaced; afterwards they are the very same tensors as before."""
    parameters = [(parameter, parameter.data) for parameter in model.parameters()]
    buffers = [(module, dict(module._buffers)) for module in model.modules()]  # noqa: SLF001 (no public way back)
    try:
        yield
    finally:
        for parameter, data in parameters:
            parameter.data = data
        for module, kept in buffers:
            module._buffers.update(kept)  # noqa: SLF001 (as above)


def _references(
    engine: PatientGradients, batch: Batch, count: int, loss: Loss
) -> list[tuple[tuple[torch.Tensor, ...], torch.Tensor]]:
    """Gradients of the first patients' mean losses by plain autograd, in the order of the parameters."""
    parameters = list(engine.parameters.values())
    required = [(parameter, parameter.requires_grad) for parameter in engine.model.parameters()]
    for parameter in engine.model.parameters():
        parameter.requires_grad_(False)
    for parameter in parameters:
        parameter.requires_grad_(True)
    try:
        with torch.enable_grad():
            losses = engine.evaluate(batch, loss).view(engine.places, -1).mean(1)
            return [
                (
                    torch.autograd.grad(
                        value, parameters, retain_graph=True, allow_unused=True, materialize_grads=True
                    ),
                    value.detach().double(),
                )
                for value in losses[:count]
            ]
    finally:
        for parameter, flag in required:
            parameter.requires_grad_(flag)


def _compare(
    engine: PatientGradients,
    losses: torch.Tensor,
    references: Sequence[tuple[tuple[torch.Tensor, ...], torch.Tensor]],
    tolerance: float,
    of_whole: float,
) -> None:
    for patient, (gradients, value) in enumerate(references):
        if not bool((losses[patient] - value).abs() <= tolerance * (1 + value.abs())):
            raise ModelError(
                "a patient's loss depends on chance",
                remedy="remove dropout; draw random numbers outside the loss",
            )
        whole = torch.stack([gradient.double().norm() for gradient in gradients]).norm()
        for (name, parameter), gradient in zip(engine.parameters.items(), gradients, strict=True):
            error = (engine.buffer.view(parameter)[patient].double() - gradient.double()).norm()
            allowed = tolerance * (gradient.double().norm() + of_whole * whole)
            if not bool(error <= allowed):
                raise GradientsDifferError(
                    f"the per-patient gradient of {name} is not the one autograd finds",
                    remedy="freeze this parameter; the model uses it in a way this engine does not know",
                )
