"""Building a release: the same bytes from the same inputs, whole or not at all, and open to other tools."""

import csv
import io
import json
import re
import zlib
from pathlib import Path

import mlcroissant
import numpy as np
import pytest
from PIL import Image
from tests.shared.consortium import MODEL, NOW, RELEASE, Consortium, make_plan, make_samples

from sonoshare_server.release import png
from sonoshare_server.release.build import Samples, build_candidate
from sonoshare_server.release.contact_sheet import contact_sheet
from sonoshare_server.release.facts import Facts, Measurement
from sonoshare_shared.durable import appearing, put
from sonoshare_shared.errors import InputError, IntegrityError, VerificationError
from sonoshare_shared.protocol.release import evidence, layout
from sonoshare_shared.protocol.release.candidate import Candidate
from sonoshare_shared.protocol.release.verify import verify_release
from sonoshare_shared.science.pictures.plain import plain_grey


@pytest.fixture(scope="module")
def release(tmp_path_factory: pytest.TempPathFactory) -> Path:
    utility = (
        Measurement("TSTR AUC", 0.71, (0.65, 0.77), 0.76, "real only", "212 patients"),
        Measurement("Frechet distance", 290.0),
    )
    return Consortium(tmp_path_factory.mktemp("consortium"), utility=utility).release()


def test_case_68_same_inputs_same_manifest_digest(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    first = Consortium(tmp_path / "a")
    second = Consortium(tmp_path / "b", root=first.root, coordinator=first.coordinator, keys=first.keys)
    assert first.draft().digest() == second.draft().digest()
    other = second.draft("breast-2026-2")
    assert other.digest() != first.draft("breast-2026-3").digest()


def test_batches_make_no_difference(tmp_path: Path) -> None:
    whole = make_samples(10)
    plan = make_plan(10)
    parts = [
        Samples(
            images=whole.images[a:b],
            masks=whole.masks[a:b],
            labels=whole.labels[a:b],
            scanners=whole.scanners[a:b],
            boxes=whole.boxes[a:b],
            cases=whole.cases[a:b],
            mm_per_pixel=whole.mm_per_pixel[a:b],
            start_index=a,
        )
        for a, b in ((0, 4), (4, 10))
    ]
    one = build_candidate(tmp_path / "one", [whole], release=RELEASE, plan=plan, model_digest=MODEL)
    two = build_candidate(tmp_path / "two", iter(parts), release=RELEASE, plan=plan, model_digest=MODEL)
    assert one.digest() == two.digest()


def test_images_open_in_other_tools_and_are_what_was_sampled(release: Path) -> None:
    samples = make_samples(12)
    for index in (0, 11):
        with Image.open(release / layout.image_path(index)) as image:
            assert image.mode == "L"
            np.testing.assert_array_equal(np.asarray(image), np.rint(samples.images[index] * 255).astype(np.uint8))
        with Image.open(release / layout.mask_path(index)) as mask:
            np.testing.assert_array_equal(np.asarray(mask) > 0, samples.masks[index])
    with Image.open(release / layout.CONTACT_SHEET) as sheet:
        assert sheet.mode == "RGB"


@pytest.mark.parametrize("shape", [(1, 1), (3, 7), (64, 64), (5, 4, 3)])
def test_png_is_read_back_by_another_library(shape: tuple[int, int] | tuple[int, int, int]) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
    data = png.encode(pixels)
    np.testing.assert_array_equal(np.asarray(Image.open(io.BytesIO(data))), pixels)
    assert data == png.encode(pixels)
    assert re.findall(rb"tIME|tEXt|iTXt|zTXt|eXIf", data) == []
    if len(shape) == 2:
        np.testing.assert_array_equal(plain_grey(data), pixels)


@pytest.mark.parametrize("data", [b"", b"junk" * 30, png.encode(np.zeros((4, 4, 3), np.uint8)), zlib.compress(b"x")])
def test_what_is_no_picture_of_ours_is_refused(data: bytes) -> None:
    with pytest.raises(IntegrityError):
        plain_grey(data)


def test_metadata_is_an_imagefolder_table(release: Path) -> None:
    rows = list(csv.DictReader(io.StringIO((release / layout.METADATA).read_text())))
    assert tuple(rows[0]) == layout.METADATA_COLUMNS + layout.CASE_COLUMNS
    assert len(rows) == 11
    assert "5" not in {row["index"] for row in rows}
    for row in rows:
        assert (release / row["file_name"]).is_file()
        assert (release / row["mask_file_name"]).is_file()
    assert [rows[0][name] for name in ("x", "y", "w", "h")] == ["3", "4", "8", "6"]
    assert [rows[-1][name] for name in ("x", "y", "w", "h")] == [""] * 4
    assert {row["label"] for row in rows} == {"benign", "malignant"}
    assert {row["scanner"] for row in rows} == {"alpha", "beta", "unknown"}
    assert [rows[0][name] for name in layout.CASE_COLUMNS[2:]] == ["", "0.62500", "0.75000"]
    assert sorted(row["split"] for row in rows) == ["test"] * 2 + ["train"] * 7 + ["validation"] * 2


def test_croissant_is_valid_and_its_records_load_offline(release: Path) -> None:
    dataset = mlcroissant.Dataset(jsonld=str(release / layout.CROISSANT))
    assert dataset.metadata.ctx.issues.errors == set()
    assert dataset.metadata.ctx.issues.warnings == set()
    samples = list(dataset.records("samples"))
    assert len(samples) == 11
    assert samples[0]["samples/label"] == b"benign"
    images = {record["images/file_name"]: record["images/image"] for record in dataset.records("images")}
    assert images[samples[0]["samples/file_name"]].size == (16, 16)
    assert len(list(dataset.records("masks"))) == 11
    assert [record["labels/name"] for record in dataset.records("labels")] == ["benign", "malignant"]
    splits = {record["splits/name"]: record["splits/url"] for record in dataset.records("splits")}
    assert splits.keys() == {"train", "validation", "test"}
    assert {sample["samples/split"].decode() for sample in samples} == splits.keys()
    assert {sample["samples/mm_per_pixel_y"] for sample in samples} == {0.75}
    assert "differential privacy" in dataset.metadata.personal_sensitive_information[0]
    assert dataset.metadata.data_collection.startswith("Nothing was collected")


def test_reports_are_self_contained(release: Path) -> None:
    for name in (layout.PRIVACY_HTML, layout.UTILITY_HTML):
        page = (release / name).read_text()
        assert re.findall(r"<(?:script|link|iframe|img|object)|\bsrc=|@import|url\((?!#)|https?://", page) == []


def test_privacy_report_says_what_was_signed(release: Path) -> None:
    report = json.loads((release / layout.PRIVACY_JSON).read_bytes())
    assert (report["epsilon"], report["delta"]) == (6.5, 1e-4)
    assert report["images"] == {"audited": 12, "vetoed": 1, "released": 11}
    assert [h["smallest_detectable_leak"] for h in report["hospitals"]] == [7, 7, 7]
    page = (release / layout.PRIVACY_HTML).read_text()
    assert "0.520, between 0.430 and 0.610" in page
    assert page.count('class="verdict PASS"') == 3


def test_utility_report_holds_the_figures_handed_in(release: Path) -> None:
    report = json.loads((release / layout.UTILITY_JSON).read_bytes())
    assert report["measured"] is True
    assert report["figures"][0]["interval"] == [0.65, 0.77]
    assert "real only 0.760" in (release / layout.UTILITY_HTML).read_text()
    assert "TSTR AUC: 0.710 [0.650, 0.770]" in (release / layout.DATASHEET).read_text()


def test_utility_that_nobody_measured_is_said_so(tmp_path: Path) -> None:
    folder = Consortium(tmp_path).release()
    assert json.loads((folder / layout.UTILITY_JSON).read_bytes())["measured"] is False
    assert "Not measured" in (folder / layout.UTILITY_HTML).read_text()
    assert "Not measured" in (folder / layout.DATASHEET).read_text()


@pytest.mark.parametrize("verdict", ["FAIL", "INCONCLUSIVE"])
def test_case_56_no_release_is_built_without_a_pass_of_all(tmp_path: Path, verdict: str) -> None:
    consortium = Consortium(tmp_path)
    honest = consortium.attest
    consortium.attest = lambda hospital, candidate: honest(  # type: ignore[assignment, misc]
        hospital, candidate, verdict=verdict if hospital == "west" else "PASS"
    )
    with pytest.raises(VerificationError) as caught:
        consortium.draft()
    assert caught.value.cause == "verdict"
    assert sorted(path.name for path in tmp_path.iterdir()) == [f"{RELEASE}.candidate"]


def test_changed_candidate_is_noticed(tmp_path: Path) -> None:
    consortium = Consortium(tmp_path)
    candidate = consortium.candidate
    consortium.candidate = lambda release: _spoiled(candidate(release), tmp_path / f"{release}.candidate")  # type: ignore[assignment, misc]
    with pytest.raises(IntegrityError):
        consortium.draft()


def _spoiled(candidate: Candidate, folder: Path) -> Candidate:
    (folder / layout.image_path(0)).write_bytes((folder / layout.image_path(1)).read_bytes())
    return candidate


def test_everything_vetoed_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError):
        Consortium(tmp_path).draft(vetoed=tuple(range(12)))


def test_candidate_without_images_or_with_nan(tmp_path: Path) -> None:
    plan = make_plan()
    with pytest.raises(InputError):
        build_candidate(tmp_path / "none", [], release=RELEASE, plan=plan, model_digest=MODEL)
    samples = make_samples(3)
    samples.images[1, 2, 3] = np.nan
    with pytest.raises(InputError):
        build_candidate(tmp_path / "nan", [samples], release=RELEASE, plan=plan, model_digest=MODEL)
    assert list(tmp_path.iterdir()) == []


def test_folder_appears_whole_or_not_at_all(tmp_path: Path) -> None:
    target = tmp_path / "folder"
    with pytest.raises(RuntimeError), appearing(target) as building:  # noqa: PT012 - the block is what is tested
        put(building, "a/b", b"x")
        raise RuntimeError
    assert list(tmp_path.iterdir()) == []
    with appearing(target, durable=True) as building:
        put(building, "a/b", b"x")
        assert not target.exists()
    assert (target / "a/b").read_bytes() == b"x"
    with pytest.raises(InputError), appearing(target):
        pass
    (tmp_path / ".left.building").mkdir()
    (tmp_path / ".left.building" / "half").write_bytes(b"")
    with appearing(tmp_path / "left") as building:
        assert list(building.iterdir()) == []


def test_draft_is_gone_and_release_verifies_after_the_seal(tmp_path: Path) -> None:
    consortium = Consortium(tmp_path)
    folder = consortium.release()
    assert not (tmp_path / f"{RELEASE}.draft").exists()
    verify_release(folder, consortium.signed_roster(), now=NOW, log=evidence.view(consortium.log()))


def test_contact_sheet_of_a_class_with_few_images() -> None:
    image = np.full((1, 8, 8), 100, np.uint8)
    mask = np.zeros((1, 8, 8), np.uint8)
    mask[0, 2:5, 2:5] = 255
    sheet = contact_sheet([(np.repeat(image, 3, 0), np.repeat(mask, 3, 0)), (image, mask)])
    assert sheet.shape == (4 * 10 - 2, 3 * 10 - 2, 3)
    assert tuple(sheet[10 + 2, 2]) != (100, 100, 100)  # outlined
    assert tuple(sheet[10 + 3, 3]) == (100, 100, 100)  # inside


def test_default_facts_name_licence_and_use() -> None:
    facts = Facts(sequence=1, created=NOW, consortium="c", title="t")
    assert facts.licence.startswith("LicenseRef-")
    assert facts.duo == ("DUO:0000006",)
