"""Leaf modules that know their gradient patient by patient.

Each rule is an autograd function around the module's own forward. In the backward it returns the ordinary gradient
of the input for the whole batch and, *instead of* the batch gradient of weight and bias, files one gradient per
patient in a `PatientBuffer`. The multiply-adds are the same; nothing is computed twice.

Rows of a batch are ordered by patient: the first dimension of every activation is patients * rows-per-patient, all
rows of one patient together. Draws of a patient are grouped before the weight gradient is computed. Models that
order rows otherwise are caught by the self-check.

Supported: Linear, Conv2d (stride, padding in all modes, dilation, groups), GroupNorm, LayerNorm, Embedding, and
subclasses that do not override ``forward`` (or override it with the same mathematics: diffusers' LoRACompatible
layers without a LoRA). Everything else that owns a trained parameter is refused by name.
"""

from collections.abc import Callable
from typing import Any, Final, Protocol, cast

import torch
import torch.nn.functional as F  # noqa: N812  the field's name
from torch import nn

from sonoshare_privacy.patient_gradients.buffer import PatientBuffer
from sonoshare_privacy.patient_gradients.conv_weights import convolution_backward, method_for, padding_of
from sonoshare_shared.errors import ModelError

_MOST_GROUPS: Final = 1 << 15  # of one call: torch's kernel has a place of a CUDA grid for each, of 65,535
_LARGE: Final = 1 << 14  # numbers of a weight from which a product per patient, written in place, is quicker


class Recorder(Protocol):
    """What a rule needs to know of the engine."""

    buffer: PatientBuffer
    rows: int
    """Rows of the chunk's batch: patients * draws."""
    anchor: torch.Tensor
    """A scalar that requires a gradient, so that leaves with frozen inputs are part of the graph."""


def _require_rows(tensor: torch.Tensor, recorder: Recorder, module: nn.Module) -> None:
    if tensor.dim() == 0 or tensor.shape[0] % recorder.rows or tensor.shape[0] == 0:
        raise ModelError(
            f"a {type(module).__name__} sees {tuple(tensor.shape)} where rows of {recorder.rows} draws are expected",
            remedy="the first dimension of every activation must be the batch; freeze this layer otherwise",
        )


def _per_patient(tensor: torch.Tensor, recorder: Recorder) -> torch.Tensor:
    """[rows, ...] -> [P, rows / P, ...]."""
    patients = recorder.buffer.patients
    return tensor.reshape(patients, tensor.shape[0] // patients, *tensor.shape[1:])


class _Linear(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, x: torch.Tensor, _anchor: torch.Tensor, module: nn.Linear, recorder: Recorder
    ) -> torch.Tensor:
        ctx.module, ctx.recorder = module, recorder
        ctx.save_for_backward(x)
        bias = None if module.bias is None else module.bias.to(x.dtype)
        return F.linear(x, module.weight.to(x.dtype), bias)

    @staticmethod
    def backward(ctx: Any, grad: torch.Tensor) -> tuple[torch.Tensor | None, None, None, None]:
        module, recorder = ctx.module, ctx.recorder
        (x,) = ctx.saved_tensors
        buffer = recorder.buffer
        if module.weight in buffer:
            inputs = _per_patient(x, recorder).flatten(1, -2)
            outputs = _per_patient(grad, recorder).flatten(1, -2)
            columns = buffer.view(module.weight)
            large = columns.dtype == x.dtype and columns[0].numel() >= _LARGE and x.device.type == "cpu"
            if large and buffer.claim(module.weight):
                for row, one_in, one_out in zip(columns, inputs, outputs, strict=True):
                    torch.mm(one_out.t(), one_in, out=row)
            else:
                buffer.add(module.weight, torch.bmm(outputs.transpose(1, 2), inputs))
        if module.bias is not None and module.bias in buffer:
            buffer.add(module.bias, _per_patient(grad, recorder).flatten(1, -2).sum(1))
        return (grad.matmul(module.weight.to(grad.dtype)) if ctx.needs_input_grad[0] else None), None, None, None


class _Conv2d(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, x: torch.Tensor, _anchor: torch.Tensor, module: nn.Conv2d, recorder: Recorder
    ) -> torch.Tensor:
        ctx.module, ctx.recorder = module, recorder
        ctx.save_for_backward(x)
        bias = None if module.bias is None else module.bias.to(x.dtype)
        return F.conv2d(
            x, module.weight.to(x.dtype), bias, module.stride, padding_of(module), module.dilation, module.groups
        )

    @staticmethod
    def backward(ctx: Any, grad: torch.Tensor) -> tuple[torch.Tensor | None, None, None, None]:
        module, recorder = ctx.module, ctx.recorder
        (x,) = ctx.saved_tensors
        grad_x = convolution_backward(grad, x, module, (True, False))[0] if ctx.needs_input_grad[0] else None
        if module.weight in recorder.buffer:
            method_for(module, x.device.type)(grad, x, module, recorder.buffer)
        if module.bias is not None and module.bias in recorder.buffer:
            recorder.buffer.add(module.bias, _per_patient(grad.sum((2, 3)), recorder).sum(1))
        return grad_x, None, None, None


class _GroupNorm(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, x: torch.Tensor, _anchor: torch.Tensor, module: nn.GroupNorm, recorder: Recorder
    ) -> torch.Tensor:
        x = x.contiguous()
        rows, channels = x.shape[:2]
        y, mean, inverse = torch.native_group_norm(
            x, module.weight, module.bias, rows, channels, x[0, 0].numel(), module.num_groups, module.eps
        )
        ctx.module, ctx.recorder = module, recorder
        ctx.save_for_backward(x, mean, inverse)
        return y

    @staticmethod
    def backward(ctx: Any, grad: torch.Tensor) -> tuple[torch.Tensor | None, None, None, None]:
        module, recorder = ctx.module, ctx.recorder
        x, mean, inverse = ctx.saved_tensors
        grad_x, *gradients = _group_norm_by_rows(grad.contiguous(), x, mean, inverse, module)
        for parameter, gradient in zip((module.weight, module.bias), gradients, strict=True):
            if parameter in recorder.buffer:
                recorder.buffer.add(parameter, _per_patient(gradient, recorder).sum(1))
        return grad_x, None, None, None


def _group_norm_by_rows(
    grad: torch.Tensor, x: torch.Tensor, mean: torch.Tensor, inverse: torch.Tensor, module: nn.GroupNorm
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Gradients of the input, and of weight and bias row by row, [rows, C].

    Rows become further groups of a single row: the very same sums, and what is the "batch" gradient of weight and bias
    is then each row's own. No pass over the activations beside those of the input's gradient.
    """
    rows, channels = x.shape[:2]
    if rows > 1 and rows * module.num_groups > _MOST_GROUPS:
        halves = (slice(None, rows // 2), slice(rows // 2, None))
        first, second = (_group_norm_by_rows(grad[h], x[h], mean[h], inverse[h], module) for h in halves)
        grad_x, scales, shifts = (torch.cat(pieces) for pieces in zip(first, second, strict=True))
        return grad_x, scales, shifts
    grad_x, scales, shifts = torch.ops.aten.native_group_norm_backward(
        grad,
        x,
        mean.reshape(1, -1),
        inverse.reshape(1, -1),
        module.weight.repeat(rows),
        1,
        rows * channels,
        x[0, 0].numel(),
        rows * module.num_groups,
        [True, True, True],
    )
    return grad_x, scales.view(rows, channels), shifts.view(rows, channels)


class _LayerNorm(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, x: torch.Tensor, _anchor: torch.Tensor, module: nn.LayerNorm, recorder: Recorder
    ) -> torch.Tensor:
        shape = list(module.normalized_shape)
        y, mean, inverse = torch.native_layer_norm(x, shape, module.weight, module.bias, module.eps)
        ctx.module, ctx.recorder = module, recorder
        ctx.save_for_backward(x, mean, inverse)
        return y

    @staticmethod
    def backward(ctx: Any, grad: torch.Tensor) -> tuple[torch.Tensor | None, None, None, None]:
        module, recorder = ctx.module, ctx.recorder
        x, mean, inverse = ctx.saved_tensors
        shape = list(module.normalized_shape)
        grad_x = None
        if ctx.needs_input_grad[0]:
            grad_x = torch.ops.aten.native_layer_norm_backward(
                grad.contiguous(), x, shape, mean, inverse, module.weight, module.bias, [True, False, False]
            )[0]
        patients = recorder.buffer.patients
        if module.weight in recorder.buffer:
            scaled = (x - mean) * inverse * grad
            recorder.buffer.add(module.weight, scaled.reshape(patients, -1, *shape).sum(1))
        if module.bias is not None and module.bias in recorder.buffer:
            recorder.buffer.add(module.bias, grad.reshape(patients, -1, *shape).sum(1))
        return grad_x, None, None, None


class _Embedding(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, indices: torch.Tensor, _anchor: torch.Tensor, module: nn.Embedding, recorder: Recorder
    ) -> torch.Tensor:
        ctx.module, ctx.recorder, ctx.indices = module, recorder, indices
        return F.embedding(indices, module.weight)

    @staticmethod
    def backward(ctx: Any, grad: torch.Tensor) -> tuple[None, None, None, None]:
        module, recorder, indices = ctx.module, ctx.recorder, ctx.indices
        patients, (entries, width) = recorder.buffer.patients, module.weight.shape
        # As a product with ones and zeros, not `index_add_`: on a GPU that adds in arbitrary order.
        chosen = F.one_hot(indices.reshape(patients, -1), entries).to(grad.dtype)
        table = torch.bmm(chosen.transpose(1, 2), grad.reshape(patients, -1, width))
        if module.padding_idx is not None:
            table[:, module.padding_idx] = 0
        recorder.buffer.add(module.weight, table)
        return None, None, None, None


Rule = type[torch.autograd.Function]
_RULES: Final[dict[type[nn.Module], Rule]] = {
    nn.Linear: _Linear,
    nn.Conv2d: _Conv2d,
    nn.GroupNorm: _GroupNorm,
    nn.LayerNorm: _LayerNorm,
    nn.Embedding: _Embedding,
}
# Overrides of ``forward`` with the mathematics of their base class as long as no LoRA is attached.
_SAME_MATHEMATICS: Final = frozenset({"LoRACompatibleConv", "LoRACompatibleLinear"})
_AUTOCAST_LOW: Final = (nn.Linear, nn.Conv2d)  # autocast runs these in its dtype, the norms in float32


def leaf_kind(module: nn.Module, name: str) -> type[nn.Module]:
    """The supported class that this module behaves as.

    Raises:
        ModelError: it owns a trained parameter and is none of the supported leaves.
    """
    for kind in _RULES:
        if not isinstance(module, kind):
            continue
        same = vars(type(module)).get("forward", type(module).forward) is kind.forward
        diffusers_layer = type(module).__name__ in _SAME_MATHEMATICS and getattr(module, "lora_layer", None) is None
        if not (same or diffusers_layer):
            break
        if isinstance(module, nn.Embedding) and (module.max_norm or module.scale_grad_by_freq or module.sparse):
            raise ModelError(
                f"embedding {name} renormalises, counts frequencies or is sparse", remedy="freeze it or use a plain one"
            )
        return kind
    raise ModelError(
        f"no per-patient gradient for {name}, a {type(module).__name__}",
        remedy="train Linear, Conv2d, GroupNorm, LayerNorm or Embedding leaves, and freeze the others",
    )


def per_patient_forward(module: nn.Module, kind: type[nn.Module], recorder: Recorder) -> Callable[..., torch.Tensor]:
    """A forward that records; without gradients it is the module's own."""
    rule, original = _RULES[kind], module.forward

    def forward(x: torch.Tensor, *further: object, **keywords: object) -> torch.Tensor:
        if not torch.is_grad_enabled():
            result: torch.Tensor = original(x, *further, **keywords)
            return result
        _require_rows(x, recorder, module)
        device = x.device.type
        if torch.is_autocast_enabled(device) and x.is_floating_point():
            x = x.to(torch.get_autocast_dtype(device) if kind in _AUTOCAST_LOW else torch.float32)
        if isinstance(module, nn.Conv2d) and (module.padding_mode != "zeros" or isinstance(module.padding, str)):
            mode = "constant" if module.padding_mode == "zeros" else module.padding_mode
            x = F.pad(x, module._reversed_padding_repeated_twice, mode=mode)  # noqa: SLF001  torch's own name
        with torch.autocast(device, enabled=False):
            return cast("torch.Tensor", rule.apply(x, recorder.anchor, module, recorder))  # type: ignore[no-untyped-call]

    return forward
