"""Cases 14 and 15: identifiers written into the pixels, in and around the picture, and into everything beside them.

The oracles: letters are where they were put, and no pixel of them is as it was; and a reader that looks at what is
kept finds no line that may not stay.
"""

import logging
from io import BytesIO, StringIO
from pathlib import Path
from typing import Any, Final

import numpy as np
import pytest
from click.testing import CliRunner
from numpy.typing import NDArray
from PIL import Image, ImageCms, PngImagePlugin
from pydicom.dataset import FileDataset
from pydicom.sequence import Sequence
from tests.client.crafted import changed, make_node, plain_vault, region, save, ultrasound, write_labels
from tests.shared.screens import screen, sector, tissue
from tests.shared.written import Written, stamped, write

from sonoshare_client.node.home import NodeHome
from sonoshare_deploy.cli.hospital import command
from sonoshare_shared.science.pictures.reading import read_kept
from sonoshare_shared.science.pictures.text.reading import text_reader
from sonoshare_shared.science.pictures.text.rule import may_stay

LEFT, TOP, WIDTH, HEIGHT = 60, 50, 400, 320
INSIDE: Final = ("MUSTERFRAU, ANNA", "04.07.1961", "MRN 00482913", "Иванова Мария", "+49 30 901820", "12 Elm Street")
AROUND: Final = ("QZMUELLER ANNA", "ACC 20210312-0042")
NAMES: Final = ("qzfilename", "qzfolder")
HIDDEN: Final = ("QZICCPROFILE", "QZXMPPACKET", "QZEXIFOWNER", "QZTHUMBNAIL", "QZPNGTEXT", "QZPATIENT")


def dim(width: int, height: int, seed: int) -> NDArray[Any]:
    return (tissue(width, height, seed) * 0.6).astype(np.uint8)


def lettered(picture: NDArray[Any], words: tuple[str, ...], left: int, top: int) -> tuple[NDArray[Any], NDArray[Any]]:
    """The picture with words below each other; and the pixels of their letters."""
    letters = np.zeros(picture.shape, np.bool_)
    for row, word in enumerate(words):
        written = Written(word, size=15, grey=240)
        shape = np.asarray(stamped(written)) > 128
        place = np.s_[top + 40 * row : top + 40 * row + shape.shape[0], left : left + shape.shape[1]]
        picture = write(picture, written, left, top + 40 * row)
        letters[place] |= shape
    return picture, letters


def on_a_screen(seed: int) -> tuple[FileDataset, NDArray[Any], NDArray[Any]]:
    """An object with identifiers around its region and inside; its region's pixels and letters."""
    grey = np.zeros((420, 560), np.uint8)
    grey[TOP : TOP + HEIGHT, LEFT : LEFT + WIDTH] = dim(WIDTH, HEIGHT, seed)
    grey, _ = lettered(grey, AROUND, 10, 2)
    grey, letters = lettered(grey, INSIDE, LEFT + 40, TOP + 30)
    dataset = ultrasound(seed)
    dataset.Rows, dataset.Columns = grey.shape
    dataset.PixelData = grey.tobytes()
    dataset.SequenceOfUltrasoundRegions = Sequence([region((LEFT, TOP, LEFT + WIDTH - 1, TOP + HEIGHT - 1))])
    window = np.s_[TOP : TOP + HEIGHT, LEFT : LEFT + WIDTH]
    return dataset, grey[window], letters[window]


def exported(path: Path) -> None:
    """A PNG of a whole screen around a fan, with identifiers in every chunk that PNG has room for."""
    shown = screen(sector(dim(380, 330, 4)), 130, 80, (640, 480))
    shown, _ = lettered(shown, ("MUSTERFRAU, ANNA", "04.07.1961"), 230, 240)
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    info, exif = PngImagePlugin.PngInfo(), Image.Exif()
    info.add_text("Description", "QZPNGTEXT")
    info.add_itxt("XML:com.adobe.xmp", "<x:xmpmeta>QZXMPPACKET</x:xmpmeta>")
    exif[0x013B] = "QZEXIFOWNER"
    exif[0x501B] = b"QZTHUMBNAIL"
    stream = BytesIO()
    marked = profile.replace(b"sRGB", b"sRGB", 1) + b"QZICCPROFILE"
    Image.fromarray(shown).save(stream, format="PNG", pnginfo=info, exif=exif, icc_profile=marked)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(stream.getvalue())


@pytest.fixture(scope="module")
def taken(tmp_path_factory: pytest.TempPathFactory) -> tuple[NodeHome, Path, str]:
    """Node, review folder, and what was logged, of one intake."""
    folder = tmp_path_factory.mktemp("pixels")
    dataset, _, _ = on_a_screen(7)
    save(dataset, folder / "in" / "a.dcm")
    exported(folder / "in" / NAMES[1] / f"{NAMES[0]}.png")
    images = ("a.dcm", f"{NAMES[1]}/{NAMES[0]}.png")
    write_labels(folder / "in", [{"image": image, "patient": "QZPATIENT"} for image in images])
    home, log = make_node(folder / "home"), StringIO()
    handler = logging.StreamHandler(log)
    logging.getLogger().addHandler(handler)
    for arguments in (["ingest", str(folder / "in")], ["review", "--out", str(folder / "review")]):
        result = CliRunner().invoke(command, [*arguments, "--home", str(home.path)], catch_exceptions=False)
        assert result.exit_code == 0, result.output
    logging.getLogger().removeHandler(handler)
    return home, folder / "review", log.getvalue()


def test_case_15_no_letter_written_into_a_region_is_left(taken: tuple[NodeHome, Path, str]) -> None:
    _, written, letters = on_a_screen(7)
    ((_, image),) = [entry for entry in plain_vault(taken[0]) if entry[1].pixels.shape == (HEIGHT, WIDTH)]
    differs = image.pixels != written
    assert differs[letters].mean() > 0.97
    assert len(image.blanked) == len(INSIDE) + 1  # and what the region's upper edge cuts in two
    outside = np.ones(differs.shape, np.bool_)
    for x, y, w, h in image.blanked:
        outside[y : y + h, x : x + w] = False
    assert not differs[outside].any()
    assert outside.mean() > 0.8


def test_case_15_an_exported_screen_is_cut_to_its_picture_and_cleared(taken: tuple[NodeHome, Path, str]) -> None:
    ((_, image),) = [entry for entry in plain_vault(taken[0]) if entry[1].pixels.shape != (HEIGHT, WIDTH)]
    assert image.pixels.shape[0] < 360
    assert image.pixels.shape[1] < 410
    assert image.blanked


def test_case_15_nothing_that_is_kept_can_be_read(taken: tuple[NodeHome, Path, str]) -> None:
    reader = text_reader()
    for _, image in plain_vault(taken[0]):
        found = reader(image.pixels)
        assert [line.text for line in found if not may_stay(line.text, line.confidence, line.shape)] == []


def test_case_14_nothing_hidden_beside_the_pixels_survives(taken: tuple[NodeHome, Path, str]) -> None:
    home, review, log = taken
    raw = (home.path.parent / "in" / NAMES[1] / f"{NAMES[0]}.png").read_bytes()
    assert all(plant.encode() in raw for plant in ("QZXMPPACKET", "QZEXIFOWNER", "QZTHUMBNAIL", "QZPNGTEXT"))
    plants = [plant.lower().encode() for plant in (*HIDDEN, *NAMES, *INSIDE, *AROUND)]
    kept = [path for folder in (home.path, review) for path in folder.rglob("*") if path.is_file()]
    for content in (
        *(path.read_bytes() + str(path.relative_to(home.path.parent)).encode() for path in kept),
        log.encode(),
    ):
        assert [plant for plant in plants if plant in content.lower()] == []


@pytest.mark.parametrize(("value", "must"), [("YES", True), ("yes", True), ("NO", False), (None, False)])
def test_case_15_what_says_that_it_is_burned_in_must_be_looked_through(
    value: str | None, must: bool, tmp_path: Path
) -> None:
    def burned_in(dataset: FileDataset) -> None:
        if value is not None:
            dataset.BurnedInAnnotation = value

    with save(changed(burned_in), tmp_path / "x.dcm").open("rb") as file:
        assert read_kept(file, [], None).must_look is must


def test_case_15_a_picture_without_regions_must_be_looked_through(tmp_path: Path) -> None:
    Image.fromarray(dim(200, 160, 1)).save(tmp_path / "x.png")
    with (tmp_path / "x.png").open("rb") as file:
        assert read_kept(file, [], None).must_look
