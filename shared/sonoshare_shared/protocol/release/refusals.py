"""What a catalogue's refusal means for whoever asked: one error with a remedy for each.

Catalogues say why in JSON, ``{"error": WORD, "message": …}`` or RFC 9457's ``{"title": …, "detail": …}``. Their words
are repeated on one line, at most so long, and never with the token that was sent in them.
"""

from typing import Any, Final

import httpx
from pydantic import TypeAdapter, ValidationError

from sonoshare_shared.errors import FederationError, InputError, RefusedError, SonoShareError
from sonoshare_shared.printable import printable
from sonoshare_shared.protocol.release.patience import retry_after
from sonoshare_shared.protocol.release.sources import TransferCutError

BUSY: Final = frozenset({408, 425, 429, 500, 502, 503, 504})
"""Answers that may be others in a moment."""
_MOST_PROBLEM_BYTES: Final = 16 << 10
_MOST_WORDS: Final = 200
_BEARER: Final = "Bearer "


def require_success(response: httpx.Response, what: str) -> None:
    """Turn a refusal into an error that says what to do.

    Args:
        response: its body is not read yet.
        what: what was asked for, for people.

    Raises:
        RefusedError: a token is wanted, or the release was revoked.
        InputError: there is no such thing.
        TransferCutError: busy, or out of order: it may be asked again.
        FederationError: anything else.
    """
    status = response.status_code
    if status in {httpx.codes.OK, httpx.codes.PARTIAL_CONTENT}:
        return
    word, said = _problem(response)
    if status in {httpx.codes.UNAUTHORIZED, httpx.codes.FORBIDDEN}:
        raise _about_token(response, what, word, said)
    if status == httpx.codes.GONE:
        raise RefusedError(f"the catalogue gives out {what} no more: it was revoked", remedy="do not use this release")
    if status == httpx.codes.NOT_FOUND:
        raise InputError(f"the catalogue has no {what}", remedy="list its releases with: sonoshare releases")
    because = f": {said}" if said else ""
    if status in BUSY:
        raise TransferCutError(
            f"the catalogue answered {status} for {what}{because}",
            remedy="run the same command again later",
            after=retry_after(response.headers.get("Retry-After")),
        )
    raise FederationError(f"the catalogue answered {status} for {what}{because}", remedy="check the server address")


def _about_token(response: httpx.Response, what: str, word: str, said: str) -> SonoShareError:
    page = str(response.request.url.copy_with(path="/", query=None)).rstrip("/")
    anew = f"get one at {page} by accepting the data-use agreement, then: sonoshare login {page}"
    if _token_of(response) is None:
        return RefusedError(f"the catalogue wants a valid token for {what}", remedy=anew)
    challenge = response.headers.get("WWW-Authenticate", "").lower()
    if any("expired" in text for text in (word, challenge)) or "has expired" in said.lower():
        return RefusedError("the token has expired", remedy=anew)
    if response.status_code == httpx.codes.FORBIDDEN:
        return RefusedError(f"the token does not open {what}{f': {said}' if said else ''}", remedy=anew)
    return RefusedError(
        f"the token is not valid for {what}: it has expired, was revoked, or is another release's", remedy=anew
    )


def _token_of(response: httpx.Response) -> str | None:
    header: str = response.request.headers.get("Authorization", "")
    return header.removeprefix(_BEARER) or None


def _problem(response: httpx.Response) -> tuple[str, str]:
    """The stable word and the words for people of a refusal; empty where it has none."""
    data = bytearray()
    try:
        for block in response.iter_bytes():
            data += block
            if len(data) > _MOST_PROBLEM_BYTES:
                return "", ""
        problem = TypeAdapter(dict[str, Any]).validate_json(bytes(data))
    except (httpx.HTTPError, ValidationError):
        return "", ""
    word = next((str(problem[name]) for name in ("error", "code", "type") if problem.get(name)), "")
    said = next((str(problem[name]) for name in ("detail", "message", "title") if problem.get(name)), "")
    token = _token_of(response)
    if token is not None:
        said = said.replace(token, "...")
    return word.lower(), printable(said[:_MOST_WORDS])
