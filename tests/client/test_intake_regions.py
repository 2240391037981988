"""What is kept of a sound file: its region, its box, and the name of its scanner."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydicom.sequence import Sequence
from tests.client.crafted import COLUMNS, ROWS, changed, make_node, plain_vault, region, save, speckle, ultrasound
from tests.client.dicom_changes import colour, inside, set_all, take

from sonoshare_client.node.policy import IntakeRules, Policy
from sonoshare_shared.science.pictures.reasons import Reason


def test_region_is_cut_and_nothing_else_is_kept(tmp_path: Path) -> None:
    home = make_node(tmp_path / "home")
    save(ultrasound(5), tmp_path / "in" / "x.dcm")
    assert take(tmp_path / "in", home, box="26,18,40,30", device="LOGIQ E9 (room 2)") is None
    ((_, image),) = plain_vault(home)
    assert np.array_equal(image.pixels, inside(speckle(5)))
    assert image.box == pytest.approx((10 / 96, 10 / 80, 40 / 96, 30 / 80))
    assert (image.label, image.device, image.mask) == ("benign", "LOGIQ E9 (room 2)", None)


def test_region_that_ends_one_pixel_beyond_is_clipped(tmp_path: Path) -> None:
    home = make_node(tmp_path / "home")
    regions = Sequence([region((16, 8, COLUMNS, ROWS))])
    save(changed(set_all(SequenceOfUltrasoundRegions=regions)), tmp_path / "in" / "x.dcm")
    assert take(tmp_path / "in", home) is None
    assert plain_vault(home)[0][1].pixels.shape == (ROWS - 8, COLUMNS - 16)


def test_box_says_which_of_two_pictures(tmp_path: Path) -> None:
    home = make_node(tmp_path / "home")
    regions = Sequence([region((0, 0, 60, 90)), region((64, 0, 127, 90))])
    save(changed(set_all(SequenceOfUltrasoundRegions=regions)), tmp_path / "in" / "x.dcm")
    assert take(tmp_path / "in", home, box="70,10,20,20") is None
    assert np.array_equal(plain_vault(home)[0][1].pixels, speckle(0)[0:91, 64:128])


@pytest.mark.parametrize("box", ["2,2,20,20", "100,70,40,20", "0,0,128,96"])
def test_box_outside_the_region_is_set_aside(box: str, tmp_path: Path) -> None:
    home = make_node(tmp_path / "home")
    save(ultrasound(6), tmp_path / "in" / "x.dcm")
    assert take(tmp_path / "in", home, box=box) == Reason.BOX.value


def test_header_device_is_kept_only_when_well_known_or_approved(tmp_path: Path) -> None:
    folder = tmp_path / "in"
    save(ultrasound(1), folder / "x.dcm")
    strict = make_node(tmp_path / "strict")
    assert take(folder, strict) is None
    assert plain_vault(strict)[0][1].device == "GE"
    approving = make_node(
        tmp_path / "approving", policy=Policy(intake=IntakeRules(devices=("GE Healthcare LOGIQ E9",)))
    )
    assert take(folder, approving) is None
    assert plain_vault(approving)[0][1].device == "GE Healthcare LOGIQ E9"
    save(changed(set_all(Manufacturer="Jane Doe", ManufacturerModelName="b. 1970"), seed=2), folder / "x.dcm")
    assert take(folder, strict, patient="other") is None
    assert {image.device for _, image in plain_vault(strict)} == {"GE", ""}


def test_a_hospital_may_take_in_pictures_with_colour_over_them(tmp_path: Path) -> None:
    def flow(dataset: Any) -> None:
        colour(dataset)
        rgb = np.repeat(speckle(9)[:, :, None], 3, axis=2)
        rgb[30:60, 40:70] = (200, 40, 20)
        dataset.PixelData = rgb.tobytes()

    def with_a_flow_region(dataset: Any) -> None:
        flow(dataset)
        dataset.SequenceOfUltrasoundRegions = Sequence([region(), region((40, 30, 69, 59), data_type=2)])

    folder = tmp_path / "in"
    for name, change, reason in (("a", flow, Reason.COLOUR), ("b", with_a_flow_region, Reason.COLOUR_FLOW)):
        save(changed(change, seed=9), folder / f"{name}.dcm")
        strict = make_node(tmp_path / f"strict-{name}")
        assert take(folder, strict, image=f"{name}.dcm") == reason.value
        permitting = make_node(tmp_path / name, policy=Policy(intake=IntakeRules(colour=True)))
        assert take(folder, permitting, image=f"{name}.dcm") is None
        assert plain_vault(permitting)[0][1].pixels.shape == (80, 96)
