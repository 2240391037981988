"""A catalogue over the simulated consortium, served on loopback for a test module."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

import httpx
from tests.shared.consortium import NOW, RELEASE, Consortium

from sonoshare_server.catalogue.app import create_app, serving
from sonoshare_server.catalogue.public_log import OwnLog
from sonoshare_server.catalogue.publishing import publish
from sonoshare_server.catalogue.settings import CatalogueSettings
from sonoshare_server.catalogue.storage import Storage, open_storage
from sonoshare_shared.protocol.canonical import sha256_file
from sonoshare_shared.protocol.release import evidence, layout

UNPUBLISHED = "breast-2026-9"
OTHER = "breast-2026-2"
ACCEPTANCE = {
    "release": RELEASE,
    "name": "Ada Reader",
    "email": "ada@example.org",
    "purpose": "teaching segmentation",
    "agreement_version": "1.0",
}


@dataclass
class Clock:
    """A clock that stands still until it is moved."""

    now: datetime = NOW

    def __call__(self) -> datetime:
        return self.now


@dataclass
class Site:
    """A served catalogue: two published releases and one that is not."""

    consortium: Consortium
    settings: CatalogueSettings
    storage: Storage
    clock: Clock
    app: Any = None
    url: str = ""
    client: httpx.Client = field(default_factory=httpx.Client)

    def token(self, release: str = RELEASE) -> str:
        answer = self.client.post("/api/v1/agreements", json=ACCEPTANCE | {"release": release})
        assert answer.status_code == 201, answer.text
        return str(answer.json()["token"])

    def bundle(self, release: str = RELEASE) -> Path:
        return self.consortium.folder / release

    def publish(self, release: str, **options: Any) -> None:
        options = {"now": NOW, "roster": self.settings.roster()} | options
        publish(self.storage.releases, self.storage.blobs, options.pop("bundle", self.bundle(release)), **options)  # type: ignore[arg-type]

    def revocation(self, release: str, by: str = "south") -> evidence.Revocation:
        return evidence.Revocation(
            release=release,
            manifest_digest=sha256_file(self.bundle(release) / layout.MANIFEST),
            by=by,
            reason="<b>consent</b> withdrawn",
            time=NOW,
        )


@contextmanager
def site(
    folder: Path,
    consortium: Consortium | None = None,
    title: str = "Simulated",
    storage: Storage | None = None,
    **options: Any,
) -> Iterator[Site]:
    """Build, publish and serve; over database and folder, unless another storage is given."""
    consortium = consortium or Consortium(folder)
    clock = Clock()
    settings = CatalogueSettings(
        database=folder / "catalogue.db",
        roster=consortium.signed_roster,
        clock=clock,
        log=OwnLog(consortium.folder / "log.jsonl", consortium.coordinator, lambda: consortium.now),
        title=title,
        grants_per_minute=1000,
        **({"requests_per_minute": 100_000} | options),
    )
    running = Site(consortium, settings, storage or open_storage(settings), clock)
    for release in (RELEASE, OTHER, UNPUBLISHED):
        consortium.release(release)
        running.publish(release)
    running.storage.releases.hide(UNPUBLISHED, now=NOW)
    running.app = create_app(settings, running.storage)
    with (
        serving(running.app) as running.url,
        httpx.Client(base_url=running.url, trust_env=False, timeout=10) as running.client,
    ):
        yield running
