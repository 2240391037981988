"""A small provider of OpenID Connect on loopback: discovery, keys, codes with PKCE (S256), signed tokens, userinfo."""

import base64
import hashlib
import json
import secrets
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit

from joserfc import jwt
from joserfc.jwk import ECKey

CLIENT = "sonoshare"
SECRET = "planted-client-secret"


@dataclass
class OidcProvider:
    """What it says, and how it lies.

    Attributes:
        claims: of whoever signs in next.
        userinfo: said at the other address alone.
        lies: put over the token's claims.
        forged: sign with a key that is not published.
        issuer: its address.
    """

    claims: dict[str, Any] = field(default_factory=lambda: {"sub": "1"})
    userinfo: dict[str, Any] = field(default_factory=dict)
    lies: dict[str, Any] = field(default_factory=dict)
    forged: bool = False
    issuer: str = ""
    key: ECKey = field(default_factory=lambda: ECKey.generate_key("P-256", {"kid": "1"}))
    codes: dict[str, dict[str, str]] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)

    def metadata(self) -> dict[str, Any]:
        paths = {"authorization_endpoint": "auth", "token_endpoint": "token", "jwks_uri": "keys"}
        said = {name: f"{self.issuer}/{path}" for name, path in paths.items()}
        return said | {"issuer": self.issuer, "userinfo_endpoint": f"{self.issuer}/userinfo"}

    def authorised(self, asked: dict[str, str]) -> str:
        """Where the browser is sent back to: whoever it is has signed in."""
        assert asked["client_id"] == CLIENT
        assert asked["code_challenge_method"] == "S256"
        assert "openid" in asked["scope"].split()
        code = secrets.token_urlsafe(16)
        self.codes[code] = asked
        return f"{asked['redirect_uri']}?{urlencode({'code': code, 'state': asked['state']})}"

    def token(self, form: dict[str, str], authorization: str) -> dict[str, Any] | None:
        """The answer to a code, once; None for what is not right."""
        known = base64.b64encode(f"{CLIENT}:{SECRET}".encode()).decode()
        asked = self.codes.pop(form.get("code", ""), None)
        if asked is None or authorization != f"Basic {known}" or form["redirect_uri"] != asked["redirect_uri"]:
            return None
        challenge = base64.urlsafe_b64encode(hashlib.sha256(form["code_verifier"].encode()).digest()).decode()
        if challenge.rstrip("=") != asked["code_challenge"]:
            return None
        now = int(time.time())
        claims = {"iss": self.issuer, "aud": CLIENT, "iat": now, "exp": now + 300, "nonce": asked["nonce"]}
        key = ECKey.generate_key("P-256", {"kid": "1"}) if self.forged else self.key
        token = jwt.encode({"alg": "ES256", "kid": "1"}, claims | self.claims | self.lies, key)
        return {"access_token": "a", "token_type": "Bearer", "expires_in": 300, "id_token": token}


@contextmanager
def oidc_provider() -> Iterator[OidcProvider]:
    """One that answers while the block runs."""
    provider = OidcProvider()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            parts = urlsplit(self.path)
            provider.asked.append(parts.path)
            if parts.path == "/auth":
                self.send_response(302)
                self.send_header("Location", provider.authorised({k: v[0] for k, v in parse_qs(parts.query).items()}))
                self.end_headers()
                return
            answers = {
                "/.well-known/openid-configuration": provider.metadata(),
                "/keys": {"keys": [provider.key.as_dict(private=False)]},
                "/userinfo": {"sub": provider.claims.get("sub")} | provider.userinfo,
            }
            self._say(200, answers[parts.path])

        def do_POST(self) -> None:
            form = parse_qs(self.rfile.read(int(self.headers["Content-Length"])).decode())
            said = provider.token({k: v[0] for k, v in form.items()}, self.headers.get("Authorization", ""))
            self._say(400 if said is None else 200, {"error": "invalid_grant"} if said is None else said)

        def _say(self, status: int, said: dict[str, Any]) -> None:
            body = json.dumps(said).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    provider.issuer = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield provider
    finally:
        server.shutdown()
        server.server_close()
        thread.join(10)
