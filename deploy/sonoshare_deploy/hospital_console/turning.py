"""Long lists, a page at a time."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

Row = TypeVar("Row")


@dataclass(frozen=True)
class Turned(Generic[Row]):
    """A part of a list.

    Attributes:
        rows: of this page.
        page: which page, from 1.
        pages: how many there are, at least 1.
        first: place of the first row in the whole list, from 0.
    """

    rows: Sequence[Row]
    page: int
    pages: int
    first: int


def turned(rows: Sequence[Row], asked: str, size: int) -> Turned[Row]:
    """The page that was asked for; the nearest there is, where it is none.

    Args:
        rows: the whole list.
        asked: number of the page, as it came.
        size: rows of a page.
    """
    pages = max(1, -(-len(rows) // size))
    wanted = int(asked) if asked.isascii() and asked.isdigit() and len(asked) < 10 else 1
    page = min(max(1, wanted), pages)
    first = (page - 1) * size
    return Turned(rows[first : first + size], page, pages, first)
