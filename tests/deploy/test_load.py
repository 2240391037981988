"""``sonoshare.load``: one line from an address, a name or a folder to pictures that were verified; and its notebook."""

import json
import shutil
import subprocess
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from tests.deploy.command import sonoshare as command
from tests.server.catalogue_fixture import Site, site
from tests.shared.consortium import NOW, RELEASE

import sonoshare
from sonoshare import loading
from sonoshare_deploy.cli import verify as verify_command
from sonoshare_deploy.researcher import obtaining
from sonoshare_shared.protocol.canonical import sha256_file
from sonoshare_shared.protocol.keys import SigningKey
from sonoshare_shared.protocol.release import layout

NOTEBOOK = Path(__file__).parents[2] / "docs" / "notebooks" / "first_look.ipynb"


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with site(tmp_path_factory.mktemp("site")) as running:
        yield running


@pytest.fixture
def served(running: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Site:
    class Stopped(loading.datetime):  # type: ignore[name-defined,misc]
        @classmethod
        def now(cls, _: Any = None) -> Any:
            return NOW

    for module in (loading, obtaining, verify_command):
        monkeypatch.setattr(module, "datetime", Stopped)
    monkeypatch.setenv("SONOSHARE_CONFIG", str(tmp_path / "config"))
    monkeypatch.setenv("SONOSHARE_CACHE", str(tmp_path / "cache"))
    return running


@pytest.fixture
def folder(served: Site, tmp_path: Path) -> Path:
    return Path(shutil.copytree(served.bundle(), tmp_path / "copy"))


def pinned(served: Site) -> dict[str, Any]:
    return {"root": served.consortium.root.public.hex}


def test_a_folder_gives_the_very_pictures_masks_labels_and_boxes(served: Site, folder: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        pictures = sonoshare.load(folder, **pinned(served))
    assert len(pictures) == len(list(pictures)) == len(pictures.rows) == 11
    assert pictures.classes == ("benign", "malignant")
    for sample, row in zip(pictures, pictures.rows, strict=True):
        assert np.array_equal(sample["image"], np.asarray(Image.open(folder / row["file_name"]).convert("L")))
        assert np.array_equal(sample["mask"], np.asarray(Image.open(folder / row["mask_file_name"])) > 0)
        assert pictures.classes[sample["label"]] == row["label"]
        assert sample["box"][2] == float(row["w"]) if row["w"] else np.isnan(sample["box"]).all()
    assert [sample["index"] for sample in pictures[-3:]] == [9, 10, 11]
    assert pictures.verified.manifest_digest == sha256_file(folder / layout.MANIFEST)


def test_torch_takes_it_as_a_data_set(served: Site, folder: Path) -> None:
    from torch.utils.data import DataLoader  # noqa: PLC0415 - slow

    batches = list(DataLoader(sonoshare.load(folder, **pinned(served)), batch_size=4))  # type: ignore[arg-type]
    assert [len(batch["label"]) for batch in batches] == [4, 4, 3]
    assert tuple(batches[0]["image"].shape) == (4, 16, 16)


def test_hugging_face_takes_it_as_a_data_set(served: Site, folder: Path) -> None:
    pytest.importorskip("datasets", reason="datasets is not installed: Hugging Face's data set is not made")
    pictures = sonoshare.load(folder, **pinned(served))
    rows = pictures.to_datasets()
    assert rows.features["label"].names == ["benign", "malignant"]
    assert np.array_equal(np.asarray(rows[0]["image"]), pictures[0]["image"])


def test_an_address_is_fetched_once_and_verified_again(served: Site, tmp_path: Path) -> None:
    page = f"{served.url}/releases/{RELEASE}"
    first = sonoshare.load(page, token=served.token(), **pinned(served))
    assert first.folder.is_relative_to(tmp_path / "cache")
    again = sonoshare.load(f"{served.url}/api/v1/releases/{RELEASE}", **pinned(served))  # needs no token
    assert again.folder == first.folder
    assert again.verified.revocations_known_until is not None
    (first.folder / layout.METADATA).write_bytes(b"")
    with pytest.raises(sonoshare.VerificationError) as caught:
        sonoshare.load(page, **pinned(served))
    assert caught.value.cause == "file-size"


def test_a_name_means_the_catalogue_of_the_login(served: Site) -> None:
    with pytest.raises(sonoshare.InputError, match="no folder and no address"):
        sonoshare.load(RELEASE)
    command("login", served.url, "--token", served.token())
    with pytest.warns(sonoshare.UnpinnedWarning, match="first login"):
        assert len(sonoshare.load(RELEASE)) == 11


def test_what_is_not_verified_is_not_loaded(served: Site, folder: Path) -> None:
    with pytest.warns(sonoshare.UnpinnedWarning, match="by the roster in the release alone"):
        sonoshare.load(folder)
    with pytest.raises(sonoshare.VerificationError, match="another root key"):
        sonoshare.load(folder, root=SigningKey.generate().public.hex)
    (folder / layout.LICENCE).write_bytes(b"")
    with pytest.raises(sonoshare.VerificationError):
        sonoshare.load(folder, **pinned(served))


def test_a_pinned_digest_is_the_only_one_that_is_taken(served: Site, folder: Path) -> None:
    digest = sha256_file(folder / layout.MANIFEST)
    sonoshare.load(folder, digest=digest, **pinned(served))
    for where in (folder, f"{served.url}/releases/{RELEASE}"):
        with pytest.raises(sonoshare.VerificationError) as caught:
            sonoshare.load(where, digest="0" * 64, **pinned(served))
        assert caught.value.cause == "manifest"


def test_a_picture_that_is_changed_after_the_check_is_not_given_out(served: Site, folder: Path) -> None:
    pictures = sonoshare.load(folder, **pinned(served))
    shutil.copy(folder / pictures.rows[1]["file_name"], folder / pictures.rows[0]["file_name"])
    with pytest.raises(sonoshare.VerificationError):
        pictures[0]


def test_a_split_that_is_not_there_is_told(served: Site, folder: Path) -> None:
    with pytest.raises(sonoshare.InputError, match="no split 'nowhere'"):
        sonoshare.load(folder, split="nowhere", **pinned(served))


@pytest.mark.parametrize("where", ["", "./nothing", "https://example.org/", "https://example.org/releases/a/b", "a/b"])
def test_what_is_no_release_is_told(served: Site, where: str) -> None:
    with pytest.raises(sonoshare.InputError):
        sonoshare.load(where)


def test_importing_it_imports_neither_torch_nor_numpy() -> None:
    code = "import sys, sonoshare; sys.exit(bool({'torch', 'numpy', 'PIL', 'datasets'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_the_notebook_runs_and_draws_masks(served: Site, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its cells, one after the other, as a notebook runs them; and nothing of a run is left in the file."""
    import matplotlib as mpl  # noqa: PLC0415 - slow

    mpl.use("agg")
    from matplotlib import pyplot as plt  # noqa: PLC0415

    notebook = json.loads(NOTEBOOK.read_text(encoding="utf-8"))
    cells = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
    assert all(cell["outputs"] == [] and cell["execution_count"] is None for cell in cells)
    monkeypatch.setenv("SONOSHARE_RELEASE", str(folder))
    names: dict[str, Any] = {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", sonoshare.UnpinnedWarning)
        for cell in cells:
            exec(compile("".join(cell["source"]), NOTEBOOK.name, "exec"), names)  # noqa: S102 - the notebook itself
    assert sum(bool(axis.images) for axis in names["axes"].flat) == 8
    assert sum(len(axis.collections) > 0 for axis in names["axes"].flat) >= 7
    plt.close("all")
