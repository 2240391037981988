"""Whom people may ask about releases: one e-mail address or https address, shown on every page and in the API."""

import re
from typing import Final

from sonoshare_shared.errors import InputError

_MAIL: Final = re.compile(r"[A-Za-z0-9._%+-]{1,64}@[A-Za-z0-9.-]{1,120}\.[A-Za-z]{2,30}\Z")
_PAGE: Final = re.compile(r"https://[A-Za-z0-9._~:/?#@!&*+,;=%-]{4,180}\Z")


def contact_of(text: str) -> str | None:
    """The address that a setting names; None where it is empty.

    Raises:
        InputError: it is neither.
    """
    if not text:
        return None
    if not (_MAIL.match(text) or _PAGE.match(text)):
        raise InputError(
            "SONOSHARE_CONTACT names nobody who can be written to",
            remedy="write an e-mail address, or the https:// address of a page",
        )
    return text
