"""The draws of several pictures as one, for `torch_arithmetic`; on the host, without torch.

Numbers become arrays [B, 1, 1] and arrays [B, ...], in float32 but for outlines, which stay in float64. Of the parts
that some pictures have there are as many as the picture with most of them has; each says whose it is. Of a smooth
field, lateral frequencies that its filter stops are left out.
"""

from collections.abc import Sequence
from dataclasses import fields, is_dataclass, replace
from typing import Any, TypeVar

import numpy as np

from sonoshare_shared.science.phantom.arithmetic import Part, Values
from sonoshare_shared.science.phantom.fields import FieldDraws, gaussian_response
from sonoshare_shared.science.phantom.lesion_drawing import Contour
from sonoshare_shared.science.phantom.noise import Noise, NoiseKey, keyed_noise
from sonoshare_shared.science.phantom.simulator import PhantomDraws, Recipe, draw_one

Draws = TypeVar("Draws")
_NEGLIGIBLE = 1e-6
"""A filter stops a frequency of which it lets through less than this."""


def draw_batch(recipes: Sequence[Recipe], *, seed: int, side: int, noise: Noise = keyed_noise) -> PhantomDraws:
    """All that is random in some pictures.

    Args:
        recipes: which pictures, at least one.
        seed: seed of the series, at least 0.
        side: of the grid, pixels.
        noise: draws or names white noise.
    """
    return stacked([draw_one(recipe, seed=seed, side=side, noise=noise).draws for recipe in recipes])


def stacked(draws: Sequence[Draws]) -> Draws:
    """The draws of one or more pictures as one."""
    return _stacked(draws, np.float32)  # type: ignore[no-any-return] # of the type that came


def _stacked(values: Sequence[Any], kept: type[np.floating]) -> Values:
    first = values[0]
    if isinstance(first, tuple):
        return _parts(values, kept)
    if isinstance(first, NoiseKey):
        return replace(first, key=np.array([one.key for one in values], dtype=np.int64))
    if isinstance(first, FieldDraws):
        values = _let_through(values)
    if is_dataclass(first) and not isinstance(first, type):
        kept = np.float64 if isinstance(first, Contour) else kept
        names = [each.name for each in fields(first)]
        return replace(first, **{name: _stacked([getattr(one, name) for one in values], kept) for name in names})
    if isinstance(first, np.ndarray):
        return np.stack(values, dtype=kept if first.dtype == np.float64 else first.dtype, casting="same_kind")
    return np.array(values, dtype=kept)[:, None, None]


def _parts(values: Sequence[tuple[Part[Any], ...]], kept: type[np.floating]) -> tuple[Part[Any], ...]:
    """The first part of all pictures that have one, their second part, and so on."""
    found = []
    for place in range(max(len(parts) for parts in values)):
        rows = [row for row, parts in enumerate(values) if len(parts) > place]
        draws = _stacked([values[row][place].draws for row in rows], kept)
        found.append(Part(draws, slice(None) if len(rows) == len(values) else np.array(rows)))
    return tuple(found)


def _let_through(values: Sequence[FieldDraws]) -> list[FieldDraws]:
    """The same fields without the lateral frequencies that the filters of all of them stop."""
    first = values[0].parts
    n = first.rows if isinstance(first, NoiseKey) else first.shape[-2]
    widest = gaussian_response(n, min(one.sigma_lateral for one in values) * n)[: n // 2 + 1]
    kept = int(np.count_nonzero(widest > _NEGLIGIBLE))
    return [replace(one, parts=_cut(one.parts, kept)) for one in values]


def _cut(parts: Values, columns: int) -> Values:
    return replace(parts, columns=columns) if isinstance(parts, NoiseKey) else parts[..., :columns]
