"""A patient's identifier as text: one Unicode form, and what is suspicious about it.

Promises: pure functions of the text; nothing here keeps or prints an identifier. ``normal`` is what is compared and
pseudonymised everywhere: Unicode NFKC (full-width and composed characters become the plain ones), runs of white space
become one blank, none at the ends. Case and leading zeros are *kept*: whether ``007`` and ``7`` are one person is a
question for somebody who knows them, so such pairs are only found (``near_form``), never joined.

Not promised: that letters of two alphabets which look alike (Latin and Cyrillic A) are told.
"""

import re
import unicodedata
from collections.abc import Iterable
from typing import Final

_UNSEEN: Final = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})
"""General categories of characters that nobody sees: controls, formats, and what is no character."""
_BLANK: Final = frozenset("\u034f\u115f\u1160\u17b4\u17b5\u2800\u3164\uffa0")
_SELECTORS: Final = ((0xFE00, 0xFE0F), (0xE0100, 0xE01EF))
_WHITE: Final = re.compile(r"\s+")
_SEPARATOR: Final = re.compile(r"(?<!\d)[^\w]+|[^\w]+(?!\d)|_")
_ZEROS: Final = re.compile(r"(?<!\d)0+(?=\d)")
_FILLED_IN: Final = re.compile(
    "anon|anonim|anonym(ous|i[sz]ed)?|default|deidentified|dummy|empty|missing|na|nan|nil|no(id|name|patient|patientid)|"
    "none|not(available|known)|null|patient(id)?|test(patient)?|unbekannt|unknown(patient)?|unnamed|xxx"
)


def normal(identifier: str) -> str:
    """The one form of an identifier, perhaps empty."""
    return _WHITE.sub(" ", unicodedata.normalize("NFKC", identifier)).strip()


def unseen(identifier: str) -> str:
    """Name of the first character that nobody sees, e.g. ``ZERO WIDTH SPACE (U+200B)``; empty if all are seen."""
    for sign in identifier.strip():
        place = ord(sign)
        selector = any(first <= place <= last for first, last in _SELECTORS)
        if unicodedata.category(sign) in _UNSEEN or sign in _BLANK or selector:
            return f"{unicodedata.name(sign, 'CONTROL CHARACTER')} (U+{place:04X})"
    return ""


def near_form(identifier: str) -> str:
    """Equal for identifiers that differ in case, leading zeros or separators alone: ``AB-007`` and ``ab7``."""
    return _ZEROS.sub("", _SEPARATOR.sub("", normal(identifier).casefold()))


def filled_in(identifiers: Iterable[str]) -> frozenset[str]:
    """Those of a table's identifiers that a system fills in where it knows nobody.

    Words such as ``UNKNOWN``, nothing but signs, three nines and more; and zeros, unless the table numbers its patients
    from zero on (it has a ``1``, too).
    """
    forms = {identifier: near_form(identifier) for identifier in identifiers}
    numbered = "1" in forms.values()
    return frozenset(identifier for identifier, form in forms.items() if _says_nobody(form, numbered=numbered))


def _says_nobody(form: str, *, numbered: bool) -> bool:
    nines = len(form) >= 3 and not form.strip("9")
    return bool(_FILLED_IN.fullmatch(form)) or not re.search(r"\w", form) or nines or (form == "0" and not numbered)
