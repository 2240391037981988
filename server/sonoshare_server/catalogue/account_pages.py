"""Pages of people with an account: sign up, verify, sign in, and the account with its tokens.

Sessions are cookies: HttpOnly, SameSite=Lax, and over https Secure with the ``__Host-`` prefix. Every form of somebody
who is signed in carries a word that only their own pages know (CSRF), and every form is refused that a browser says
comes from another site. Nothing is changed by GET: programs that open links in mails use up none.

Passwords are tried at most ``_TRIES_PER_MINUTE`` times a minute (ten at once) from one address and for one account,
also where several workers serve; of many workers each allows one a minute all the same.
Links in mails begin with the catalogue's own address from its settings, never with what a request calls it.
"""

import hashlib
import hmac
import logging
import re
from collections.abc import Callable, Mapping
from datetime import timedelta
from typing import Annotated, Any, Final

from fastapi import APIRouter, Request
from pydantic import BaseModel, ConfigDict, StringConstraints, ValidationError
from starlette.background import BackgroundTask
from starlette.concurrency import run_in_threadpool
from starlette.responses import RedirectResponse, Response

from sonoshare_server.catalogue.accounts import SESSION_LASTS, Account
from sonoshare_server.catalogue.api import Catalogue
from sonoshare_server.catalogue.documents import Email, Line, Words
from sonoshare_server.catalogue.limits import Buckets, peer_of
from sonoshare_server.catalogue.listing import Wanted
from sonoshare_server.catalogue.pages import form_of, page
from sonoshare_server.catalogue.passwords import LONGEST, SHORTEST
from sonoshare_server.catalogue.people import People
from sonoshare_server.catalogue.problems import Refusal, not_found
from sonoshare_shared.errors import FederationError
from sonoshare_shared.protocol.documents.base import IDENTIFIER, Identifier

_LOG: Final = logging.getLogger(__name__)
_TRIES_PER_MINUTE: Final = 6.0
_TRIES_AT_ONCE: Final = 10.0
_HTTPS: Final = "https://"
_ASK_MAIL: Final = "If the address can have an account here, a letter with a link is on its way to it."


class _Form(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore")


Password = Annotated[str, StringConstraints(min_length=SHORTEST, max_length=LONGEST)]


class _SignUp(_Form):
    name: Line
    email: Email
    password: Password


class _Token(_Form):
    release: Identifier
    label: Annotated[str, StringConstraints(strip_whitespace=True, max_length=60, pattern=r"^[^\x00-\x1f\x7f]*$")] = ""
    purpose: Words
    agreement_version: str
    days: int


def account_router(desk: "Desk") -> APIRouter:
    """The routes of accounts."""
    router = APIRouter(include_in_schema=False, prefix="/account")
    for path, shown in {
        "/sign-up": "account_sign_up",
        "/sign-in": "account_sign_in",
        "/forgot": "account_forgot",
    }.items():
        router.add_api_route(path, desk.showing(shown), methods=["GET"])
    router.add_api_route("/verify", desk.showing("account_verify"), methods=["GET"])
    router.add_api_route("/password", desk.showing("account_password"), methods=["GET"])
    router.add_api_route("", desk.overview, methods=["GET"])
    router.add_api_route("/access-log.csv", desk.access_log, methods=["GET"])
    for path, act in {
        "/sign-up": desk.sign_up,
        "/sign-in": desk.sign_in,
        "/forgot": desk.forgot,
        "/verify": desk.verify,
        "/password": desk.set_password,
        "/sign-out": desk.sign_out,
        "/tokens": desk.make_token,
        "/tokens/revoke": desk.revoke_token,
    }.items():
        router.add_api_route(path, _posted(desk, act), methods=["POST"])
    return router


def release_of(said: Mapping[str, str]) -> str:
    """The release that somebody came from: its identifier, and never an address that could lead elsewhere."""
    release = said.get("release", "")
    return release if re.fullmatch(IDENTIFIER, release) else ""


def at_release(path: str, release: str) -> str:
    """A page of accounts that remembers the release, if there is one."""
    return f"{path}{'&' if '?' in path else '?'}release={release}" if release else path


Act = Callable[[Request, dict[str, str]], Response]


def _posted(desk: "Desk", act: Act) -> Callable[[Request], Any]:
    async def posted(request: Request) -> Response:
        desk.require_own_site(request)
        return await run_in_threadpool(act, request, form_of(await request.body()))

    return posted


class Desk:
    """What the routes do."""

    def __init__(self, catalogue: Catalogue, people: People) -> None:
        self._catalogue, self._people = catalogue, people
        share = catalogue.settings.share
        self._tries = Buckets(max(_TRIES_PER_MINUTE * share, 1.0), burst=max(_TRIES_AT_ONCE * share, 2.0))
        self.secure = people.address.startswith(_HTTPS)
        self.address = people.address
        self.cookie = "__Host-sonoshare" if self.secure else "sonoshare"

    def showing(self, name: str) -> Callable[[Request], Response]:
        """A page without anything to look up."""

        def shown(request: Request) -> Response:
            link = request.query_params.get("link", "")[:100]
            return self._page(name, request, link=link, values={"release": release_of(request.query_params)})

        return shown

    def require_own_site(self, request: Request) -> None:
        """Refuse a form that a browser says comes from elsewhere."""
        site, origin = request.headers.get("sec-fetch-site"), request.headers.get("origin")
        # Our pages send no referrer, and so the origin "null".
        foreign = site not in {"same-origin", "none"} if site else origin not in {None, "null", self._people.address}
        if foreign:
            raise Refusal(403, "cross-site", "this form comes from another site")

    def sign_up(self, request: Request, form: dict[str, str]) -> Response:
        """Remember somebody and mail a link."""
        try:
            asked = _SignUp.model_validate(form)
        except ValidationError as error:
            problems = sorted({str(e["loc"][0]) for e in error.errors()})
            values = {name: form.get(name, "") for name in ("name", "email")} | {"release": release_of(form)}
            return self._page("account_sign_up", request, 422, problems=problems, values=values)
        self.require_patience(request, asked.email)
        link = self._people.accounts.sign_up(asked.email, asked.name, asked.password, now=self.now())
        if link is None:
            text = f"Somebody wants an account for this address. It has one: {self._people.address}/account/sign-in\n"
        else:
            where = at_release(f"{self._people.address}/account/verify?link={link}", release_of(form))
            text = f"To verify this address, open\n\n{where}\n\nwithin a day.\n"
        return self._mailed(request, asked.email, f"Your account at {self._catalogue.settings.title}", text)

    def verify(self, request: Request, form: dict[str, str]) -> Response:
        """Take a mailed link, with the password of whoever signed up."""
        link, password = form.get("link", ""), form.get("password", "")[:LONGEST]
        self.require_patience(request, link)
        if not self._people.accounts.verify(link, password, now=self.now()):
            raise Refusal(410, "link", "the password is another, or this link was used or has expired: sign up again")
        return RedirectResponse(at_release("/account/sign-in", release_of(form)), 303)

    def forgot(self, request: Request, form: dict[str, str]) -> Response:
        """Mail a link for another password."""
        email = form.get("email", "")[:LONGEST]
        self.require_patience(request, email)
        link = self._people.accounts.forgot(email, now=self.now())
        where = f"{self._people.address}/account/password?link={link}"
        text = f"To set another password, open\n\n{where}\n\nwithin a day.\n"
        return self._mailed(request, email if link else None, "Another password", text)

    def set_password(self, request: Request, form: dict[str, str]) -> Response:
        """Set another password."""
        password = form.get("password", "")
        if not SHORTEST <= len(password) <= LONGEST:
            return self._page("account_password", request, 422, link=form.get("link", ""), problems=["password"])
        self.require_patience(request, form.get("link", ""))
        if not self._people.accounts.set_password(form.get("link", ""), password, now=self.now()):
            raise Refusal(410, "link", "this link was used, or has expired: ask for another")
        return RedirectResponse("/account/sign-in", 303)

    def sign_in(self, request: Request, form: dict[str, str]) -> Response:
        """Begin a session."""
        email, password = form.get("email", "").strip()[:LONGEST], form.get("password", "")[:LONGEST]
        self.require_patience(request, email)
        secret = self._people.accounts.sign_in(email, password, now=self.now())
        if secret is None:
            values = {"email": email, "release": release_of(form)}
            return self._page("account_sign_in", request, 401, problems=["password"], values=values)
        return self.begun(secret, release_of(form))

    def begun(self, secret: str, release: str) -> Response:
        """The account's page, in a session of its own; with the release that somebody came from, if any."""
        answer = RedirectResponse(at_release("/account", release), 303)
        answer.set_cookie(
            self.cookie,
            secret,
            max_age=int(SESSION_LASTS.total_seconds()),
            secure=self.secure,
            httponly=True,
            samesite="lax",
        )
        return answer

    def sign_out(self, request: Request, form: dict[str, str]) -> Response:
        """End the session."""
        self._signed_in(request, form)
        self._people.accounts.sign_out(request.cookies[self.cookie])
        answer = RedirectResponse("/", 303)
        answer.delete_cookie(self.cookie, secure=self.secure, httponly=True, samesite="lax")
        return answer

    def overview(self, request: Request) -> Response:
        """The account's page."""
        account = self.account(request)
        if account is None:
            return RedirectResponse(at_release("/account/sign-in", release_of(request.query_params)), 303)
        return self._overview(request, account, values={"release": release_of(request.query_params)})

    def make_token(self, request: Request, form: dict[str, str]) -> Response:
        """Accept the agreement by a click, and get a token."""
        account = self._signed_in(request, form)
        settings, now = self._catalogue.settings, self.now()
        try:
            asked = _Token.model_validate(form)
        except ValidationError as error:
            problems = sorted({str(e["loc"][0]) for e in error.errors()})
            return self._overview(request, account, 422, problems=problems, values=form)
        lifetime = timedelta(days=asked.days) if 0 < asked.days <= settings.token_lifetime.days else None
        if lifetime is None or form.get("accept") != "yes":
            wrong = "accept" if lifetime else "days"
            return self._overview(request, account, 422, problems=[wrong], values=form)
        self._catalogue.require_open(asked.release, asked.agreement_version)
        grant = self._people.tokens.grant(
            account,
            asked.release,
            label=asked.label,
            purpose=asked.purpose,
            agreement=asked.agreement_version,
            now=now,
            lifetime=lifetime,
        )
        return self._overview(request, account, 201, grant=grant)

    def revoke_token(self, request: Request, form: dict[str, str]) -> Response:
        """End a token of one's own."""
        account = self._signed_in(request, form)
        if not self._people.tokens.revoke(account, form.get("token", ""), now=self.now()):
            raise not_found("token")
        return RedirectResponse("/account", 303)

    def access_log(self, request: Request) -> Response:
        """The access log as CSV: with names for a coordinator, without for an auditor."""
        account = self.account(request)
        if account is None or account.role == "researcher":
            raise not_found("page")
        text = self._people.accesses.exported(names=account.role == "coordinator")
        headers = {"Content-Disposition": 'attachment; filename="access-log.csv"'}
        return Response(text, media_type="text/csv; charset=utf-8", headers=headers)

    def _overview(self, request: Request, account: Account, status: int = 200, **values: Any) -> Response:
        now = self.now()
        newest = self._catalogue.storage.releases.search(Wanted(state="published")).releases
        return self._page(
            "account",
            request,
            status,
            account=account,
            csrf=self._word(request),
            identities=self._people.identities.of(account),
            tokens=self._people.tokens.of(account, now=now),
            releases=[release["release"] for release in newest],
            most_days=self._catalogue.settings.token_lifetime.days,
            **({"grant": None} | values),
        )

    def _page(self, name: str, request: Request, status: int = 200, **values: Any) -> Response:
        providers = [(provider.name, provider.title) for provider in self._catalogue.settings.providers]
        values = {"problems": [], "values": {}, "shortest": SHORTEST, "providers": providers} | values
        return page(name, self._catalogue, request, status, **values)

    def _mailed(self, request: Request, to: str | None, subject: str, text: str) -> Response:
        """Say the same, after the same time, whether there is somebody to write to or not."""
        answer = self._page("account_said", request, heading="Look at your mail", words=_ASK_MAIL)
        if to is not None:
            answer.background = BackgroundTask(self._send, to, subject, text)
        return answer

    def _send(self, to: str, subject: str, text: str) -> None:
        """Whoever asked has their answer; that no letter went is the operator's to know, and not to whom."""
        try:
            self._people.mailer.send(to, subject, text)
        except FederationError as error:
            _LOG.error("no letter was sent: %s", error)

    def account(self, request: Request) -> Account | None:
        """Who is signed in, or None."""
        secret = request.cookies.get(self.cookie)
        return None if not secret else self._people.accounts.of_session(secret[:LONGEST], now=self.now())

    def _signed_in(self, request: Request, form: dict[str, str]) -> Account:
        account = self.account(request)
        if account is None:
            raise Refusal(401, "session", "you are not signed in")
        if not self.knows_word(request, form.get("csrf", "")):
            raise Refusal(403, "cross-site", "this form was not made for you: open your account's page again")
        return account

    def knows_word(self, request: Request, word: str) -> bool:
        """Whether a word is that of the request's session."""
        return hmac.compare_digest(word.encode("utf-8", "surrogateescape"), self._word(request).encode())

    def _word(self, request: Request) -> str:
        secret = request.cookies.get(self.cookie, "")
        return hmac.new(secret.encode("utf-8", "surrogateescape"), b"sonoshare csrf", hashlib.sha256).hexdigest()

    def require_patience(self, request: Request, whom: str) -> None:
        """Refuse who tries too often, from one address or for one account; who is refused uses up no try of others."""
        wait = self._tries.wait(f"from {peer_of(request.scope)}")
        if not wait:
            digest = hashlib.sha256(whom.lower().encode("utf-8", "surrogateescape")).hexdigest()
            wait = self._tries.wait(f"for {digest}")
        if wait:
            raise Refusal(429, "too-many", "too many tries; wait a minute", {"Retry-After": str(int(wait) + 1)})

    def now(self) -> Any:
        """The present."""
        return self._catalogue.settings.clock()
