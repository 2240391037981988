"""Files over HTTP from an object store: ranges as from a folder, and a store that is silent is said to be silent."""

import socket
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest
from tests.server.catalogue_fixture import Site, site
from tests.server.s3 import bucket_server
from tests.shared.consortium import RELEASE

from sonoshare_server.catalogue import files
from sonoshare_server.catalogue.app import create_app, serving
from sonoshare_server.catalogue.s3 import S3Blobs
from sonoshare_server.catalogue.storage import Storage
from sonoshare_shared.protocol.release import layout

PATH = f"/api/v1/releases/{RELEASE}/files/{layout.PRIVACY_HTML}"


@dataclass
class Shop:
    """A catalogue whose files are in a bucket."""

    site: Site
    data: bytes


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shop]:
    with bucket_server() as url, site(tmp_path_factory.mktemp("catalogue"), blobs_url=url) as running:
        yield Shop(running, (running.bundle() / layout.PRIVACY_HTML).read_bytes())


def test_ranges_from_an_object_store_are_those_of_the_file(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "_WHOLE_BYTES", 1000)  # most of the file comes in blocks
    monkeypatch.setattr(files, "_BLOCK_BYTES", 3000)
    client, data = shop.site.client, shop.data
    assert len(data) > 10_000
    whole = client.get(PATH)
    assert (whole.status_code, whole.content, int(whole.headers["content-length"])) == (200, data, len(data))
    for asked, start, end in (
        ("bytes=0-0", 0, 1),
        ("bytes=0-6999", 0, 7000),
        ("bytes=5000-", 5000, len(data)),
        ("bytes=-1500", len(data) - 1500, len(data)),
        ("bytes=100-99999999", 100, len(data)),
    ):
        part = client.get(PATH, headers={"Range": asked})
        assert (part.status_code, part.content) == (206, data[start:end])
        assert part.headers["content-range"] == f"bytes {start}-{end - 1}/{len(data)}"
    beyond = client.get(PATH, headers={"Range": f"bytes={len(data)}-"})
    assert (beyond.status_code, beyond.headers["content-range"]) == (416, f"bytes */{len(data)}")
    tag = whole.headers["etag"]
    assert client.get(PATH, headers={"If-None-Match": tag}).status_code == 304
    assert client.get(PATH, headers={"Range": "bytes=5-8", "If-Range": tag}).content == data[5:9]
    assert client.get(PATH, headers={"Range": "bytes=5-8", "If-Range": '"x"'}).content == data
    assert client.get("/api/v1/ready").json() == {"status": "ok"}


def refusing(shop: Shop, blobs: S3Blobs) -> Iterator[httpx.Client]:
    kept = shop.site.storage
    storage = Storage(kept.releases, blobs, kept.tokens)
    with (
        serving(create_app(shop.site.settings, storage)) as url,
        httpx.Client(base_url=url, trust_env=False, timeout=20) as client,
    ):
        yield client


@pytest.mark.parametrize("what", ["nobody listens", "no such bucket"])
def test_a_store_that_gives_nothing_out_is_said_to_be_silent_and_no_file_to_be_missing(
    shop: Shop, what: str, tmp_path: Path
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    url = f"s3://releases/fed?endpoint=http://127.0.0.1:{port}"
    if what == "no such bucket":
        url = str(shop.site.settings.blobs_url).replace("s3://releases", "s3://another")
    for client in refusing(shop, S3Blobs(url, shop.site.storage.blobs)):
        for path in (PATH, "/api/v1/ready"):
            answer = client.get(path)
            assert (answer.status_code, answer.json()["error"], answer.headers["retry-after"]) == (503, "storage", "10")
        assert client.get("/api/v1/health").status_code == 200, "it lives, and lists"
        assert client.get("/api/v1/releases").status_code == 200


def test_a_store_that_falls_silent_within_a_file_ends_the_answer_early(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(files, "_WHOLE_BYTES", 1000)
    monkeypatch.setattr(files, "_BLOCK_BYTES", 1000)
    blobs, reads = shop.site.storage.blobs, []
    read = S3Blobs.read

    def third_fails(self: S3Blobs, place: str, path: str, start: int, end: int) -> bytes:
        reads.append(start)
        return read(self if len(reads) < 3 else silent, place, path, start, end)

    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    silent = S3Blobs(f"s3://releases/fed?endpoint=http://127.0.0.1:{port}", blobs)
    monkeypatch.setattr(S3Blobs, "read", third_fails)
    received = bytearray()

    def receive() -> None:
        with shop.site.client.stream("GET", PATH) as answer:
            for block in answer.iter_raw():
                received.extend(block)

    with pytest.raises(httpx.RemoteProtocolError):
        receive()
    assert bytes(received) == shop.data[: len(received)]
    assert len(received) >= 2000


def test_a_file_that_the_store_has_lost_is_missing(shop: Shop) -> None:
    blobs = shop.site.storage.blobs
    assert isinstance(blobs, S3Blobs)
    place = shop.site.storage.releases.releases()[RELEASE].place
    blobs._client.delete_object(Bucket="releases", Key=blobs._key(place, layout.DATASHEET))
    answer = shop.site.client.get(PATH.replace(layout.PRIVACY_HTML, layout.DATASHEET))
    assert (answer.status_code, answer.json()["error"]) == (503, "file-missing")


def test_a_folder_that_is_not_mounted_is_not_ready(tmp_path: Path) -> None:
    with site(tmp_path) as running:
        elsewhere = tmp_path.rename(tmp_path.with_name("elsewhere"))
        try:
            assert running.client.get("/api/v1/ready").json()["error"] == "storage"
        finally:
            elsewhere.rename(tmp_path)
