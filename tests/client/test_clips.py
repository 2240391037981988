"""Clips: a few frames, spread or marked; each a picture; all of a clip in the vault or none (cases 6 and 18)."""

import socket
import sqlite3
import struct
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
from numpy.typing import NDArray
from pydicom.dataset import Dataset, FileDataset
from pydicom.encaps import encapsulate
from pydicom.pixels.encoders.base import get_encoder
from pydicom.sequence import Sequence
from pydicom.uid import (
    EnhancedUSVolumeStorage,
    JPEG2000Lossless,
    RLELossless,
    UltrasoundMultiFrameImageStorage,
)
from tests.client.crafted import (
    COLUMNS,
    ROWS,
    assert_sound,
    image,
    make_node,
    plain_vault,
    region,
    save,
    speckle,
    ultrasound,
    write_labels,
)

from sonoshare_client.intake.channel import ChannelError, Question, Taken, receive_answer, send_taken
from sonoshare_client.intake.ingest import ingest
from sonoshare_client.intake.limits import DEFAULT_LIMITS
from sonoshare_client.intake.reasons import SetAside
from sonoshare_client.intake.worker import answer_for
from sonoshare_client.node.policy import IntakeRules, Policy
from sonoshare_client.vault import blobs as vault_blobs
from sonoshare_client.vault.store import Vault
from sonoshare_client.vault.writer import Added
from sonoshare_shared.errors import InputError
from sonoshare_shared.science.labels import read_labels
from sonoshare_shared.science.pictures.bounds import Bounds
from sonoshare_shared.science.pictures.clip import Marks, frames_to_try, nearly_identical
from sonoshare_shared.science.pictures.reading import read_file, read_frames
from sonoshare_shared.science.pictures.reasons import Reason, Refused
from sonoshare_shared.science.pictures.text.clearing import Cleared, cleared_everywhere

LEFT, TOP, RIGHT, BOTTOM = 16, 8, 111, 87
WINDOW = np.s_[TOP : BOTTOM + 1, LEFT : RIGHT + 1]
BLACK = np.zeros((ROWS, COLUMNS), np.uint8)


def clip(frames: list[NDArray[np.uint8]], seed: int = 0, **changes: Any) -> FileDataset:
    dataset = ultrasound(seed)
    dataset.SOPClassUID = dataset.file_meta.MediaStorageSOPClassUID = UltrasoundMultiFrameImageStorage
    dataset.NumberOfFrames = len(frames)
    dataset.PixelData = b"".join(frame.tobytes() for frame in frames)
    for name, value in changes.items():
        setattr(dataset, name, value)
    return dataset


def compressed(frames: list[NDArray[np.uint8]], syntax: Any) -> FileDataset:
    dataset = clip(frames)
    encoder = get_encoder(syntax)
    each = [encoder.encode(ultrasound_of(frame), index=0) for frame in frames]
    dataset.file_meta.TransferSyntaxUID = syntax
    dataset.PixelData = encapsulate(each)
    dataset["PixelData"].is_undefined_length = True
    return dataset


def ultrasound_of(frame: NDArray[np.uint8]) -> FileDataset:
    dataset = ultrasound()
    dataset.PixelData = frame.tobytes()
    return dataset


def moving(count: int, seed: int = 100) -> list[NDArray[np.uint8]]:
    return [speckle(seed + number) for number in range(count)]


def kept_of(path: Path, **options: Any) -> dict[int, NDArray[np.uint8]]:
    with path.open("rb") as file:
        return {kept.number: kept.picture.pixels for kept in read_frames(file, [], None, **options)}


def test_a_clip_gives_frames_that_are_spread_over_it(tmp_path: Path) -> None:
    frames = moving(12)
    kept = kept_of(save(clip(frames), tmp_path / "x.dcm"))
    assert list(kept) == [2, 5, 8, 11]
    assert all(np.array_equal(pixels, frames[number - 1][WINDOW]) for number, pixels in kept.items())


@pytest.mark.parametrize("syntax", [RLELossless, JPEG2000Lossless])
def test_compressed_clips_give_the_same_frames(syntax: Any, tmp_path: Path) -> None:
    frames = moving(5)
    kept = kept_of(save(compressed(frames, syntax), tmp_path / "x.dcm"), bounds=Bounds(clip_frames=3))
    assert len(kept) == 3
    assert all(np.array_equal(pixels, frames[number - 1][WINDOW]) for number, pixels in kept.items())


@pytest.mark.parametrize("frames", [1, 2, 3, 4, 5, 7, 100, 100_001])
@pytest.mark.parametrize("most", [1, 4, 16])
def test_no_frame_is_wanted_twice_and_no_stretch_is_left_out(frames: int, most: int) -> None:
    tries = frames_to_try(frames, most, Marks())
    everything = [index for each in tries for index in each]
    assert len(tries) == min(frames, most)
    assert len(set(everything)) == len(everything)
    assert all(0 <= index < frames for index in everything)
    first = [0, *(each[0] for each in tries), frames]
    assert max(np.diff(first)) <= frames / len(tries) + 1


def test_marked_frames_are_taken_and_no_others() -> None:
    assert frames_to_try(50, 4, Marks((7, 3, 3, 999, 0, -4))) == ((2,), (6,))
    assert len(frames_to_try(50, 4, Marks(tuple(range(1, 51))))) == 4
    assert frames_to_try(50, 1, Marks((0, 51))) == frames_to_try(50, 1, Marks())  # marks of another clip


@pytest.mark.parametrize(
    ("changes", "wanted"),
    [
        ({"FrameNumbersOfInterest": [3, 6]}, [3, 6]),
        ({"FrameNumbersOfInterest": 3}, [3]),
        ({"RepresentativeFrameNumber": 6}, [6]),
        ({"FrameNumbersOfInterest": None, "RepresentativeFrameNumber": 6}, [6]),
        ({"FrameNumbersOfInterest": 2, "RepresentativeFrameNumber": 6}, [2]),
        ({"StartTrim": 5, "StopTrim": 6}, [5, 6]),
        ({"StartTrim": 7, "StopTrim": 2}, [2, 4, 6, 8]),
    ],
)
def test_marks_of_a_header_are_heeded(changes: dict[str, Any], wanted: list[int], tmp_path: Path) -> None:
    assert list(kept_of(save(clip(moving(8), **changes), tmp_path / "x.dcm"))) == wanted


def test_blank_and_faded_frames_are_left_out_and_their_neighbours_taken(tmp_path: Path) -> None:
    frames = moving(8)
    frames[1] = BLACK
    kept = kept_of(save(clip(frames), tmp_path / "x.dcm"), bounds=Bounds(clip_frames=2))
    assert list(kept) == [3, 7]
    frames[2] = BLACK
    assert list(kept_of(save(clip(frames), tmp_path / "x.dcm"), bounds=Bounds(clip_frames=2))) == [4, 7]
    with pytest.raises(Refused) as refused:
        kept_of(save(clip([BLACK] * 8), tmp_path / "x.dcm"))
    assert refused.value.reason is Reason.BLANK


def test_nearly_identical_frames_are_taken_once(tmp_path: Path) -> None:
    still = speckle(5)
    noisy = np.clip(still.astype(int) + np.random.default_rng(0).integers(-1, 2, still.shape), 0, 255).astype(np.uint8)
    assert list(kept_of(save(clip([still, noisy, still, noisy]), tmp_path / "x.dcm"))) == [1]
    assert nearly_identical(still, noisy)
    assert not nearly_identical(still, speckle(6))
    assert not nearly_identical(still, still[:, :-1])


def test_case_06_more_frames_than_the_header_says_are_a_clip(tmp_path: Path) -> None:
    dataset = clip(moving(3))
    del dataset.NumberOfFrames
    assert list(kept_of(save(dataset, tmp_path / "x.dcm"))) == [1, 2, 3]


def sweep(data_type: str | None) -> FileDataset:
    dataset = clip(moving(6))
    dataset.SOPClassUID = dataset.file_meta.MediaStorageSOPClassUID = EnhancedUSVolumeStorage
    del dataset.SequenceOfUltrasoundRegions
    kind, group = Dataset(), Dataset()
    kind.DataType = data_type
    group.ImageDataTypeSequence = Sequence([kind])
    dataset.SharedFunctionalGroupsSequence = Sequence([group])
    return dataset


def test_a_sweep_gives_whole_slices_if_it_is_of_tissue(tmp_path: Path) -> None:
    kept = kept_of(save(sweep("TISSUE_INTENSITY"), tmp_path / "x.dcm"))
    assert [pixels.shape for pixels in kept.values()] == [(ROWS, COLUMNS)] * 4
    for other in ("ELASTICITY", None):
        with pytest.raises(Refused) as refused:
            kept_of(save(sweep(other), tmp_path / "x.dcm"))
        assert refused.value.reason is Reason.VOLUME


def test_of_b_mode_beside_colour_the_b_mode_part_of_every_frame_is_kept(tmp_path: Path) -> None:
    halves = [region((0, 8, 59, 87)), region((66, 8, 125, 87))]
    frames = []
    for grey in moving(4):
        rgb = np.repeat(grey[..., None], 3, axis=2)
        rgb[20:70, 70:120] = (255, 40, 0)
        frames.append(rgb)
    dataset = clip(frames, SamplesPerPixel=3, PhotometricInterpretation="RGB", PlanarConfiguration=0)
    dataset.SequenceOfUltrasoundRegions = Sequence(halves)
    kept = kept_of(save(dataset, tmp_path / "x.dcm"))
    assert list(kept) == [1, 2, 3, 4]
    assert all(np.array_equal(pixels, frames[number - 1][8:88, 0:60, 0]) for number, pixels in kept.items())


def test_a_huge_clip_is_not_read_whole(tmp_path: Path) -> None:
    """Three gigabytes, sparse: three frames in it are pictures, everything between is a hole."""
    path, count = tmp_path / "x.dcm", 3 * (1 << 30) // (ROWS * COLUMNS)
    dataset = clip(moving(1), NumberOfFrames=count)
    save(dataset, path)
    data = path.read_bytes()
    start = data.index(struct.pack("<HH2s", 0x7FE0, 0x0010, b"OB")) + 12
    size = ROWS * COLUMNS
    marked = [2, count // 2, count]
    with path.open("r+b") as file:
        file.truncate(start)
        file.seek(start - 4)
        file.write(struct.pack("<L", count * size))
        for number in marked:
            file.seek(start + (number - 1) * size)
            file.write(speckle(number).tobytes())
    before = psutil.Process().memory_info().rss
    kept = {number: read_file(path, frame=number).pixels for number in marked}
    assert psutil.Process().memory_info().rss - before < 64 * (1 << 20)
    assert all(np.array_equal(pixels, speckle(number)[WINDOW]) for number, pixels in kept.items())


def test_what_was_blanked_in_one_frame_is_blanked_in_all() -> None:
    frames = [Cleared(speckle(1)), Cleared(speckle(2), ((10, 20, 30, 8),)), Cleared(speckle(3, 50, 60))]
    first, second, other_size = cleared_everywhere(frames)
    assert first.blanked == second.blanked == ((10, 20, 30, 8),)
    outside = np.ones((ROWS, COLUMNS), np.bool_)
    outside[20:28, 10:40] = False
    assert np.array_equal(first.pixels[outside], speckle(1)[outside])
    assert not np.array_equal(first.pixels[~outside], speckle(1)[~outside])
    assert np.array_equal(second.pixels, speckle(2))
    assert other_size.blanked == ()


def taken_in(tmp_path: Path, rows: list[dict[str, str]], **options: Any) -> tuple[Any, Any]:
    home = make_node(tmp_path / "home", **options)
    write_labels(tmp_path / "in", rows)
    return home, ingest(home, tmp_path / "in")


def test_a_clip_is_one_patient_and_is_known_again_whatever_the_rule_was(tmp_path: Path) -> None:
    save(clip(moving(12)), tmp_path / "in" / "x.dcm")
    home, report = taken_in(tmp_path, [{"image": "x.dcm", "patient": "Ann"}])
    assert (report.accepted, report.duplicates, report.patients, report.quarantined) == (4, 0, 1, ())
    assert len({pseudonym for pseudonym, _ in plain_vault(home)}) == 1
    for most in (4, 5):
        (home.path / "policy.toml").write_text(f"[intake]\nclip_frames = {most}\n")
        report = ingest(home, tmp_path / "in")
        assert (report.accepted, report.quarantined) == (0, ())
        assert_sound(home, 4)


def test_the_hospital_says_how_many_frames(tmp_path: Path) -> None:
    save(clip(moving(12)), tmp_path / "in" / "x.dcm")
    rules = Policy(intake=IntakeRules(clip_frames=2))
    assert taken_in(tmp_path, [{"image": "x.dcm"}], policy=rules)[1].accepted == 2


def test_a_box_goes_with_the_frame_that_its_row_names(tmp_path: Path) -> None:
    frames = moving(12)
    save(clip(frames), tmp_path / "in" / "x.dcm")
    save(clip(moving(3, 500), seed=1), tmp_path / "in" / "y.dcm")
    rows = [{"image": "x.dcm", "patient": "P", "frame": frame, "box": "20,20,30,30"} for frame in ("3", "7")]
    rows += [{"image": "y.dcm", "box": "20,20,30,30"}]
    home, report = taken_in(tmp_path, rows)
    assert [entry.reason for entry in report.quarantined] == [Reason.CLIP_LESION.value]
    assert report.accepted == 2
    kept = [image for _, image in plain_vault(home)]
    assert all(image.box is not None for image in kept)
    assert {image.pixels.tobytes() for image in kept} == {frames[index][WINDOW].tobytes() for index in (2, 6)}
    assert ingest(home, tmp_path / "in").duplicates == 2


@pytest.mark.parametrize("frame", ["13", "999999999"])
def test_a_frame_that_is_not_there_is_set_aside(frame: str, tmp_path: Path) -> None:
    save(clip(moving(12)), tmp_path / "in" / "x.dcm")
    _, report = taken_in(tmp_path, [{"image": "x.dcm", "frame": frame}])
    assert [entry.reason for entry in report.quarantined] == [Reason.FRAME.value]


@pytest.mark.parametrize("frames", [["0"], ["-1"], ["1.5"], ["²"], ["3", "3"], ["", "3"], ["3", ""], ["1234567890"]])
def test_a_column_of_frames_that_makes_no_sense_is_refused(frames: list[str], tmp_path: Path) -> None:
    save(clip(moving(2)), tmp_path / "x.dcm")
    write_labels(tmp_path, [{"image": "x.dcm", "patient": "P", "frame": frame} for frame in frames])
    with pytest.raises(InputError, match=r"frame|twice"):
        read_labels(tmp_path)


def test_one_clip_of_two_patients_is_a_conflict_and_nothing_of_it_is_stored(tmp_path: Path) -> None:
    save(clip(moving(12)), tmp_path / "in" / "x.dcm")
    save(clip(moving(12)), tmp_path / "in" / "y.dcm")
    home, report = taken_in(tmp_path, [{"image": "x.dcm", "patient": "A"}, {"image": "y.dcm", "patient": "B"}])
    assert [entry.reason for entry in report.quarantined] == [SetAside.OTHER_PATIENT.value]
    assert_sound(home, 4)


def test_case_18_a_clip_is_in_the_vault_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    home = make_node(tmp_path / "home")
    frames = {number: image(number) for number in range(1, 5)}
    written = vault_blobs.BlobFolder.write

    def full(self: Any, name: str, data: bytes) -> None:
        if len(list(self._folder.iterdir())) == 2:
            raise OSError(28, "full")
        written(self, name, data)

    with Vault(home) as vault:
        with monkeypatch.context() as patch, vault.writing() as writer:
            patch.setattr(vault_blobs.BlobFolder, "write", full)
            with pytest.raises(InputError):
                writer.add_file("Ann", frames, b"i" * 32)
        assert vault.images() == ()
        with vault.writing() as writer:
            assert writer.add_file("Ann", frames, b"i" * 32) == (Added.STORED, 4)
            assert writer.add_file("Ann", frames, b"i" * 32) == (Added.DUPLICATE, 0)
    assert_sound(home, 4)


@pytest.mark.parametrize(
    ("patient", "frames", "named", "wanted"),
    [
        ("Ann", {2: 2, 5: 5}, False, (Added.STORED, 1)),  # another instance: one picture is known, one is new
        ("Ann", {9: 9}, False, (Added.DUPLICATE, 0)),  # chosen by another rule
        ("Ann", {9: 9}, True, (Added.STORED, 1)),  # asked for by number
        ("Ann", {1: 9}, False, (Added.OTHER_PICTURE, 0)),
        ("Ann", {1: 9}, True, (Added.OTHER_PICTURE, 0)),
        ("Ben", {9: 9}, True, (Added.OTHER_PATIENT, 0)),
        ("Ben", {5: 5, 9: 1}, False, (Added.OTHER_PATIENT, 0)),
    ],
)
def test_what_becomes_of_frames_of_a_known_instance(
    patient: str, frames: dict[int, int], named: bool, wanted: tuple[Added, int], tmp_path: Path
) -> None:
    instance = b"j" * 32 if wanted == (Added.STORED, 1) and not named else b"i" * 32
    with Vault(make_node(tmp_path / "home")) as vault, vault.writing() as writer:
        writer.add_file("Ann", {1: image(1), 2: image(2)}, b"i" * 32)
        images = {number: image(seed) for number, seed in frames.items()}
        assert writer.add_file(patient, images, instance, named=named) == wanted


def test_a_class_that_differs_is_a_conflict_for_every_frame(tmp_path: Path) -> None:
    with Vault(make_node(tmp_path / "home")) as vault, vault.writing() as writer:
        writer.add_file("Ann", {1: image(1)}, b"i" * 32)
        other = image(9, label="malignant")
        assert writer.add_file("Ann", {9: other}, b"i" * 32, named=True) == (Added.OTHER_CLASS, 0)


OLD = """
CREATE TABLE constant (name TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT;
CREATE TABLE image (number INTEGER PRIMARY KEY AUTOINCREMENT, blob TEXT NOT NULL UNIQUE, pseudonym TEXT NOT NULL,
    picture TEXT NOT NULL UNIQUE, instance TEXT UNIQUE) STRICT;
CREATE INDEX image_of_patient ON image (pseudonym);
CREATE TABLE twin (number INTEGER PRIMARY KEY AUTOINCREMENT, first TEXT NOT NULL REFERENCES image (blob),
    second TEXT NOT NULL REFERENCES image (blob), score REAL NOT NULL, two_people INTEGER NOT NULL DEFAULT 0,
    UNIQUE (first, second)) STRICT;
"""


def test_a_vault_of_before_clips_is_brought_up_and_forgets_nothing(tmp_path: Path) -> None:
    home = make_node(tmp_path / "home")
    with Vault(home) as vault, vault.writing() as writer:
        for seed in (1, 2, 3):
            writer.add(f"P{seed}", image(seed), bytes([seed]) * 32)
    index = home.vault_path / "index.db"
    with sqlite3.connect(index, isolation_level=None) as new:
        rows = new.execute("SELECT number, blob, pseudonym, picture, instance FROM image ORDER BY number").fetchall()
        constants = new.execute("SELECT name, value FROM constant").fetchall()
    index.unlink()
    with sqlite3.connect(index, isolation_level=None) as old:  # version 1; the last picture was forgotten
        old.executescript(OLD)
        old.executemany("INSERT INTO constant VALUES (?, ?)", [*constants, ("twins_compared", "3")])
        old.executemany("INSERT INTO image VALUES (?, ?, ?, ?, ?)", rows)
        old.execute("INSERT INTO twin (first, second, score) VALUES (?, ?, 0.9)", (rows[0][1], rows[1][1]))
        old.execute("DELETE FROM image WHERE number = 3")
    with Vault(home) as vault:
        assert [ref.blob for ref in vault.images()] == [row[1] for row in rows[:2]]
        assert (vault.compared(), len(vault.twins()), vault.generation()) == (2, 1, 0)
        with vault.writing() as writer:
            assert writer.add("P1", image(1), bytes([1]) * 32) is Added.DUPLICATE
            assert writer.add("P1", image(7), bytes([1]) * 32) is Added.OTHER_PICTURE
            assert writer.add_file("P1", {2: image(8)}, bytes([1]) * 32, named=True) == (Added.STORED, 1)
        assert vault.compared() == 2  # the number of the forgotten picture is not given again
        assert vault.generation() > 0


def test_a_child_gives_no_more_pictures_than_agreed(tmp_path: Path) -> None:
    path = save(clip(moving(12)), tmp_path / "x.dcm")
    with path.open("rb") as file:
        taken = answer_for(Question(".dcm", None), [file], DEFAULT_LIMITS, ())
    assert isinstance(taken, Taken)
    backwards, no_frame = dict(reversed(list(taken.images.items()))), {0: taken.images[2]}
    for most, images in ((3, taken.images), (4, backwards), (4, {}), (4, no_frame)):
        ours, theirs = socket.socketpair()
        with ours, theirs:
            theirs.settimeout(5)
            send_taken(theirs, Taken(images, taken.instance))
            with pytest.raises(ChannelError):
                receive_answer(ours, replace(DEFAULT_LIMITS, clip_frames=most))
