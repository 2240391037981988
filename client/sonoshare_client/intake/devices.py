"""Child: what of a header's manufacturer and model may be kept.

Both are free text and have been seen to hold names of people and places. A text that the hospital has approved
(``intake.devices`` of its policy) is kept; otherwise the name of a well-known manufacturer, as written here;
otherwise nothing. A device named in labels.csv comes from the hospital itself and needs no header.
"""

import re
from collections.abc import Sequence
from typing import Final

_KNOWN: Final = {
    "aloka": "Aloka",
    "atl": "ATL",
    "bk medical": "BK Medical",
    "canon": "Canon",
    "esaote": "Esaote",
    "fujifilm": "Fujifilm",
    "ge": "GE",
    "hitachi": "Hitachi",
    "mindray": "Mindray",
    "philips": "Philips",
    "samsung": "Samsung",
    "siemens": "Siemens",
    "sonoscape": "SonoScape",
    "sonosite": "SonoSite",
    "supersonic imagine": "SuperSonic Imagine",
    "toshiba": "Toshiba",
    "u-systems": "U-Systems",
}
_OTHER_CHARACTERS: Final = re.compile(r"[^a-z0-9-]+")


def _plain(text: str) -> str:
    return _OTHER_CHARACTERS.sub(" ", text.lower()).strip()


def kept_device(manufacturer: str, model: str, approved: Sequence[str]) -> str:
    """Name of the device as it may be kept; empty where nothing may.

    Args:
        manufacturer: (0008,0070).
        model: (0008,1090).
        approved: texts that the hospital has approved.
    """
    wanted = _plain(f"{manufacturer} {model}")
    for text in approved:
        if _plain(text) == wanted:
            return text
    words = f" {_plain(manufacturer)} "
    return next((name for known, name in _KNOWN.items() if f" {known} " in words), "")
