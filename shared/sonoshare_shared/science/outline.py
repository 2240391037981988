"""How the outline of a lesion is drawn on a picture that people look at."""

from typing import Final

import numpy as np
from numpy.typing import NDArray

OUTLINE: Final = (255, 176, 46)
"""Amber: visible on grey."""


def outlined(grey: NDArray[np.uint8], mask: NDArray[np.generic]) -> NDArray[np.uint8]:
    """A picture in colour with the outline of its mask on it.

    Args:
        grey: uint8 [H, W].
        mask: [H, W], not zero inside; an empty one draws nothing.

    Returns:
        uint8 [H, W, 3].
    """
    colour = np.repeat(grey[:, :, None], 3, axis=2)
    return np.where(_edge(mask)[:, :, None], np.array(OUTLINE, np.uint8), colour)


def _edge(mask: NDArray[np.generic]) -> NDArray[np.bool_]:
    """Pixels of the mask that have a neighbour outside it."""
    inside = np.pad(np.asarray(mask) != 0, 1)
    core = inside[:-2, 1:-1] & inside[2:, 1:-1] & inside[1:-1, :-2] & inside[1:-1, 2:]
    edge: NDArray[np.bool_] = inside[1:-1, 1:-1] & ~core
    return edge
