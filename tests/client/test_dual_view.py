"""A dual view, two pictures of one size on one screen: both of the one patient, or the one that a lesion picks."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from pydicom.dataset import FileDataset
from pydicom.sequence import Sequence
from tests.client.crafted import assert_sound, changed, make_node, plain_vault, region, save, speckle, write_labels

from sonoshare_client.intake.ingest import ingest
from sonoshare_client.intake.reasons import SetAside
from sonoshare_client.intake.report import IngestReport
from sonoshare_client.node.home import NodeHome
from sonoshare_client.node.policy import IntakeRules, Policy
from sonoshare_shared.errors import InputError
from sonoshare_shared.science.box import Box
from sonoshare_shared.science.pictures.reading import read_file, read_frames
from sonoshare_shared.science.pictures.reasons import Reason, Refused
from sonoshare_shared.science.pictures.region import Region, dual_view

LEFT, RIGHT = (0, 4, 59, 91), (64, 4, 123, 91)
PIXELS = speckle(3)
IN_LEFT, IN_RIGHT = "10,20,30,30", "80,20,30,30"


def panel(corners: tuple[int, int, int, int]) -> NDArray[np.uint8]:
    left, top, right, bottom = corners
    return PIXELS[top : bottom + 1, left : right + 1]


def dual(*corners: tuple[int, int, int, int], pixels: NDArray[np.uint8] = PIXELS, frames: int = 1) -> FileDataset:
    def change(dataset: FileDataset) -> None:
        dataset.SequenceOfUltrasoundRegions = Sequence([region(each) for each in corners or (RIGHT, LEFT)])
        dataset.PixelData = pixels.tobytes() * frames
        dataset.NumberOfFrames = frames

    return changed(change)


def kept_of(dataset: FileDataset, folder: Path, **options: Any) -> dict[int, NDArray[np.uint8]]:
    box = options.pop("box", None)
    with save(dataset, folder / "x.dcm").open("rb") as file:
        return {kept.number: kept.picture.pixels for kept in read_frames(file, [], box, **options)}


def taken(home: NodeHome, folder: Path, **row: str) -> IngestReport:
    save(dual(), folder / "x.dcm")
    write_labels(folder, [{"image": "x.dcm", "patient": "one"} | row])
    return ingest(home, folder)


def same(kept: dict[int, NDArray[np.uint8]], wanted: dict[int, NDArray[np.uint8]]) -> bool:
    return list(kept) == list(wanted) and all(np.array_equal(kept[number], wanted[number]) for number in wanted)


def test_both_pictures_are_kept_left_one_first_and_numbered_after_the_only_frame(tmp_path: Path) -> None:
    assert same(kept_of(dual(), tmp_path), {2: panel(LEFT), 3: panel(RIGHT)})
    assert same(kept_of(dual(LEFT, RIGHT), tmp_path), {2: panel(LEFT), 3: panel(RIGHT)})


@pytest.mark.parametrize(("box", "corners"), [(IN_LEFT, LEFT), (IN_RIGHT, RIGHT)])
def test_a_box_picks_its_picture_alone(box: str, corners: tuple[int, int, int, int], tmp_path: Path) -> None:
    kept = kept_of(dual(), tmp_path, box=Box.of([float(number) for number in box.split(",")]))
    assert same(kept, {1: panel(corners)})


def test_a_picture_that_is_blank_or_shown_twice_leaves_the_other(tmp_path: Path) -> None:
    blank, twice = PIXELS.copy(), PIXELS.copy()
    blank[:, :62], twice[4:92, 64:124] = 0, panel(LEFT)
    assert same(kept_of(dual(pixels=blank), tmp_path), {3: panel(RIGHT)})
    assert same(kept_of(dual(pixels=twice), tmp_path), {2: panel(LEFT)})
    with pytest.raises(Refused) as refusal:
        kept_of(dual(pixels=np.zeros_like(PIXELS)), tmp_path)
    assert refusal.value.reason is Reason.BLANK


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (Region(0, 0, 60, 90), Region(50, 0, 110, 90)),  # one over the other
        (Region(0, 0, 60, 90), Region(64, 0, 112, 90)),  # of two widths
        (Region(0, 0, 60, 90), Region(64, 0, 124, 70)),  # of two heights
        (Region(0, 0, 60, 40), Region(0, 48, 60, 88)),  # one below the other
        (Region(0, 0, 60, 40), Region(64, 48, 124, 88)),  # aslant
    ],
)
def test_other_arrangements_are_no_dual_view(one: Region, other: Region) -> None:
    assert dual_view([one, other]) == dual_view([other, one]) == ()
    assert dual_view([one, one.__class__(64, one.top, 124, one.bottom)]) != ()


def test_clips_named_frames_and_those_who_take_one_picture_of_a_file_wait_for_a_box(tmp_path: Path) -> None:
    for dataset, options in ((dual(frames=3), {}), (dual(frames=3), {"frame": 2}), (dual(), {"frame": 1})):
        with pytest.raises(Refused) as refusal:
            kept_of(dataset, tmp_path, **options)
        assert refusal.value.reason is Reason.SEVERAL_REGIONS
    path = save(dual(), tmp_path / "x.dcm")
    with pytest.raises(InputError, match="several B-mode pictures"):
        read_file(path)
    assert np.array_equal(read_file(path, box=Box(80, 20, 30, 30)).pixels, panel(RIGHT))


def test_both_are_pictures_of_one_patient_and_are_there_once(tmp_path: Path) -> None:
    home = make_node(tmp_path / "home")
    report = taken(home, tmp_path / "in")
    assert (report.accepted, report.patients, report.quarantined) == (2, 1, ())
    again = taken(home, tmp_path / "in")
    boxed = taken(home, tmp_path / "in", box=IN_RIGHT)
    assert (again.accepted, again.duplicates) == (0, 2)
    assert (boxed.accepted, boxed.duplicates, boxed.conflicts) == (0, 1, 0)
    assert_sound(home, 2)
    assert len({pseudonym for pseudonym, _ in plain_vault(home)}) == 1


def test_what_a_box_picked_stays_alone_when_the_screen_comes_without_one(tmp_path: Path) -> None:
    home = make_node(tmp_path / "home")
    assert taken(home, tmp_path / "in", box=IN_RIGHT).accepted == 1
    again = taken(home, tmp_path / "in")
    assert (again.accepted, again.conflicts) == (0, 0)
    other = taken(home, tmp_path / "in", box=IN_LEFT)
    assert [one.reason for one in other.quarantined] == [SetAside.OTHER_PICTURE.value]
    assert np.array_equal(plain_vault(home)[0][1].pixels, panel(RIGHT))
    assert_sound(home, 1)


def test_where_one_picture_of_a_file_is_allowed_a_dual_view_waits_for_a_box(tmp_path: Path) -> None:
    home = make_node(tmp_path / "home", policy=Policy(intake=IntakeRules(clip_frames=1)))
    report = taken(home, tmp_path / "in")
    assert [one.reason for one in report.quarantined] == [Reason.SEVERAL_REGIONS.value]
    assert taken(home, tmp_path / "in", box=IN_LEFT).accepted == 1
