import subprocess
import sys
from pathlib import Path

import pytest

from sonoshare_shared.errors import InputError
from sonoshare_shared.science.box import Box
from sonoshare_shared.science.label_table import LabelRow
from sonoshare_shared.science.labels import read_labels


def folder_with(tmp_path: Path, text: str, *pictures: str) -> Path:
    for name in pictures or ("a.png", "b.png", "m.png"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"")
    (tmp_path / "labels.csv").write_text(text, encoding="utf-8")
    return tmp_path


def test_all_columns(tmp_path: Path) -> None:
    folder = folder_with(
        tmp_path,
        "image,patient,label,device,mask,box,hospital,note\n"
        'a.png,P 1,benign,Kestrel K7,m.png,"1,2,3.5,4",north,x\n'
        "\n"
        "b.png,P2,malignant,,,,south,\n",
    )
    table = read_labels(folder, classes=("benign", "malignant"))
    assert table.rows == (
        LabelRow(
            folder / "a.png",
            "P 1",
            "benign",
            "Kestrel K7",
            (folder / "m.png",),
            (Box(1.0, 2.0, 3.5, 4.0),),
            "north",
            line=2,
        ),
        LabelRow(folder / "b.png", "P2", "malignant", hospital="south", line=4),
    )
    assert table.patients == ("P 1", "P2")
    assert table.labels == ("benign", "malignant")
    assert table.hospitals == ("north", "south")
    assert len(table.where(lambda row: row.label == "benign")) == 1


def test_the_file_itself_a_byte_order_mark_and_subfolders(tmp_path: Path) -> None:
    folder = folder_with(tmp_path, "﻿label,image,patient\nbenign,sub/../sub/a.png,1\n", "sub/a.png")
    table = read_labels(folder / "labels.csv")
    assert [row.image for row in table] == [folder / "sub" / "a.png"]
    assert table.rows[0].box is None
    assert table.hospitals == ()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "no column image, patient, label"),
        ("image;patient;label\n", "semicolons"),
        ("image,label\na.png,benign\n", "no column patient"),
        ("image,image,patient,label\n", "twice"),
        ("image,patient,label\n", "no row"),
        ("image,patient,label\na.png,1,benign,extra\n", "line 2: 4 cells"),
        ("image,patient,label\na.png,,benign\n", "line 2: patient is blank"),
        ("image,patient,label\nc.png,1,benign\n", "c.png does not exist"),
        ("image,patient,label\n../a.png,1,benign\n", "leaves the folder"),
        ("image,patient,label\nx/../../a.png,1,benign\n", "leaves the folder"),
        ("image,patient,label\n..\\a.png,1,benign\n", "leaves the folder"),
        ("image,patient,label\n/etc/passwd,1,benign\n", "leaves the folder"),
        ("image,patient,label,mask\na.png,1,benign,../m.png\n", "leaves the folder"),
        ("image,patient,label\na.png,1,cat\n", "unknown class cat"),
        ("image,patient,label\na.png,1,benign\na.png,1,benign\n", "listed twice"),
        ('image,patient,label\n"a.png,1,benign\n', "not valid CSV"),
        ('image,patient,label,box\na.png,1,benign,"1,2,3"\n', "box"),
        ('image,patient,label,box\na.png,1,benign,"1,2,3,x"\n', "box"),
        ('image,patient,label,box\na.png,1,benign,"1,2,0,4"\n', "box"),
        ('image,patient,label,box\na.png,1,benign,"1,2,nan,4"\n', "box"),
        ("image,patient,label,hospital\na.png,1,benign,north\nb.png,1,benign,south\n", "two hospitals"),
        ("image,patient,label,hospital\na.png,1,benign,north\nb.png,1,benign,\n", "two hospitals"),
    ],
)
def test_what_is_wrong_is_said_clearly(tmp_path: Path, text: str, message: str) -> None:
    folder = folder_with(tmp_path, text)
    with pytest.raises(InputError, match=message):
        read_labels(folder, classes=("benign", "malignant"))


def test_errors_do_not_name_the_patient(tmp_path: Path) -> None:
    folder = folder_with(
        tmp_path, "image,patient,label,hospital\na.png,Maria Silva,benign,north\nb.png,Maria Silva,benign,south\n"
    )
    with pytest.raises(InputError) as refused:
        read_labels(folder)
    assert "Silva" not in str(refused.value)


def test_missing_and_unlabelled_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InputError, match="does not exist"):
        read_labels(tmp_path / "nowhere")
    with pytest.raises(InputError, match="holds none of"):
        read_labels(tmp_path)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match=f"folder {tmp_path.name} holds none of"):  # "." has no name of its own
        read_labels(Path())


def test_a_release_is_understood_as_it_is(tmp_path: Path) -> None:
    folder_with(tmp_path, "", "images/000000.png", "images/000001.png", "masks/000000.png")
    (tmp_path / "labels.csv").unlink()
    (tmp_path / "metadata.csv").write_text(
        "file_name,label,scanner,x,y,w,h,mask_file_name,index,seed\n"
        "images/000000.png,benign,Kestrel K7,1,2,3,4,masks/000000.png,0,7\n"
        "images/000001.png,normal,unknown,,,,,,1,7\n"
    )
    first, second = read_labels(tmp_path).rows
    assert first.box == (1.0, 2.0, 3.0, 4.0)
    assert first.masks == (tmp_path / "masks" / "000000.png",)
    assert second.box is None
    assert first.patient != second.patient


def test_not_text(tmp_path: Path) -> None:
    (tmp_path / "labels.csv").write_bytes(b"image,patient,label\n\xff\xfe\x00,1,benign\n")
    with pytest.raises(InputError, match="not UTF-8"):
        read_labels(tmp_path)


def test_busbra_as_it_is(busbra: Path) -> None:
    table = read_labels(busbra, classes=("benign", "malignant"))
    assert len(table) == 1875
    assert len(table.patients) == 1064
    assert {row.fold for row in table} == {1, 2, 3, 4, 5}
    assert table.devices == ("GE Logiq 5", "GE Logiq 7", "Toshiba Aplio 300", "U-Systems")
    assert all(row.masks and row.box is not None for row in table)
    folds: dict[str, set[int | None]] = {}
    for row in table:
        folds.setdefault(row.patient, set()).add(row.fold)
    assert all(len(of_patient) == 1 for of_patient in folds.values())
    assert read_labels(busbra / "bus_data.csv") == table


def test_reading_labels_needs_no_torch_and_no_numpy() -> None:
    heavy = "{'torch', 'numpy', 'PIL'}"
    code = f"import sys; import sonoshare_shared.science.labels; sys.exit(1 if {heavy} & set(sys.modules) else 0)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_a_name_that_no_disk_takes_is_a_missing_file(tmp_path: Path) -> None:
    long, longest = "9" * 400 + ".png", "x" * 245 + "_mask.png"  # the second is taken, its further masks are not
    folder = folder_with(
        tmp_path,
        f"image,patient,label,mask\n{long},P1,benign,\na.png,P2,benign,{long}\nb.png,P3,benign,{longest}\n",
        *("a.png", "b.png", longest),
    )
    table = read_labels(folder, leave_out_absent=True)
    assert [row.masks for row in table] == [(folder / longest,)]
    assert [(one.name, one.line) for one in table.absent] == [(long, 2), (long, 3)]
    with pytest.raises(InputError, match=r"line 2: file .* does not exist"):
        read_labels(folder)


def small_busbra(folder: Path, name: str, fold: str) -> Path:
    (folder / "Images").mkdir()
    (folder / "Images" / "bus_1.png").write_bytes(b"")
    rows = "".join(f"{one},1,benign,GE,\n" for one in ("bus_1", name))
    (folder / "bus_data.csv").write_text(f"ID,Case,Pathology,Device,BBOX\n{rows}", encoding="utf-8")
    (folder / "5-fold-cv.csv").write_text(f"ID,kFold\nbus_1,{fold}\n", encoding="utf-8")
    return folder


def test_busbra_with_a_name_that_no_disk_takes(tmp_path: Path) -> None:
    table = read_labels(small_busbra(tmp_path, "9" * 400, "1"), leave_out_absent=True)
    assert len(table) == len(table.absent) == 1


def test_busbra_with_a_fold_that_is_no_number(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="line 2: kFold is not a number"):
        read_labels(small_busbra(tmp_path, "bus_2", "9" * 5000), leave_out_absent=True)
