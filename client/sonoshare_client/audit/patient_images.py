"""Patients as audits read them: one at a time, however many there are.

A hospital's 100,000 images do not fit into memory as float32. Whoever holds them in another form makes a patient's when
that patient is looked at; an audit keeps none.
"""

from collections.abc import Sequence
from typing import Protocol, overload

import numpy as np
from numpy.typing import NDArray


class PatientImages(Protocol):
    """What the auditor needs of a patient."""

    @property
    def images(self) -> NDArray[np.float32]:
        """Float32 [k, S, S] in 0..1, k >= 1."""


class ImagesOf(Sequence[NDArray[np.float32]]):
    """Images of each patient of some groups, one group after the other, taken when they are asked for and not kept."""

    def __init__(self, *groups: Sequence[PatientImages]) -> None:
        self._groups = groups

    def __len__(self) -> int:
        """Number of patients."""
        return sum(map(len, self._groups))

    @overload
    def __getitem__(self, place: int) -> NDArray[np.float32]: ...

    @overload
    def __getitem__(self, place: slice) -> Sequence[NDArray[np.float32]]: ...

    def __getitem__(self, place: int | slice) -> NDArray[np.float32] | Sequence[NDArray[np.float32]]:
        """Float32 [k, S, S] of one patient, or of some."""
        if isinstance(place, slice):
            return [self[one] for one in range(*place.indices(len(self)))]
        if not 0 <= place < len(self):
            raise IndexError("there is no such patient")
        for group in self._groups:
            if place < len(group):
                break
            place -= len(group)
        return group[place].images
