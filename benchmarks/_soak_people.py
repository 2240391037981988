"""Who uses the coordinator's catalogue in ``benchmarks.soak``: many releases, and people who list and download them.

The releases are small, of a simulated consortium with keys of its own, built, signed, verified and published into the
coordinator's own catalogue as any release is; what trains beside them makes none. People ask for a token as a person
does, walk the whole list, and compare every file with the digest that the list gives for it.
"""

import random
import threading
import time
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import httpx
from tests.shared.consortium import NOW, Consortium

from sonoshare_server.catalogue.publishing import publish
from sonoshare_server.catalogue.storage import open_storage
from sonoshare_server.consortium.publication import catalogue_settings
from sonoshare_server.home import CoordinatorHome
from sonoshare_shared.protocol.canonical import sha256_hex

TOKENS: Final = 20
"""Releases of which files are downloaded; the list has all."""
LIST_EVERY: Final = 100
"""Downloads between two walks of the whole list."""
PAUSE_SECONDS: Final = 0.02
LIMIT: Final = 100


def fill(home: CoordinatorHome, count: int, folder: Path) -> list[str]:
    """Publish so many releases in the coordinator's catalogue; returns their names."""
    made = Consortium(folder)
    names = [f"soak-{number + 1}" for number in range(count)]
    with closing(open_storage(catalogue_settings(home))) as storage:
        for name in names:
            publish(storage.releases, storage.blobs, made.release(name), made.signed_roster(), now=NOW)
    return names


@dataclass
class People(threading.Thread):
    """Lists and downloads until all downloads are done.

    Attributes:
        url: of the catalogue.
        names: every release that must be listed.
        downloads: how many there are to be.
        seed: of which file is next.
        done: downloads that gave the file that the list promises.
        failed: those that did not, and what was missing from a walk of the list.
        seen: releases on the shortest walk.
    """

    url: str
    names: list[str]
    downloads: int
    seed: int = 0
    done: int = 0
    failed: int = 0
    seen: int = 0
    said: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        super().__init__(name="people", daemon=True)

    def __hash__(self) -> int:
        return id(self)

    def run(self) -> None:
        """As a person would, but for ever the next file."""
        choose = random.Random(self.seed)  # noqa: S311 - which file is next is no secret
        self.seen = len(self.names)
        with httpx.Client(base_url=self.url, trust_env=False, timeout=120) as client:
            tokens = {name: self._token(client, name) for name in self.names[:TOKENS]}
            files = [(name, file) for name in tokens for file in self._files(client, name)]
            for number in range(self.downloads):
                if number % LIST_EVERY == 0:
                    self._walk(client)
                name, file = choose.choice(files)
                self._download(client, name, file, tokens[name])
                time.sleep(PAUSE_SECONDS)
            self._walk(client)

    def _token(self, client: httpx.Client, name: str) -> str:
        asked = {"release": name, "name": "Ada Reader", "email": "ada@example.org", "purpose": "a soak"}
        answer = client.post("/api/v1/agreements", json={**asked, "agreement_version": "1.0"})
        answer.raise_for_status()
        return str(answer.json()["token"])

    def _files(self, client: httpx.Client, name: str) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = client.get(f"/api/v1/releases/{name}/files").raise_for_status().json()["files"]
        return found

    def _walk(self, client: httpx.Client) -> None:
        found: set[str] = set()
        cursor = None
        while True:
            given = {"limit": LIMIT} | ({"cursor": cursor} if cursor else {})
            answer = client.get("/api/v1/releases", params=given)
            if answer.status_code != httpx.codes.OK:
                self._fail(f"list: {answer.status_code}")
                return
            page = answer.json()
            found |= {one["release"] for one in page["releases"]}
            if (cursor := page["next"]) is None:
                break
        self.seen = min(self.seen, len(found.intersection(self.names)))

    def _download(self, client: httpx.Client, name: str, file: dict[str, Any], token: str) -> None:
        where = f"/api/v1/releases/{name}/files/{file['path']}"
        try:
            answer = client.get(where, headers={"Authorization": f"Bearer {token}"})
        except httpx.HTTPError as error:
            self._fail(f"{where}: {type(error).__name__}")
            return
        if answer.status_code == httpx.codes.OK and sha256_hex(answer.content) == file["sha256"]:
            self.done += 1
        else:
            self._fail(f"{where}: {answer.status_code}")

    def _fail(self, words: str) -> None:
        self.failed += 1
        self.said.append(words)
