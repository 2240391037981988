"""Where releases are got from: one suite for a served catalogue, a folder, and what stands for them in memory."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.server.catalogue_fixture import Site, site
from tests.shared.consortium import RELEASE
from tests.shared.memory_source import MemorySource

from sonoshare_shared.errors import InputError
from sonoshare_shared.protocol.canonical import sha256_hex
from sonoshare_shared.protocol.release import layout
from sonoshare_shared.protocol.release.remote import HttpSource, connected
from sonoshare_shared.protocol.release.sources import FolderSource, ListedFile, ReleaseSource


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with site(tmp_path_factory.mktemp("catalogue")) as running:
        yield running


@pytest.fixture(params=["http", "folder", "memory"])
def source(request: pytest.FixtureRequest, served: Site) -> Iterator[ReleaseSource]:
    if request.param == "folder":
        yield FolderSource(served.consortium.folder)
    elif request.param == "memory":
        yield MemorySource.of(served.bundle())
    else:
        with connected(served.url, served.token()) as client:
            yield HttpSource(client)


def listed(source: ReleaseSource, path: str) -> ListedFile:
    return next(file for file in source.listing(RELEASE).files if file.path == path)


def contents(folder: Path) -> dict[str, bytes]:
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def test_every_file_is_listed_with_its_size_and_digest_and_read_whole(source: ReleaseSource, served: Site) -> None:
    listing = source.listing(RELEASE)
    assert listing.release == RELEASE
    expected = contents(served.bundle())
    assert {f.path: (f.size, f.sha256) for f in listing.files} == {
        path: (len(data), sha256_hex(data)) for path, data in expected.items()
    }
    for file in listing.files:
        with source.reading(RELEASE, file, 0) as reading:
            assert reading.start == 0
            assert b"".join(reading.blocks) == expected[file.path]


@pytest.mark.parametrize("start", [1, 1000])
def test_a_file_is_read_from_within(source: ReleaseSource, served: Site, start: int) -> None:
    data = (served.bundle() / layout.PRIVACY_HTML).read_bytes()
    with source.reading(RELEASE, listed(source, layout.PRIVACY_HTML), start) as reading:
        assert reading.start == start
        assert b"".join(reading.blocks) == data[start:]


def test_bytes_say_where_they_begin_when_the_file_is_another_than_was_listed(
    source: ReleaseSource, served: Site
) -> None:
    file = listed(source, layout.DATASHEET).model_copy(update={"sha256": "0" * 64})
    data = (served.bundle() / layout.DATASHEET).read_bytes()
    with source.reading(RELEASE, file, 10) as reading:
        assert reading.start in {0, 10}
        assert b"".join(reading.blocks) == data[reading.start :]


@pytest.mark.parametrize("release", ["never-was", "../x", "", "A", "a/b"])
def test_what_is_no_release_is_refused(source: ReleaseSource, release: str) -> None:
    with pytest.raises(InputError):
        source.listing(release)


def test_what_is_no_file_is_refused(source: ReleaseSource) -> None:
    file = ListedFile(path="no-such-file", size=1, sha256="0" * 64)
    with pytest.raises(InputError), source.reading(RELEASE, file, 0):
        pass


def test_a_folder_gives_out_nothing_behind_a_link_or_above_itself(served: Site, tmp_path: Path) -> None:
    (tmp_path / "secret").write_bytes(b"secret")
    (tmp_path / RELEASE).mkdir()
    (tmp_path / RELEASE / "link").symlink_to(tmp_path / "secret")
    for path in ("link", "../secret"):
        file = ListedFile(path=path, size=6, sha256="0" * 64)
        with pytest.raises(InputError), FolderSource(tmp_path).reading(RELEASE, file, 0):
            pass
