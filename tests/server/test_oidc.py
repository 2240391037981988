"""Signing in by a provider: real codes, PKCE and signed tokens; and nobody gets another's account by what it says."""

import base64
import json
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

import httpx
import pytest
from tests.server.catalogue_fixture import Site, site
from tests.server.oidc_provider import CLIENT, SECRET, OidcProvider, oidc_provider
from tests.server.postgres import fresh_schema, postgres
from tests.shared.consortium import NOW, RELEASE

from sonoshare_server.catalogue import limits
from sonoshare_server.catalogue.accounts import Accounts
from sonoshare_server.catalogue.app import create_app, serving
from sonoshare_server.catalogue.mail import Smtp
from sonoshare_server.catalogue.providers import Provider, read_providers
from sonoshare_shared.errors import InputError

VERIFIED = {"email": "Ada@Example.edu", "email_verified": True, "name": "Ada Reader"}
PASSWORD = "correct horse battery"


@pytest.fixture(scope="module")
def provider() -> Iterator[OidcProvider]:
    with oidc_provider() as running:
        yield running


@pytest.fixture(scope="module", params=["SQLite", "PostgreSQL"])
def served(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, provider: OidcProvider
) -> Iterator[Site]:
    folder = tmp_path_factory.mktemp("catalogue")
    (folder / "secret").write_text(f"{SECRET}\n")
    known: dict[str, Any] = {"issuer": provider.issuer, "client_id": CLIENT, "secret_file": folder / "secret"}
    providers = (
        Provider(name="uni", title="Example University", email_domains=("example.edu",), **known),
        Provider(name="orcid", title="ORCID", **known),
    )
    options: dict[str, Any] = {"mailer": Smtp("127.0.0.1", 1, "a@b"), "address": "http://127.0.0.1:1"}
    with ExitStack() as stack:
        if request.param == "PostgreSQL":
            options["database_url"] = fresh_schema(stack.enter_context(postgres()))
        running = stack.enter_context(site(folder, providers=providers, **options))
        yield running
        running.storage.close()


@pytest.fixture(autouse=True)
def fresh(monkeypatch: pytest.MonkeyPatch, provider: OidcProvider) -> None:
    monkeypatch.setattr(limits.Buckets, "wait", lambda *_, **__: 0.0)
    provider.claims, provider.userinfo, provider.lies, provider.forged = {"sub": "1"}, {}, {}, False


@pytest.fixture
def browser(served: Site) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=served.url, trust_env=False, timeout=20) as client:
        yield client


def back(browser: httpx.Client, name: str = "uni", query: str = "") -> str:
    """Off to the provider, signed in there; where it sends the browser."""
    left = browser.get(f"/account/oidc/{name}{query}")
    assert left.status_code == 303, left.text
    sent = urlsplit(httpx.get(left.headers["location"], trust_env=False).headers["location"])
    assert (sent.netloc, sent.path) == ("127.0.0.1:1", f"/account/oidc/{name}/back")
    return f"{sent.path}?{sent.query}"


def signed_in(browser: httpx.Client, name: str = "uni", query: str = "") -> httpx.Response:
    return browser.get(back(browser, name, query))


def accounts(served: Site) -> Accounts:
    return served.storage.people.accounts


def person(served: Site, email: str, *, verified: bool = True) -> dict[str, str]:
    link = accounts(served).sign_up(email, "Somebody", PASSWORD, now=NOW)
    assert not verified or accounts(served).verify(link, PASSWORD, now=NOW)
    return {"email": email, "password": PASSWORD}


def test_a_verified_address_of_the_institution_makes_an_account_and_the_subject_opens_it_ever_after(
    browser: httpx.Client, served: Site, provider: OidcProvider
) -> None:
    assert 'href="/account/oidc/uni">Sign in with Example University' in browser.get("/account/sign-in").text
    provider.claims = {"sub": "ada", **VERIFIED, "role": "coordinator", "groups": ["coordinator"]}
    answer = signed_in(browser)
    assert (answer.status_code, answer.headers["location"]) == (303, "/account")
    page = browser.get("/account").text
    assert "ada@example.edu, researcher" in page
    accounts(served).give_role("ada@example.edu", "auditor")
    provider.claims = {"sub": "ada", "email": "root@example.edu", "email_verified": True}
    with httpx.Client(base_url=served.url, trust_env=False, timeout=20) as later:
        assert signed_in(later).status_code == 303
        assert "ada@example.edu, auditor" in later.get("/account").text
    with pytest.raises(InputError):
        accounts(served).give_role("root@example.edu", "auditor")
    assert accounts(served).sign_in("ada@example.edu", "", now=NOW) is None, "no password is no empty password"


@pytest.mark.parametrize(
    ("name", "claims"),
    [
        ("uni", {"email": "victim@example.edu"}),
        ("uni", {"email": "victim@example.edu", "email_verified": False}),
        ("uni", {"email": "victim@example.edu", "email_verified": "true"}),
        ("uni", {"email": "victim@elsewhere.org", "email_verified": True}),
        ("uni", {"email": "victim@notexample.edu", "email_verified": True}),
        ("uni", {"email": "victim@elsewhere.org\n@example.edu", "email_verified": True}),
        ("uni", {"email": ["victim@example.edu"], "email_verified": True}),
        ("orcid", {"email": "victim@example.edu", "email_verified": True}),
        ("orcid", {"name": "Josiah Carberry"}),
    ],
)
def test_an_address_that_is_not_believed_opens_and_makes_no_account(
    browser: httpx.Client, served: Site, provider: OidcProvider, name: str, claims: dict[str, Any]
) -> None:
    for email in ("victim@example.edu", "victim@elsewhere.org"):
        if accounts(served).sign_in(email, PASSWORD, now=NOW) is None:
            person(served, email)
    provider.claims = {"sub": "stranger", **claims}
    answer = signed_in(browser, name)
    assert answer.status_code == 403
    assert "connect it from your account" in answer.text
    assert browser.get("/account").status_code == 303


def test_who_signed_up_for_anothers_address_keeps_no_way_in(
    browser: httpx.Client, served: Site, provider: OidcProvider
) -> None:
    enemy = person(served, "new@example.edu", verified=False)
    link = accounts(served).sign_up("new@example.edu", "Enemy", PASSWORD, now=NOW)
    provider.claims = {"sub": "new", "email": "new@example.edu", "email_verified": True, "name": "Newcomer"}
    assert signed_in(browser).status_code == 303
    assert "Newcomer" in browser.get("/account").text
    assert accounts(served).sign_in(enemy["email"], PASSWORD, now=NOW) is None
    assert not accounts(served).verify(link, PASSWORD, now=NOW)


def test_orcid_is_connected_from_the_account_and_opens_it_afterwards(
    browser: httpx.Client, served: Site, provider: OidcProvider
) -> None:
    provider.claims = {"sub": "0000-0002-1825-0097"}
    provider.userinfo = {"given_name": "Josiah", "family_name": "Carberry"}
    known = person(served, "josiah@example.org")
    assert signed_in(browser, "orcid").status_code == 403
    assert browser.post("/account/sign-in", data=known).status_code == 303
    word = browser.get("/account").text.split("/account/oidc/orcid?connect=")[1].split('"')[0]
    assert browser.get("/account/oidc/orcid?connect=0000").status_code == 403
    assert signed_in(browser, "orcid", f"?connect={word}").status_code == 303
    assert "0000-0002-1825-0097" in browser.get("/account").text
    with httpx.Client(base_url=served.url, trust_env=False, timeout=20) as later:
        assert signed_in(later, "orcid").status_code == 303
        assert "josiah@example.org" in later.get("/account").text
        other = person(served, "other@example.org")
        later.cookies.clear()
        later.post("/account/sign-in", data=other)
        word = later.get("/account").text.split("/account/oidc/orcid?connect=")[1].split('"')[0]
        assert signed_in(later, "orcid", f"?connect={word}").status_code == 409
        ends = back(later, "orcid", f"?connect={word}")
        del later.cookies["sonoshare"]
        assert later.get(ends).status_code == 403, "the session that began it is over"


def test_who_came_from_a_release_is_back_at_it_after_signing_in(
    browser: httpx.Client, served: Site, provider: OidcProvider
) -> None:
    came = f"?release={RELEASE}"
    sent = browser.get(f"/account{came}")
    assert sent.headers["location"] == f"/account/sign-in{came}"
    page = browser.get(sent.headers["location"]).text
    assert f'href="/account/oidc/uni{came}"' in page
    assert f'name="release" value="{RELEASE}"' in page
    provider.claims = {"sub": "reader", "email": "reader@example.edu", "email_verified": True}
    assert signed_in(browser, "uni", came).headers["location"] == f"/account{came}"
    assert f'value="{RELEASE}"' in browser.get(f"/account{came}").text
    known = person(served, "reader@example.org")
    wrong = browser.post("/account/sign-in", data={**known, "password": "another", "release": RELEASE})
    assert f'name="release" value="{RELEASE}"' in wrong.text
    answer = browser.post("/account/sign-in", data={**known, "release": RELEASE})
    assert answer.headers["location"] == f"/account{came}"


@pytest.mark.parametrize("place", ["//evil.example", "https://evil.example", "a%0d%0aX: y", "../x", "A", "a\n", "%00"])
def test_nobody_is_sent_elsewhere_after_signing_in(
    browser: httpx.Client, served: Site, provider: OidcProvider, place: str
) -> None:
    provider.claims = {"sub": "reader", "email": "reader@example.edu", "email_verified": True}
    assert browser.get("/account", params={"release": place}).headers["location"] == "/account/sign-in"
    assert "evil" not in browser.get("/account/sign-in", params={"release": place}).text
    assert signed_in(browser, "uni", f"?release={quote(place)}").headers["location"] == "/account"
    known = person(served, f"reader{abs(hash(place))}@example.org")
    answer = browser.post("/account/sign-in", data={**known, "release": place})
    assert answer.headers["location"] == "/account"


def test_an_answer_is_taken_once_and_by_the_browser_that_began(
    browser: httpx.Client, served: Site, provider: OidcProvider
) -> None:
    provider.claims = {"sub": "ada", **VERIFIED}
    sent = back(browser)
    with httpx.Client(base_url=served.url, trust_env=False, timeout=20) as victim:
        assert victim.get(sent).status_code == 403, "a link that somebody else made"
        back(victim)
        assert victim.get(sent).status_code == 403
    kept = dict(browser.cookies)
    assert browser.get(sent.replace("/uni/", "/orcid/")).status_code == 403
    browser.cookies.update(kept)
    taken = browser.get(sent)
    assert taken.status_code == 303
    assert any(one.startswith('sonoshare-oidc=""; ') for one in taken.headers.get_list("set-cookie"))
    browser.cookies.update(kept)
    assert browser.get(sent).status_code == 403, "the provider gives nothing for a code again"
    for cookie in ("", "x", "bnVsbA==", "W10=", "W3t9LCIiXQ=="):
        browser.cookies.set("sonoshare-oidc", cookie)
        assert browser.get(sent).status_code == 403
    assert browser.get("/account/oidc/nobody").status_code == 404


@pytest.mark.parametrize(
    "lie",
    [
        {"iss": "https://evil.example.org"},
        {"aud": "another"},
        {"aud": [CLIENT, "another"]},
        {"aud": [CLIENT, "another"], "azp": "another"},
        {"nonce": "another"},
        {"exp": 1},
        {"exp": None},
        {"iat": int(time.time()) + 3600},
        {"sub": ""},
        {"sub": 7},
        {"sub": "x" * 256},
        "forged",
    ],
)
def test_a_token_that_is_not_for_this_sign_in_is_not_taken(
    browser: httpx.Client, provider: OidcProvider, lie: Any
) -> None:
    provider.claims = {"sub": "ada", **VERIFIED}
    if lie == "forged":
        provider.forged = True
    else:
        provider.lies = lie
    answer = signed_in(browser)
    assert answer.status_code == 403
    assert "cannot be taken" in answer.text
    assert browser.get("/account").status_code == 303


KELVIN = "mi\N{KELVIN SIGN}e@example.edu"


def test_an_address_that_becomes_anothers_in_small_letters_is_another(
    browser: httpx.Client, served: Site, provider: OidcProvider
) -> None:
    """The sign of Kelvin is a k in small letters: neither its provider nor its letter opens the account of the k."""
    person(served, "mike@example.edu")
    assert accounts(served).forgot(KELVIN, now=NOW) is None
    assert accounts(served).sign_in(KELVIN, PASSWORD, now=NOW) is None
    provider.claims = {"sub": "kelvin", "email": KELVIN, "email_verified": True}
    assert signed_in(browser).status_code == 303
    assert "mike@example.edu" not in browser.get("/account").text


def test_another_password_ends_the_identities_that_somebody_else_may_have_connected(
    browser: httpx.Client, served: Site, provider: OidcProvider
) -> None:
    provider.claims = {"sub": "thief"}
    known = person(served, "robbed@example.org")
    browser.post("/account/sign-in", data=known)
    word = browser.get("/account").text.split("/account/oidc/orcid?connect=")[1].split('"')[0]
    assert signed_in(browser, "orcid", f"?connect={word}").status_code == 303
    link = accounts(served).forgot("robbed@example.org", now=NOW)
    assert link is not None
    assert accounts(served).set_password(link, f"{PASSWORD} again", now=NOW)
    with httpx.Client(base_url=served.url, trust_env=False, timeout=20) as thief:
        assert signed_in(thief, "orcid").status_code == 403


def test_who_asks_for_a_provider_too_often_shuts_nobody_else_out(served: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    settings = replace(served.settings, trusted_proxies=("127.0.0.1",))
    with (
        serving(create_app(settings, served.storage)) as url,
        httpx.Client(base_url=url, trust_env=False, timeout=20) as client,
    ):

        def asked(peer: str, path: str = "") -> int:
            return client.get(f"/account/oidc/uni{path}", headers={"X-Forwarded-For": peer}).status_code

        assert 429 in {asked("192.0.2.1") for _ in range(14)}
        assert asked("192.0.2.2") == 303
        state = client.cookies["sonoshare-oidc"]
        begun = json.loads(base64.urlsafe_b64decode(state))[0]["state"]

        def came_back() -> int:
            client.cookies.set("sonoshare-oidc", state)
            return asked("192.0.2.3", f"/back?code=made-up&state={begun}")

        assert 429 in {came_back() for _ in range(14)}


def test_userinfo_of_another_subject_says_nothing(browser: httpx.Client, served: Site, provider: OidcProvider) -> None:
    provider.claims = {"sub": "mallory"}
    provider.userinfo = {"sub": "ada", **VERIFIED}
    assert signed_in(browser).status_code == 403
    provider.userinfo = {"email": "mallory@example.edu", "email_verified": True}
    assert signed_in(browser).status_code == 303
    assert "mallory@example.edu, researcher" in browser.get("/account").text


def test_a_session_from_a_provider_ends_as_any(browser: httpx.Client, served: Site, provider: OidcProvider) -> None:
    provider.claims = {"sub": "ada", **VERIFIED}
    signed_in(browser)
    try:
        served.clock.now = NOW + timedelta(hours=12)
        assert browser.get("/account").status_code == 303
    finally:
        served.clock.now = NOW


def test_the_secret_stands_in_no_database_and_no_page(browser: httpx.Client, served: Site) -> None:
    signed_in(browser)
    assert SECRET not in browser.get("/account/sign-in").text
    folder = served.settings.database.parent
    assert not any(SECRET.encode() in path.read_bytes() for path in folder.glob("catalogue.db*"))
    assert SECRET not in repr(served.settings)


@pytest.mark.parametrize(
    "text",
    [
        "x = ",
        "[A]\nissuer='https://a.org'\ntitle='A'\nclient_id='c'",
        "[a]\nissuer='http://a.org'\ntitle='A'\nclient_id='c'",
        "[a]\nissuer='https://a.org'\ntitle='A'\nclient_id='c'\nclient_secret='s3cret'",
        "[a]\nissuer='https://a.org'\ntitle='A'\nclient_id='c'\nsecret_file='/nowhere'",
        "[a]\nissuer='https://a.org'\ntitle='A'\nclient_id='c'\nsecret_env='SONOSHARE_NO_SUCH'",
        "a = 1",
    ],
)
def test_a_file_of_providers_that_cannot_be_used_is_one_line(text: str, tmp_path: Path) -> None:
    (tmp_path / "oidc.toml").write_text(text)
    with pytest.raises(InputError) as caught:
        read_providers(tmp_path / "oidc.toml")
    assert "s3cret" not in str(caught.value)


def test_a_file_of_providers_names_them_and_where_their_secrets_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ORCID_SECRET", SECRET)
    fields = "title='ORCID'\nissuer='https://orcid.org'\nclient_id='APP-1'\nsecret_env='ORCID_SECRET'"
    (tmp_path / "oidc.toml").write_text(f"[orcid]\n{fields}\nemail_domains=['@Example.EDU']\n")
    (found,) = read_providers(tmp_path / "oidc.toml")
    assert (found.name, found.secret(), found.believed("a@example.edu")) == ("orcid", SECRET, True)
    assert SECRET not in repr(found)
