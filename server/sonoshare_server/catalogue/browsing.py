"""The address of a list of releases: what it asks for, and addresses that ask for a little less or for the next page.

For instance ``/?q=breast&class=malignant&size=256&epsilon=8&state=published&sort=epsilon&page=2``.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from math import ceil, isfinite
from typing import Any, Final, get_args
from urllib.parse import urlencode

from sonoshare_server.catalogue.listing import PAGE, Found, Order, Wanted

_LONGEST: Final = 200
_MOST_WORDS: Final = 12
_LARGEST: Final = 1e6
_STATES: Final = ("", "published", "revoked")
_FIELDS: Final = {
    "words": "q",
    "task": "task",
    "label": "class",
    "size": "size",
    "epsilon": "epsilon",
    "state": "state",
    "order": "sort",
    "page": "page",
}
ORDERS: Final[Mapping[Order, str]] = {
    "newest": "Newest first",
    "oldest": "Oldest first",
    "epsilon": "Smallest ε first",
    "images": "Most images first",
    "name": "By name",
}


@dataclass(frozen=True)
class Asked:
    """What an address asks for.

    Attributes:
        wanted: what could be read.
        problems: what could not, in words.
    """

    wanted: Wanted
    problems: tuple[str, ...]


def asked(query: Mapping[str, str]) -> Asked:
    """Read the fields of a query; unknown ones do not matter."""
    said = {field: _plain(query.get(name, "")) for field, name in _FIELDS.items()}
    problems: list[str] = []
    values: dict[str, Any] = {field: said[field] for field in ("words", "task", "label")}
    parts = list(dict.fromkeys(said["words"].split()))
    if len(parts) > _MOST_WORDS:  # each is looked for in every release
        problems.append(f"At most {_MOST_WORDS} words are looked for.")
        values["words"] = " ".join(parts[:_MOST_WORDS])
    for field, known, name in (("state", _STATES, "The state"), ("order", get_args(Order), "The order")):
        if said[field] in {"", *known}:
            values |= {field: said[field]} if said[field] else {}
        else:
            problems.append(f"{name} is none of those that there are.")
    for field, kind, least, words in (
        ("size", int, 1, "The size is a whole number of pixels."),
        ("epsilon", float, 0, "The largest ε is a number, for instance 8."),
        ("page", int, 1, "The page is a whole number from 1."),
    ):
        try:
            number = kind(said[field]) if said[field] else None
        except ValueError:
            number = float("nan")
        if number is not None and not (isfinite(number) and least <= number <= _LARGEST):
            problems.append(words)
        elif number is not None:
            values[field] = number
    return Asked(Wanted(**values), tuple(problems))


def address(wanted: Wanted, **changes: Any) -> str:
    """The address that asks for the same with something changed; the first page unless another is named."""
    plain = Wanted()
    other = replace(wanted, **({"page": 1} | changes))
    said = {name: getattr(other, field) for field, name in _FIELDS.items()}
    kept = {name: said[name] for field, name in _FIELDS.items() if said[name] != getattr(plain, field)}
    return f"/?{urlencode(kept)}" if kept else "/"


def filtered(wanted: Wanted) -> bool:
    """Whether something is left out."""
    return replace(wanted, order="newest", page=1) != Wanted()


def pages(found: Found) -> int:
    """How many pages there are."""
    return max(1, ceil(found.count / PAGE))


def _plain(text: str) -> str:
    """Printable characters of a field, not too many."""
    return "".join(character for character in text[:_LONGEST] if character.isprintable()).strip()
