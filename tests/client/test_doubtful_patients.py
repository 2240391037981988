"""Doubtful patients are reported by row; rows whose file is missing, and files that no row names, by name."""

from pathlib import Path

import pytest
from tests.client.crafted import make_node, speckle, write_labels

from sonoshare_client.intake.ingest import ingest
from sonoshare_client.intake.reasons import Flag, SetAside
from sonoshare_client.node.home import NodeHome
from sonoshare_client.node.sealed import VaultKeys
from sonoshare_client.vault.store import Vault
from sonoshare_shared.errors import InputError
from sonoshare_shared.science.imaging import save_png
from sonoshare_shared.science.pictures.reasons import Reason


@pytest.fixture
def home(tmp_path: Path) -> NodeHome:
    return make_node(tmp_path / "home")


def folder_of(path: Path, patients: list[str], devices: list[str] | None = None) -> Path:
    path.mkdir()
    rows = []
    for number, patient in enumerate(patients):
        save_png(path / f"{number}.png", speckle(number, 32, 40) / 255)
        rows.append({"image": f"{number}.png", "patient": patient, "device": devices[number] if devices else ""})
    write_labels(path, rows)
    return path


def test_patients_written_in_two_ways_are_flagged_and_those_of_nobody_set_aside(home: NodeHome, tmp_path: Path) -> None:
    report = ingest(home, folder_of(tmp_path / "in", ["AB-007", "ab7", "UNKNOWN", "0", "x"]))
    assert [(entry.source, entry.line) for entry in report.flagged] == [("1.png", 3)]
    assert report.flagged[0].reason == f"{Flag.NEAR_PATIENT.value} (compare line 2)"
    assert [(entry.where, entry.reason) for entry in report.quarantined] == [
        ("2.png (line 4)", SetAside.NOBODY.value),
        ("3.png (line 5)", SetAside.NOBODY.value),
    ]
    assert (report.accepted, report.patients) == (3, 3)


def test_one_patient_of_many_devices_is_flagged(home: NodeHome, tmp_path: Path) -> None:
    report = ingest(home, folder_of(tmp_path / "in", ["x"] * 3, ["A", "B", "C"]))
    assert [(entry.source, entry.reason) for entry in report.flagged] == [("0.png", Flag.MUCH_OF_ONE.value)]


def test_a_row_without_its_file_is_named_and_the_others_go_in(home: NodeHome, tmp_path: Path) -> None:
    folder = folder_of(tmp_path / "in", ["a", "b", "c"])
    (folder / "1.png").rename(folder / "other.png")
    report = ingest(home, folder)
    assert [(entry.where, entry.reason) for entry in report.quarantined] == [("1.png (line 3)", Reason.MISSING.value)]
    assert (report.accepted, report.unlisted) == (2, ("other.png",))


def test_what_else_is_wrong_with_a_row_without_its_file_is_still_refused(home: NodeHome, tmp_path: Path) -> None:
    folder = folder_of(tmp_path / "in", ["a", ""])
    (folder / "1.png").unlink()
    (folder / "labels.csv").write_text("image,patient,label\n0.png,a,benign\n1.png,,benign\n")
    with pytest.raises(InputError, match="line 3: patient is blank"):
        ingest(home, folder)


def test_two_spellings_of_one_identifier_are_one_patient(home: NodeHome, tmp_path: Path) -> None:
    report = ingest(home, folder_of(tmp_path / "in", ["Mu\u0308ller", "M\u00fcller"]))
    assert (report.accepted, report.patients) == (2, 1)
    with Vault(home) as vault:
        assert len(vault.patients()) == 1


def test_who_stands_in_an_older_vault_under_another_form_keeps_pseudonym_and_side(
    home: NodeHome, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = folder_of(tmp_path / "in", ["Mu\u0308ller"])
    with monkeypatch.context() as before:
        before.setattr(VaultKeys, "pseudonym", VaultKeys.former_pseudonym)
        ingest(home, folder)
        with Vault(home) as vault:
            (old,) = vault.patients()
    report = ingest(home, folder)
    assert (report.accepted, report.duplicates) == (0, 1)
    with Vault(home) as vault:
        assert vault.patients() == (old,)
