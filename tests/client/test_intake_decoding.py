"""Decoding by what is there: the forms in which archives hold one and the same picture, and what is no picture."""

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from pydicom import dcmread
from pydicom.data import get_testdata_file
from pydicom.dataset import Dataset, FileDataset
from pydicom.encaps import encapsulate
from pydicom.sequence import Sequence
from pydicom.uid import (
    EnhancedUSVolumeStorage,
    ExplicitVRBigEndian,
    HTJ2KLossless,
    JPEGBaseline8Bit,
    SecondaryCaptureImageStorage,
)
from tests.client.code_streams import HTJ2K_32
from tests.client.crafted import COLUMNS, REGION, ROWS, changed, region, save, speckle

from sonoshare_shared.errors import InputError
from sonoshare_shared.science.pictures.bounds import DEFAULT_BOUNDS, SYNTHETIC_BOUNDS, Bounds
from sonoshare_shared.science.pictures.colour import coloured_share, from_ybr
from sonoshare_shared.science.pictures.dicom import open_dicom
from sonoshare_shared.science.pictures.reading import read_file
from sonoshare_shared.science.pictures.reasons import Reason

LEVELS = speckle(9)
X0, Y0, X1, Y1 = REGION
KEPT = LEVELS[Y0 : Y1 + 1, X0 : X1 + 1]
Change = Callable[[FileDataset], None]


def described(**values: Any) -> Change:
    def change(dataset: FileDataset) -> None:
        for name, value in values.items():
            setattr(dataset, name, value)

    return change


def words(shift: int = 0, stored: int = 16) -> Change:
    """The 8-bit levels in words of 16 bits."""

    def change(dataset: FileDataset) -> None:
        dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit = 16, stored, stored - 1
        dataset.PixelData = (LEVELS.astype("<u2") << shift).tobytes()
        dataset["PixelData"].VR = "OW"

    return change


def palette(data: Callable[[Any], bytes], bits: int = 16) -> Change:
    """A palette that inverts, over inverted indices; ``data`` stores its table of bytes."""

    def change(dataset: FileDataset) -> None:
        dataset.PhotometricInterpretation = "PALETTE COLOR"
        dataset.PixelData = (255 - LEVELS).tobytes()
        for name in ("Red", "Green", "Blue"):
            setattr(dataset, f"{name}PaletteColorLookupTableDescriptor", [256, 0, bits])
            setattr(dataset, f"{name}PaletteColorLookupTableData", data(np.arange(255, -1, -1, dtype=np.uint8)))

    return change


def segmented(dataset: FileDataset) -> None:
    """The same table as a first entry, a line down to the middle, and a repeat of a line to its end."""
    palette(lambda table: b"")(dataset)
    line = [0, 1, 255 * 257, 1, 127, 128 * 257, 1, 128, 0]
    for name in ("Red", "Green", "Blue"):
        delattr(dataset, f"{name}PaletteColorLookupTableData")
        setattr(dataset, f"Segmented{name}PaletteColorLookupTableData", np.array(line, "<u2").tobytes())


def endless(dataset: FileDataset) -> None:
    """A few words that ask for 65535 segments of 65535 entries each."""
    segmented(dataset)
    words = [2, 65535, 8, 0] + [1, 65535, 1] * 20_000
    for name in ("Red", "Green", "Blue"):
        setattr(dataset, f"Segmented{name}PaletteColorLookupTableData", np.array(words, "<u2").tobytes())


def many_fragments(dataset: FileDataset) -> None:
    dataset.file_meta.TransferSyntaxUID = JPEGBaseline8Bit
    dataset.PixelData = encapsulate([b"\xff\xd8\xff\xd9"] * 70_000, has_bot=False)


def colours(photometric: str, samples: Any, planar: int = 0) -> Change:
    def change(dataset: FileDataset) -> None:
        dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 3, photometric
        dataset.PlanarConfiguration, dataset.PixelData = planar, samples.tobytes()

    return change


GREY_RGB = np.repeat(LEVELS[:, :, None], 3, axis=2)
GREY_YBR = np.stack([LEVELS, np.full_like(LEVELS, 128), np.full_like(LEVELS, 128)], axis=-1)
GREY_422 = np.stack([LEVELS[:, ::2], LEVELS[:, 1::2], GREY_YBR[:, ::2, 1], GREY_YBR[:, ::2, 2]], axis=-1)


def lookup(name: str, sequence: str) -> Change:
    """Stored values are inverted; a table of the header inverts them back."""

    def change(dataset: FileDataset) -> None:
        item = Dataset()
        item.LUTDescriptor, item.LUTData = [256, 0, 16], (np.arange(255, -1, -1, dtype="<u2") * 257).tobytes()
        setattr(dataset, sequence, Sequence([item]))
        dataset.PixelData = (255 - LEVELS).tobytes()

    return change


SAME = {
    "8_bits_in_16": words(),
    "12_bits_in_16": words(4),
    "10_bits_in_16": words(2),
    "16_bits": words(8),
    "8_bits_in_12": words(0, 12),
    "no_frames": described(NumberOfFrames=0),
    "blank_frames": described(NumberOfFrames=None),
    "palette_of_8_bits_in_16": palette(lambda table: table.astype("<u2").tobytes()),
    "palette_in_the_high_byte": palette(lambda table: (table.astype("<u2") << 8).tobytes()),
    "palette_of_bytes": palette(lambda table: table.tobytes(), bits=8),
    "palette_of_bytes_called_words": palette(lambda table: table.tobytes()),
    "palette_in_segments": segmented,
    "ybr_full": colours("YBR_FULL", GREY_YBR),
    "ybr_full_in_planes": colours("YBR_FULL", GREY_YBR.transpose(2, 0, 1), 1),
    "ybr_full_422": colours("YBR_FULL_422", GREY_422),
    "ybr_full_422_of_3_bytes": colours("YBR_FULL_422", GREY_YBR),
    "rgb_called_ybr_full_422": colours("YBR_FULL_422", GREY_RGB),
    "ybr_called_rgb": colours("RGB", GREY_YBR),
    "inverted_by_its_shape": described(PresentationLUTShape="INVERSE", PixelData=(255 - LEVELS).tobytes()),
    "whole_window": described(WindowCenter="128", WindowWidth="256"),
    "window_of_no_use": described(WindowCenter="", WindowWidth="0"),
    "table_of_interest": lookup("interest", "VOILUTSequence"),
    "modality_table": lookup("modality", "ModalityLUTSequence"),
    "secondary_capture": described(SOPClassUID=SecondaryCaptureImageStorage),
    "region_twice": described(SequenceOfUltrasoundRegions=Sequence([region(), region()])),
    "another_region_damaged": described(SequenceOfUltrasoundRegions=Sequence([Dataset(), region()])),
    "a_small_inset": described(SequenceOfUltrasoundRegions=Sequence([region((0, 0, 33, 33)), region()])),
}


@pytest.mark.parametrize("form", SAME)
def test_every_form_gives_the_same_levels(form: str, tmp_path: Path) -> None:
    path = save(changed(SAME[form], seed=9), tmp_path / "x.dcm")
    # Tables of 16 bits and their ends round; nothing else does.
    assert np.abs(read_file(path).pixels.astype(int) - KEPT).max() <= 1


def test_big_endian_gives_the_same_levels_as_little_endian() -> None:
    little, big = (dcmread(get_testdata_file(f"{name}.dcm")) for name in ("SC_rgb_16bit", "SC_rgb_expb_16bit"))
    assert big.file_meta.TransferSyntaxUID == ExplicitVRBigEndian
    first, second = (frame_of(dataset) for dataset in (little, big))
    assert np.array_equal(first, second)


def frame_of(dataset: Any, bounds: Bounds = SYNTHETIC_BOUNDS) -> Any:
    """Colours, or grey levels, of a data set taken for a secondary capture of ultrasound."""
    dataset.SOPClassUID, dataset.Modality = SecondaryCaptureImageStorage, "US"
    file = io.BytesIO()
    dataset.save_as(file)
    file.seek(0)
    screen = open_dicom(file, bounds).frame(0)
    return screen.grey if screen.rgb is None else screen.rgb


@pytest.mark.parametrize(
    ("name", "off"),
    [
        ("SC_rgb_dcmtk_+eb+cr", 2),
        ("SC_rgb_dcmtk_+eb+cy+n2", 6),
        ("SC_rgb_dcmtk_+eb+cy+s4", 6),
        ("SC_rgb_jpeg_dcmtk", 6),
        ("SC_rgb_jpeg_gdcm", 0),
        ("SC_rgb_jls_lossy_sample", 2),
        ("SC_rgb_gdcm_KY", 0),
        ("SC_rgb_rle_16bit", 0),
        ("SC_ybr_full_422_uncompressed", 6),
    ],
)
@pytest.mark.parametrize("called", ["", "RGB", "YBR_FULL", "YBR_FULL_422"])
def test_colours_are_right_whatever_the_header_calls_them(name: str, off: int, called: str) -> None:
    wanted = dcmread(get_testdata_file("SC_rgb.dcm")).pixel_array
    dataset = dcmread(get_testdata_file(f"{name}.dcm"))
    if called and not name.endswith("uncompressed"):
        dataset.PhotometricInterpretation = called
    found = frame_of(dataset)
    assert np.abs(found.astype(int) - wanted).max() <= off


def jpeg(*, markers: bool, subsampled: bool) -> bytes:
    file = io.BytesIO()
    Image.fromarray(GREY_RGB).save(file, format="JPEG", quality=95, subsampling=1 if subsampled else 0)
    data = file.getvalue()
    return data if markers else data[:2] + data[2 + 2 + int.from_bytes(data[4:6], "big") :]


@pytest.mark.parametrize("markers", [True, False])
@pytest.mark.parametrize("subsampled", [True, False])
@pytest.mark.parametrize("called", ["RGB", "YBR_FULL", "YBR_FULL_422"])
def test_the_code_stream_decides_colour_and_not_the_header(
    markers: bool, subsampled: bool, called: str, tmp_path: Path
) -> None:
    def change(dataset: FileDataset) -> None:
        colours(called, GREY_RGB)(dataset)
        dataset.file_meta.TransferSyntaxUID = JPEGBaseline8Bit
        dataset.PixelData = encapsulate([jpeg(markers=markers, subsampled=subsampled)])

    pixels = read_file(save(changed(change), tmp_path / "x.dcm")).pixels
    assert np.abs(pixels.astype(int) - KEPT).mean() < 3


def test_high_throughput_jpeg_2000_is_read(tmp_path: Path) -> None:
    def change(dataset: FileDataset) -> None:
        dataset.Rows = dataset.Columns = 32
        dataset.SequenceOfUltrasoundRegions = Sequence([region((0, 0, 31, 31))])
        dataset.file_meta.TransferSyntaxUID = HTJ2KLossless
        dataset.PixelData = encapsulate([HTJ2K_32])

    row, column = np.mgrid[:32, :32]
    pixels = read_file(save(changed(change), tmp_path / "x.dcm")).pixels
    assert np.array_equal(pixels, (7 * column + 5 * row) % 256)


def test_frames_are_decoded_one_by_one_and_counted_by_the_data(tmp_path: Path) -> None:
    frames = [speckle(seed) for seed in range(3)]
    path = save(changed(described(PixelData=b"".join(each.tobytes() for each in frames))), tmp_path / "x.dcm")
    with path.open("rb") as file:
        found = open_dicom(file, DEFAULT_BOUNDS)
        assert found.frames == 3
        assert all(np.array_equal(found.frame(k).grey, frames[k]) for k in (2, 0, 1))


def flat(level: int) -> Change:
    return described(PixelData=bytes([level]) * (ROWS * COLUMNS))


def flow_over_tissue(dataset: FileDataset) -> None:
    rgb = GREY_RGB.copy()
    rgb[30:60, 40:70] = (200, 40, 20)
    colours("RGB", rgb)(dataset)


def strip(dataset: FileDataset) -> None:
    dataset.Rows, dataset.Columns = 40, 400
    dataset.PixelData = speckle(3, 40, 400).tobytes()
    dataset.SequenceOfUltrasoundRegions = Sequence([region((0, 0, 399, 39))])


def bad_size_in_the_stream(dataset: FileDataset) -> None:
    dataset.file_meta.TransferSyntaxUID = JPEGBaseline8Bit
    file = io.BytesIO()
    Image.fromarray(speckle(4, 200, 200)).save(file, format="JPEG")
    dataset.PixelData = encapsulate([file.getvalue()])


REFUSED = {
    "black": (flat(0), Reason.BLANK),
    "white": (flat(255), Reason.BLANK),
    "two_levels": (described(PixelData=((LEVELS > 127) * np.uint8(255)).tobytes()), Reason.FEW_LEVELS),
    "strip": (strip, Reason.SHAPE),
    "flow_over_tissue": (flow_over_tissue, Reason.COLOUR),
    "window_of_another_depth": (described(WindowCenter="20000", WindowWidth="8192"), Reason.BLANK),
    "enhanced_volume": (described(SOPClassUID=EnhancedUSVolumeStorage), Reason.VOLUME),
    "capture_of_another_modality": (
        described(SOPClassUID=SecondaryCaptureImageStorage, Modality="OT"),
        Reason.NOT_ULTRASOUND,
    ),
    "three_frames_and_no_count": (described(PixelData=LEVELS.tobytes() * 3), Reason.ANIMATED),
    "frames_that_are_no_number": (described(NumberOfFrames="7E99"), Reason.PIXEL_LENGTH),
    "two_frames_of_three": (described(NumberOfFrames=3, PixelData=LEVELS.tobytes() * 2), Reason.PIXEL_LENGTH),
    "another_size_in_the_stream": (bad_size_in_the_stream, Reason.CONTRADICTION),
    "endless_palette": (endless, Reason.PALETTE),
    "endless_fragments": (many_fragments, Reason.TOO_LARGE),
    "short_palette": (palette(lambda table: table[:100].tobytes()), Reason.PALETTE),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_no_picture_is_refused_with_its_own_reason(case: str, tmp_path: Path) -> None:
    change, reason = REFUSED[case]
    path = save(changed(change, seed=9), tmp_path / "x.dcm")
    with pytest.raises(InputError) as refused:
        read_file(path)
    assert refused.value.message == f"x.dcm: {reason.fact}"
    assert refused.value.remedy == reason.remedy


def test_b_mode_beside_flow_is_kept_and_the_flow_is_not(tmp_path: Path) -> None:
    rgb = GREY_RGB.copy()
    rgb[20:60, 80:110] = (20, 40, 200)
    both = [region((0, 0, 60, 90)), region((64, 0, 127, 90))]

    def typed(dataset: FileDataset) -> None:
        colours("RGB", rgb)(dataset)
        dataset.SequenceOfUltrasoundRegions = Sequence([*both, region((80, 20, 110, 60), data_type=2)])

    def untyped(dataset: FileDataset) -> None:
        colours("RGB", rgb)(dataset)
        dataset.SequenceOfUltrasoundRegions = Sequence(both)

    for change in (typed, untyped):
        kept = read_file(save(changed(change), tmp_path / "x.dcm"))
        assert np.array_equal(kept.pixels, LEVELS[0:91, 0:61])
        assert not kept.must_look


@pytest.mark.parametrize("regions", [[], [region((0, 0, 619, 299))]])
def test_b_mode_beside_flow_is_kept_where_one_region_or_none_lies_around_both(regions: Any, tmp_path: Path) -> None:
    def change(dataset: FileDataset) -> None:
        screen = np.zeros((300, 620), np.uint8)
        screen[20:280, 10:300], screen[20:280, 320:610] = speckle(5, 260, 290), speckle(6, 260, 290)
        rgb = np.repeat(screen[:, :, None], 3, axis=2)
        rgb[60:200, 380:560, 1:] //= 8
        dataset.Rows, dataset.Columns = screen.shape
        colours("RGB", rgb)(dataset)
        dataset.SequenceOfUltrasoundRegions = Sequence(regions)

    pixels = read_file(save(changed(change), tmp_path / "x.dcm")).pixels
    assert np.abs(np.subtract(pixels.shape, (260, 290))).max() <= 4


def test_without_a_usable_region_the_picture_is_found_on_the_screen(tmp_path: Path) -> None:
    def change(dataset: FileDataset) -> None:
        screen = np.zeros((300, 400), np.uint8)
        screen[60:260, 80:330] = speckle(5, 200, 250)
        screen[10:14, 20:200] = 255
        dataset.Rows, dataset.Columns, dataset.PixelData = 300, 400, screen.tobytes()
        dataset.SequenceOfUltrasoundRegions = Sequence([Dataset()])

    kept = read_file(save(changed(change), tmp_path / "x.dcm"))
    height, width = kept.pixels.shape
    assert abs(height - 200) <= 12
    assert abs(width - 250) <= 12
    assert kept.must_look


def test_two_pictures_side_by_side_without_regions_wait_for_a_box(tmp_path: Path) -> None:
    def change(dataset: FileDataset) -> None:
        screen = np.zeros((240, 420), np.uint8)
        screen[20:220, 10:200], screen[20:220, 220:410] = speckle(5, 200, 190), speckle(6, 200, 190)
        dataset.Rows, dataset.Columns, dataset.PixelData = 240, 420, screen.tobytes()
        del dataset.SequenceOfUltrasoundRegions

    path = save(changed(change), tmp_path / "x.dcm")
    with pytest.raises(InputError, match="several B-mode pictures"):
        read_file(path)


@pytest.mark.parametrize("tint", [(1.0, 0.9, 0.7), (0.7, 0.9, 1.0)])
def test_a_tinted_map_is_no_colour_over_the_picture(tint: tuple[float, float, float]) -> None:
    assert coloured_share((GREY_RGB * np.array(tint)).astype(np.uint8)) < 0.01
    flow = (GREY_RGB * np.array(tint)).astype(np.uint8)
    flow[30:60, 40:70] = (200, 40, 20)
    assert coloured_share(flow) > 0.05


def test_ybr_and_rgb_are_one_picture() -> None:
    reference = np.asarray(Image.fromarray(speckle(1)[:, :, None].repeat(3, 2)).convert("YCbCr"))
    assert np.abs(from_ybr(reference).astype(int) - speckle(1)[:, :, None]).max() <= 1


@pytest.mark.parametrize("shift", [0, 2, 4, 8])
def test_a_png_of_16_bits_is_read_by_the_bits_it_uses(shift: int, tmp_path: Path) -> None:
    Image.fromarray(LEVELS.astype(np.uint16) << shift).save(tmp_path / "x.png")
    assert np.array_equal(read_file(tmp_path / "x.png").pixels, LEVELS)
