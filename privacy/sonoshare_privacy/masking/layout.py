"""Which numbers of an update stand where in the vector that is masked, and on which grid: public constants.

The vector holds an adapter's tensors in the order of their names, each on the grid of its own reach in one round
(``sonoshare_privacy.update_bound``), and the noisy losses of the round's steps. All hospitals of a sum must have the
same layout: two grids would add apples to pears. So each signs its ``digest``, which names every tensor, its size and
its unit.

Losses beyond ``LOSS_REACH`` are cut to it. They are noised already: this is post-processing, and harms a display alone.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from sonoshare_privacy.masking.fixed_point import Grid, Words, decode, encode
from sonoshare_privacy.optimiser import Optimiser
from sonoshare_privacy.update_bound import round_reach, rounding_slack, tensor_scale
from sonoshare_shared.errors import IntegrityError
from sonoshare_shared.protocol.canonical import canonical_bytes, sha256_hex

LOSS_REACH: Final = 2.0**16


@dataclass(frozen=True)
class Part:
    """Numbers that stand together: a tensor's name (None for the losses), how many, and their grid."""

    name: str | None
    count: int
    grid: Grid


@dataclass(frozen=True)
class MeanUpdate:
    """What a sum says: the weighted mean of updates.

    Attributes:
        tensors: mean movement of each tensor, float64 [numbers of the tensor].
        losses: mean noisy loss of each step.
    """

    tensors: dict[str, NDArray[np.float64]]
    losses: tuple[float, ...]


@dataclass(frozen=True)
class Layout:
    """The places of a vector, in order."""

    parts: tuple[Part, ...]

    @classmethod
    def of(cls, adapter: Mapping[str, NDArray[np.float32]], optimiser: Optimiser, steps: int) -> "Layout":
        """The layout of a round's update.

        Args:
            adapter: what the round starts from.
            optimiser: the plan's, in this round.
            steps: of the round.
        """
        in_scale = round_reach(optimiser, steps)
        parts = [
            Part(name, adapter[name].size, Grid.of(_reach(optimiser, adapter[name], in_scale, steps)))
            for name in sorted(adapter)
        ]
        return cls((*parts, Part(None, steps, Grid.of(LOSS_REACH))))

    @property
    def words(self) -> int:
        """Length of the vector."""
        return sum(part.count for part in self.parts)

    def digest(self) -> str:
        """Sha256 of names, sizes and units, 64 hexadecimal characters."""
        return sha256_hex(canonical_bytes([[part.name, part.count, part.grid.exponent] for part in self.parts]))

    def encoded(self, tensors: Mapping[str, NDArray[Any]], losses: Sequence[float], weight: int) -> Words:
        """An update as words, times a hospital's weight.

        Args:
            tensors: exactly the tensors of the layout.
            losses: of the round's steps.
            weight: of the hospital, a public constant.

        Raises:
            IntegrityError: a number is beyond what training can reach, or tensors do not fit.
        """
        cut = np.clip(np.asarray(losses, np.float64), -LOSS_REACH, LOSS_REACH)
        values = [cut if part.name is None else tensors[part.name].reshape(-1) for part in self.parts]
        if len(tensors) != len(self.parts) - 1 or any(
            len(value) != part.count for value, part in zip(values, self.parts, strict=True)
        ):
            raise IntegrityError("the update does not fit the adapter")
        return np.concatenate(
            [encode(value, part.grid, weight) for value, part in zip(values, self.parts, strict=True)]
        )

    def decoded(self, words: Words, total: int) -> MeanUpdate:
        """The mean that a sum of words says.

        Args:
            words: the sum over hospitals.
            total: sum of their weights.

        Raises:
            IntegrityError: no updates that training can reach have this sum.
        """
        ends = [0, *accumulate(part.count for part in self.parts)]
        means = {
            part.name: decode(words[start:end], part.grid, total)
            for part, (start, end) in zip(self.parts, pairwise(ends), strict=True)
        }
        losses = means.pop(None)
        return MeanUpdate({str(name): mean for name, mean in means.items()}, tuple(losses.tolist()))


def _reach(optimiser: Optimiser, start: NDArray[np.float32], in_scale: float, steps: int) -> float:
    """Furthest that any number of a tensor can move in a round, rounding of float32 included."""
    reach = in_scale * tensor_scale(optimiser, start)
    return reach + float(rounding_slack(start, reach, steps).max())
