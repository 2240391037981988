"""Signing in by a provider of OpenID Connect (`oidc`, `providers`, `identities`).

    GET /account/oidc/NAME                 off to the provider; what must come back is in a cookie of this browser
    GET /account/oidc/NAME?connect=WORD    the same, to open the account that is signed in by the provider too
    GET /account/oidc/NAME?release=R       the same as the first; the account's page then offers a token for R
    GET /account/oidc/NAME/back            the provider sends the browser here

The cookie is HttpOnly, SameSite=Lax and ends after ten minutes, or when somebody is signed in. An answer that another
browser began, or none, is refused: so nobody is signed in as somebody else by a link. WORD is the word of the session's
forms.
"""

import base64
import hmac
import json
from dataclasses import asdict
from typing import Final

from fastapi import APIRouter, Request
from starlette.responses import RedirectResponse, Response

from sonoshare_server.catalogue.account_pages import Desk, at_release, release_of
from sonoshare_server.catalogue.identities import Identities
from sonoshare_server.catalogue.limits import Buckets, peer_of
from sonoshare_server.catalogue.oidc import RelyingParty, Started
from sonoshare_server.catalogue.problems import Refusal, not_found
from sonoshare_server.catalogue.providers import Provider
from sonoshare_shared.errors import FederationError, InputError, RefusedError

_COOKIE_SECONDS: Final = 600
_VISITS_PER_MINUTE: Final = 30.0
"""From one address, which a whole institute may have; a sign-in is two."""
_MOST_CHARACTERS: Final = 2000


def oidc_router(desk: Desk, identities: Identities, providers: tuple[Provider, ...]) -> APIRouter:
    """The routes of signing in elsewhere."""
    counter = _Counter(desk, identities, providers)
    router = APIRouter(include_in_schema=False, prefix="/account/oidc")
    router.add_api_route("/{name}", counter.leave, methods=["GET"])
    router.add_api_route("/{name}/back", counter.come_back, methods=["GET"])
    return router


class _Counter:
    """What the routes do."""

    def __init__(self, desk: Desk, identities: Identities, providers: tuple[Provider, ...]) -> None:
        self._desk, self._identities = desk, identities
        self._parties = {
            provider.name: RelyingParty(provider, f"{desk.address}/account/oidc/{provider.name}/back")
            for provider in providers
        }
        self._cookie = f"{desk.cookie}-oidc"
        self._visits = Buckets(_VISITS_PER_MINUTE)

    def leave(self, name: str, request: Request) -> Response:
        """Send the browser to the provider."""
        party, word = self._party(name), request.query_params.get("connect", "")
        self._require_patience(request)
        if word and not self._desk.knows_word(request, word):
            raise Refusal(403, "cross-site", "this link was not made for you: open your account's page again")
        try:
            address, started = party.start()
        except (FederationError, InputError) as error:
            raise Refusal(
                503, "provider", f"{party.provider.title} cannot be asked now", {"Retry-After": "60"}
            ) from error
        answer = RedirectResponse(address, 303)
        kept = [asdict(started), word, release_of(request.query_params)]
        brought = base64.urlsafe_b64encode(json.dumps(kept).encode()).decode()
        answer.set_cookie(
            self._cookie,
            brought,
            max_age=_COOKIE_SECONDS,
            secure=self._desk.secure,
            httponly=True,
            samesite="lax",
        )
        return answer

    def come_back(self, name: str, request: Request) -> Response:
        """Take the provider's answer."""
        answer = self._come_back(self._party(name), request)
        answer.delete_cookie(self._cookie, secure=self._desk.secure, httponly=True, samesite="lax")
        return answer

    def _come_back(self, party: RelyingParty, request: Request) -> Response:
        asked = request.query_params
        started, word, release = _brought(request.cookies.get(self._cookie, ""))
        state = asked.get("state", "").encode()
        if started.provider != party.provider.name or not hmac.compare_digest(state, started.state.encode()):
            raise Refusal(403, "cross-site", "this browser did not begin this: sign in again")
        if not (code := asked.get("code", "")[:_MOST_CHARACTERS]):
            raise Refusal(403, "provider", f"{party.provider.title} did not sign you in")
        self._require_patience(request)  # both cookie and state may be made up, and the provider is asked next
        try:
            claimed = party.finish(code, started)
        except (FederationError, InputError) as error:
            raise Refusal(
                503, "provider", f"{party.provider.title} cannot be asked now", {"Retry-After": "60"}
            ) from error
        except RefusedError as error:
            raise Refusal(403, "provider", error.message) from error
        now = self._desk.now()
        if word:
            account = self._desk.account(request)
            if account is None or not self._desk.knows_word(request, word):
                raise Refusal(403, "cross-site", "the session that began this has ended: sign in again")
            if not self._identities.connect(account, claimed, now=now):
                raise Refusal(409, "identity", "this identity opens another account")
            return RedirectResponse(at_release("/account", release), 303)
        secret = self._identities.enter(claimed, party.provider, now=now)
        if secret is None:
            raise Refusal(
                403,
                "identity",
                f"no account is connected to this identity of {party.provider.title}: sign in with a password, and "
                "connect it from your account's page",
            )
        return self._desk.begun(secret, release)

    def _require_patience(self, request: Request) -> None:
        """Of one address alone: many people share a provider, and none of them shuts out the others."""
        if wait := self._visits.wait(peer_of(request.scope)):
            raise Refusal(429, "too-many", "too many tries; wait a minute", {"Retry-After": str(int(wait) + 1)})

    def _party(self, name: str) -> RelyingParty:
        party = self._parties.get(name)
        if party is None:
            raise not_found("provider")
        return party


def _brought(cookie: str) -> tuple[Started, str, str]:
    try:
        said, word, release = json.loads(base64.urlsafe_b64decode(cookie[:_MOST_CHARACTERS].encode()))
        started = Started(**{name: str(value) for name, value in said.items()})
    except (ValueError, TypeError, AttributeError, RecursionError) as error:
        raise Refusal(403, "cross-site", "this browser did not begin this: sign in again") from error
    return started, str(word), release_of({"release": str(release)})
