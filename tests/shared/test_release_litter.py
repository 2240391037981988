"""What an operating system leaves in a release's folder is told apart from what somebody put there."""

from pathlib import Path

import pytest
from tests.shared.consortium import RELEASE, Consortium
from tests.shared.sealed_release import check

from sonoshare_shared.errors import VerificationError
from sonoshare_shared.protocol.release import digests, layout
from sonoshare_shared.protocol.release.paths import files_in
from sonoshare_shared.protocol.release.sources import FolderSource

LITTER = (
    ".DS_Store",
    "images/.DS_Store",
    "images/._000000.png",
    "Thumbs.db",
    "masks/desktop.ini",
    ".ipynb_checkpoints/metadata-checkpoint.csv",
    "__MACOSX/images/._a name with spaces.png",
)


def refused(built: Consortium, folder: Path) -> VerificationError:
    with pytest.raises(VerificationError) as caught:
        check(built, folder)
    return caught.value


def put(folder: Path, *paths: str) -> None:
    for path in paths:
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(b"left")


@pytest.mark.parametrize("path", LITTER)
def test_litter_is_extra_and_the_advice_is_to_delete_it(built: Consortium, folder: Path, path: str) -> None:
    put(folder, path)
    error = refused(built, folder)
    assert error.cause == "file-extra"
    assert path in error.message
    assert "delete" in error.remedy
    assert "do not use" not in str(error)
    (folder / path).unlink()
    check(built, folder)


def test_all_litter_is_named_at_once_and_counted(built: Consortium, folder: Path) -> None:
    put(folder, *LITTER)
    assert "and 4 more" in refused(built, folder).message


@pytest.mark.parametrize(
    ("path", "cause"),
    [(".hidden", "path"), ("images/.secret.png", "path"), ("Thumbs.db.exe", "file-extra"), ("._", "path")],
)
def test_everything_else_is_refused_as_strictly_as_ever_beside_litter(
    built: Consortium, folder: Path, path: str, cause: str
) -> None:
    put(folder, ".DS_Store", path)
    error = refused(built, folder)
    assert error.cause == cause
    assert "operating system" not in error.message


@pytest.mark.parametrize("path", [".DS_Store", "__MACOSX/x", ".ipynb_checkpoints"])
def test_a_link_is_no_litter_whatever_its_name(built: Consortium, folder: Path, path: str) -> None:
    (folder / path).parent.mkdir(exist_ok=True)
    (folder / path).symlink_to("/etc/passwd")
    assert refused(built, folder).cause == "path"


def test_a_wrong_file_is_told_before_litter(built: Consortium, folder: Path) -> None:
    put(folder, ".DS_Store", layout.LICENCE)
    assert refused(built, folder).cause == "file-size"


def test_litter_is_not_sealed_into_a_release_and_not_fetched_from_a_disk(built: Consortium, folder: Path) -> None:
    folder = folder.rename(folder.with_name(RELEASE))
    before = FolderSource(folder.parent).listing(RELEASE)
    put(folder, *LITTER)
    with pytest.raises(VerificationError):
        files_in(folder)
    assert FolderSource(folder.parent).listing(RELEASE) == before


def test_large_and_small_files_have_the_digests_that_sha256_gives(
    built: Consortium, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(digests, "LARGE_BYTES", 1000)
    monkeypatch.setattr(digests, "_BUFFER_BYTES", 512)
    check(built, folder)
    (folder / layout.PRIVACY_HTML).write_bytes((folder / layout.PRIVACY_HTML).read_bytes()[:-1] + b"~")
    assert refused(built, folder).cause == "file-digest"
