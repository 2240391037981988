"""An event in words, for tables that people read; ``sonoshare_shared.events.details`` writes the lines of a log."""

from collections.abc import Collection, Mapping
from typing import Any, Final

from sonoshare_shared.printable import printable

_MOST: Final = 6
"""Of a list; a study may have a hundred hospitals."""
_NOTHING: Final[tuple[object, ...]] = (None, [], "")


def about(event: Mapping[str, Any], apart: Collection[str]) -> str:
    """The fields of an event as words on one line, whatever a peer has put into them; what is empty is left out.

    Args:
        event: as it was recorded.
        apart: fields that the table shows elsewhere, or not at all.
    """
    shown = {name: value for name, value in event.items() if name not in apart and value not in _NOTHING}
    return "; ".join(f"{name} {_words(value)}" for name, value in shown.items())


def _words(value: object) -> str:
    if isinstance(value, list):
        shown = ", ".join(_words(one) for one in value[:_MOST])
        return shown if len(value) <= _MOST else f"{shown}, and {len(value) - _MOST} more"
    if isinstance(value, dict):
        return ", ".join(f"{name} {_words(one)}" for name, one in value.items())
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:.4g}" if isinstance(value, float) else printable(str(value))
