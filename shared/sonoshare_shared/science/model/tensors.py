"""Named tensors as bytes and files: safetensors only, checked before use.

Only the safetensors format is read. Files that could hold pickled code are refused by extension and by their first
bytes, before any parser sees them. The same tensors always give the same bytes (names are sorted, no metadata
unless given), so a digest of the bytes names the tensors.
"""

from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load, save
from torch import Tensor

from sonoshare_shared.durable import write_atomically
from sonoshare_shared.errors import ModelError

State = dict[str, Tensor]

_PICKLE_SUFFIXES = frozenset({".pt", ".pth", ".bin", ".ckpt", ".pkl", ".pickle", ".joblib", ".npy", ".npz"})
# Protocol 2 to 5 pickles, zip (torch.save since 1.6), the first bytes of older torch.save and of NumPy files.
_PICKLE_MAGIC = (b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05", b"PK\x03\x04", b"\x93NUMPY")
_SAFE = "only safetensors files are read: convert it where it was made"


def tensor_bytes(state: Mapping[str, Tensor], metadata: dict[str, str] | None = None) -> bytes:
    """Canonical safetensors bytes of a state."""
    ordered = {name: state[name].detach().cpu().contiguous() for name in sorted(state)}
    return bytes(save(ordered, metadata=metadata))


def tensors_from(data: bytes) -> State:
    """Parse safetensors bytes.

    Raises:
        ModelError: it is a pickle or zip, or the header does not fit the bytes (length, offsets, shapes, types).
    """
    if data.startswith(_PICKLE_MAGIC):
        raise ModelError("these weights could run code when loaded", remedy=_SAFE)
    try:
        return dict(load(data))
    except (SafetensorError, ValueError, KeyError) as error:
        # KeyError: a type that safetensors knows and torch does not.
        raise ModelError(f"not a valid safetensors file: {error}", remedy="fetch or export it again") from error


def read_tensors(path: Path) -> State:
    """Read a safetensors file.

    Raises:
        ModelError: the file is of another kind (by extension or by its first bytes), damaged or missing.
    """
    _refuse_by_name(path)
    try:
        data = path.read_bytes()
    except OSError as error:
        raise ModelError(f"cannot read {path.name}: {error.strerror}", remedy="check the path") from error
    return tensors_from(data)


def read_metadata(path: Path) -> dict[str, str]:
    """Text fields in the header of a safetensors file.

    Raises:
        ModelError: as `read_tensors`.
    """
    _refuse_by_name(path)
    try:
        with safe_open(path, framework="pt") as file:
            return dict(file.metadata() or {})
    except (OSError, SafetensorError) as error:
        raise ModelError(f"not a valid safetensors file: {path.name}", remedy="check the path") from error


def write_tensors(path: Path, state: Mapping[str, Tensor], metadata: dict[str, str] | None = None) -> None:
    """Write a safetensors file whole or not at all.

    Raises:
        OSError: it could not be written; an older file is as it was.
    """
    write_atomically(path, tensor_bytes(state, metadata))


def require_same_layout(state: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> None:
    """Refuse a state that does not fit: names, shapes, float32, finite.

    Raises:
        ModelError: names the first tensor that does not fit.
    """
    remedy = "use an adapter made for this base and these trained parameters"
    for name in sorted(set(state) ^ set(expected)):
        problem = "is not expected" if name in state else "is missing"
        raise ModelError(f"tensor {name[:80]!r} {problem}", remedy=remedy)
    for name in sorted(expected):
        tensor, wanted = state[name], expected[name]
        if tensor.shape != wanted.shape:
            shapes = f"{tuple(tensor.shape)}, not {tuple(wanted.shape)}"
            raise ModelError(f"tensor {name!r} has shape {shapes}", remedy=remedy)
        if tensor.dtype != torch.float32:
            raise ModelError(f"tensor {name!r} is {tensor.dtype}, not torch.float32", remedy=remedy)
        if not bool(torch.isfinite(tensor).all()):
            raise ModelError(f"tensor {name!r} holds NaN or infinity", remedy="discard it and train again")


def _refuse_by_name(path: Path) -> None:
    if path.suffix.lower() in _PICKLE_SUFFIXES:
        raise ModelError(f"files of kind {path.suffix} could run code when loaded", remedy=_SAFE)
