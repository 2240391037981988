"""OpenID Connect, the relying party's side: authorisation code with PKCE (S256), discovery, state and nonce.

    start ──▶ (address at the provider, what this browser must bring back) ──▶ the provider ──▶ finish ──▶ Claimed

Promises: the issuer of the discovery document, and of the identity token, is the one that was named; the token is
signed by one of the issuer's keys with an asymmetric algorithm, for this client, not expired, with the nonce of this
very start. Nothing is kept between ``start`` and ``finish`` here: the browser brings it, so any of several servers may
finish.
Not promised: that the provider tells the truth (`identities` says what is believed).
"""

import secrets
import time
from dataclasses import dataclass
from typing import Any, Final

import httpx
from authlib.integrations.base_client import OAuthError
from authlib.integrations.httpx_client import OAuth2Client
from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jwk import KeySet

from sonoshare_server.catalogue.providers import Provider
from sonoshare_shared.errors import FederationError, RefusedError

_SCOPES: Final = "openid email profile"
_ALGORITHMS: Final = ["RS256", "PS256", "ES256", "ES384", "RS384", "RS512", "EdDSA"]
_SECONDS: Final = 10.0
_LEEWAY_SECONDS: Final = 60
_KNOWN_SECONDS: Final = 3600.0
_MOST_CHARACTERS: Final = 255


@dataclass(frozen=True)
class Started:
    """What the browser must bring back; it is put into a cookie of this browser alone."""

    provider: str
    state: str
    nonce: str
    verifier: str


@dataclass(frozen=True)
class Claimed:
    """Who a provider says somebody is.

    Attributes:
        issuer: whose word it is.
        subject: the issuer's own name for them; together the two mean one person for ever.
        name: for people, maybe empty.
        email: an address, or None.
        email_verified: whether the issuer says, by a true and nothing else, that it was verified.
    """

    issuer: str
    subject: str
    name: str
    email: str | None
    email_verified: bool


class RelyingParty:
    """The catalogue at one provider.

    Args:
        provider: which.
        redirect: the catalogue's own address that the provider sends people back to.
    """

    def __init__(self, provider: Provider, redirect: str) -> None:
        self.provider, self._redirect = provider, redirect
        self._known: tuple[float, dict[str, Any]] | None = None

    def start(self) -> tuple[str, Started]:
        """Where the browser goes, and what it must bring back.

        Raises:
            FederationError: the provider does not answer, or is another.
        """
        started = Started(self.provider.name, *(secrets.token_urlsafe(32) for _ in range(3)))
        with self._client() as client:
            address, _ = client.create_authorization_url(
                self._metadata()["authorization_endpoint"],
                state=started.state,
                nonce=started.nonce,
                code_verifier=started.verifier,
            )
        return str(address), started

    def finish(self, code: str, started: Started) -> Claimed:
        """Who it is.

        Args:
            code: that the provider sent the browser back with; its state was compared.
            started: what the browser brought.

        Raises:
            FederationError: the provider does not answer.
            RefusedError: it does not take the code, or its token is none.
        """
        metadata = self._metadata()
        try:
            with self._client() as client:
                answer = client.fetch_token(metadata["token_endpoint"], code=code, code_verifier=started.verifier)
            claims = self._claims(str(answer.get("id_token", "")), metadata, started.nonce)
            if "email" not in claims and "userinfo_endpoint" in metadata:
                claims = self._more(claims, metadata, str(answer.get("access_token", "")))
        except (OAuthError, JoseError, ValueError, KeyError, TypeError) as error:
            raise _refused(type(error).__name__) from error
        except httpx.HTTPError as error:
            raise self._silent(error) from error
        return _claimed(claims)

    def _claims(self, token: str, metadata: dict[str, Any], nonce: str) -> dict[str, Any]:
        keys = KeySet.import_key_set(self._fetched(metadata["jwks_uri"]))
        claims = dict(jwt.decode(token, keys, algorithms=_ALGORITHMS).claims)
        audience = claims.get("aud")
        audiences = audience if isinstance(audience, list) else [audience]
        now = time.time()
        wrong = (
            claims.get("iss") != self.provider.issuer,
            self.provider.client_id not in audiences,
            len(audiences) > 1 and claims.get("azp") != self.provider.client_id,
            not secrets.compare_digest(str(claims.get("nonce", "")), nonce),
            float(claims["exp"]) + _LEEWAY_SECONDS < now,
            float(claims["iat"]) - _LEEWAY_SECONDS > now,
            not (isinstance(claims.get("sub"), str) and 0 < len(claims["sub"]) <= _MOST_CHARACTERS),
        )
        if any(wrong):
            raise ValueError("the token is not for this sign-in")
        return claims

    def _more(self, claims: dict[str, Any], metadata: dict[str, Any], access: str) -> dict[str, Any]:
        """What the issuer says of the same subject at its other address."""
        headers = {"Authorization": f"Bearer {access}"}
        said = self._fetched(metadata["userinfo_endpoint"], headers)
        return {**said, **claims} if said.get("sub") == claims["sub"] else claims

    def _metadata(self) -> dict[str, Any]:
        if self._known is None or self._known[0] < time.monotonic():
            try:
                said = self._fetched(f"{self.provider.issuer.rstrip('/')}/.well-known/openid-configuration")
            except (httpx.HTTPError, ValueError) as error:
                raise self._silent(error) from error
            wanted = ("authorization_endpoint", "token_endpoint", "jwks_uri")
            if said.get("issuer") != self.provider.issuer or not all(
                isinstance(said.get(name), str) for name in wanted
            ):
                raise FederationError(
                    f"{self.provider.title} is not the issuer that is named", remedy="check issuer in SONOSHARE_OIDC"
                )
            self._known = time.monotonic() + _KNOWN_SECONDS, said
        return self._known[1]

    def _fetched(self, address: str, headers: dict[str, str] | None = None) -> Any:
        answer = httpx.get(address, headers=headers, timeout=_SECONDS, follow_redirects=False)
        answer.raise_for_status()
        said = answer.json()
        if not isinstance(said, dict):
            raise ValueError("no object")  # noqa: TRY004 - of the peer's answer, and caught as such
        return said

    def _client(self) -> OAuth2Client:
        secret = self.provider.secret()
        return OAuth2Client(
            client_id=self.provider.client_id,
            client_secret=secret,
            token_endpoint_auth_method="none" if secret is None else "client_secret_basic",
            scope=_SCOPES,
            redirect_uri=self._redirect,
            code_challenge_method="S256",
            timeout=_SECONDS,
        )

    def _silent(self, error: Exception) -> FederationError:
        return FederationError(
            f"{self.provider.title} does not answer: {type(error).__name__}", remedy="try again later"
        )


def _refused(why: str) -> RefusedError:
    return RefusedError(f"the provider's word cannot be taken: {why}", remedy="sign in again")


def _claimed(claims: dict[str, Any]) -> Claimed:
    names = [claims.get("name")] if claims.get("name") else [claims.get("given_name"), claims.get("family_name")]
    name = " ".join(part for part in names if isinstance(part, str))
    email = claims.get("email")
    return Claimed(
        issuer=str(claims["iss"]),
        subject=str(claims["sub"]),
        name="".join(character for character in name if character.isprintable()).strip()[:200],
        email=email if isinstance(email, str) else None,
        email_verified=claims.get("email_verified") is True,
    )
