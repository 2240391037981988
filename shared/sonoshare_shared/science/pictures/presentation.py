"""From stored values of a grey DICOM image to the eight bits that a viewer shows.

In the order of PS3.3 C.7.6.3, C.11.1 and C.11.2: how many bits are used, modality table or slope, window or table of
values of interest, inversion. Ultrasound objects seldom have more than the first and the last. Everything comes from
the header, but for the depth: a container of 16 bits of which only 8, 10 or 12 are used is read as what is used.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from sonoshare_shared.science.levels import eight_bits, leading_eight_bits, used_bits

_IDENTITY_SLOPE: Final = (1.0, 0.0)
_LARGEST_TABLE: Final = 1 << 16


@dataclass(frozen=True)
class Table:
    """A lookup table: values by input, from a first input on."""

    first: int
    values: NDArray[np.float32]


@dataclass(frozen=True)
class Presentation:
    """How stored grey values are shown.

    Attributes:
        stored: bits of a value that are used, by header or code stream.
        inverted: the smallest value is white.
        slope: factor and summand of the modality transform.
        modality: modality table, which stands in its place, or None.
        window: centre and width, or None.
        interest: table of values of interest, which stands in the window's place, or None.
    """

    stored: int
    inverted: bool = False
    slope: tuple[float, float] = _IDENTITY_SLOPE
    modality: Table | None = None
    window: tuple[float, float] | None = None
    interest: Table | None = None

    def shown(self, values: NDArray[Any]) -> NDArray[np.uint8]:
        """Grey levels as shown, uint8 of the shape of the values."""
        kept = values & ((1 << self.stored) - 1)  # overlays may lie above
        if self.window is None and self.interest is None and self.modality is None:
            levels = leading_eight_bits(kept, used_bits(kept, self.stored))
        else:
            levels = eight_bits(self._fractions(kept))
        return 255 - levels if self.inverted else levels

    def _fractions(self, kept: NDArray[Any]) -> NDArray[np.float32]:
        top = float((1 << used_bits(kept, self.stored)) - 1)
        values = kept.astype(np.float32)
        if self.modality is not None:
            values, top = _looked_up(self.modality, values), float(max(1.0, self.modality.values.max()))
        elif self.window is not None or self.interest is not None:
            values = values * np.float32(self.slope[0]) + np.float32(self.slope[1])
        if self.interest is not None:
            return _looked_up(self.interest, values) / np.float32(max(1.0, self.interest.values.max()))
        if self.window is None:
            return values / np.float32(top)
        centre, width = self.window
        # PS3.3 C.11.2.1.2.1, linear; a width of one is a threshold.
        return np.asarray((values - (centre - 0.5)) / max(width - 1.0, 1e-3) + 0.5, dtype=np.float32)


def presentation_of(dataset: Any, stored: int) -> Presentation:
    """The presentation that a header asks for; what is missing or makes no sense is left out.

    Args:
        dataset: attributes of the header.
        stored: bits of a value that are used.
    """
    inverted = _text(dataset, "PhotometricInterpretation") == "MONOCHROME1"
    centre, width = _float(dataset, "WindowCenter"), _float(dataset, "WindowWidth")
    window = (centre, width) if centre is not None and width is not None and width >= 1.0 else None
    if _text(dataset, "VOILUTFunction") not in ("", "LINEAR"):
        window = None
    slope, intercept = _float(dataset, "RescaleSlope"), _float(dataset, "RescaleIntercept")
    return Presentation(
        stored=stored,
        inverted=inverted or _text(dataset, "PresentationLUTShape") == "INVERSE",
        slope=(slope, intercept or 0.0) if slope else _IDENTITY_SLOPE,
        modality=_table(dataset.get("ModalityLUTSequence")),
        window=window,
        interest=_table(dataset.get("VOILUTSequence")),
    )


def _looked_up(table: Table, values: NDArray[np.float32]) -> NDArray[np.float32]:
    places = np.clip(np.rint(values).astype(np.int64) - table.first, 0, len(table.values) - 1)
    return table.values[places]


def _table(sequence: Sequence[Any] | None) -> Table | None:
    """The first table of a sequence (PS3.3 C.11.1.1.1); None where there is none that can be used."""
    if not sequence:
        return None
    item = sequence[0]
    try:
        entries, first, bits = (int(value) for value in item.get("LUTDescriptor"))
        data = item.get("LUTData")
        values = np.frombuffer(data, "<u2") if isinstance(data, bytes) else np.asarray(data)
        values = values.astype(np.float32).ravel()
    except (TypeError, ValueError):
        return None
    entries = entries or _LARGEST_TABLE
    if not 0 < entries <= len(values) or not 8 <= bits <= 16:
        return None
    return Table(first, values[:entries])


def _float(dataset: Any, name: str) -> float | None:
    """The first value of a decimal attribute; None where there is none, or it is not finite."""
    try:
        value = dataset.get(name)
        first = value if isinstance(value, (int, float, str)) else next(iter(value))
        number = float(first)
    except (TypeError, ValueError, StopIteration, OverflowError):
        return None
    return number if np.isfinite(number) else None


def _text(dataset: Any, name: str) -> str:
    value = dataset.get(name)
    return "" if value is None else str(value).strip().upper()
