"""Exact search: the most alike members of a large set for each query, by blocked matrix products.

A query is one vector, or several *poses* of one thing, of which the most alike counts; likeness is the inner product.
The product is computed block by block into one buffer of ``BLOCK_BYTES`` with a running best, so that memory beyond
the vectors and the answer is bounded whatever their number.

Promises: every pair is computed, there is no index that could miss one. Of equal products the member that stands first
wins, whatever the blocks. A query's answer depends on that query and the members alone, to the last bit where it has
several poses: its products are then computed apart from those of other queries, in blocks of a fixed shape. Does not
promise: that equal vectors have equal products to the last bit of a float32 in every block; there, rounding decides.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np
import torch
from torch import Tensor

from sonoshare_shared.errors import InputError
from sonoshare_shared.science.device import CPU

BLOCK_BYTES: Final = 8 * 2**20
"""Products held at a time; a few copies of a block are alive while more than one best is taken out of it."""

_ROWS_PER_BLOCK: Final = 2048
"""Queries of one pose in a block."""

_FLOAT_BYTES: Final = 4


@dataclass(frozen=True, eq=False)
class Matches:
    """The best members of each query, the most alike first; rows are queries.

    Args:
        scores: float32 [m, k].
        places: int64 [m, k], which member.
    """

    scores: Tensor
    places: Tensor


def best_matches(members: Tensor, queries: Tensor, best: int = 1) -> Matches:
    """Find the ``best`` most alike members of every query; all of them where there are not so many.

    Args:
        members: float32 [n, d].
        queries: float32 [m, poses, d], on the same device.
        best: how many members of each query are wanted, at least 1.

    Raises:
        InputError: the shapes do not fit, or nothing is wanted.
    """
    if members.ndim != 2 or queries.ndim != 3 or members.shape[1] != queries.shape[2] or best < 1:
        raise InputError("a search needs members [n, d], queries [m, poses, d], and at least one wanted match")
    count, poses, _ = queries.shape
    kept, rows = min(best, len(members)), _ROWS_PER_BLOCK if poses == 1 else 1
    scores = members.new_empty(count, kept)
    places = torch.empty(count, kept, dtype=torch.int64, device=members.device)
    for start in range(0, count, rows):
        span = slice(start, start + rows)
        scores[span], places[span] = _of_block(members, queries[span], kept)
    return Matches(scores, places)


def products(left: Tensor, right: Tensor, out: Tensor | None = None) -> Tensor:
    """Inner products of all rows, [n left, n right]; into ``out`` where it is given.

    On a processor NumPy's BLAS computes them: measured 1.1 to 1.6 times as fast as PyTorch's where that is MKL on AMD.
    """
    if left.device != CPU:
        return torch.matmul(left, right.T, out=out)
    into = None if out is None else out.numpy()
    return torch.from_numpy(np.matmul(left.numpy(), right.numpy().T, out=into))


def _of_block(members: Tensor, posed: Tensor, kept: int) -> tuple[Tensor, Tensor]:
    """The best of a block of queries over all members, part by part."""
    count, poses, _ = posed.shape
    flat = posed.flatten(0, 1)
    scores = members.new_full((count, kept), -torch.inf)
    places = torch.zeros(count, kept, dtype=torch.int64, device=members.device)
    width = max(1, BLOCK_BYTES // _FLOAT_BYTES // len(flat))
    buffer = members.new_empty(len(flat) * min(width, len(members)))
    for first in range(0, len(members), width):
        part = members[first : first + width]
        out = buffer[: len(flat) * len(part)].view(len(flat), len(part))
        alike = products(flat, part, out).view(count, poses, len(part))
        block = alike[:, 0] if poses == 1 else alike.amax(1)
        if kept == 1:
            _keep_better(scores[:, 0], places[:, 0], block, first)
        else:
            fresh, at = _contenders(block, scores[:, -1])
            joined = torch.cat([scores, fresh], 1)
            scores, places = _highest(joined, torch.cat([places, at + first], 1), kept)
    return scores, places


def _keep_better(scores: Tensor, places: Tensor, block: Tensor, first: int) -> None:
    """Take what beats the running best, in place; a tie leaves the earlier member."""
    # Of equal values both return the first; on a processor PyTorch's is ten times as slow as NumPy's.
    at = torch.from_numpy(block.numpy().argmax(1)) if block.device == CPU else block.argmax(1)
    top = block.gather(1, at[:, None])[:, 0]
    better = top > scores  # without a mask as index: a GPU would have to tell the processor how many there are
    scores.copy_(torch.where(better, top, scores))
    places.copy_(torch.where(better, at + first, places))


def _contenders(block: Tensor, limit: Tensor) -> tuple[Tensor, Tensor]:
    """What beats a row's running limit, moved to the left in order, minus infinity to its right; and its columns."""
    row, column = torch.nonzero(block > limit[:, None], as_tuple=True)
    counts = torch.bincount(row, minlength=len(block))
    left = torch.arange(len(row), device=block.device) - (counts.cumsum(0) - counts)[row]
    fresh = block.new_full((len(block), int(counts.max())), -torch.inf)
    at = torch.zeros(fresh.shape, dtype=torch.int64, device=block.device)
    fresh[row, left], at[row, left] = block[row, column], column
    return fresh, at


def _highest(scores: Tensor, places: Tensor, kept: int) -> tuple[Tensor, Tensor]:
    """The ``kept`` highest of each row in falling order; of equal ones the leftmost."""
    limit = scores.topk(kept, dim=1).values[:, -1:]
    above, level = scores > limit, scores == limit
    room = kept - above.sum(1, keepdim=True)
    chosen = torch.nonzero(above | (level & (level.cumsum(1) <= room)))[:, 1].view(len(scores), kept)
    values, order = scores.gather(1, chosen).sort(dim=1, descending=True, stable=True)
    return values, places.gather(1, chosen.gather(1, order))
