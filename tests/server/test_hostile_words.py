"""Words that no reader types, wherever a word can reach the database: never an error of the server's, on either one.

PostgreSQL keeps no NUL in a text, and neither database a lone surrogate; both would say so with an error of their own.
"""

import base64
import json
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace
from email.message import EmailMessage
from typing import Any
from urllib.parse import quote

import httpx
import pytest
from tests.server.catalogue_fixture import ACCEPTANCE, Site, site
from tests.server.postgres import fresh_schema, postgres
from tests.shared.consortium import NOW, RELEASE

from sonoshare_server.catalogue import limits
from sonoshare_server.catalogue.identities import Identities
from sonoshare_server.catalogue.oidc import Claimed
from sonoshare_server.catalogue.providers import Provider

PASSWORD = "correct horse battery"
HOSTILE = {
    "NUL": "breast\x00",
    "a lone surrogate": "\ud800",
    "the other half": "\udfff x",
    "very many": "a" * 100_000,
    "very many words": "a " * 5_000,
    "wildcards": "%_%/\\%",
    "a backslash": "\\",
    "quotes": "' OR 1=1; --",
    "controls": "".join(map(chr, range(1, 32))) + "\x7f\x85",
    "from right to left": "\u202ebreast\u2066\u200f\u061c",
    "no character": "\ufffe\uffff\U0010ffff",
    "composed": "e\u0301\u0300" * 50,
    "large numbers": "9" * 400,
    "not a number": "nan",
}
HEADERS = ("cookie", "authorization", "if-none-match", "range", "if-range", "accept", "x-forwarded-for", "user-agent")
PARAMETERS = {
    "/": ("q", "task", "class", "size", "epsilon", "state", "sort", "page"),
    "/api/v1/releases": ("cursor", "limit"),
    f"/api/v1/releases/{RELEASE}/files": ("cursor", "limit"),
    "/api/v1/log/entries": ("first", "limit"),
    "/api/v1/log/consistency": ("first",),
    "/api/v1/revocations": ("cursor", "limit"),
    "/account": ("release",),
    "/account/sign-in": ("release",),
    "/account/verify": ("link",),
}
PATHS = (
    "/releases/{}",
    "/releases/{}/agreement",
    "/releases/{}/citation.bib",
    "/api/v1/releases/{}",
    "/api/v1/releases/{}/proof",
    f"/api/v1/releases/{RELEASE}/files/{{}}",
    "/api/v1/log/proofs/{}",
    "/ga4gh/drs/v1/objects/{}",
    "/account/oidc/{}",
)
FORMS = {
    f"/releases/{RELEASE}/agreement": {**ACCEPTANCE, "accept": "yes"},
    "/account/sign-up": {"name": "Ada", "email": "ada@example.org", "password": PASSWORD},
    "/account/sign-in": {"email": "ada@example.org", "password": PASSWORD},
    "/account/forgot": {"email": "ada@example.org"},
    "/account/verify": {"link": "x", "password": PASSWORD},
    "/account/password": {"link": "x", "password": PASSWORD},
}


class Written:
    """Letters are written, and not sent."""

    def send(self, to: str, subject: str, text: str) -> None:
        letter = EmailMessage()
        letter["To"], letter["Subject"] = to, subject
        letter.set_content(text)
        letter.as_bytes()


@pytest.fixture(scope="module", params=["SQLite", "PostgreSQL"])
def served(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    options: dict[str, Any] = {"mailer": Written(), "address": "http://127.0.0.1:1"}
    with ExitStack() as stack:
        if request.param == "PostgreSQL":
            options["database_url"] = fresh_schema(stack.enter_context(postgres()))
        running = stack.enter_context(site(tmp_path_factory.mktemp("catalogue"), **options))
        yield running
        running.storage.close()


@pytest.fixture(autouse=True)
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits.Buckets, "wait", lambda *_, **__: 0.0)


@pytest.fixture(params=HOSTILE)
def word(request: pytest.FixtureRequest) -> str:
    return HOSTILE[request.param]


def encoded(word: str) -> str:
    """As an address or a form carries it: a surrogate as the three bytes that a careless program makes of it."""
    return quote(word.encode("utf-8", "surrogatepass"), safe="")


def require_fine(answer: httpx.Response) -> None:
    assert answer.status_code < 500, (answer.request.method, str(answer.request.url)[:100], answer.text[:300])


def test_a_search_for_it_finds_nothing_or_says_what_is_wrong(served: Site, word: str) -> None:
    for path, names in PARAMETERS.items():
        for name in names:
            if len(encoded(word)) > 50_000:  # longer than a request line may be: the server closes it, whatever it asks
                continue
            require_fine(served.client.get(f"{path}?{name}={encoded(word)}"))


def test_wildcards_are_words(served: Site) -> None:
    for wild in ("%", "_", "%e%", "br_ast", "\\"):
        assert f"/releases/{RELEASE}" not in served.client.get("/", params={"q": wild}).text, wild
    assert f"/releases/{RELEASE}" in served.client.get("/", params={"q": "breast"}).text


def test_a_path_of_it_is_not_there(served: Site, word: str) -> None:
    for path in PATHS:
        if len(encoded(word)) <= 50_000:
            answer = served.client.get(path.format(encoded(word)))
            require_fine(answer)
            assert answer.status_code >= 400


def test_a_form_of_it_is_refused_or_kept(served: Site, word: str) -> None:
    for path, good in FORMS.items():
        for name in good:
            fields = {key: quote(str(value)) for key, value in good.items()} | {name: encoded(word)}
            body = "&".join(f"{key}={value}" for key, value in fields.items())
            require_fine(served.client.post(path, content=body))


def test_json_of_it_is_refused_or_kept(served: Site, word: str) -> None:
    for name in ACCEPTANCE:
        body = json.dumps(ACCEPTANCE | {name: word})
        answer = served.client.post("/api/v1/agreements", content=body, headers={"content-type": "application/json"})
        require_fine(answer)


def test_a_header_of_it_is_passed_over_or_refused(served: Site, word: str) -> None:
    never = bytes(range(32)) + b"\x7f"  # which no client sends in a header
    said = word.encode("utf-8", "surrogatepass").translate(None, never)[:10_000].strip()
    for name in HEADERS:
        for value in (said, b"Bearer " + said, b"sonoshare=" + said, b"bytes=" + said):
            for path in (f"/api/v1/releases/{RELEASE}/files/metadata.csv", "/account"):
                require_fine(served.client.get(path, headers=[(name.encode(), value)]))


def test_a_cursor_of_it_is_none_of_ours(served: Site, word: str) -> None:
    for key in ([word], [1, word], [word, word], {word: word}):
        cursor = base64.urlsafe_b64encode(json.dumps(key).encode()).decode().rstrip("=")[:2000]
        for path in ("/api/v1/releases", f"/api/v1/releases/{RELEASE}/files", "/api/v1/revocations"):
            require_fine(served.client.get(path, params={"cursor": cursor}))


def test_a_provider_that_says_it_is_not_believed_or_its_word_is_kept(served: Site, word: str) -> None:
    identities: Identities = served.storage.people.identities
    provider = Provider(name="uni", title="U", issuer="https://u", client_id="c", email_domains=("example.edu",))
    honest = Claimed("https://u", f"subject-{hash(word)}", "Ada", "ada@example.edu", email_verified=True)
    for claimed in (
        replace(honest, email=f"{word}@example.edu"),
        replace(honest, email=word),
        replace(honest, email=f"ada@example.edu{word}"),
    ):
        identities.enter(claimed, provider, now=NOW)
