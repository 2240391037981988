"""Secrets of a catalogue stand where they were put and nowhere else: not in logs, answers, errors, database or files.

A token, the password of the database, the secret of an object store and the client secret of a provider, each used, and
each in the way when something fails.
"""

import logging
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest
import sqlalchemy as sa
from tests.server.catalogue_fixture import ACCEPTANCE, Clock, Site, site
from tests.server.oidc_provider import CLIENT, OidcProvider, oidc_provider
from tests.server.postgres import fresh_schema, postgres
from tests.server.s3 import bucket_server
from tests.shared.consortium import RELEASE

from sonoshare_server.catalogue import oidc
from sonoshare_server.catalogue.app import create_app, serving
from sonoshare_server.catalogue.database import Database
from sonoshare_server.catalogue.providers import Provider
from sonoshare_server.catalogue.settings import CatalogueSettings
from sonoshare_server.catalogue.storage import open_storage
from sonoshare_server.databases import engine_of
from sonoshare_shared.errors import FederationError

DATABASE, STORE, CLIENT_SECRET = "planted-database-password", "planted-store-secret", "planted-client-secret"


class _Unsent:
    def send(self, to: str, subject: str, text: str) -> None:
        raise FederationError("the mail server does not take a letter: planted", remedy=f"{to} {subject} {text}"[:0])


@dataclass
class Life:
    folder: Path
    secrets: dict[str, str]
    logged: str
    answered: str
    kept: str


@pytest.fixture(scope="module")
def life(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Life]:
    folder, logged = tmp_path_factory.mktemp("catalogue"), list[str]()
    handler = logging.Handler(logging.DEBUG)
    handler.emit = lambda record: logged.append(handler.format(record))
    root, before = logging.getLogger(), logging.getLogger().level
    with ExitStack() as stack:
        url = stack.enter_context(postgres()).replace("sonoshare@", f"sonoshare:{DATABASE}@")
        database = fresh_schema(url)
        blobs = stack.enter_context(bucket_server())
        provider = stack.enter_context(oidc_provider())
        patch = stack.enter_context(pytest.MonkeyPatch.context())
        patch.setenv("AWS_SECRET_ACCESS_KEY", STORE)
        patch.setenv("PLANTED_CLIENT_SECRET", CLIENT_SECRET)
        named = Provider(
            name="uni", title="U", issuer=provider.issuer, client_id=CLIENT, secret_env="PLANTED_CLIENT_SECRET"
        )
        root.addHandler(handler)
        root.setLevel(logging.DEBUG)
        stack.callback(root.removeHandler, handler)
        stack.callback(root.setLevel, before)
        served = stack.enter_context(
            site(
                folder,
                database_url=database,
                blobs_url=blobs,
                mailer=_Unsent(),
                address="http://127.0.0.1:1",
                providers=(named,),
            )
        )
        token = served.token()
        answered = [*used(served, token), *signing_in(served, provider, patch), *failing(served.settings, url)]
        kept = content_of(database)
        served.storage.close()
        yield Life(
            folder,
            {"token": token, "database": DATABASE, "store": STORE, "provider": CLIENT_SECRET},
            "\n".join(logged),
            "\n".join(answered),
            kept,
        )


def said(answer: httpx.Response) -> str:
    return f"{answer.headers} {answer.text}"


def used(served: Site, token: str) -> Iterator[str]:
    """A token that opens files, one that was revoked, and pages beside it."""
    shown = {"Authorization": f"Bearer {token}"}
    data = f"/api/v1/releases/{RELEASE}/files/metadata.csv"
    first = served.client.get(data, headers=shown)
    assert first.status_code == 200
    yield said(first)
    for path in ("/", f"/releases/{RELEASE}", "/api/v1/releases", "/api/v1/openapi.json", "/api/v1/ready", "/account"):
        yield said(served.client.get(path, headers=shown))
    yield said(served.client.post("/api/v1/agreements", json=ACCEPTANCE | {"days": 1}))
    yield said(served.client.post("/account/forgot", data={"email": "ada@example.org"}))
    yield said(served.client.delete("/api/v1/tokens/current", headers=shown))
    yield said(served.client.get(data, headers=shown))


def signing_in(served: Site, provider: OidcProvider, patch: pytest.MonkeyPatch) -> Iterator[str]:
    """By a provider that takes the secret, that lies, and that is gone."""
    provider.claims = {"sub": "1"}
    for number in range(3):
        left = served.client.get("/account/oidc/uni")
        yield said(left)
        sent = urlsplit(httpx.get(left.headers["location"], trust_env=False).headers["location"])
        provider.forged = number == 1
        if number == 2:
            patch.setattr(oidc, "_SECONDS", 0.000001)
        yield said(served.client.get(f"{sent.path}?{sent.query}"))


def failing(settings: CatalogueSettings, url: str) -> Iterator[str]:
    """Without the database, and without the object store."""
    gone = url.replace("/sonoshare-pg-", "/nowhere-")
    with pytest.raises(FederationError) as refused:
        Database(gone)
    yield f"{refused.value!r} {refused.value}"
    dead = replace(settings, blobs_url="s3://releases/fed?endpoint=http://127.0.0.1:1", clock=Clock())
    storage = open_storage(dead)
    with serving(create_app(dead, storage)) as address:
        yield said(httpx.get(f"{address}/api/v1/ready", trust_env=False, timeout=60))
        yield said(httpx.get(f"{address}/api/v1/releases/{RELEASE}/files/README.md", trust_env=False, timeout=60))
    storage.close()
    yield repr(settings)


def content_of(url: str) -> str:
    """Every row of every table."""
    engine = engine_of(url)
    tables = sa.MetaData()
    with engine.connect() as connection:
        tables.reflect(connection)
        rows = [repr(tuple(row)) for table in tables.sorted_tables for row in connection.execute(sa.select(table))]
    engine.dispose()
    return "\n".join(rows)


def test_the_life_that_was_looked_through_was_one(life: Life) -> None:
    assert "Ada Reader" in life.kept
    assert "no letter was sent" not in life.answered
    assert "database" in life.answered
    assert len(life.logged) > 1000


@pytest.mark.parametrize("secret", ["token", "database", "store", "provider"])
def test_a_secret_is_in_no_log_answer_row_or_file(life: Life, secret: str) -> None:
    planted = life.secrets[secret]
    assert planted not in life.logged
    assert planted not in life.answered
    assert planted not in life.kept
    assert not [path for path in life.folder.rglob("*") if path.is_file() and planted.encode() in path.read_bytes()]
