"""Patients in memory: eight bits a pixel, mapped by other processes without a name and without a way back."""

import dataclasses
import gc
import mmap
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from sonoshare_client.vault.cohort import Cohort, Extent, Filling, PatientArrays
from sonoshare_shared.errors import InputError


def patient(name: str, images: int, size: int = 20, *, held_out: bool = False) -> PatientArrays:
    rng = np.random.default_rng(len(name) + 7 * images)
    has_mask = np.arange(images) % 2 == 0
    return PatientArrays(
        pseudonym=name,
        held_out=held_out,
        images=rng.random((images, size, size), dtype=np.float32),
        masks=(rng.random((images, size, size)) > 0.5) & has_mask[:, None, None],
        has_mask=has_mask,
        boxes=np.array([[0.1, 0.2, 0.3, np.nan]] * images, np.float32),
        labels=np.arange(images, dtype=np.int64),
        scanners=np.full(images, -1, np.int64),
    )


PATIENTS = (patient("a", 3), patient("b", 1), patient("cc", 4))


def alike(one: PatientArrays, other: PatientArrays) -> bool:
    names = ("masks", "has_mask", "boxes", "labels", "scanners")
    assert np.abs(one.images - other.images).max() <= 0.5 / 255 + 1e-7
    return all(np.array_equal(getattr(one, name), getattr(other, name), equal_nan=name == "boxes") for name in names)


def test_a_cohort_gives_back_each_patient_rounded_to_eight_bits_and_nothing_else_changed() -> None:
    cohort = Cohort.of(PATIENTS)
    assert [one.pseudonym for one in cohort] == ["a", "b", "cc"]
    assert all(alike(one, given) for one, given in zip(cohort, PATIENTS, strict=True))
    assert cohort.starts.tolist() == [0, 3, 4, 8]
    assert cohort[-1].pseudonym == cohort[1:][1].pseudonym == "cc"
    with pytest.raises(IndexError):
        cohort[3]


def test_what_is_in_eight_bits_already_is_kept_exactly() -> None:
    levels = np.arange(256, dtype=np.float32).reshape(1, 16, 16) / np.float32(255)
    one = dataclasses.replace(patient("a", 1, 16), images=levels)
    assert np.array_equal(Cohort.of([one])[0].images, levels)


def test_nobody_changes_or_shortens_a_block_by_its_descriptor() -> None:
    """A process that is handed the patients can change them for itself alone; a shorter block would kill the agent."""
    cohort = Cohort.of(PATIENTS)
    handed = os.dup(cohort.descriptor or -1)
    there = Cohort.attached(handed, cohort.extent)
    there.images.zero_()
    assert int(cohort.images.max()) > 0
    for change in (lambda: os.pwrite(handed, b"1", 0), lambda: os.ftruncate(handed, 0), lambda: mmap.mmap(handed, 64)):
        with pytest.raises(OSError, match="not permitted"):
            change()


def test_a_process_that_crashes_writes_no_pictures_to_the_disk() -> None:
    """Core dumps leave the block out, in the agent and in whoever has mapped it."""
    cohort = Cohort.of(PATIENTS)
    there = Cohort.attached(os.dup(cohort.descriptor or -1), cohort.extent)
    mappings = Path("/proc/self/smaps").read_text().split("sonoshare-cohort")[1:]
    flags = [mapping.split("VmFlags:")[1].splitlines()[0].split() for mapping in mappings]
    assert len(flags) >= 2
    assert all("dd" in each for each in flags)
    assert len(there) == len(cohort)


class DividesLikeACard(TorchDispatchMode):
    """Divides by a number as torch does on a GPU: by a product with its rounded reciprocal, off by a last bit."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is torch.ops.aten.div.Tensor and not getattr(args[1], "ndim", 0):
            return args[0] * torch.tensor(1 / float(args[1]), dtype=args[0].dtype)
        return func(*args, **(kwargs or {}))


def test_grey_levels_are_the_same_bits_on_a_device_that_divides_otherwise() -> None:
    """Where the pictures lie follows from how many they are: a last bit would tell that to everybody's gradient."""
    levels = np.arange(256, dtype=np.float32).reshape(1, 16, 16) / np.float32(255)
    cohort = Cohort.of([dataclasses.replace(patient("a", 1, 16), images=levels)])
    with DividesLikeACard():
        assert not np.array_equal((torch.arange(256).float() / 255).numpy(), levels.flatten())
        assert np.array_equal(cohort.grey(torch.tensor([0])).numpy(), levels)


def test_nobody_is_put_in_without_a_picture() -> None:
    """Such a patient's draws would be the next one's pictures."""
    with pytest.raises(InputError):
        Cohort.of([patient("a", 0), patient("b", 1)])


def test_the_block_is_small_and_room_that_nobody_takes_costs_nothing() -> None:
    filling = Filling(Extent(64, held_out=False, most_patients=1000, most_rows=50_000))
    for number in range(5):
        filling.add(patient(f"{number}", 2, 64))
    cohort = filling.cohort()
    assert cohort.descriptor is not None
    assert (len(cohort), len(cohort.images)) == (5, 10)
    taken = os.fstat(cohort.descriptor).st_blocks * 512
    assert taken <= 10 * 64 * 64 * 9 / 8 + 9 * 4096  # a byte and a bit a pixel; seven sections, begun pages
    assert os.fstat(cohort.descriptor).st_size > 50_000 * 64 * 64


def test_another_mapping_sees_the_same_patients_without_pseudonyms_and_cannot_change_them() -> None:
    cohort = Cohort.of(PATIENTS)
    assert cohort.descriptor is not None
    other = Cohort.attached(os.dup(cohort.descriptor), cohort.extent)
    assert [one.pseudonym for one in other] == ["", "", ""]
    assert all(alike(one, given) for one, given in zip(other, PATIENTS, strict=True))
    other.images.zero_()
    assert int(cohort.images.sum()) > 0
    with pytest.raises(InputError, match="smaller"):
        Cohort.attached(os.dup(cohort.descriptor), dataclasses.replace(cohort.extent, most_rows=10_000))


def blocks() -> tuple[int, int]:
    """Blocks that this process has open, and mapped; other tests may hold some."""
    gc.collect()
    links = [one for one in Path("/proc/self/fd").iterdir() if one.is_symlink()]
    mapped = Path("/proc/self/maps").read_text().splitlines()
    return sum("sonoshare-cohort" in str(one.readlink()) for one in links), sum(
        "sonoshare-cohort" in one for one in mapped
    )


def test_the_block_is_gone_with_its_last_array() -> None:
    before = blocks()
    cohort = Cohort.of(PATIENTS)
    images = cohort.images
    del cohort
    while_held = blocks()  # somebody still reads it
    assert while_held[0] > before[0]
    assert while_held[1] > before[1]
    del images
    assert blocks() == before


def test_trained_and_held_out_patients_share_no_block() -> None:
    with pytest.raises(InputError, match="side of the split"):
        Cohort.of([PATIENTS[0], patient("b", 1, held_out=True)])
    with pytest.raises(InputError, match="one size"):
        Cohort.of([PATIENTS[0], patient("b", 1, 21)])
    with pytest.raises(InputError, match="nobody"):
        Cohort.of([])
    filling = Filling(Extent(20, held_out=False, most_patients=1, most_rows=2))
    with pytest.raises(InputError, match="more patients"):
        filling.add(PATIENTS[0])
    assert len(filling.cohort()) == 0


def test_gathered_rows_are_the_patients_own() -> None:
    cohort = Cohort.of(PATIENTS).on(torch.device("cpu"))
    rows = torch.tensor([7, 0, 3])
    whole = cohort[0], cohort[1], cohort[2]
    for row, (one, image) in zip(range(3), ((2, 3), (0, 0), (1, 0)), strict=True):
        assert np.array_equal(cohort.grey(rows)[row].numpy(), whole[one].images[image])
        assert np.array_equal(cohort.lesions(rows)[row].numpy(), whole[one].masks[image])
