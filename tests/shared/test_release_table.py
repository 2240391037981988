"""The table of a release: splits by case, what is said of an image, and that nobody can say more."""

import csv
import io
from collections import Counter
from datetime import UTC, datetime

import numpy as np
import pytest

from sonoshare_shared.errors import VerificationError
from sonoshare_shared.protocol.canonical import sha256_hex
from sonoshare_shared.protocol.documents import FileEntry, HospitalBudget, PrivacyStatement, ReleaseManifest
from sonoshare_shared.protocol.release import layout
from sonoshare_shared.protocol.release.candidate import Candidate, CandidateImage
from sonoshare_shared.protocol.release.table import birads_of, metadata_csv, require_table, splits_of

HEX = "0" * 64


def candidate(cases: list[int | None], labels: list[str] | None = None, seed: int = 3) -> Candidate:
    names = labels or ["benign"] * len(cases)
    return Candidate(
        release="r1",
        study="s",
        plan_digest=HEX,
        model_digest=HEX,
        seed=seed,
        size=64,
        images=tuple(
            CandidateImage(index=i, image=HEX, mask=HEX, label=label, scanner="unknown", box=None, case=case)
            for i, (case, label) in enumerate(zip(cases, names, strict=True))
        ),
    )


def test_all_images_of_a_case_are_in_one_split_and_cases_are_shared_out_eight_to_one_to_one() -> None:
    drawn = np.random.default_rng(0).integers(0, 500, 2000).tolist()
    splits = splits_of(candidate(drawn))
    of_case: dict[int, set[str]] = {}
    for index, case in enumerate(drawn):
        of_case.setdefault(case, set()).add(splits[index])
    assert {len(found) for found in of_case.values()} == {1}
    counts = Counter(next(iter(found)) for found in of_case.values())
    tenths = -(-len(of_case) // 10)
    assert counts["test"] in (tenths - 1, tenths)
    assert counts["validation"] == counts["test"]


def test_splits_are_of_every_class_and_no_period_of_the_scanners_shows_in_them() -> None:
    labels = ["benign", "malignant"] * 500
    splits = splits_of(candidate(list(range(1000)), labels))
    for name in ("benign", "malignant"):
        counts = Counter(splits[index] for index in range(1000) if labels[index] == name)
        assert counts == {"train": 400, "validation": 50, "test": 50}
    places = Counter(index // 2 % 5 for index in range(1000) if splits[index] == "test")
    assert min(places.values()) >= 8
    assert splits != splits_of(candidate(list(range(1000)), labels, seed=4))


@pytest.mark.parametrize(("cases", "expected"), [(1, {"train"}), (2, {"train"}), (3, {"train", "validation", "test"})])
def test_a_few_cases_are_split_from_three_on(cases: int, expected: set[str]) -> None:
    assert set(splits_of(candidate(list(range(cases)))).values()) == expected


def test_a_candidate_of_earlier_days_has_the_table_it_had() -> None:
    old = candidate([None, None])
    assert "case" not in old.canonical().decode()
    rows = list(csv.reader(io.StringIO(metadata_csv(old, old.images).decode())))
    assert tuple(rows[0]) == layout.METADATA_COLUMNS
    assert rows[1] == ["images/000000.png", "benign", "unknown", "", "", "", "", "masks/000000.png", "0", "3"]


def test_a_candidate_says_the_case_of_all_images_or_of_none() -> None:
    with pytest.raises(ValueError, match="all images have a case"):
        candidate([1, None])


@pytest.mark.parametrize(
    ("label", "category"), [("birads-4", "4"), ("birads-4a", "4a"), ("benign", ""), ("xbirads-4", "")]
)
def test_birads_category_is_that_of_the_class(label: str, category: str) -> None:
    assert birads_of(label) == category


def test_a_table_that_says_more_than_the_candidate_is_refused() -> None:
    of = candidate(list(range(4)))
    kept = {0, 1, 3}
    table = metadata_csv(of, [of.images[index] for index in sorted(kept)])
    require_table(manifest(of, table), of, kept)
    for other in (table + b"x", table.replace(b"benign", b"Name, A", 1), metadata_csv(of, of.images)):
        with pytest.raises(VerificationError) as caught:
            require_table(manifest(of, other), of, kept)
        assert caught.value.cause == "candidate"


def manifest(of: Candidate, table: bytes) -> ReleaseManifest:
    budgets = (HospitalBudget(hospital="north", epsilon=1, delta=1e-5),)
    return ReleaseManifest(
        release=of.release,
        study=of.study,
        task="t",
        sequence=1,
        created=datetime(2026, 11, 22, tzinfo=UTC),
        files=(FileEntry(path=layout.METADATA, sha256=sha256_hex(table), size=len(table)),),
        counts={"benign": 3},
        candidate_digest=of.digest(),
        model_digest=HEX,
        plan_digest=HEX,
        privacy=PrivacyStatement(epsilon=1, delta=1e-5, hospitals=budgets),
        licence="x",
        duo=(),
    )
