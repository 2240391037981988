"""What a catalogue keeps: one suite for both databases with a folder, and for what stands for them in memory."""

import shutil
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from threading import Barrier

import pytest
from tests.server.memory import memory_storage
from tests.server.postgres import fresh_schema, postgres
from tests.server.s3 import bucket_server
from tests.shared.consortium import NOW, RELEASE, Consortium

from sonoshare_server.catalogue.blobs import FolderBlobs
from sonoshare_server.catalogue.publishing import publish
from sonoshare_server.catalogue.s3 import S3Blobs
from sonoshare_server.catalogue.settings import CatalogueSettings
from sonoshare_server.catalogue.storage import Storage, open_storage
from sonoshare_server.catalogue.store import ReleaseStore, StoredRelease
from sonoshare_shared.errors import InputError, RefusedError, VerificationError
from sonoshare_shared.protocol.release import layout
from sonoshare_shared.protocol.release.verify import Verified, verify_release

OTHER = "breast-2026-2"
DAY = timedelta(days=1)


@pytest.fixture(scope="module")
def consortium(tmp_path_factory: pytest.TempPathFactory) -> Consortium:
    made = Consortium(tmp_path_factory.mktemp("consortium"))
    for release in (RELEASE, OTHER):
        made.release(release)
    return made


@dataclass
class Kept:
    """A storage with one published release, and how to publish another."""

    consortium: Consortium
    storage: Storage

    def publish(self, release: str) -> Verified:
        storage, roster = self.storage, self.consortium.signed_roster()
        return publish(storage.releases, storage.blobs, self.consortium.folder / release, roster, now=NOW)

    @property
    def stored(self) -> StoredRelease:
        found = self.storage.releases.find(RELEASE)
        assert found is not None
        return found


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    with postgres() as url:
        yield url


Open = Callable[[], Storage]
DATABASES = ("SQLite", "PostgreSQL")
OPENED: list[Storage] = []


@pytest.fixture(autouse=True)
def closed() -> Iterator[None]:
    yield
    while OPENED:
        OPENED.pop().close()


def opener(kind: str, consortium: Consortium, folder: Path, request: pytest.FixtureRequest) -> Open:
    """Opens the same storage as often as it is called."""
    url = fresh_schema(request.getfixturevalue("server")) if kind == "PostgreSQL" else None
    blobs = request.getfixturevalue("bucket") if kind == "S3" else None
    settings = CatalogueSettings(
        database=folder / "catalogue.db",
        database_url=url,
        blobs_url=blobs,
        roster=consortium.signed_roster,
        clock=lambda: consortium.now,
    )

    def opened() -> Storage:
        OPENED.append(memory_storage() if kind == "memory" else open_storage(settings))
        return OPENED[-1]

    return opened


@pytest.fixture(scope="module")
def bucket() -> Iterator[str]:
    with bucket_server() as url:
        yield url


@pytest.fixture(params=[*DATABASES, "S3", "memory"])
def kept(request: pytest.FixtureRequest, consortium: Consortium, tmp_path: Path) -> Kept:
    made = Kept(consortium, opener(request.param, consortium, tmp_path, request)())
    made.publish(RELEASE)
    return made


def test_a_published_release_is_listed_with_what_was_verified(kept: Kept) -> None:
    (listed,) = kept.storage.releases.releases().values()
    assert (listed.release, listed.state, listed.reason) == (RELEASE, "published", "")
    assert listed == kept.stored
    assert listed.as_seen()["counts"] == {"benign": 6, "malignant": 5}
    on_disk = {
        p.relative_to(kept.consortium.folder / RELEASE).as_posix(): p.stat().st_size
        for p in (kept.consortium.folder / RELEASE).rglob("*")
        if p.is_file()
    }
    assert {file.path: file.size for file in listed.files.values()} == on_disk
    assert kept.storage.releases.find(OTHER) is None


def test_the_newest_release_stands_first_and_one_of_the_same_number_by_its_name(kept: Kept) -> None:
    kept.publish(OTHER)
    assert list(kept.storage.releases.releases()) == [RELEASE, OTHER]
    verified = verify_release(kept.consortium.folder / OTHER, kept.consortium.signed_roster(), now=NOW)
    newer = kept.storage.releases.find(OTHER)
    assert newer is not None
    kept.storage.releases.show(verified, replace(newer, sequence=newer.sequence + 1), now=NOW)
    assert list(kept.storage.releases.releases()) == [OTHER, RELEASE]


def test_the_list_goes_on_behind_any_release_and_says_what_the_public_sees(kept: Kept) -> None:
    store = kept.storage.releases
    before = store.standing()
    kept.publish(OTHER)
    assert store.standing() > before
    both = store.listed(None, 10)
    assert [one["release"] for one in both] == [RELEASE, OTHER]
    assert both[0] == kept.stored.as_seen()
    sequence = kept.stored.sequence
    for behind, wanted in (
        ((sequence, RELEASE), [OTHER]),
        ((sequence, OTHER), []),
        ((sequence + 1, "z"), [RELEASE, OTHER]),
        ((sequence, "a"), [RELEASE, OTHER]),
        ((-(2**31), "a"), []),
    ):
        assert [one["release"] for one in store.listed(behind, 10)] == wanted
    assert [one["release"] for one in store.listed(None, 1)] == [RELEASE]
    assert store.public(RELEASE) == kept.stored
    store.hide(RELEASE, now=NOW)
    assert (store.public(RELEASE), store.public("never-was")) == (None, None)
    assert [one["release"] for one in store.listed(None, 10)] == [OTHER]
    store.withdraw(OTHER, store.public(OTHER).manifest_digest, reason="south: withdrawn", now=NOW)
    assert store.listed(None, 10)[0]["state"] == store.public(OTHER).state == "revoked"


def test_what_is_hidden_is_not_listed_and_can_be_published_again(kept: Kept) -> None:
    kept.storage.releases.hide(RELEASE, now=NOW)
    assert kept.storage.releases.releases() == {}
    assert kept.stored.state == "unpublished"
    with pytest.raises(InputError, match="is not published"):
        kept.storage.releases.hide(RELEASE, now=NOW)
    with pytest.raises(InputError, match="is not published"):
        kept.storage.releases.hide("never-was", now=NOW)
    kept.publish(RELEASE)
    assert set(kept.storage.releases.releases()) == {RELEASE}


@pytest.mark.parametrize("hidden", [False, True])
def test_what_is_revoked_stays_listed_as_revoked_for_ever(kept: Kept, hidden: bool) -> None:
    releases = kept.storage.releases
    if hidden:
        releases.hide(RELEASE, now=NOW)
    releases.withdraw(RELEASE, kept.stored.manifest_digest, reason="south: withdrawn", now=NOW)
    assert (releases.releases()[RELEASE].state, kept.stored.reason) == ("revoked", "south: withdrawn")
    with pytest.raises(RefusedError, match="was revoked"):
        kept.publish(RELEASE)
    with pytest.raises(InputError, match="is not published"):
        releases.hide(RELEASE, now=NOW)
    assert releases.releases()[RELEASE].as_seen()["state"] == "revoked"


def test_only_the_very_manifest_is_revoked(kept: Kept) -> None:
    for release, digest in ((RELEASE, "0" * 64), ("never-was", kept.stored.manifest_digest)):
        with pytest.raises(InputError, match="with this manifest"):
            kept.storage.releases.withdraw(release, digest, reason="x", now=NOW)
    assert kept.stored.state == "published"


def test_only_what_was_verified_is_shown_and_no_other_manifest_takes_its_name(kept: Kept) -> None:
    verified = verify_release(kept.consortium.folder / RELEASE, kept.consortium.signed_roster(), now=NOW)
    for changed in (replace(kept.stored, release=OTHER), replace(kept.stored, manifest_digest="0" * 64)):
        with pytest.raises(RefusedError, match="not the release that was verified"):
            kept.storage.releases.show(verified, changed, now=NOW)
    other = replace(verified, manifest_digest="0" * 64)
    with pytest.raises(RefusedError, match="another release is called"):
        kept.storage.releases.show(other, replace(kept.stored, manifest_digest="0" * 64), now=NOW)


def test_parts_of_files_are_read_and_what_is_not_there_is_refused(kept: Kept) -> None:
    blobs, place = kept.storage.blobs, kept.stored.place
    data = (kept.consortium.folder / RELEASE / layout.DATASHEET).read_bytes()
    assert blobs.read(place, layout.DATASHEET, 0, len(data)) == data
    assert blobs.read(place, layout.DATASHEET, 5, 9) == data[5:9]
    assert blobs.read(place, layout.DATASHEET, len(data) - 2, len(data) + 100) == data[-2:]
    assert blobs.read(place, layout.DATASHEET, len(data), len(data)) == b""
    for wrong in ((place, "no-such-file"), ("no-such-place", layout.DATASHEET)):
        with pytest.raises(VerificationError) as caught:
            blobs.read(*wrong, 0, 1)
        assert caught.value.cause == "file-missing"
    assert blobs.keep(kept.consortium.folder / RELEASE, kept.stored.files) == place


def test_a_token_opens_its_release_until_it_ends(kept: Kept) -> None:
    tokens = kept.storage.tokens
    asked = {"name": "Ada", "email": "a@example.org", "purpose": "teaching", "agreement": "1.0"}
    grant = tokens.grant(RELEASE, **asked, now=NOW, lifetime=DAY)
    another = tokens.grant(RELEASE, **asked, now=NOW, lifetime=DAY)
    assert grant.token != another.token
    assert grant.expires == NOW + DAY
    assert tokens.allows(grant.token, RELEASE, now=NOW)
    assert not tokens.allows(grant.token, OTHER, now=NOW)
    assert not tokens.allows(grant.token, RELEASE, now=NOW + DAY)
    ended = [(RELEASE, NOW + DAY), (RELEASE, NOW), (OTHER, NOW + DAY)]
    assert [tokens.expired(grant.token, release, now=now) for release, now in ended] == [True, False, False]
    for wrong in ("", "x", grant.token[:-1], grant.token.upper(), "a" * 5000, "\udce9"):
        assert not tokens.allows(wrong, RELEASE, now=NOW)
        assert not tokens.expired(wrong, RELEASE, now=NOW + DAY)
        assert not tokens.revoke(wrong, now=NOW)
    assert tokens.revoke(grant.token, now=NOW)
    assert not tokens.revoke(grant.token, now=NOW)
    assert not tokens.allows(grant.token, RELEASE, now=NOW)
    assert not tokens.expired(grant.token, RELEASE, now=NOW + DAY)
    assert tokens.allows(another.token, RELEASE, now=NOW)


@pytest.mark.parametrize("kind", DATABASES)
def test_a_second_opening_of_the_same_database_sees_what_the_first_wrote(
    kind: str, consortium: Consortium, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    opened = opener(kind, consortium, tmp_path, request)
    one, two = (Kept(consortium, opened()) for _ in range(2))
    assert two.storage.releases.releases() == {}
    one.publish(RELEASE)
    assert set(two.storage.releases.releases()) == {RELEASE}
    two.storage.releases.hide(RELEASE, now=NOW)
    assert one.storage.releases.releases() == {}
    grant = one.storage.tokens.grant(
        RELEASE, name="Ada", email="a@example.org", purpose="teaching", agreement="1.0", now=NOW, lifetime=DAY
    )
    assert two.storage.tokens.allows(grant.token, RELEASE, now=NOW)
    assert two.storage.tokens.granted_since(NOW - DAY) == 1
    two.storage.tokens.revoke(grant.token, now=NOW)
    assert not one.storage.tokens.allows(grant.token, RELEASE, now=NOW)


@pytest.mark.parametrize("kind", DATABASES)
def test_of_many_that_publish_and_hide_at_once_none_is_lost(
    kind: str, consortium: Consortium, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    opened = opener(kind, consortium, tmp_path, request)
    first = Kept(consortium, opened())
    verified = first.publish(RELEASE)
    stores = [opened().releases for _ in range(4)]
    barrier = Barrier(len(stores))

    def act(store: ReleaseStore) -> int:
        barrier.wait()
        hidden = 0
        for _ in range(5):
            try:
                store.hide(RELEASE, now=NOW)
            except InputError:
                store.show(verified, stored, now=NOW)
            else:
                hidden += 1
        return hidden

    stored = first.stored
    with ThreadPoolExecutor(len(stores)) as pool:
        hidden = sum(pool.map(act, stores))
    assert 1 <= hidden <= 20
    shown = [bool(store.releases()) for store in (*stores, first.storage.releases)]
    assert len(set(shown)) == 1, "they do not agree"
    assert {store.find(RELEASE).state == "published" for store in stores} == set(shown)


def test_granted_tokens_are_counted_from_a_moment_on(kept: Kept) -> None:
    for hours in (0, 1, 2):
        asked = {"name": "Ada", "email": "a@example.org", "purpose": "teaching", "agreement": "1.0"}
        kept.storage.tokens.grant(RELEASE, **asked, now=NOW + timedelta(hours=hours), lifetime=DAY)
    assert [kept.storage.tokens.granted_since(NOW + timedelta(hours=h)) for h in (-1, 0, 1, 2)] == [3, 2, 1, 0]


def test_an_object_store_takes_the_very_bytes_that_were_verified_or_the_release_is_not_shown(
    consortium: Consortium, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    storage = opener("S3", consortium, tmp_path, request)()
    kept = Kept(consortium, storage)
    kept.publish(RELEASE)
    files = dict(kept.stored.files)
    copy = tmp_path / OTHER
    shutil.copytree(consortium.folder / RELEASE, copy)
    data = (copy / layout.DATASHEET).read_bytes()
    (copy / layout.DATASHEET).write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    with pytest.raises(VerificationError, match=layout.DATASHEET):
        storage.blobs.keep(copy, files)
    assert set(storage.releases.releases()) == {RELEASE}
    assert storage.blobs.read(kept.stored.place, layout.DATASHEET, 0, len(data)) == data
    # What lies in the folder since before is served from there.
    assert storage.blobs.read(str(copy), layout.MANIFEST, 0, 1) == b"{"


@pytest.mark.parametrize("url", ["", "http://bucket", "s3://", "s3:///folder"])
def test_a_url_that_names_no_bucket_is_one_line(url: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="SONOSHARE_BLOBS"):
        S3Blobs(url, FolderBlobs(tmp_path))
