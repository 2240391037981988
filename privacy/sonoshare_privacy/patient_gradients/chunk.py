"""A chunk's batch: the draws of some patients, and public rows in the places that are left.

Promised: shape, dtype, device and memory layout of the batch are those of the padding, whoever is in it. What differs
from the padding in kind is refused, because it would change the batch for everybody.
"""

from collections.abc import Mapping, Sequence

import torch

from sonoshare_shared.errors import ModelError

Batch = Mapping[str, torch.Tensor]


def fill_places(patients: Sequence[Batch], padding: Batch, places: int) -> dict[str, torch.Tensor]:
    """Rows of the patients in order, then the padding until every place is taken.

    Args:
        patients: K rows of each, at most ``places``.
        padding: K public rows.
        places: P.

    Returns:
        Tensors of P * K rows.

    Raises:
        ModelError: there are too many patients, or a patient's rows are of another kind than the padding's.
    """
    if len(patients) > places:
        raise ModelError("more patients than a chunk has places", remedy="split the sample by `chunks`")
    for patient in patients:
        if patient.keys() != padding.keys() or any(not _alike(patient[name], padding[name]) for name in padding):
            raise ModelError(
                "a patient's draws differ from the probe's in name, shape or type",
                remedy="draw the same tensors for every patient, and the probe like them",
            )
    filled = {}
    for name, like in padding.items():
        draws = like.shape[0]
        layout = torch.contiguous_format
        if like.dim() == 4 and not like.is_contiguous() and like.is_contiguous(memory_format=torch.channels_last):
            layout = torch.channels_last
        shape = (places * draws, *like.shape[1:])
        rows = torch.empty(shape, dtype=like.dtype, device=like.device, memory_format=layout)
        for place in range(places):
            batch = patients[place] if place < len(patients) else padding
            rows[place * draws : (place + 1) * draws].copy_(batch[name])
        filled[name] = rows
    return filled


def _alike(one: torch.Tensor, other: torch.Tensor) -> bool:
    return (one.shape, one.dtype, one.device) == (other.shape, other.dtype, other.device)
