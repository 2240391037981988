"""From the vault to arrays: grouped by patient, on the task's grid, depending on nothing but the patient."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from tests.client.crafted import make_node, speckle

from sonoshare_client.node.home import NodeHome
from sonoshare_client.vault import dataset
from sonoshare_client.vault.cohort import PatientArrays
from sonoshare_client.vault.dataset import TrainingSet, grid
from sonoshare_client.vault.store import Vault
from sonoshare_client.vault.stored_image import StoredImage
from sonoshare_shared.protocol.documents import Task

TASK = Task(
    name="diagnosis",
    question="benign or malignant?",
    classes=("benign", "malignant", "normal"),
    scanners=("GE Logiq 5", "GE Logiq 7"),
)


@pytest.fixture
def home(tmp_path: Path) -> NodeHome:
    return make_node(tmp_path / "home")


def everybody(patients: TrainingSet) -> list[PatientArrays]:
    """Trained and held-out patients by pseudonym."""
    return sorted((*patients.trained, *patients.held_out), key=lambda one: one.pseudonym)


def store(home: NodeHome, *images: tuple[str, Any]) -> None:
    with Vault(home) as vault, vault.writing() as writer:
        for patient, image in images:
            writer.add(patient, image)


def image(
    seed: int,
    label: str = "benign",
    device: str = "GE Logiq 7",
    mask: NDArray[np.uint8] | NDArray[Any] | None = None,
    box: Any = None,
) -> StoredImage:
    return StoredImage(speckle(seed, 50, 80), mask, box, label, device)


def test_case_49_a_patient_with_many_images_is_one_entry(home: NodeHome) -> None:
    store(home, *[("Ann", image(seed)) for seed in range(40)], ("Bob", image(99, "malignant")))
    with Vault(home) as vault:
        patients = everybody(grid(vault, vault.patients(), TASK, 16))
        assert sorted(len(patient) for patient in patients) == [1, 40]
        assert [patient.pseudonym for patient in patients] == sorted(patient.pseudonym for patient in patients)


def test_arrays_have_the_promised_forms(home: NodeHome) -> None:
    lesion = np.zeros((50, 80), np.uint8)
    lesion[10:30, 20:60] = 1
    store(
        home,
        ("Ann", image(1, "malignant", "GE Logiq 5", lesion, (0.25, 0.2, 0.5, 0.4))),
        ("Ann", image(2, "benign", "unheard of")),
        ("Ann", image(3, "normal", "GE Logiq 7", np.zeros((50, 80), np.uint8))),
    )
    with Vault(home) as vault:
        (ann,) = everybody(grid(vault, vault.patients(), TASK, 32))
    assert (ann.images.shape, ann.images.dtype) == ((3, 32, 32), np.float32)  # type: ignore[comparison-overlap]
    assert 0 <= ann.images.min() <= ann.images.max() <= 1
    assert (ann.masks.shape, ann.masks.dtype) == ((3, 32, 32), np.bool_)  # type: ignore[comparison-overlap]
    assert ann.has_mask.tolist() == [True, False, True]
    assert ann.masks.sum(axis=(1, 2)).tolist()[1:] == [0, 0]
    assert abs(ann.masks[0].mean() - lesion.mean()) < 0.05
    assert ann.labels.tolist() == [1, 0, 2]
    assert ann.scanners.tolist() == [0, -1, 1]
    assert ann.boxes[0].tolist() == pytest.approx([0.25, 0.2, 0.5, 0.4])
    assert np.isnan(ann.boxes[1]).all()
    assert ann.boxes[2].tolist() == [0, 0, 0, 0]


def test_case_55_a_patients_arrays_do_not_depend_on_other_patients(home: NodeHome) -> None:
    store(home, ("Ann", image(1)))
    with Vault(home) as vault:
        pseudonym = vault.pseudonym("Ann")
        alone = everybody(grid(vault, vault.patients(), TASK, 16))[0]
    store(home, *[(f"patient {seed}", image(seed, "malignant")) for seed in range(2, 12)])
    with Vault(home) as vault:
        among = next(
            patient for patient in everybody(grid(vault, vault.patients(), TASK, 16)) if patient.pseudonym == pseudonym
        )
    assert np.array_equal(alone.images, among.images)
    assert alone.held_out == among.held_out


def test_trained_and_held_out_are_disjoint_and_all(home: NodeHome) -> None:
    store(home, *[(f"patient {seed}", image(seed)) for seed in range(60)])
    with Vault(home) as vault:
        patients = grid(vault, vault.patients(), TASK, 8)
    trained, held_out = ({patient.pseudonym for patient in side} for side in (patients.trained, patients.held_out))
    assert trained
    assert held_out
    assert not trained & held_out
    assert len(trained | held_out) == 60


def test_a_patient_with_an_unknown_class_takes_no_part_whichever_side_and_nobody_else_is_touched(
    home: NodeHome,
) -> None:
    many = [(f"patient {seed}", image(seed)) for seed in range(40)]
    store(home, *many)
    before = opened(home)
    with Vault(home) as vault:
        held_out = {patient.pseudonym for patient in vault.patients() if patient.held_out}
        # Some of each side, by the random split; all 40 are on one side in fewer than one vault of 10**6.
        by_side = [[name for name, _ in many if (vault.pseudonym(name) in held_out) is side] for side in (False, True)]
        names = [name for side in by_side for name in side[:4]]
        gone = {vault.pseudonym(name) for name in names}
    assert all(by_side)
    store(home, *((name, image(seed + 100, "cyst")) for seed, name in enumerate(names)))
    after = opened(home)
    assert set(after.images) == set(before.images) - gone
    assert after.left_out == {"class 'cyst' is not of the task": len(names)}
    assert all(np.array_equal(after.images[one], before.images[one]) for one in after.images)


@dataclass(frozen=True)
class Opened:
    images: dict[str, Any]
    left_out: dict[str, Any]


def opened(home: NodeHome) -> Opened:
    with Vault(home) as vault:
        patients = grid(vault, vault.patients(), TASK, 16)
    return Opened({one.pseudonym: one.images for one in everybody(patients)}, dict(patients.left_out))


def damaged(home: Any, vault: Any, writer: Any) -> None:
    writer.add("X", image(99))
    writer.flush()
    (blob,) = (ref.blob for ref in vault.images() if ref.pseudonym == vault.pseudonym("X"))
    (home.vault_path / "blobs" / blob).write_bytes(b"not sealed")


def missing(home: Any, vault: Any, writer: Any) -> None:
    damaged(home, vault, writer)
    (blob,) = (ref.blob for ref in vault.images() if ref.pseudonym == vault.pseudonym("X"))
    (home.vault_path / "blobs" / blob).unlink()


def too_large(home: Any, vault: Any, writer: Any) -> None:
    large = image(99)
    object.__setattr__(large, "pixels", np.zeros((8, 5000), np.uint8))
    writer.add("X", large)


def with_a_box(box: tuple[float, float, float, float]) -> Callable[..., Any]:
    def add(home: Any, vault: Any, writer: Any) -> None:
        writer.add("X", image(99, box=box))

    return add


@pytest.mark.parametrize(
    "spoil",
    [damaged, missing, too_large, with_a_box((0.1, 0.1, float("nan"), 0.2)), with_a_box((0.1, 0.1, 1e30, 0.2))],
)
def test_whatever_is_wrong_with_a_patient_leaves_that_patient_out(
    home: NodeHome, spoil: Callable[..., None] | Callable[..., Any]
) -> None:
    store(home, ("Ann", image(1)), ("Bob", image(2, "malignant")))
    before = opened(home)
    with Vault(home) as vault, vault.writing() as writer:
        spoil(home, vault, writer)
    after = opened(home)
    assert set(after.images) == set(before.images)
    assert sum(after.left_out.values()) == 1


def test_of_a_patient_with_very_many_images_the_first_count(home: NodeHome, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dataset, "MOST_IMAGES", 5)
    store(home, *[("Ann", image(seed)) for seed in range(9)], ("Bob", image(99)))
    assert sorted(map(len, opened(home).images.values())) == [1, 5]
