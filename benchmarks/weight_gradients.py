"""Which exact way to a convolution's weight gradient, patient by patient, is the quickest on this machine?

    python -m benchmarks.weight_gradients [--profile small] [--device cpu] [--precision float32]
                                          [--patients 8] [--draws 4] [--json]

One forward pass of the network with low-rank layers says which convolutions there are and at which sizes; then each
method of `sonoshare_privacy.patient_gradients.conv_weights` that holds for a layer is timed on made-up rows, one layer
of each kind. Median of three, after one that warms up; milliseconds, of processor time on a CPU and on the wall on a
GPU. Prints one JSON object as the last line of stdout: ``device`` and ``layers``, each with its shape, how often it
occurs, ``batch`` (the library's weight gradient of the whole batch, which a step without privacy takes), each method's
time, and ``taken``, the method that the engine takes there.
"""

import argparse
import json
import sys
from collections import Counter
from collections.abc import Callable
from functools import partial
from statistics import median
from typing import Final

import torch
from torch import nn

from benchmarks._parts import seconds_of
from sonoshare_client.agent.draws import loss_of, probe
from sonoshare_privacy.patient_gradients import conv_weights
from sonoshare_privacy.patient_gradients.buffer import PatientBuffer
from sonoshare_shared.science.device import device_words
from sonoshare_shared.science.model.lora import add_low_rank
from sonoshare_shared.science.model.network import ConditionedUNet
from sonoshare_shared.science.model.profiles import PROFILES, profile_named

METHODS: Final = {
    conv_weights.by_matrix: conv_weights.is_point,
    conv_weights.by_columns_of_gradient: conv_weights.has_gradient_columns,
    conv_weights.by_columns_of_pixels: conv_weights.has_pixel_columns,
    conv_weights.by_groups: conv_weights.always,
    conv_weights.by_patient: conv_weights.always,
}
DTYPES: Final = {"float32": torch.float32, "bfloat16": torch.bfloat16}
_REPEATS: Final = 3
Layer = tuple[int, int, int, int, int, int]
"""Inputs, outputs, kernel, stride, padding, side of the picture."""


def layers_of(profile: str) -> Counter[Layer]:
    """The network's convolutions, low-rank ones among them, and how often each occurs."""
    model = ConditionedUNet(profile_named(profile))
    add_low_rank(model)
    found: Counter[Layer] = Counter()

    def note(module: nn.Module, inputs: tuple[torch.Tensor, ...]) -> None:
        if isinstance(module, nn.Conv2d):
            sizes = (module.kernel_size[0], module.stride[0], int(module.padding[0]))
            found[module.in_channels, module.out_channels, *sizes, inputs[0].shape[-1]] += 1

    for module in model.modules():
        module.register_forward_pre_hook(note)
    with torch.no_grad():
        loss_of(model)(probe(model, 1)[0])
    return found


def timed(layer: Layer, options: argparse.Namespace) -> dict[str, object]:
    """Milliseconds of each method on one layer."""
    inputs, outputs, kernel, stride, padding, side = layer
    device, rows = torch.device(options.device), options.patients * options.draws
    module = nn.Conv2d(inputs, outputs, kernel, stride, padding, bias=False).to(device)
    x = torch.randn(rows, inputs, side, side, dtype=DTYPES[options.precision], device=device)
    buffer = PatientBuffer(dict(module.named_parameters()), options.patients)
    with torch.no_grad():
        grad = torch.randn_like(module(x.float())).to(x.dtype)

        def file(method: conv_weights.Method) -> None:
            buffer.begin()
            method(grad, x, module, buffer)

        batch = partial(conv_weights.convolution_backward, grad, x, module, (False, True))
        spent = {"batch": _milliseconds(batch, device)}
        for method, holds in METHODS.items():
            if holds(module):
                spent[method.__name__] = _milliseconds(partial(file, method), device)
    return {"layer": layer, **spent, "taken": conv_weights.method_for(module, device.type).__name__}


def _milliseconds(step: Callable[[], object], device: torch.device) -> float:
    return 1000 * median([seconds_of(step, device) for _ in range(_REPEATS + 1)][1:])


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--profile", choices=tuple(PROFILES), default="small")
    parser.add_argument("--device", default="cpu", help="cpu or cuda[:n]")
    parser.add_argument("--precision", choices=tuple(DTYPES), default="float32")
    parser.add_argument("--patients", type=int, default=8)
    parser.add_argument("--draws", type=int, default=4)
    parser.add_argument("--json", action="store_true", help="the result is JSON in any case")
    options = parser.parse_args()
    torch.set_num_threads(1)
    device = torch.device(options.device)
    found = []
    for layer, count in layers_of(options.profile).items():
        found.append({**timed(layer, options), "count": count})
        print(found[-1], file=sys.stderr, flush=True)
    print(json.dumps({"device": device_words(device), "layers": found}))


if __name__ == "__main__":
    main()
