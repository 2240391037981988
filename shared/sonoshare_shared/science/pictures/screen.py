"""Which parts of a screen are B-mode pictures: by the header's regions, by the pixels where it has none.

Rules, in this order
- Of the header's regions, those that are two-dimensional tissue count. Damaged and tiny ones do not; the same region
  twice is one. A region outside the picture is refused: the header is of another picture.
- Regions under a colour flow region do not count, nor do those with colour over their pixels. Where one of several
  pictures has colour (B beside flow or elastography), the others are what counts. Where all have, bounds decide.
- Without any usable region the one fan or frame on the screen counts (``field_of_view``), or, where there are two side
  by side, each half's.
- Of several that are left, `pick_region` takes the one with the lesion, or the one much larger than the others.
  `dual_view` says which two are taken together where nothing picks one.
- A PNG or JPEG of a whole screen is cut to the picture on it, if there is one that holds the lesion. Where that cannot
  be told, all of it is kept, and looked through for text like the rest.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from sonoshare_shared.science.box import Box
from sonoshare_shared.science.pictures.bounds import DEFAULT_BOUNDS, Bounds
from sonoshare_shared.science.pictures.colour import coloured_share
from sonoshare_shared.science.pictures.field_of_view import field_of_view
from sonoshare_shared.science.pictures.reasons import Reason, Refused
from sonoshare_shared.science.pictures.region import Region

_TWO_DIMENSIONAL: Final = 1  # RegionSpatialFormat (0018,6012)
_TISSUE: Final = 1  # RegionDataType (0018,6014)
_COLOUR_FLOW: Final = 2
_CORNERS: Final = ("RegionLocationMinX0", "RegionLocationMinY0", "RegionLocationMaxX1", "RegionLocationMaxY1")
_CROPPED: Final = 0.8
"""Part of a file from which a picture is the file, but for a margin."""
_SAME: Final = 0.9
"""Overlap over union from which two regions are one."""


@dataclass(frozen=True, eq=False)
class Screen:
    """A decoded picture, whole.

    Attributes:
        grey: uint8 [H, W].
        rgb: uint8 [H, W, 3] where the file has colours, or None.
    """

    grey: NDArray[np.uint8]
    rgb: NDArray[np.uint8] | None = None

    @property
    def whole(self) -> Region:
        """All of it."""
        return Region(0, 0, self.grey.shape[1], self.grey.shape[0])

    def coloured(self, region: Region) -> float:
        """Share of coloured pixels in a region."""
        if self.rgb is None:
            return 0.0
        return coloured_share(self.rgb[region.top : region.bottom, region.left : region.right])


def header_regions(items: Sequence[Any], rows: int, columns: int, bounds: Bounds) -> tuple[Region, ...]:
    """B-mode regions by a header; empty where it has no usable one.

    Args:
        items: of SequenceOfUltrasoundRegions (0018,6011).
        rows: of the picture.
        columns: of the picture.
        bounds: the smallest region.

    Raises:
        Refused: a region lies outside or is too small, or colour flow lies over all of them.
    """
    tissue: list[Region] = []
    flow: list[Region] = []
    for item in items:
        kind = _number(item, "RegionDataType")
        if _number(item, "RegionSpatialFormat") != _TWO_DIMENSIONAL or kind not in (_TISSUE, _COLOUR_FLOW):
            continue
        corners = [value for value in (_number(item, name) for name in _CORNERS) if value is not None]
        if len(corners) < len(_CORNERS):
            continue
        region = _region(corners, rows, columns)
        group = tissue if kind == _TISSUE else flow
        if not any(_same(region, other) for other in group):
            group.append(region)
    large = [region for region in tissue if min(region.width, region.height) >= bounds.region_side]
    if tissue and not large:
        raise Refused(Reason.REGION_SMALL)
    clear = tuple(region for region in large if not any(_overlap(region, other) for other in flow))
    if large and not clear and bounds.coloured < 1:
        raise Refused(Reason.COLOUR_FLOW)
    return clear or tuple(large)


def told_region(told: Box, whole: Region, bounds: Bounds) -> Region:
    """The region that a table tells of a file that does not tell it itself.

    Raises:
        Refused: it reaches outside the picture, or is too small.
    """
    region = Region(round(told.x), round(told.y), round(told.x + told.w), round(told.y + told.h))
    if min(region.left, region.top) < 0 or region.right > whole.right or region.bottom > whole.bottom:
        raise Refused(Reason.REGION_OUTSIDE)
    if min(region.width, region.height) < bounds.region_side:
        raise Refused(Reason.REGION_SMALL)
    return region


def b_mode_regions(screen: Screen, declared: Sequence[Region], bounds: Bounds) -> tuple[Region, ...]:
    """The B-mode pictures on a screen, at least one.

    Args:
        screen: the decoded picture.
        declared: `header_regions`.
        bounds: how much colour a B-mode picture may have.

    Raises:
        Refused: there is none, or colour lies over all of them.
    """
    candidates = tuple(declared) or found_pictures(screen.grey, screen.whole)
    if not candidates:
        raise Refused(Reason.NO_REGION)
    most = min(bounds.coloured, DEFAULT_BOUNDS.coloured)
    clear = tuple(region for region in candidates if screen.coloured(region) <= most)
    if not clear and len(candidates) == 1:
        # One region, or none, around two pictures of which one has colour.
        halves = _halves(screen.grey, candidates[0])
        clear = tuple(region for region in halves if screen.coloured(region) <= most)
    if not clear and bounds.coloured < 1:
        raise Refused(Reason.COLOUR)
    return clear or candidates


def found_pictures(grey: NDArray[np.uint8], within: Region) -> tuple[Region, ...]:
    """The fan or frame in a part of a screen, or the two that lie side by side; empty where there is neither."""
    found = _found(grey, within)
    return (found,) if found is not None else _halves(grey, within)


def exported_picture(screen: Screen, lesion: Box | None, bounds: Bounds) -> Region:
    """What is kept of a file without a header: the picture on a screen, else all of it.

    Args:
        screen: the decoded file.
        lesion: its box in pixels, or None.
        bounds: how large a screen is at least, and how much colour a picture may have.
    """
    if min(screen.grey.shape) < bounds.screen_side:
        return screen.whole
    whole = screen.whole.width * screen.whole.height
    found = found_pictures(screen.grey, screen.whole)
    clear = [region for region in found if screen.coloured(region) <= bounds.coloured]
    held = [region for region in clear if lesion is None or region.holds(lesion, slack=0)]
    if len(held) != 1 or held[0].width * held[0].height > _CROPPED * whole:
        return screen.whole
    return held[0]


def _halves(grey: NDArray[np.uint8], within: Region) -> tuple[Region, ...]:
    """The pictures in both halves of a region that holds two, each clear of the seam; else none."""
    if _found(grey, within) is not None:
        return ()
    middle = (within.left + within.right) // 2
    left = _found(grey, Region(within.left, within.top, middle, within.bottom))
    right = _found(grey, Region(middle, within.top, within.right, within.bottom))
    return () if left is None or right is None else (left, right)


def _found(grey: NDArray[np.uint8], within: Region) -> Region | None:
    box = field_of_view(np.ascontiguousarray(grey[within.top : within.bottom, within.left : within.right]))
    if box is None:
        return None
    left, top = within.left + int(box.x), within.top + int(box.y)
    return Region(left, top, left + int(box.w), top + int(box.h))


def _region(corners: Sequence[int], rows: int, columns: int) -> Region:
    left, top, last_column, last_row = corners
    # The standard's corner is the last pixel; some systems write the first one beyond. More than that is a lie.
    if left < 0 or top < 0 or last_column > columns or last_row > rows:
        raise Refused(Reason.REGION_OUTSIDE)
    return Region(left, top, min(last_column + 1, columns), min(last_row + 1, rows))


def _overlap(a: Region, b: Region) -> bool:
    return a.left < b.right and b.left < a.right and a.top < b.bottom and b.top < a.bottom


def _same(a: Region, b: Region) -> bool:
    width = min(a.right, b.right) - max(a.left, b.left)
    height = min(a.bottom, b.bottom) - max(a.top, b.top)
    shared = max(0, width) * max(0, height)
    return shared >= _SAME * (a.width * a.height + b.width * b.height - shared)


def _number(item: Any, name: str) -> int | None:
    """An integer attribute; None where it is absent or not one."""
    try:
        return int(item.get(name))
    except (TypeError, ValueError, OverflowError):
        return None
