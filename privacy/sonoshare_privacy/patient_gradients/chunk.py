"""A chunk's batch: the draws of some patients, and public rows in the places that are left.

Promised: shape, dtype, device and memory layout of the batch are those of the padding, whoever is in it. What differs
from the padding in kind is refused, because it would change the batch for everybody.
"""

from collections.abc import Mapping, Sequence

import torch

from sonoshare_shared.errors import ModelError

Batch = Mapping[str, torch.Tensor]


def patients_in(drawn: Batch, padding: Batch) -> int:
    """How many patients' rows these are.

    Args:
        drawn: K rows of each patient, all rows of one together.
        padding: K public rows.

    Raises:
        ModelError: the rows are of another kind than the padding's, or not K for every patient.
    """
    draws = len(next(iter(padding.values())))
    counts = {len(rows) for rows in drawn.values()}
    alike = drawn.keys() == padding.keys() and all(_alike(drawn[name], padding[name]) for name in padding)
    if not alike or len(counts) != 1 or any(count % draws for count in counts):
        raise ModelError(
            "patients' draws differ from the probe's in name, shape or type",
            remedy="draw the same tensors for every patient, and the probe like them",
        )
    return counts.pop() // draws


def fill_places(drawn: Batch, padding: Batch, places: int) -> dict[str, torch.Tensor]:
    """Rows of the patients in order, then the padding until every place is taken.

    Args:
        drawn: K rows of each of at most ``places`` patients.
        padding: K public rows.
        places: P.

    Returns:
        Tensors of P * K rows.

    Raises:
        ModelError: there are too many patients, or their rows are of another kind than the padding's.
    """
    count = patients_in(drawn, padding)
    if count > places:
        raise ModelError("more patients than a chunk has places", remedy="split the sample by `chunks`")
    filled = {}
    for name, like in padding.items():
        draws = like.shape[0]
        layout = torch.contiguous_format
        if like.dim() == 4 and not like.is_contiguous() and like.is_contiguous(memory_format=torch.channels_last):
            layout = torch.channels_last
        shape = (places * draws, *like.shape[1:])
        rows = torch.empty(shape, dtype=like.dtype, device=like.device, memory_format=layout)
        rows[: count * draws].copy_(drawn[name])
        if count < places:
            rows[count * draws :].view(places - count, draws, *like.shape[1:]).copy_(like)
        filled[name] = rows
    return filled


def together(patients: Sequence[Batch]) -> dict[str, torch.Tensor]:
    """Rows of several patients as those of one batch, in order."""
    return {name: torch.cat([patient[name] for patient in patients]) for name in patients[0]}


def _alike(one: torch.Tensor, other: torch.Tensor) -> bool:
    return (one.shape[1:], one.dtype, one.device) == (other.shape[1:], other.dtype, other.device)
