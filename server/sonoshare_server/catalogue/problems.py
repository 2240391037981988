"""What a refusal looks like: RFC 9457, with a stable word for programs.

    {"type": "urn:sonoshare:problem:not-found", "title": "Not Found", "status": 404,
     "detail": "no such release", "error": "not-found"}

Nothing that was sent is repeated: it may be personal. Under ``/ga4gh/`` the two fields that DRS prescribes are added.
"""

import json
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any, Final

from fastapi import HTTPException
from starlette.responses import Response

MEDIA_TYPE: Final = "application/problem+json"
DRS_PREFIX: Final = "/ga4gh/"


class Refusal(HTTPException):
    """An HTTP answer with a stable word for its reason."""

    def __init__(self, status: int, error: str, message: str, headers: dict[str, str] | None = None) -> None:
        super().__init__(status, message, headers)
        self.error = error


def problem(
    status: int,
    error: str,
    detail: str,
    *,
    path: str = "",
    headers: Mapping[str, str] | None = None,
    fields: list[dict[str, str]] | None = None,
) -> Response:
    """The answer that says why.

    Args:
        status: of HTTP.
        error: the stable word.
        detail: for people.
        path: of the request.
        headers: more of them.
        fields: what is wrong with which field, where a request is not valid.
    """
    return Response(body(status, error, detail, path=path, fields=fields), status, headers, MEDIA_TYPE)


def body(status: int, error: str, detail: str, *, path: str = "", fields: list[dict[str, str]] | None = None) -> bytes:
    """What such an answer says."""
    said: dict[str, Any] = {
        "type": f"urn:sonoshare:problem:{error}",
        "title": HTTPStatus(status).phrase,
        "status": status,
        "detail": detail,
        "error": error,
    }
    if fields is not None:
        said["fields"] = fields
    if path.startswith(DRS_PREFIX):
        said |= {"msg": detail, "status_code": status}
    return json.dumps(said).encode()


def not_found(what: str) -> Refusal:
    """Nothing of that name is shown: it is not there, or not for whoever asks."""
    return Refusal(404, "not-found", f"no such {what}")
