"""A folder under watch: what is new and lies still is taken in, once."""

from pathlib import Path

from tests.client.crafted import make_node, save, ultrasound, write_labels

from sonoshare_client.intake.ingest import ingest_table
from sonoshare_client.intake.watching import Watched, WatchedWhole, names_files


def names(watched: Watched) -> list[str]:
    table = watched.due()
    if table is None:
        return []
    watched.taken(table)
    return [row.image.name for row in table]


def test_a_file_is_due_when_it_lies_still_and_only_once(tmp_path: Path) -> None:
    watched = Watched(tmp_path)
    assert names(watched) == []
    assert "labels" in watched.trouble
    save(ultrasound(1), tmp_path / "a.dcm")
    save(ultrasound(2), tmp_path / "b.dcm")
    write_labels(tmp_path, [{"image": "a.dcm"}, {"image": "b.dcm"}])
    assert names(watched) == []
    with (tmp_path / "b.dcm").open("ab") as still_written:
        still_written.write(b"\0")
    assert watched.trouble == ""
    assert names(watched) == ["a.dcm"]
    assert names(watched) == ["b.dcm"]
    assert names(watched) == []


def test_a_row_whose_label_or_file_changed_comes_again(tmp_path: Path) -> None:
    watched = Watched(tmp_path)
    for name in ("a", "b"):
        save(ultrasound(ord(name)), tmp_path / f"{name}.dcm")
    write_labels(tmp_path, [{"image": "a.dcm"}, {"image": "b.dcm"}])
    assert names(watched) == []
    assert names(watched) == ["a.dcm", "b.dcm"]
    write_labels(tmp_path, [{"image": "a.dcm", "label": "malignant"}, {"image": "b.dcm"}])
    assert names(watched) == []
    assert names(watched) == ["a.dcm"]
    save(ultrasound(9), tmp_path / "b.dcm")
    assert names(watched) == []
    assert names(watched) == ["b.dcm"]


def test_what_is_due_goes_into_the_vault(tmp_path: Path) -> None:
    home, folder = make_node(tmp_path / "node"), tmp_path / "in"
    save(ultrasound(1), folder / "a.dcm")
    write_labels(folder, [{"image": "a.dcm"}])
    watched = Watched(folder)
    assert watched.due() is None
    assert ingest_table(home, watched.due()).accepted == 1


def test_a_folder_whose_files_no_row_names_is_due_when_all_of_it_lies_still(tmp_path: Path) -> None:
    folder, labels = tmp_path / "in", tmp_path / "pathology.csv"
    save(ultrasound(1), folder / "a.dcm")
    assert not names_files(folder, None)
    watched = WatchedWhole(folder, labels)
    assert [watched.due(), watched.due(), watched.due()] == [False, True, True]
    watched.taken()
    assert not watched.due()
    save(ultrasound(2), folder / "b.dcm")
    assert not watched.due()
    with (folder / "b.dcm").open("ab") as still_written:
        still_written.write(b"\0")
    assert [watched.due(), watched.due()] == [False, True]
    watched.taken()
    (folder / "a.dcm").unlink()
    assert [watched.due(), watched.due()] == [False, False], "nothing is new where something went"
    labels.write_text("accession,label\n1,benign\n")
    assert not names_files(folder, labels)
    assert [watched.due(), watched.due()] == [False, True]
    write_labels(folder, [{"image": "b.dcm"}])
    assert names_files(folder, None)
