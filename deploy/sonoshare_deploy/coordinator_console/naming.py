"""Names in paths and forms: of studies, releases and hospitals, as documents and folders bear them."""

import re

from starlette.exceptions import HTTPException
from starlette.requests import Request

from sonoshare_server.home import CoordinatorHome, Study
from sonoshare_shared.errors import InputError
from sonoshare_shared.protocol.documents.base import IDENTIFIER


def named(request: Request) -> str:
    """The name in a path; nothing is there under what is no name."""
    name = str(request.path_params["name"])
    if not is_name(name):
        raise HTTPException(404)
    return name


def study_in(home: CoordinatorHome, request: Request) -> Study:
    """The study that a path names; nothing is there for one that was not created to its end."""
    name = named(request)
    if not any(study.path.name == name for study in home.studies()):
        raise HTTPException(404)
    return home.study(name)


def given_name(text: str, what: str) -> str:
    """A name in a form.

    Raises:
        InputError: it is none.
    """
    if not is_name(text):
        raise InputError(f"this is no name of {what}", remedy="use lowercase letters, digits and hyphens (at most 63)")
    return text


def is_name(text: str) -> bool:
    """Whether a text can be a name."""
    return re.fullmatch(IDENTIFIER, text) is not None
