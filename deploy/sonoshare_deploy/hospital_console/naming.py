"""Names of studies and releases in addresses of pages and in forms: what no document could bear is no name."""

import re

from starlette.exceptions import HTTPException
from starlette.requests import Request

from sonoshare_shared.protocol.documents.base import IDENTIFIER


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
