"""Adapters: the part of the model that a study trains, as a small named state.

``affine`` trains the affine parameters of every GroupNorm, the class and scanner embeddings and the image head;
``outer`` these and the layers next to the picture: the first convolution and the shortcut of the last residual block;
``lora`` the two embeddings and low-rank layers beside attention and convolutions; ``full`` everything. An adapter is
float32, its names are sorted, and the same values give the same bytes and digest. Loading checks every name, shape and
type and that every number is finite, before any parameter changes.
"""

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from sonoshare_shared.errors import ModelError
from sonoshare_shared.protocol.canonical import sha256_hex
from sonoshare_shared.science.model.lora import PARTS, add_low_rank, has_low_rank, remove_low_rank
from sonoshare_shared.science.model.magnitudes import require_ordinary
from sonoshare_shared.science.model.network import ConditionedUNet
from sonoshare_shared.science.model.tensors import (
    State,
    read_tensors,
    require_same_layout,
    tensor_bytes,
    tensors_from,
)

AFFINE = "affine"
FULL = "full"
LORA = "lora"
OUTER = "outer"
TRAINED = (AFFINE, OUTER, LORA, FULL)
_EMBEDDINGS = ("class_embedding.", "scanner_embedding.")
_AFFINE_PARTS = (*_EMBEDDINGS, "conv_out.")
_FIRST = "unet.conv_in."


def prepare(model: ConditionedUNet, trained: str) -> None:
    """Give the model the layers that a set of trained parameters needs; it computes what it did before."""
    if trained == LORA and not has_low_rank(model):
        add_low_rank(model)


def trained_parameters(model: ConditionedUNet, trained: str) -> dict[str, nn.Parameter]:
    """Parameters that a study trains, sorted by name.

    Args:
        model: the network.
        trained: one of `TRAINED`.

    Raises:
        ModelError: another word, or a model that is not prepared for it.
    """
    if trained not in TRAINED:
        raise ModelError(f"unknown set of trained parameters {trained[:40]!r}", remedy=f"use {', '.join(TRAINED)}")
    if has_low_rank(model) != (trained == LORA):
        raise ModelError(f"the model is not prepared for {trained}", remedy="use `prepare` on a fresh base, or merge")
    if trained == LORA:
        return {
            name: parameter
            for name, parameter in sorted(model.named_parameters())
            if name.startswith(_EMBEDDINGS) or name.endswith(PARTS)
        }
    norms = {name + "." for name, part in model.named_modules() if isinstance(part, nn.GroupNorm)}
    parts = (*_AFFINE_PARTS, *(_outer_parts(model) if trained == OUTER else ()))
    return {
        name: parameter
        for name, parameter in sorted(model.named_parameters())
        if trained == FULL or name.startswith(parts) or name[: name.rfind(".") + 1] in norms
    }


def _outer_parts(model: ConditionedUNet) -> tuple[str, str]:
    """The layers next to the noisy picture and next to the answer: two small ones with much of the gradient."""
    finest = len(model.unet.up_blocks) - 1
    last = len(model.unet.up_blocks[finest].resnets) - 1
    return (_FIRST, f"unet.up_blocks.{finest}.resnets.{last}.conv_shortcut.")


def adapter_state(model: ConditionedUNet, trained: str) -> State:
    """Copy of the trained parameters as they are now: float32, on the CPU, sorted by name."""
    return {
        name: parameter.detach().to("cpu", torch.float32).clone(memory_format=torch.contiguous_format)
        for name, parameter in trained_parameters(model, trained).items()
    }


def load_adapter(model: ConditionedUNet, state: Mapping[str, Tensor], trained: str | None = None) -> None:
    """Put an adapter into the model.

    Args:
        model: changed in place, and only if every check passes; low-rank layers are added where the state has them.
        state: tensors by name.
        trained: which set the state must be; None accepts any.

    Raises:
        ModelError: a name is missing or unknown, a shape or type differs, or a number is not finite or out of bounds
            (`sonoshare_shared.science.model.magnitudes`).
    """
    if trained is None:
        trained = _recognised(state)
    added = trained == LORA and not has_low_rank(model)
    prepare(model, trained)
    try:
        parameters = trained_parameters(model, trained)
        require_same_layout(state, parameters)
        require_ordinary(state)
    except ModelError:
        if added:
            remove_low_rank(model)
        raise
    with torch.no_grad():
        for name, parameter in parameters.items():
            parameter.copy_(state[name])


def _recognised(state: Mapping[str, Tensor]) -> str:
    """Which set a state is, by its names."""
    if any(name.endswith(PARTS) for name in state):
        return LORA
    if any(name.startswith("mask_out.") for name in state):
        return FULL
    return OUTER if any(name.startswith(_FIRST) for name in state) else AFFINE


def adapter_bytes(state: Mapping[str, Tensor]) -> bytes:
    """Canonical safetensors bytes of an adapter."""
    return tensor_bytes(state)


def adapter_digest(state: Mapping[str, Tensor]) -> str:
    """sha256 of the canonical bytes: the digest of the adapter's file."""
    return sha256_hex(tensor_bytes(state))


def adapter_from_bytes(data: bytes) -> State:
    """Parse an adapter received from elsewhere; `load_adapter` then checks it against the model.

    Raises:
        ModelError: not safetensors.
    """
    return tensors_from(data)


def read_adapter(path: Path) -> State:
    """Read an adapter file.

    Raises:
        ModelError: not a safetensors file (by extension or first bytes), damaged or missing.
    """
    return read_tensors(path)
