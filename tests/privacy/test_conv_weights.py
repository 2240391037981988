"""Every method for a convolution's weight gradients gives what autograd gives, patient by patient."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

from sonoshare_privacy.patient_gradients import conv_weights
from sonoshare_privacy.patient_gradients.buffer import PatientBuffer

LAYERS: dict[str, Callable[[], nn.Conv2d]] = {
    "square": lambda: nn.Conv2d(6, 4, 3, padding=1),
    "even kernel": lambda: nn.Conv2d(6, 4, (2, 4), padding=(1, 0)),
    "no padding": lambda: nn.Conv2d(6, 4, 3),
    "much padding": lambda: nn.Conv2d(6, 4, (3, 5), padding=(2, 4)),
    "more padding than kernel": lambda: nn.Conv2d(6, 4, 3, padding=3),
    "strided": lambda: nn.Conv2d(6, 4, 3, stride=(2, 1), padding=1),
    "dilated groups": lambda: nn.Conv2d(6, 4, 3, dilation=2, padding=2, groups=2),
    "point": lambda: nn.Conv2d(6, 4, 1),
}
METHODS: dict[str, tuple[conv_weights.Method, Callable[[nn.Conv2d], bool]]] = {
    "matrix": (conv_weights.by_matrix, conv_weights.is_point),
    "columns of gradient": (conv_weights.by_columns_of_gradient, conv_weights.has_gradient_columns),
    "columns of pixels": (conv_weights.by_columns_of_pixels, conv_weights.has_pixel_columns),
    "groups": (conv_weights.by_groups, conv_weights.always),
    "patient": (conv_weights.by_patient, conv_weights.always),
}
PATIENTS, DRAWS = 3, 2


def case(layer: str, layout: torch.memory_format = torch.contiguous_format) -> tuple[Any, ...]:
    """A layer, its input, the gradient of its output, and the weight gradient of each patient by autograd."""
    torch.manual_seed(4)
    module = LAYERS[layer]().double()
    x = torch.randn(PATIENTS * DRAWS, 6, 9, 7, dtype=torch.float64).contiguous(memory_format=layout)
    y = module(x)
    grad = torch.randn_like(y)
    parts = torch.split(torch.arange(len(x)), DRAWS)
    exact = [torch.autograd.grad((y * grad)[p].sum(), module.weight, retain_graph=True)[0] for p in parts]
    return module, x, grad, torch.stack(exact)


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("layer", LAYERS)
@pytest.mark.parametrize("name", METHODS)
def test_a_method_is_exact_wherever_it_says_that_it_holds(
    name: str, layer: str, layout: torch.memory_format, monkeypatch: pytest.MonkeyPatch
) -> None:
    method, holds = METHODS[name]
    module, x, grad, exact = case(layer, layout)
    if not holds(module):
        return
    for at_once in (1, 1 << 30):  # columns of one patient after the other, and of all
        monkeypatch.setattr(conv_weights, "_COLUMN_BYTES", at_once)
        buffer = PatientBuffer(dict(module.named_parameters()), PATIENTS)
        buffer.begin()
        with torch.no_grad():
            method(grad, x, module, buffer)
            once = buffer.view(module.weight).clone()
            method(grad, x, module, buffer)
        assert torch.allclose(once, exact, rtol=1e-12, atol=1e-12)
        assert torch.allclose(buffer.view(module.weight), 2 * exact, rtol=1e-12), "a layer used twice adds"


@pytest.mark.parametrize("device", ["cpu", "another"])
@pytest.mark.parametrize("layer", LAYERS)
def test_the_method_that_is_taken_holds_for_the_layer(layer: str, device: str) -> None:
    method = conv_weights.method_for(LAYERS[layer](), device)
    holds = dict(METHODS.values())
    assert holds[method](LAYERS[layer]())


def test_low_ranks_take_the_columns_of_the_gradient_and_wide_layers_do_not() -> None:
    low, wide = nn.Conv2d(64, 4, 3, padding=1), nn.Conv2d(64, 64, 3, padding=1)
    for device in ("cpu", "another"):
        assert conv_weights.method_for(low, device) is conv_weights.by_columns_of_gradient
    assert conv_weights.method_for(wide, "cpu") is conv_weights.by_patient
    assert conv_weights.method_for(nn.Conv2d(64, 8, 3, padding=1), "cpu") is conv_weights.by_groups
    assert conv_weights.method_for(wide, "another") is conv_weights.by_columns_of_pixels


@pytest.mark.parametrize("name", ["matrix", "columns of gradient", "columns of pixels"])
def test_half_precision_rows_are_added_in_the_buffers_own(name: str) -> None:
    """A sum of many draws in bfloat16 would lose the small ones."""
    method, _ = METHODS[name]
    module = nn.Conv2d(1, 1, 1, bias=False)
    x = torch.ones(600, 1, 1, 1, dtype=torch.bfloat16)
    buffer = PatientBuffer(dict(module.named_parameters()), 1)
    buffer.begin()
    with torch.no_grad():
        method(torch.ones_like(x), x, module, buffer)
    assert float(buffer.view(module.weight)[0, 0, 0, 0].detach()) == pytest.approx(600, rel=4e-3)
