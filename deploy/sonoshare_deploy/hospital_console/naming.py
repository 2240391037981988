"""Names and numbers in addresses of pages and in forms: what no document or index could bear is none."""

import re
from typing import Final

from starlette.exceptions import HTTPException
from starlette.requests import Request

from sonoshare_shared.protocol.documents.base import IDENTIFIER

_MOST_DIGITS: Final = 15


def is_name(text: str) -> bool:
    """Whether a text can be the name of a study or release."""
    return re.fullmatch(IDENTIFIER, text) is not None


def study_of(request: Request) -> str:
    """The study that an address names.

    Raises:
        HTTPException: it is none (404).
    """
    study = str(request.path_params["study"])
    if not is_name(study):
        raise HTTPException(404)
    return study


def number_of(request: Request, name: str = "number") -> int:
    """The number that an address names.

    Raises:
        HTTPException: it is larger than any there is (404).
    """
    text = str(request.path_params[name])
    if len(text) > _MOST_DIGITS or not (text.isascii() and text.isdigit()):
        raise HTTPException(404)
    return int(text)
