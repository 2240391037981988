"""Which reasons a person may set aside after looking, and how a picture is read then.

A closed list. A person may say that a picture is one although it hardly looks like it, that text in it names nobody, or
where on a screen the picture is. Nobody may take in what cannot be read safely, what contradicts itself, what is no
ultrasound picture, or what leaves open whose picture it is.
"""

from collections.abc import Collection
from dataclasses import replace
from typing import Final, TypeVar

from sonoshare_client.intake.reasons import Cause, SetAside
from sonoshare_shared.science.pictures.bounds import Bounds
from sonoshare_shared.science.pictures.reasons import Because, Reason

UNREMOVED_TEXT: Final = frozenset({Reason.TEXT_OVER_LESION, Reason.TEXT_COVERS, Reason.TEXT_REMAINS})
"""Text was found and could not be taken out: the picture is kept as it was decoded, with its text."""
BY_LOOKING: Final = UNREMOVED_TEXT | {
    Reason.BLANK,
    Reason.FEW_LEVELS,
    Reason.SHAPE,
    Reason.COLOUR,
    Reason.COLOUR_FLOW,
}
WITH_PLACE: Final = frozenset({Reason.NO_REGION, Reason.SEVERAL_REGIONS})
"""A person may decide by saying where the picture, or the lesion, is."""
ACCEPTABLE: Final[frozenset[Because]] = BY_LOOKING | WITH_PLACE

_OnBounds = TypeVar("_OnBounds", bound=Bounds)


def cause_of(name: str) -> Cause | None:
    """The reason of this name; None where there is none any more."""
    return Reason.__members__.get(name) or SetAside.__members__.get(name)


def may_be_accepted(reason: Because) -> str:
    """In words, for the page of reasons."""
    if reason in WITH_PLACE:
        return "yes, saying where it is"
    return "yes" if reason in BY_LOOKING else "no"


def bounds_with(bounds: _OnBounds, accepted: Collection[str]) -> _OnBounds:
    """Bounds that no longer refuse for these reasons.

    Args:
        bounds: what a picture may be.
        accepted: names of reasons; what bounds do not decide, and what nobody may accept, changes nothing.
    """
    if Reason.BLANK.name in accepted:
        bounds = replace(bounds, varied=0.0)
    if Reason.FEW_LEVELS.name in accepted:
        bounds = replace(bounds, levels=1)
    if Reason.SHAPE.name in accepted:
        bounds = replace(bounds, aspect=float("inf"))
    if {Reason.COLOUR.name, Reason.COLOUR_FLOW.name} & set(accepted):
        bounds = replace(bounds, coloured=1.0)
    return bounds


def text_is_accepted(accepted: Collection[str]) -> bool:
    """Whether a person has decided about the text in the picture."""
    return any(reason.name in accepted for reason in UNREMOVED_TEXT)
