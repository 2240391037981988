"""Long lists in pages. A cursor says behind what the next page begins: none repeats or leaves out what stands.

What is added or taken away between two pages is seen or not seen; nothing else moves.
"""

import base64
import binascii
import json
from collections.abc import Callable, Sequence
from typing import Annotated, Any, Final, TypeVar

from fastapi import Query

from sonoshare_server.catalogue.problems import Refusal

T = TypeVar("T")

_MOST_CHARACTERS: Final = 2000
Cursor = Annotated[
    str | None, Query(max_length=_MOST_CHARACTERS, description="`next` of the page before; opaque, and good for ever")
]


def page(
    items: Sequence[T], key: Callable[[T], list[Any]], *, cursor: str | None, limit: int
) -> tuple[Sequence[T], str | None]:
    """One page, and the cursor of the next or None.

    Args:
        items: in rising order of their keys.
        key: what an item is ordered by, of the same shape for all.
        cursor: where to begin; at the beginning if None.
        limit: most items of a page.

    Raises:
        Refusal: 422, the cursor is none of ours.
    """
    start = 0
    if cursor is not None:
        behind = opened(cursor, [type(part) for part in key(items[0])] if items else None) or []
        low, high = 0, len(items)
        while low < high:
            middle = (low + high) // 2
            low, high = (middle + 1, high) if key(items[middle]) <= behind else (low, middle)
        start = low
    part = items[start : start + limit]
    return part, closed(key(part[-1])) if start + limit < len(items) else None


def closed(key: list[Any]) -> str:
    """The cursor of what stands behind a key."""
    return base64.urlsafe_b64encode(json.dumps(key).encode()).decode().rstrip("=")


def opened(cursor: str | None, like: list[type] | None) -> list[Any] | None:
    """The key that a cursor stands for, None for none.

    Args:
        cursor: as ``closed`` made it.
        like: types of the key's parts, where they are known.

    Raises:
        Refusal: 422, the cursor is none of ours.
    """
    if cursor is None:
        return None
    try:
        key = json.loads(base64.urlsafe_b64decode(cursor.encode() + b"=" * (-len(cursor) % 4)))
    except (ValueError, binascii.Error, RecursionError):
        key = None
    if not isinstance(key, list) or (like is not None and [type(part) for part in key] != like):
        raise not_of_this_list()
    return key


def not_of_this_list() -> Refusal:
    """Why a cursor is refused."""
    return Refusal(422, "invalid", "the cursor is not one of this list")
