"""Drawings of what the audits saw: curves of the membership attacks, and how alike the nearest pictures are.

Nothing is drawn between the borders of the public bins, because nothing is known there: a finer curve would be another
private figure, and another charge.
"""

from collections.abc import Sequence
from typing import Final

from markupsafe import Markup

from sonoshare_server.release.pages.svg import (
    WIDTH,
    Scale,
    dot,
    drawing,
    hatched,
    line,
    path,
    rect,
    square,
    whisker,
    words,
)
from sonoshare_shared.protocol.documents.derived import AttackCurve, BinShare, RatePoint

SMALLEST: Final = 1e-3
"""Left and lower end of the logarithmic axes; points below stand at the edge."""

_DECADES: Final = (0.001, 0.01, 0.1, 1.0)
_LEFT: Final = 46.0
_RIGHT: Final = 10.0
_TOP: Final = 8.0
_SIDE: Final = WIDTH - _LEFT - _RIGHT
_STEPS: Final = 60


def curves_plot(name: str, title: str, curves: Sequence[AttackCurve], epsilon: float, delta: float) -> Markup:
    """Receiver operating characteristics on logarithmic axes, with the interval of each point and the promise's limit.

    Args:
        name: of the drawing.
        title: of the drawing.
        curves: at least one; the first is drawn with filled circles, the second with open squares.
        epsilon: of the promise.
        delta: of the promise.
    """
    across = Scale(SMALLEST, 1.0, _LEFT, _LEFT + _SIDE, logarithmic=True)
    up = Scale(SMALLEST, 1.0, _TOP + _SIDE, _TOP, logarithmic=True)
    parts = [*_grid(across, up), line(across(SMALLEST), up(SMALLEST), across(1), up(1), "guide")]
    parts.append(path([(across(x), up(y)) for x, y in _limit(epsilon, delta)], "limit"))
    key, height = [], _TOP + _SIDE + 40
    for number, curve in enumerate(curves):
        mark = dot if number == 0 else square
        points = [(across(point.held_out), up(point.trained)) for point in curve.points]
        for place, point in zip(points, curve.points, strict=True):
            parts += [_cross(point, place, across, up), mark(*place)]
        key += [mark(_LEFT + 4, height), words(_LEFT + 14, height + 4, f"attack by {curve.attack}", "small")]
        height += 16
    for kind, text in (("guide", "chance: the attack tells nothing"), ("limit", "limit: the promise allows no more")):
        key += [line(_LEFT - 4, height, _LEFT + 10, height, kind), words(_LEFT + 14, height + 4, text, "small")]
        height += 16
    return drawing(name, title, _told(curves), height - 4, [*parts, *key])


def likeness_plot(name: str, title: str, shares: Sequence[BinShare]) -> Markup:
    """How alike a patient's pictures are to the nearest synthetic one: trained beside held-out patients, by bin.

    Args:
        name: of the drawing.
        title: of the drawing.
        shares: of all bins.
    """
    highest = max(max(one.trained_interval[1], one.held_out_interval[1]) for one in shares)
    ends = (0.1, 0.25, 0.5, 1.0)
    high, height = next(end for end in ends if end >= min(1.0, highest)), 160.0
    up, bottom = Scale(0.0, high, height, _TOP), height
    wide, parts = _SIDE / len(shares), []
    for part in range(5):
        value = high * part / 4
        parts.append(line(_LEFT, up(value), _LEFT + _SIDE, up(value), "grid"))
        parts.append(words(_LEFT - 5, up(value) + 4, f"{100 * value:g} %", "tick", at="end"))
    for number, one in enumerate(shares):
        left, each = _LEFT + number * wide, wide / 2 - 4
        middle = left + wide / 2
        parts.append(rect(middle - each, up(one.trained), middle - 1, bottom, "fill"))
        parts.append(hatched(name, middle + 1, up(one.held_out), middle + each, bottom))
        for (low, top), x in ((one.trained_interval, middle - each / 2), (one.held_out_interval, middle + each / 2)):
            parts.append(whisker(up(low), up(top), x, upright=True))
        if one.low is not None:
            parts.append(line(left, bottom, left, bottom + 4, "axis"))
            parts.append(words(left, bottom + 16, f"{one.low:.2f}", "tick", at="middle", values=(one.low,)))
    parts.append(line(_LEFT, bottom, _LEFT + _SIDE, bottom, "axis"))
    parts.append(words(_LEFT + _SIDE - wide / 2, bottom + 30, "copies", "small strong", at="middle"))
    parts.append(words(_LEFT, bottom + 30, "more alike →", "small soft"))
    key = bottom + 44
    parts += [rect(_LEFT, key, _LEFT + 12, key + 9, "fill"), words(_LEFT + 17, key + 9, "trained on", "small")]
    parts += [
        hatched(name, _LEFT + 96, key, _LEFT + 108, key + 9),
        words(_LEFT + 113, key + 9, "held out, never trained on", "small"),
    ]
    said = [
        f"{_bin(one)}: {_percent(one.trained)} of trained, {_percent(one.held_out)} of held-out patients."
        for one in shares
    ]
    return drawing(name, title, " ".join(said), key + 16, parts)


def _grid(across: Scale, up: Scale) -> list[str]:
    parts = []
    for value in _DECADES:
        parts += [
            line(across(value), up(SMALLEST), across(value), up(1), "grid"),
            line(across(SMALLEST), up(value), across(1), up(value), "grid"),
            words(across(value), up(SMALLEST) + 14, f"{100 * value:g} %", "tick", at="middle" if value < 1 else "end"),
            words(_LEFT - 5, up(value) + 4, f"{100 * value:g} %", "tick", at="end"),
        ]
    parts.append(words(_LEFT + _SIDE / 2, up(SMALLEST) + 28, "of held-out patients named", "small soft", at="middle"))
    parts.append(
        f'<text class="small soft" text-anchor="middle" transform="rotate(-90 9 {_TOP + _SIDE / 2:g})" x="9" '
        f'y="{_TOP + _SIDE / 2:g}">of trained patients named</text>'
    )
    return parts


def _limit(epsilon: float, delta: float) -> list[tuple[float, float]]:
    """The most that (epsilon, delta) lets any attack name of the trained, by what it names of the held-out."""
    places = []
    for step in range(_STEPS + 1):
        false = SMALLEST ** (1 - step / _STEPS)
        factor = 2.718281828459045 ** min(epsilon, 50.0)
        true = min(factor * false + delta, 1 - (1 - delta - false) / factor, 1.0)
        places.append((false, max(SMALLEST, true)))
    return places


def _cross(point: RatePoint, place: tuple[float, float], across: Scale, up: Scale) -> str:
    x, y = place
    level = whisker(across(point.held_out_interval[0]), across(point.held_out_interval[1]), y)
    upright = whisker(up(point.trained_interval[0]), up(point.trained_interval[1]), x, upright=True)
    return level + upright


def _told(curves: Sequence[AttackCurve]) -> str:
    said = []
    for curve in curves:
        points = "; ".join(
            f"names {_percent(point.trained)} of trained where it names {_percent(point.held_out)} of held-out patients"
            for point in curve.points
        )
        said.append(f"Attack by {curve.attack}: {points}.")
    return " ".join(said)


def _bin(one: BinShare) -> str:
    if one.high is None:
        return f"copies, likeness {one.low:.2f} or more"
    return f"likeness up to {one.high:.2f}" if one.low is None else f"likeness {one.low:.2f} to {one.high:.2f}"


def _percent(part: float) -> str:
    return f"{100 * part:.1f} %"
