"""Pictures of candidates under audit: the newest of each study, for the owner only, gone after the release."""

import stat
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from sonoshare_client.node.home import NodeHome
from sonoshare_client.node.private_folder import private_folder
from sonoshare_client.own_eyes.kept_pictures import drop_pictures, keep_pictures, kept_pictures
from sonoshare_shared.errors import InputError


@pytest.fixture
def home(tmp_path: Path) -> NodeHome:
    return NodeHome.create(tmp_path / "node", "north")


def candidate(digest: str, study: str = "study", images: tuple[bytes, bytes] = (b"one", b"two")) -> Any:
    listed = [SimpleNamespace(index=index) for index in range(len(images))]
    return SimpleNamespace(digest=digest, images=images, candidate=SimpleNamespace(study=study, images=listed))


def test_the_newest_candidate_of_each_study_is_kept(home: NodeHome) -> None:
    keep_pictures(home, candidate("a" * 64))
    keep_pictures(home, candidate("b" * 64, study="other"))
    keep_pictures(home, candidate("c" * 64))
    folder = kept_pictures(home, "study")
    assert folder.name == "c" * 64
    assert [path.name for path in folder.parent.iterdir()] == ["c" * 64]
    assert sorted(path.name for path in folder.iterdir()) == ["000000.png", "000001.png"]
    assert (folder / "000001.png").read_bytes() == b"two"
    assert kept_pictures(home, "other").name == "b" * 64


def test_they_are_their_owners_only(home: NodeHome) -> None:
    keep_pictures(home, candidate("a" * 64))
    folder = kept_pictures(home, "study")
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert stat.S_IMODE(folder.parent.stat().st_mode) == 0o700


def test_a_repeated_audit_keeps_what_is_there(home: NodeHome) -> None:
    keep_pictures(home, candidate("a" * 64))
    keep_pictures(home, candidate("a" * 64, images=(b"other", b"bytes")))
    assert (kept_pictures(home, "study") / "000000.png").read_bytes() == b"one"


def test_after_the_release_they_are_gone(home: NodeHome) -> None:
    keep_pictures(home, candidate("a" * 64))
    drop_pictures(home, "study")
    drop_pictures(home, "study")
    with pytest.raises(InputError, match="keeps no candidate"):
        kept_pictures(home, "study")


@pytest.mark.parametrize("study", ["", ".", "..", "../statements", "a/b", "/etc"])
def test_a_name_that_leads_elsewhere_is_refused(home: NodeHome, study: str) -> None:
    with pytest.raises(InputError, match="no study's name"):
        kept_pictures(home, study)


def fill_the_disk(out: Path) -> None:
    with private_folder(out) as folder:
        (folder / "a").write_bytes(b"a")
        raise OSError(28, "No space left on device")


def test_a_folder_that_fails_halfway_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="No space left"):
        fill_the_disk(tmp_path / "out")
    assert list(tmp_path.iterdir()) == []
