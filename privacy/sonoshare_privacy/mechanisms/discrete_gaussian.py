"""The discrete Gaussian, drawn exactly: P(x) proportional to exp(-x**2 / (2 deviation**2)) over the integers.

Proof and bounds: ``docs/proofs/gaussian-noise.md``. The target is that of Canonne, Kamath and Steinke, "The discrete
Gaussian for differential privacy" (NeurIPS 2020); the way of drawing is ours, because it must fill vectors of millions:

1. The integers within 16 deviations are cut into 4096 columns of 2**k integers. A column is drawn by Walker's alias
   method with integer weights that add up to 2**64: exactly, by one uniform word.
2. An integer of the column is drawn uniformly, by the low k bits of a second word.
3. It is accepted with probability c * exp(-x**2 / (2 deviation**2)) / weight of the column, at most 1 by construction.
   The remaining bits of the second word are compared with a lower bound of that (a *squeeze*): most draws are
   accepted there, on integers alone. The others are decided in float64 where the comparison is clear by a margin of
   2**-38, and else by decimal arithmetic and further bits, as many as it takes.

So every decision is the one that real numbers would give. Not drawn: what lies beyond 16 deviations, a mass of 2**-189.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal, localcontext
from functools import lru_cache
from typing import Final

import numpy as np
from numpy.typing import NDArray

from sonoshare_privacy.mechanisms.keystream import Keystream, random_words
from sonoshare_shared.errors import InputError

COLUMNS: Final = 4096
REACH: Final = 16.0  # deviations that the columns span to each side, at least
LARGEST_DEVIATION: Final = 2.0**56  # 16 deviations and as much again stay below 2**63

_WORD_BITS: Final = 64
_CELL_BITS: Final = 52  # of a word, below the 12 bits that choose one of 4096 cells
_FINE_BITS: Final = 53  # further bits of the float64 decision
_BLOCK: Final = 1 << 13  # numbers at once: words, tables and scratch stay in the second-level cache
_TABLE_MARGIN: Final = 2.0**-30  # relative room that the table's float64 figures (good to 2**-44) are given
_MARGIN: Final = 2.0**-38  # relative; float64's own error in a decision is below 2**-43
_DIGITS: Final = 60  # of decimal arithmetic, beside one for every bit drawn
_GUARD_DIGITS: Final = 20  # of these, left to its rounding


@dataclass(frozen=True)
class Columns:
    """The proposal and its acceptance for one deviation; everything is determined by it.

    Attributes:
        deviation: of the target.
        shift: k; a column holds 2**k integers.
        spare: lowest bit of the second word that the acceptance uses; k, or 2 where k is smaller.
        scale: c.
        weights: integers that add up to 2**64, one a column.
        thresholds: of the alias cells, uint64 [4096]; below it a cell gives its own column.
        aliases: the other column of each cell, int64 [4096].
        squeezes: uint64 [4096]; bits below are accepted at once.
        nearest: integer of each column with the largest probability, int64 [4096].
        ratios: float64 [4096], acceptance of that integer.
    """

    deviation: float
    shift: int
    spare: int
    scale: int
    weights: tuple[int, ...]
    thresholds: NDArray[np.uint64]
    aliases: NDArray[np.int64]
    squeezes: NDArray[np.uint64]
    nearest: NDArray[np.int64]
    ratios: NDArray[np.float64]

    def accepts_exactly(self, x: int, column: int, drawn: int, bits: int) -> bool:
        """Whether a uniform number whose first binary digits are ``drawn`` / 2**bits is below the acceptance of x."""
        with localcontext() as context:
            while True:
                # Digits for the number drawn so far, for an exponent of 128 at most, and to spare.
                context.prec = _DIGITS + bits
                margin = Decimal(10) ** (_GUARD_DIGITS - context.prec)
                exponent = -Decimal(x * x) / (2 * Decimal(self.deviation) ** 2)
                acceptance = self.scale * exponent.exp() / self.weights[column]
                if Decimal(drawn + 1) / (1 << bits) <= acceptance * (1 - margin):
                    return True
                if Decimal(drawn) / (1 << bits) >= acceptance * (1 + margin):
                    return False
                drawn, bits = (drawn << _WORD_BITS) | int(random_words(1)[0]), bits + _WORD_BITS


@lru_cache(maxsize=8)
def columns_for(deviation: float) -> Columns:
    """The columns of a deviation.

    Raises:
        InputError: the deviation is not between 1 and 2**56.
    """
    if not 1 <= deviation <= LARGEST_DEVIATION:
        raise InputError("the noise's deviation must be between 1 and 2**56 grid units", remedy="correct the plan")
    shift = max(0, math.floor(math.log2(deviation)) - 6)
    width = 1 << shift
    left = [(column - COLUMNS // 2) * width for column in range(COLUMNS)]
    nearest = [start if start >= 0 else start + width - 1 for start in left]
    farthest = [start + width - 1 if start >= 0 else start for start in left]
    heights = [math.exp(-((x / deviation) ** 2) / 2) for x in nearest]
    scale = math.floor((2**_WORD_BITS - 4 * COLUMNS) / (math.fsum(heights) * (1 + 2 * _TABLE_MARGIN)))
    weights = [math.floor(scale * height * (1 + _TABLE_MARGIN)) + 2 for height in heights]
    weights[COLUMNS // 2] += 2**_WORD_BITS - sum(weights)  # what is left over goes to the highest, never less than 0
    ratios = [scale * height / weight for height, weight in zip(heights, weights, strict=True)]
    spare = max(shift, 2)
    squeezes = [
        math.floor(
            2.0 ** (_WORD_BITS - spare) * ratio * math.exp(-((far / deviation) ** 2 - (near / deviation) ** 2) / 2)
            * (1 - _TABLE_MARGIN)
        )
        for ratio, far, near in zip(ratios, farthest, nearest, strict=True)
    ]  # fmt: skip
    thresholds, aliases = _alias_table(weights)
    return Columns(
        deviation=deviation,
        shift=shift,
        spare=spare,
        scale=scale,
        weights=tuple(weights),
        thresholds=np.array(thresholds, dtype=np.uint64),
        aliases=np.array(aliases, dtype=np.int64),
        squeezes=np.array(squeezes, dtype=np.uint64),
        nearest=np.array(nearest, dtype=np.int64),
        ratios=np.array(ratios),
    )


def _alias_table(weights: Sequence[int]) -> tuple[list[int], list[int]]:
    """Cells of 2**52 that hold the weights exactly: thresholds and aliases (Walker 1977; Vose 1991), in integers."""
    capacity = 1 << _CELL_BITS
    rest = list(weights)
    thresholds, aliases = [capacity] * len(rest), list(range(len(rest)))
    small = [i for i, weight in enumerate(rest) if weight < capacity]
    large = [i for i, weight in enumerate(rest) if weight >= capacity]
    while small:
        poor, rich = small.pop(), large[-1]
        thresholds[poor], aliases[poor] = rest[poor], rich
        rest[rich] -= capacity - rest[poor]
        if rest[rich] < capacity:
            small.append(large.pop())
    return thresholds, aliases


@dataclass(frozen=True)
class _Undecided:
    """Draws that the squeeze did not accept: where they were put, what they are, and what decides."""

    places: NDArray[np.int64]
    values: NDArray[np.int64]
    columns: NDArray[np.int64]
    drawn: NDArray[np.uint64]


def add_discrete_gaussian(total: NDArray[np.int64], deviation: float) -> None:
    """Add independent discrete Gaussian noise, under a fresh key, to int64 [count] in place.

    Raises:
        InputError: the deviation is not between 1 and 2**56.
    """
    columns = columns_for(deviation)
    undecided = _add_proposals(total, columns)
    if undecided is None:
        return
    refused = ~_accepted(undecided, columns)
    places = undecided.places[refused]
    if len(places):
        again = np.zeros(len(places), dtype=np.int64)
        add_discrete_gaussian(again, deviation)
        total[places] += again - undecided.values[refused]


def _add_proposals(total: NDArray[np.int64], columns: Columns) -> _Undecided | None:
    """Steps 1 and 2 for every number, added to ``total``; returns those that the squeeze leaves open."""
    size = min(_BLOCK, len(total))
    stream = Keystream(2 * size)
    cells, limits = np.empty(size, np.uint64), np.empty(size, np.uint64)
    flags, chosen = np.empty(size, np.bool_), np.empty(size, np.int64)
    below_cell, below_column = np.uint64((1 << _CELL_BITS) - 1), np.uint64((1 << columns.shift) - 1)
    first = np.int64(-(COLUMNS // 2) << columns.shift)
    found = []
    for start in range(0, len(total), _BLOCK):
        words = stream.advance()
        one, two = words[:size], words[size:]
        np.right_shift(one, np.uint64(_CELL_BITS), out=cells)
        index = cells.view(np.int64)
        np.bitwise_and(one, below_cell, out=one)
        np.take(columns.thresholds, index, out=limits, mode="clip")
        np.greater_equal(one, limits, out=flags)
        np.take(columns.aliases, index, out=chosen, mode="clip")
        np.copyto(index, chosen, where=flags)  # from here on the column
        np.take(columns.squeezes, index, out=limits, mode="clip")
        np.right_shift(two, np.uint64(columns.spare), out=one)
        np.greater_equal(one, limits, out=flags)
        np.bitwise_and(two, below_column, out=two)
        np.left_shift(cells, np.uint64(columns.shift), out=limits)
        np.bitwise_or(limits, two, out=limits)
        values = limits.view(np.int64)
        values += first
        count = min(_BLOCK, len(total) - start)
        total[start : start + count] += values[:count]
        open_ = np.flatnonzero(flags[:count])
        if len(open_):
            found.append(_Undecided(open_ + start, values[open_], index[open_], one[open_]))
    if not found:
        return None
    fields = ("places", "values", "columns", "drawn")
    return _Undecided(*(np.concatenate([getattr(part, field) for part in found]) for field in fields))


def _accepted(undecided: _Undecided, columns: Columns) -> NDArray[np.bool_]:
    """Step 3: by float64 where it is clear, else exactly."""
    near = columns.nearest[undecided.columns]
    # Factored, so that neither x**2 overflows nor near-equal squares cancel; x - near is exact, below 2**k.
    exponent = (undecided.values - near).astype(np.float64) / columns.deviation
    exponent *= (undecided.values.astype(np.float64) + near) / columns.deviation
    acceptance = columns.ratios[undecided.columns] * np.exp(-exponent / 2)
    bits = _WORD_BITS - columns.spare
    fine = random_words(len(near)) >> np.uint64(_WORD_BITS - _FINE_BITS)
    drawn = undecided.drawn.astype(np.float64)
    low = (drawn + fine * 2.0**-_FINE_BITS) * 2.0**-bits
    high = (drawn + (fine + np.uint64(1)) * 2.0**-_FINE_BITS) * 2.0**-bits
    accepted: NDArray[np.bool_] = high * (1 + _MARGIN) < acceptance
    for i in np.flatnonzero(~accepted & (low * (1 - _MARGIN) < acceptance)):
        exact = (int(undecided.drawn[i]) << _FINE_BITS) | int(fine[i])
        x, column = int(undecided.values[i]), int(undecided.columns[i])
        accepted[i] = columns.accepts_exactly(x, column, exact, bits + _FINE_BITS)
    return accepted
