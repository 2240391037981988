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
        behind = _opened(cursor, key(items[0]) if items else None)
        low, high = 0, len(items)
        while low < high:
            middle = (low + high) // 2
            low, high = (middle + 1, high) if key(items[middle]) <= behind else (low, middle)
        start = low
    part = items[start : start + limit]
    return part, _closed(key(part[-1])) if start + limit < len(items) else None


def _closed(key: list[Any]) -> str:
    return base64.urlsafe_b64encode(json.dumps(key).encode()).decode().rstrip("=")


def _opened(cursor: str, like: list[Any] | None) -> list[Any]:
    try:
        key = json.loads(base64.urlsafe_b64decode(cursor.encode() + b"=" * (-len(cursor) % 4)))
    except (ValueError, binascii.Error, RecursionError):
        key = None
    if not isinstance(key, list) or (like is not None and [type(part) for part in key] != [type(p) for p in like]):
        raise Refusal(422, "invalid", "the cursor is not one of this list")
    return key
