"""Is this engine right on this very model? Compared with the plain loop before anything is trained.

Wrong per-patient gradients raise no exception: they only break the promise (Opacus 1.6 on channels-last strides
gave zero gradients and contributions of 1.2 C). So the engine is compared, on the model and loss that will be
trained, with one autograd pass per patient alone. The comparison also catches operations that mix patients, rows
in another order, buffers that change, and losses that draw their own random numbers.

Rounding is not a wrong rule. By noise alone an adapter can bring a group norm to where float32 itself is unsure of a
gradient (a nearly constant group); there the same comparison is made in float64, with the same rules, model and draws.
It must then agree to 1e-9, and the float32 difference must stay below `_ROUNDING`; a wrong rule passes neither.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Final

import torch
from torch import nn

from sonoshare_privacy.patient_gradients.per_patient import Batch, Loss, PatientGradients
from sonoshare_shared.errors import ModelError

_TOLERANCE: Final = {torch.float32: 2e-4, torch.float64: 1e-9}
_AUTOCAST_TOLERANCE: Final = 0.05  # bfloat16 keeps eight bits
# A tensor's error is judged against its own norm plus this part of the whole gradient: where large terms cancel
# (affine parameters of an adapted UNet whose gradient is a hundredth of the whole), float32 leaves an error of 2e-6 of
# the whole between one patient alone and the same patient in a batch. A wrong rule errs by the tensor's own norm, which
# is caught unless that is below 1e-5 of the whole.
_SMALL_TENSOR: Final = 0.05
_ROUNDING: Final = 0.001
"""Largest float32 error that a passed comparison in float64 explains; 5e-4 was seen, once in some tens of studies."""


def check_against_patient_loop(engine: PatientGradients, patients: Sequence[Batch], loss: Loss) -> None:
    """Compare with one autograd pass per patient.

    Args:
        engine: an entered engine; entered and left here if it is not.
        patients: at least two patients' draws, K rows each.
        loss: the training loss.

    Raises:
        ModelError: a gradient or loss differs; the message names the parameter and no number.
    """
    if len(patients) < 2:
        raise ModelError("the self-check needs two patients", remedy="give draws of at least two")
    state = {name: value.clone() for name, value in engine.model.named_buffers()}
    dtype = engine.buffer.dtype
    try:
        _check_once(engine, patients, loss, _AUTOCAST_TOLERANCE if engine.autocast is not None else _TOLERANCE[dtype])
    except ModelError:
        if engine.autocast is not None or dtype != torch.float32:
            raise
        _check_once(engine, patients, loss, _ROUNDING)
        _check_in_double(engine, patients, loss)
    for name, value in engine.model.named_buffers():
        if name not in state or not torch.equal(state[name], value):
            raise ModelError(f"buffer {name} changes in a forward pass", remedy="remove running statistics")


def _check_once(engine: PatientGradients, patients: Sequence[Batch], loss: Loss, tolerance: float) -> None:
    references = [_reference(engine, batch, loss) for batch in patients]
    with engine:
        _, losses = engine.rows_of(concatenate(patients), loss)
        _compare(engine, losses, references, tolerance)


def _check_in_double(engine: PatientGradients, patients: Sequence[Batch], loss: Loss) -> None:
    """The same comparison with the model, the draws and the arithmetic in float64."""
    with _doubled(engine.model):
        twin = PatientGradients(
            engine.model,
            engine.parameters,
            draws=engine.draws,
            clip_norm=engine.clip_norm,
            clip_mode=engine.clip_mode,
        )
        double = [
            {name: value.double() if value.is_floating_point() else value for name, value in batch.items()}
            for batch in patients
        ]
        _check_once(twin, double, loss, _TOLERANCE[torch.float64])


@contextmanager
def _doubled(model: nn.Module) -> Iterator[None]:
    """Parameters and buffers in float64, the very same tensors as before afterwards."""
    parameters = [(parameter, parameter.data) for parameter in model.parameters()]
    buffers = [(module, dict(module._buffers)) for module in model.modules()]  # noqa: SLF001 (no public way back)
    try:
        model.double()
        yield
    finally:
        for parameter, data in parameters:
            parameter.data = data
        for module, kept in buffers:
            module._buffers.update(kept)  # noqa: SLF001


def concatenate(patients: Sequence[Batch]) -> dict[str, torch.Tensor]:
    """Stack patients' draws in order: K rows of the first, K rows of the second..."""
    return {name: torch.cat([batch[name] for batch in patients]) for name in patients[0]}


def _reference(engine: PatientGradients, batch: Batch, loss: Loss) -> tuple[list[torch.Tensor], torch.Tensor]:
    """Gradients of one patient's mean loss by plain autograd, in the order of the parameters."""
    parameters = list(engine.parameters.values())
    required = [parameter.requires_grad for parameter in parameters]
    for parameter in parameters:
        parameter.requires_grad_(True)
    try:
        with torch.enable_grad():
            value = engine.evaluate(batch, loss).sum() / engine.draws
            found = torch.autograd.grad(value, parameters, allow_unused=True)
    finally:
        for parameter, flag in zip(parameters, required, strict=True):
            parameter.requires_grad_(flag)
    pairs = zip(found, parameters, strict=True)
    return [torch.zeros_like(p) if gradient is None else gradient for gradient, p in pairs], value.detach().double()


def _compare(
    engine: PatientGradients,
    losses: torch.Tensor,
    references: Sequence[tuple[list[torch.Tensor], torch.Tensor]],
    tolerance: float,
) -> None:
    for patient, (gradients, value) in enumerate(references):
        if not bool((losses[patient] - value).abs() <= tolerance * (1 + value.abs())):
            raise ModelError(
                "a patient's loss depends on the others or on chance",
                remedy="remove dropout and cross-patient operations; draw random numbers outside the loss",
            )
        whole = torch.stack([gradient.double().norm() for gradient in gradients]).norm()
        for (name, parameter), gradient in zip(engine.parameters.items(), gradients, strict=True):
            error = (engine.buffer.view(parameter)[patient].double() - gradient.double()).norm()
            allowed = tolerance * (gradient.double().norm() + _SMALL_TENSOR * whole)
            if not bool(error <= allowed):
                raise ModelError(
                    f"the per-patient gradient of {name} is not the one autograd finds",
                    remedy="freeze this parameter; the model uses it in a way this engine does not know",
                )
