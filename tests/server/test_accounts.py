"""People with accounts meet the catalogue by forms and cookies, as browsers do; their letters go to a real server."""

import csv
import io
import re
import socket
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import timedelta
from email import message_from_bytes
from pathlib import Path
from typing import Any

import httpx
import pytest
from tests.server.catalogue_fixture import OTHER, UNPUBLISHED, Site, site
from tests.server.postgres import fresh_schema, postgres
from tests.shared.consortium import NOW, RELEASE

from sonoshare_server.catalogue import limits, passwords
from sonoshare_server.catalogue.accounts import Accounts
from sonoshare_server.catalogue.database import Database
from sonoshare_server.catalogue.mail import Smtp
from sonoshare_shared.errors import FederationError, InputError
from sonoshare_shared.protocol.release import layout

controllers = pytest.importorskip("aiosmtpd.controller", reason="SKIPPED LOUDLY: no aiosmtpd (make setup)")

ADA = {"name": "Ada <Reader>", "email": "Ada@example.org", "password": "correct horse battery"}
DATA = f"/api/v1/releases/{RELEASE}/files/{layout.METADATA}"


@dataclass
class Sink:
    """A mail server that keeps what it is sent."""

    letters: list[tuple[list[str], str]] = field(default_factory=list)
    port: int = 0

    async def handle_DATA(self, _server: Any, _session: Any, envelope: Any) -> str:  # noqa: N802 - aiosmtpd's name
        text = message_from_bytes(envelope.content).get_payload(decode=True).decode()
        self.letters.append((envelope.rcpt_tos, text))
        return "250 OK"

    def link(self) -> str:
        return re.search(r"http\S+link=(\S+)", self.letters[-1][1]).group(1)


@pytest.fixture(scope="module")
def sink() -> Iterator[Sink]:
    kept = Sink()
    controller = controllers.Controller(kept, hostname="127.0.0.1", port=0)

    def greet() -> None:
        # Port 0 takes a free one, which the controller cannot look for by itself.
        kept.port = controller.server.sockets[0].getsockname()[1]
        with socket.create_connection(("127.0.0.1", kept.port), timeout=10) as connection:
            connection.recv(100)

    controller._trigger_server = greet
    controller.start()
    yield kept
    controller.stop()


@pytest.fixture(scope="module", params=["SQLite", "PostgreSQL"])
def served(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, sink: Sink) -> Iterator[Site]:
    mailer = Smtp.of(f"smtp://127.0.0.1:{sink.port}?from=fed@example.org")
    options: dict[str, Any] = {"mailer": mailer, "address": "http://127.0.0.1:1"}
    folder = tmp_path_factory.mktemp("catalogue")
    if request.param == "SQLite":
        with site(folder, **options) as running:
            yield running
        return
    with postgres() as url, site(folder, database_url=fresh_schema(url), **options) as running:
        yield running
        running.storage.close()


@pytest.fixture(autouse=True)
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits.Buckets, "wait", lambda *_, **__: 0.0)


@dataclass
class Browser:
    """Somebody at a browser."""

    client: httpx.Client
    sink: Sink

    def post(self, path: str, form: dict[str, str] | None = None, **headers: str) -> httpx.Response:
        return self.client.post(f"/account{path}", data=form or {}, headers=headers)

    def mailed(self, path: str, form: dict[str, str]) -> httpx.Response:
        """The answer, and a letter behind it."""
        before, end = len(self.sink.letters), time.monotonic() + 20
        answer = self.post(path, form)
        assert answer.status_code == 200
        while len(self.sink.letters) == before:
            assert time.monotonic() < end, "there is no letter"
            time.sleep(0.01)
        return answer

    def word(self) -> str:
        return re.search(r'name="csrf" value="(\w+)"', self.client.get("/account").text).group(1)

    def joined(self, person: dict[str, str]) -> "Browser":
        self.mailed("/sign-up", person)
        assert self.post("/verify", person | {"link": self.sink.link()}).status_code == 303
        assert self.post("/sign-in", person).status_code == 303
        return self

    def token(self, release: str = RELEASE, **form: str) -> httpx.Response:
        asked = {"release": release, "purpose": "teaching", "agreement_version": "1.0", "days": "7", "accept": "yes"}
        return self.post("/tokens", asked | {"csrf": self.word(), "label": "laptop"} | form)


@pytest.fixture
def browser(served: Site, sink: Sink) -> Iterator[Browser]:
    with httpx.Client(base_url=served.url, trust_env=False, timeout=20) as client:
        yield Browser(client, sink)


def shown(answer: httpx.Response) -> str:
    return answer.text.split('<pre class="token">')[1].split("<")[0]


def person(name: str) -> dict[str, str]:
    return ADA | {"email": f"{name}@example.org"}


def test_sign_up_verify_sign_in_accept_download_and_revoke(browser: Browser, served: Site) -> None:
    asked = browser.mailed("/sign-up", ADA)
    assert "Look at your mail" in asked.text
    assert browser.sink.letters[-1][0] == ["Ada@example.org"]
    assert browser.post("/sign-in", ADA).status_code == 401, "not verified yet"
    link = browser.sink.link()
    assert browser.client.get(f"/account/verify?link={link}").status_code == 200, "a program that opens links"
    assert browser.post("/verify", {"link": link}).status_code == 410, "somebody who did not sign up"
    assert browser.post("/verify", {"link": link, "password": "not that of Ada"}).status_code == 410
    assert browser.post("/verify", {"link": link, "password": ADA["password"]}).status_code == 303
    assert browser.post("/verify", {"link": link, "password": ADA["password"]}).status_code == 410
    entered = browser.post("/sign-in", ADA)
    cookie = entered.headers["set-cookie"]
    assert "HttpOnly" in cookie
    assert "SameSite=lax" in cookie
    page = browser.client.get("/account")
    assert "Ada &lt;Reader&gt;" in page.text
    assert UNPUBLISHED not in page.text
    made = browser.token()
    assert made.status_code == 201
    token = shown(made)
    assert token.startswith("sonoshare_")
    assert token not in browser.client.get("/account").text
    headers = {"Authorization": f"Bearer {token}"}
    assert browser.client.get(DATA, headers=headers).status_code == 200
    name = re.search(r"Revoke (\w+)", browser.client.get("/account").text).group(1)
    assert browser.post("/tokens/revoke", {"token": name, "csrf": browser.word()}).status_code == 303
    assert browser.client.get(DATA, headers=headers).status_code == 401
    assert "revoked" in browser.client.get("/account").text
    assert browser.post("/sign-out", {"csrf": browser.word()}).status_code == 303
    assert browser.client.get("/account").status_code == 303


def test_nobody_is_told_whether_an_address_has_an_account(browser: Browser) -> None:
    browser.joined(person("known"))
    again = browser.mailed("/sign-up", person("known") | {"password": "another long password"})
    unknown = browser.mailed("/sign-up", person("unknown"))
    assert again.text == unknown.text
    assert "has one" in browser.sink.letters[-2][1]
    assert browser.post("/sign-in", person("known")).status_code == 303, "the password stands"
    letters = len(browser.sink.letters)
    never = browser.post("/forgot", {"email": "never-was@example.org"})
    assert browser.mailed("/forgot", {"email": "known@example.org"}).text == never.text
    assert len(browser.sink.letters) == letters + 1
    wrong = [browser.post("/sign-in", person(who) | {"password": "x" * 12}) for who in ("known", "never-was")]
    assert {answer.status_code for answer in wrong} == {401}
    texts = {re.sub("known|never-was", "", answer.text) for answer in wrong}
    assert len(texts) == 1


def test_a_password_that_is_set_anew_ends_the_sessions_and_the_link(browser: Browser) -> None:
    browser.joined(person("forgetful"))
    browser.mailed("/forgot", {"email": "forgetful@example.org"})
    link, fresh = browser.sink.link(), {"password": "a wholly new password"}
    assert browser.post("/verify", person("forgetful") | {"link": link}).status_code == 410, "for one purpose"
    assert browser.post("/password", {"link": link, "password": "short"}).status_code == 422
    assert browser.post("/password", fresh | {"link": link}).status_code == 303
    assert browser.client.get("/account").status_code == 303, "still signed in"
    assert browser.post("/password", fresh | {"link": link}).status_code == 410
    assert browser.post("/sign-in", person("forgetful")).status_code == 401
    assert browser.post("/sign-in", person("forgetful") | fresh).status_code == 303


def test_forms_of_other_sites_and_without_the_word_change_nothing(browser: Browser) -> None:
    browser.joined(person("careful"))
    word = browser.word()
    assert browser.post("/sign-out").status_code == 403
    assert browser.post("/sign-out", {"csrf": "0" * 64}).status_code == 403
    for headers in ({"Sec-Fetch-Site": "cross-site"}, {"Sec-Fetch-Site": "same-site"}, {"Origin": "https://evil.org"}):
        assert browser.post("/sign-out", {"csrf": word}, **headers).status_code == 403
        assert browser.post("/sign-in", person("careful"), **headers).status_code == 403
    assert browser.client.get("/account").status_code == 200
    assert browser.post("/sign-out", {"csrf": word}, Origin="null").status_code == 303


def test_case_24_what_is_somebody_elses_is_not_found(browser: Browser, served: Site, sink: Sink) -> None:
    browser.joined(person("owner"))
    token = shown(browser.token())
    name = re.search(r"Revoke (\w+)", browser.client.get("/account").text).group(1)
    with httpx.Client(base_url=served.url, trust_env=False, timeout=20) as client:
        other = Browser(client, sink).joined(person("other"))
        assert name not in client.get("/account").text
        assert other.post("/tokens/revoke", {"token": name, "csrf": other.word()}).status_code == 404
        assert other.post("/tokens/revoke", {"token": name, "csrf": browser.word()}).status_code == 403
        assert client.get("/account/access-log.csv").status_code == 404
        assert other.token(UNPUBLISHED).status_code == 404
    assert browser.client.get(DATA, headers={"Authorization": f"Bearer {token}"}).status_code == 200


def test_a_token_has_one_release_an_end_and_an_accepted_agreement(browser: Browser, served: Site) -> None:
    browser.joined(person("scoped"))
    assert browser.token(accept="").status_code == 422
    assert browser.token(days="31").status_code == 422
    assert browser.token(days="x").status_code == 422
    assert browser.token(purpose="").status_code == 422
    assert browser.token(agreement_version="0.9").status_code == 409
    headers = {"Authorization": f"Bearer {shown(browser.token(OTHER, days='1'))}"}
    assert browser.client.get(DATA, headers=headers).status_code == 401
    assert browser.client.get(DATA.replace(RELEASE, OTHER), headers=headers).status_code == 200
    try:
        served.clock.now = NOW + timedelta(days=1)
        assert browser.client.get(DATA.replace(RELEASE, OTHER), headers=headers).status_code == 401
        assert browser.client.get("/account").status_code == 303, "a session of a day ago"
    finally:
        served.clock.now = NOW


def test_the_access_log_has_a_day_a_token_and_a_release_and_names_for_a_coordinator_alone(
    browser: Browser, served: Site
) -> None:
    browser.joined(ADA | {"email": "logged@example.org", "name": "=HYPERLINK(1)"})
    headers = {"Authorization": f"Bearer {shown(browser.token())}"}
    for _ in range(3):
        assert browser.client.get(DATA, headers=headers).status_code == 200
    assert browser.client.get("/account/access-log.csv").status_code == 404
    people = served.storage.people
    people.accounts.give_role("logged@example.org", "auditor")
    seen = browser.client.get("/account/access-log.csv").text
    assert "logged@" not in seen
    people.accounts.give_role("Logged@example.org", "coordinator")
    rows = list(csv.DictReader(io.StringIO(browser.client.get("/account/access-log.csv").text)))
    (mine,) = [row for row in rows if row["email"] == "logged@example.org"]
    assert (mine["day"], mine["release"], mine["name"]) == (NOW.date().isoformat(), RELEASE, "'=HYPERLINK(1)")
    assert mine["token"] in seen
    with pytest.raises(InputError):
        people.accounts.give_role("nobody@example.org", "auditor")


def test_secrets_are_kept_as_digests_and_passwords_by_argon2id(browser: Browser, served: Site, sink: Sink) -> None:
    browser.joined(person("secret"))
    session = browser.client.cookies["sonoshare"]
    database: Database = served.storage.people.accounts._database
    with database.reading() as connection:
        kept = repr([connection.exec_driver_sql(f"SELECT * FROM {t}").all() for t in ("accounts", "sessions", "links")])  # noqa: S608
    assert session not in kept
    assert ADA["password"] not in kept
    assert "$argon2id$v=19$m=19456,t=2,p=1$" in kept


def test_passwords_are_salted_and_checked_with_what_they_were_made_with() -> None:
    one, two = passwords.hashed("correct horse"), passwords.hashed("correct horse")
    assert one != two
    assert passwords.matches("correct horse", one)
    assert not passwords.matches("correct hors", one)
    assert not passwords.matches("correct horse", None)


def test_links_and_sessions_end(tmp_path: Path) -> None:
    accounts = Accounts(Database(tmp_path / "catalogue.db"))
    late = accounts.sign_up("a@example.org", "A", ADA["password"], now=NOW)
    assert not accounts.verify(late, ADA["password"], now=NOW + timedelta(days=1))
    link = accounts.sign_up("a@example.org", "A", ADA["password"], now=NOW)
    assert not accounts.verify(late, ADA["password"], now=NOW), "the older link has ended"
    assert accounts.verify(link, ADA["password"], now=NOW)
    session = accounts.sign_in("A@example.org", ADA["password"], now=NOW)
    assert accounts.of_session(session, now=NOW + timedelta(hours=11)).email == "a@example.org"
    assert accounts.of_session(session, now=NOW + timedelta(hours=12)) is None
    accounts.sign_out(session)
    assert accounts.of_session(session, now=NOW) is None


def test_one_of_four_workers_has_a_quarter_of_the_tries(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, sink: Sink
) -> None:
    monkeypatch.undo()
    monkeypatch.setattr(Accounts, "sign_in", lambda *_, **__: None)
    with site(tmp_path, mailer=Smtp("127.0.0.1", 1, "a@b"), address="http://127.0.0.1:1", share=0.25) as running:
        form = {"email": "a@example.org", "password": "x"}
        answers = [running.client.post("/account/sign-in", data=form).status_code for _ in range(4)]
    assert answers == [401, 401, 429, 429]


def test_who_tries_passwords_waits(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, sink: Sink) -> None:
    monkeypatch.undo()
    monkeypatch.setattr(Accounts, "sign_in", lambda *_, **__: None)
    with site(tmp_path, mailer=Smtp("127.0.0.1", 1, "a@b"), address="http://127.0.0.1:1") as running:
        form = {"email": "a@example.org", "password": "x"}
        answers = [running.client.post("/account/sign-in", data=form).status_code for _ in range(12)]
        assert answers[:10] == [401] * 10
        assert answers[-1] == 429


def test_over_https_the_cookie_is_secure_and_of_this_host(tmp_path: Path, sink: Sink) -> None:
    mailer = Smtp.of(f"smtp://127.0.0.1:{sink.port}?from=fed@example.org")
    with site(tmp_path, mailer=mailer, address="https://catalogue.example.org/") as running:
        Browser(running.client, sink).joined(person("https"))
        cookie = running.client.post("/account/sign-in", data=person("https")).headers["set-cookie"]
        assert cookie.startswith("__Host-sonoshare=")
        assert "Secure" in cookie
        assert "Path=/;" in cookie
        assert "https://catalogue.example.org/account/verify?link=" in sink.letters[-1][1]


@pytest.mark.parametrize("url", ["", "smtp://", "http://a?from=a@b", "smtp://host", "smtp://host:x?from=a@b"])
def test_a_mail_server_that_is_none_is_one_line(url: str) -> None:
    with pytest.raises(InputError, match="SONOSHARE_SMTP"):
        Smtp.of(url)


def test_a_mail_server_that_does_not_answer_or_has_no_tls_is_one_line(sink: Sink) -> None:
    with pytest.raises(FederationError, match="mail server"):
        Smtp("127.0.0.1", 1, "a@example.org").send("b@example.org", "s", "t")
    with pytest.raises(FederationError, match="mail server"):
        Smtp("127.0.0.1", sink.port, "a@example.org", "user", "secret").send("b@example.org", "s", "t")


def test_a_catalogue_without_a_mail_server_has_no_accounts(tmp_path: Path) -> None:
    with site(tmp_path) as running:
        assert running.client.get("/account/sign-up").status_code == 404
        assert "/account" not in running.client.get("/").text
