"""A convolution's weight gradient, patient by patient: five exact methods, and which is taken where.

Given x [P * K, I, H, W] and the gradient of the output [P * K, O, H', W'], rows of a patient together, each method
files [P, O, I / groups, kh, kw] in a `PatientBuffer`, summed over the K rows of each patient. All do the multiply-adds
of the batch's own weight gradient; they differ in what they copy and in how many kernels they start.

- `by_matrix`: kernels of one pixel; one product of [O, pixels] and [pixels, I] a row.
- `by_columns_of_gradient`: few outputs. A weight's gradient is a correlation of x with the output's gradient; what is
  laid out in columns is the *gradient*, kh * kw * O numbers a pixel instead of kh * kw * I. For low-rank layers (4
  outputs of 64 to 512 inputs) 3 to 7 times as fast on a CPU as one grouped convolution, and faster than the batch's own
  weight gradient.
- `by_columns_of_pixels`: x in columns, pixel by pixel, so that all draws of a patient are one long sum; one product a
  patient and a fixed number of kernels whatever P is. For GPUs, where starting a kernel for each patient and layer
  costs more than the columns. Half as fast as the next two on a CPU.
- `by_groups`: all patients as groups of one convolution.
- `by_patient`: the library's own weight gradient, one call a patient.

`python -m benchmarks.weight_gradients` measures all of them side by side, on a CPU or a GPU. Which is taken depends
on the layer and the kind of device alone, never on the rows: it is one and the same for a whole training.

What is *not* here is the norm without the gradient ("ghost clipping") and a second, weighted backward: it adds patients
in floating point, where what one adds depends on the others, and not as integers (``docs/proofs/clip-and-round.md``).
"""

from collections.abc import Callable
from typing import Final

import torch
import torch.nn.functional as F  # noqa: N812  the field's name
from torch import nn

from sonoshare_privacy.patient_gradients.buffer import PatientBuffer

Method = Callable[[torch.Tensor, torch.Tensor, nn.Conv2d, PatientBuffer], None]

_POINT: Final = (1, 1)
_CPU: Final = "cpu"
_FEW_ON_CPU: Final = 8  # outputs up to which the gradient's columns are quicker than groups, ...
_INPUTS_OF_FEW: Final = 16  # ... for as many inputs each; measured at 4 and 8 outputs
_FEW_ON_GPU: Final = 32  # the low ranks in use; not measured
_SOME: Final = 32  # outputs up to which groups are quicker than a call a patient, on a CPU
_COLUMN_BYTES: Final = 512 << 20  # of columns at once


def padding_of(module: nn.Conv2d) -> tuple[int, int]:
    """Padding that is left to the convolution: none where the wrapper pads the input itself."""
    if module.padding_mode != "zeros" or isinstance(module.padding, str):
        return (0, 0)
    high, wide = module.padding
    return high, wide


def convolution_backward(
    grad: torch.Tensor, x: torch.Tensor, module: nn.Conv2d, wanted: tuple[bool, bool]
) -> tuple[torch.Tensor, torch.Tensor]:
    """The batch's gradients of input and weight, as far as wanted."""
    return _gradients(grad, x, module, module.weight.to(x.dtype), module.groups, wanted)


def _gradients(  # noqa: PLR0917 - in the order of the library's own
    grad: torch.Tensor, x: torch.Tensor, module: nn.Conv2d, weight: torch.Tensor, groups: int, wanted: tuple[bool, bool]
) -> tuple[torch.Tensor, torch.Tensor]:
    """The library's gradients of a convolution like the module's, with another weight and number of groups."""
    result = torch.ops.aten.convolution_backward(
        grad,
        x,
        weight,
        None,
        module.stride,
        padding_of(module),
        module.dilation,
        False,
        [0, 0],
        groups,
        [*wanted, False],
    )
    return result[0], result[1]


def method_for(module: nn.Conv2d, device: str) -> Method:
    """The quickest method for a layer on a kind of device.

    Args:
        module: the layer.
        device: its kind: ``cpu``, or another, which is taken for a GPU.
    """
    outputs = module.out_channels
    if is_point(module):
        return by_matrix
    if device != _CPU:
        if has_gradient_columns(module) and outputs <= _FEW_ON_GPU:
            return by_columns_of_gradient
        return by_columns_of_pixels if has_pixel_columns(module) else by_groups
    few = outputs <= _FEW_ON_CPU and outputs * _INPUTS_OF_FEW <= module.in_channels
    if few and has_gradient_columns(module):
        return by_columns_of_gradient
    return by_groups if outputs <= _SOME else by_patient


def is_point(module: nn.Conv2d) -> bool:
    """Whether `by_matrix` holds."""
    return module.kernel_size == module.stride == _POINT and padding_of(module) == (0, 0) and module.groups == 1


def has_pixel_columns(module: nn.Conv2d) -> bool:
    """Whether `by_columns_of_pixels` holds."""
    return module.groups == 1 and module.dilation == _POINT


def has_gradient_columns(module: nn.Conv2d) -> bool:
    """Whether `by_columns_of_gradient` holds: x and output are of one scale, and padding is below the kernel."""
    inside = all(pad < size for pad, size in zip(padding_of(module), module.kernel_size, strict=True))
    return has_pixel_columns(module) and module.stride == _POINT and inside


def always(_module: nn.Conv2d) -> bool:
    """Whether `by_groups` and `by_patient` hold."""
    return True


def by_matrix(grad: torch.Tensor, x: torch.Tensor, module: nn.Conv2d, buffer: PatientBuffer) -> None:
    """File gradients of a kernel of one pixel: a matrix product on [channels, pixels]."""
    product = torch.bmm(grad.flatten(2), x.flatten(2).transpose(1, 2))
    buffer.add(module.weight, _over_draws(product, buffer))


def by_columns_of_gradient(grad: torch.Tensor, x: torch.Tensor, module: nn.Conv2d, buffer: PatientBuffer) -> None:
    """File gradients by the output's gradient in columns.

    dW[o, i, a, b] is the sum over pixels (u, v) of x[i, u, v] * grad[o, u + p - a, v + p - b]: the gradient padded by
    kernel - 1 - p, its windows taken in reverse order.
    """
    outputs, inputs, high, wide = module.weight.shape
    pads = (padding_of(module), module.kernel_size)
    up, left = (size - 1 - pad for pad, size in zip(*pads, strict=True))
    windows = F.pad(grad, (left, left, up, up)).unfold(2, high, 1).unfold(3, wide, 1)
    columns = windows.permute(0, 1, 4, 5, 2, 3).reshape(len(grad), outputs * high * wide, -1)
    product = torch.bmm(columns, x.flatten(2).transpose(1, 2)).view(len(grad), outputs, high, wide, inputs)
    buffer.add(module.weight, _over_draws(product, buffer).flip(2, 3).permute(0, 1, 4, 2, 3))


def by_columns_of_pixels(grad: torch.Tensor, x: torch.Tensor, module: nn.Conv2d, buffer: PatientBuffer) -> None:
    """File gradients by the input in columns, some patients at a time."""
    outputs, inputs, high, wide = module.weight.shape
    up, left = padding_of(module)
    first, filed = buffer.claim(module.weight), buffer.view(module.weight)
    draws = len(x) // buffer.patients
    column_bytes = draws * grad.shape[2] * grad.shape[3] * inputs * high * wide * x.itemsize
    at_once = max(1, _COLUMN_BYTES // column_bytes)
    for start in range(0, buffer.patients, at_once):
        rows = slice(start * draws, min(start + at_once, buffer.patients) * draws)
        pixels = F.pad(x[rows].permute(0, 2, 3, 1), (0, 0, left, left, up, up))
        windows = pixels.unfold(1, high, module.stride[0]).unfold(2, wide, module.stride[1])
        part = filed[start : start + at_once]
        columns = windows.permute(0, 1, 2, 4, 5, 3).reshape(len(part), -1, high * wide * inputs)
        gradients = grad[rows].permute(0, 2, 3, 1).reshape(len(part), -1, outputs)
        product = torch.bmm(gradients.transpose(1, 2), columns).view(len(part), outputs, high, wide, inputs)
        ordered = product.permute(0, 1, 4, 2, 3)
        part.copy_(ordered) if first else part.add_(ordered)


def by_groups(grad: torch.Tensor, x: torch.Tensor, module: nn.Conv2d, buffer: PatientBuffer) -> None:
    """File gradients of one convolution whose groups are the patients."""
    patients, shape = buffer.patients, module.weight.shape

    def patients_as_channels(tensor: torch.Tensor) -> torch.Tensor:
        split = tensor.reshape(patients, -1, *tensor.shape[1:]).transpose(0, 1)
        return split.reshape(split.shape[0], -1, *tensor.shape[2:])

    gradient = _gradients(
        patients_as_channels(grad),
        patients_as_channels(x),
        module,
        x.new_empty(patients * shape[0], *shape[1:]),  # only its shape is used
        patients * module.groups,
        (False, True),
    )[1]
    buffer.add(module.weight, gradient.view(patients, *shape))


def by_patient(grad: torch.Tensor, x: torch.Tensor, module: nn.Conv2d, buffer: PatientBuffer) -> None:
    """File gradients of one call a patient, straight into the buffer."""
    first, draws = buffer.claim(module.weight), len(x) // buffer.patients
    for patient, row in enumerate(buffer.view(module.weight)):
        rows = slice(patient * draws, (patient + 1) * draws)
        gradient = convolution_backward(grad[rows], x[rows], module, (False, True))[1]
        row.copy_(gradient) if first else row.add_(gradient)


def _over_draws(product: torch.Tensor, buffer: PatientBuffer) -> torch.Tensor:
    """Sum of each patient's rows, [P, ...], in the buffer's type whatever the rows'."""
    return product.view(buffer.patients, -1, *product.shape[1:]).sum(1, dtype=buffer.dtype)
