"""Intake finds one person under two identifiers, and holds both back until somebody has decided."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from tests.client.crafted import make_node, write_labels

from sonoshare_client.intake.ingest import EARLIER, ingest
from sonoshare_client.intake.twins import compare_new, draw_pair
from sonoshare_client.node.home import NodeHome
from sonoshare_client.vault.store import Vault
from sonoshare_client.vault.stored_image import StoredImage
from sonoshare_privacy.audits import twins as search
from sonoshare_shared.errors import InputError
from sonoshare_shared.science.imaging import save_png
from sonoshare_shared.science.phantom import simulate


@pytest.fixture(scope="module")
def pictures() -> NDArray[np.float32]:
    return simulate(6, seed=12, size=128).images


@pytest.fixture
def folder(tmp_path: Path, pictures: NDArray[np.float32]) -> Path:
    """ann.png, and bob.png which is ann's picture in another gain; bob and cora have pictures of their own."""
    folder = tmp_path / "in"
    folder.mkdir()
    for name, picture in zip(("ann", "bob2", "cora"), pictures, strict=False):
        save_png(folder / f"{name}.png", picture)
    save_png(folder / "bob.png", pictures[0] ** 0.7)
    rows = [("ann.png", "Ann"), ("cora.png", "Cora"), ("bob.png", "Bob"), ("bob2.png", "Bob")]
    write_labels(folder, [{"image": image, "patient": patient} for image, patient in rows])
    return folder


@pytest.fixture
def home(tmp_path: Path) -> NodeHome:
    return make_node(tmp_path / "home")


def people(home: NodeHome) -> set[Any]:
    with Vault(home) as vault:
        names = {vault.pseudonym(name): name for name in ("Ann", "Bob", "Cora")}
        return {names[patient.pseudonym] for patient in vault.patients()}


def test_both_of_a_pair_are_held_back_until_a_person_decides(home: NodeHome, folder: Path) -> None:
    report = ingest(home, folder)
    assert [twin.sources for twin in report.twins] == [("ann.png", "bob.png")]
    assert report.twins[0].score > 0.7
    assert people(home) == {"Cora"}
    with Vault(home) as vault, vault.writing() as writer:
        with pytest.raises(InputError, match="no pair 99"):
            writer.two_people(99)
        writer.two_people(report.twins[0].pair)
    assert people(home) == {"Ann", "Bob", "Cora"}
    assert ingest(home, folder).twins == ()
    assert people(home) == {"Ann", "Bob", "Cora"}


def test_one_person_is_put_under_one_identifier(home: NodeHome, folder: Path) -> None:
    ingest(home, folder)
    with Vault(home) as vault, vault.writing() as writer:
        assert writer.forget(vault.pseudonym("Bob")) == 2
    (folder / "labels.csv").write_text((folder / "labels.csv").read_text().replace("Bob", "Ann"))
    report = ingest(home, folder)
    assert (report.accepted, report.twins) == (2, ())
    assert people(home) == {"Ann", "Cora"}


def test_a_later_intake_is_compared_with_the_earlier_ones(home: NodeHome, folder: Path) -> None:
    table = (folder / "labels.csv").read_text().splitlines(keepends=True)
    (folder / "labels.csv").write_text("".join(table[:3]))
    assert ingest(home, folder).twins == ()
    (folder / "labels.csv").write_text("".join([table[0], *table[3:]]))
    (twin,) = ingest(home, folder).twins
    assert twin.sources == (EARLIER, "bob.png")
    assert people(home) == {"Cora"}


def test_the_very_picture_of_another_patient_makes_the_rest_of_that_patient_suspicious(
    home: NodeHome, folder: Path, pictures: NDArray[np.float32]
) -> None:
    save_png(folder / "bob.png", pictures[0])
    report = ingest(home, folder)
    assert report.conflicts == 1
    assert [twin.sources for twin in report.twins] == [("ann.png", "bob2.png")]
    assert people(home) == {"Cora"}


def test_who_was_never_compared_joins_no_study_until_an_interrupted_comparison_is_made_up_for(
    home: NodeHome, pictures: NDArray[np.float32]
) -> None:
    grey = [np.rint(255 * picture).astype(np.uint8) for picture in (pictures[0], pictures[0] ** 0.7, pictures[1])]
    with Vault(home) as vault:
        with vault.writing() as writer:
            for name, pixels in zip(("Ann", "Bob", "Cora"), grey, strict=True):
                writer.add(name, StoredImage(pixels, None, None, "benign", ""))
        assert vault.enrolled("early", settle=False) == ()
        with vault.writing() as writer:
            compare_new(vault, writer)
        assert [one.pseudonym for one in vault.enrolled("later")] == [vault.pseudonym("Cora")]
        assert len(vault.twins()) == 1
    assert people(home) == {"Cora"}


def test_patients_of_a_comparison_that_had_to_stop_join_no_study_until_it_has_gone_on(
    home: NodeHome, folder: Path, pictures: NDArray[np.float32], monkeypatch: pytest.MonkeyPatch
) -> None:
    save_png(folder / "dora.png", pictures[2] ** 0.7)
    with (folder / "labels.csv").open("a") as table:
        table.write("dora.png,Dora,benign,,,,\n")
    monkeypatch.setattr(search, "_LEAST_MOST", 1)
    monkeypatch.setattr(search, "_MOST_PER_IMAGE", 0)
    report = ingest(home, folder)
    assert (len(report.twins), report.uncompared) == (1, 5)
    with Vault(home) as vault:
        assert vault.enrolled("early", settle=False) == ()
        with vault.writing() as writer:
            compare_new(vault, writer)
        assert (len(vault.twins()), vault.compared()) == (2, 5)


def test_pairs_are_drawn_for_the_hospitals_eyes(home: NodeHome, folder: Path, tmp_path: Path) -> None:
    ingest(home, folder)
    with Vault(home) as vault:
        draw_pair(vault, vault.twins()[0], tmp_path / "pair.png")
        with pytest.raises(InputError, match="cannot write"):
            draw_pair(vault, vault.twins()[0], tmp_path / "nowhere" / "pair.png")
    assert (tmp_path / "pair.png").read_bytes().startswith(b"\x89PNG")
