"""Is this engine right on this very model? Compared with the plain loop before anything is trained.

Wrong per-patient gradients raise no exception: they only break the promise (Opacus 1.6 on channels-last strides
gave zero gradients and contributions of 1.2 C). So the engine is compared, on the model and loss that will be
trained, with one autograd pass per patient alone. The comparison also catches operations that mix patients, rows
in another order, buffers that change, and losses that draw their own random numbers.
"""

from collections.abc import Sequence
from typing import Final

import torch

from sonoshare_privacy.gradients.engine import Batch, Loss, PatientGradients
from sonoshare_shared.errors import ModelError

_TOLERANCE: Final = {torch.float32: 2e-4, torch.float64: 1e-9}
_AUTOCAST_TOLERANCE: Final = 0.05  # bfloat16 keeps eight bits
# A tensor's error is judged against its own norm plus this part of the whole gradient: where large terms cancel
# (affine parameters of an adapted UNet whose gradient is a hundredth of the whole), float32 leaves an error of 2e-6 of
# the whole between one patient alone and the same patient in a batch. A wrong rule errs by the tensor's own norm, which
# is caught unless that is below 1e-5 of the whole.
_SMALL_TENSOR: Final = 0.05


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
    references = [_reference(engine, batch, loss) for batch in patients]
    with engine:
        rows, losses = engine.rows_of(concatenate(patients), loss)
        _compare(engine, rows, losses, references)
    for name, value in engine.model.named_buffers():
        if name not in state or not torch.equal(state[name], value):
            raise ModelError(f"buffer {name} changes in a forward pass", remedy="remove running statistics")


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
    rows: torch.Tensor,
    losses: torch.Tensor,
    references: Sequence[tuple[list[torch.Tensor], torch.Tensor]],
) -> None:
    tolerance = _AUTOCAST_TOLERANCE if engine.autocast is not None else _TOLERANCE[rows.dtype]
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
