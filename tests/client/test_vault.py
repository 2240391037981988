"""The vault: sealed, split for good, whole after any failure (cases 2, 69), and silent about who is in it."""

import errno
import os
import sqlite3
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.client.crafted import assert_sound, image, make_node, speckle

from sonoshare_client.node.home import NodeHome
from sonoshare_client.node.policy import CohortRules, Policy
from sonoshare_client.node.policy_file import policy_text
from sonoshare_client.node.sealed import VaultKeys
from sonoshare_client.vault import blobs as vault_blobs
from sonoshare_client.vault.store import ImageRef, Vault
from sonoshare_client.vault.stored_image import from_bytes, to_bytes
from sonoshare_client.vault.writer import BATCH, Added
from sonoshare_shared.errors import InputError, IntegrityError

KEYS, OTHER_KEYS = VaultKeys(bytes(range(32))), VaultKeys(bytes(32))


def fill(home: NodeHome, images: list[Any]) -> list[Any]:
    with Vault(home) as vault, vault.writing() as writer:
        return [writer.add(patient, picture, instance) for patient, picture, instance in images]


@pytest.fixture
def home(tmp_path: Path) -> NodeHome:
    return make_node(tmp_path / "home")


def test_what_is_stored_comes_back(home: NodeHome) -> None:
    mask = (speckle(1, 20, 30) > 200).astype(np.uint8)
    kept = image(3, label="malignant", mask=mask, box=(0.1, 0.2, 0.3, 0.4))
    assert fill(home, [("Ann", kept, None)]) == [Added.STORED]
    with Vault(home) as vault:
        (patient,) = vault.patients()
        back = vault.load(patient.images[0])
        assert patient.pseudonym == vault.pseudonym(" Ann ")
    assert np.array_equal(back.pixels, kept.pixels)
    assert np.array_equal(back.mask, mask)
    assert (back.box, back.label, back.device) == (kept.box, kept.label, kept.device)


@settings(max_examples=40, deadline=None)
@given(rows=st.integers(1, 40), columns=st.integers(1, 40), has_mask=st.booleans(), seed=st.integers(0, 1000))
def test_serialised_images_come_back_whatever_their_size(rows: Any, columns: Any, has_mask: Any, seed: Any) -> None:
    mask = (speckle(seed + 1, rows, columns) > 128).astype(np.uint8) if has_mask else None
    kept = image(seed, rows=rows, columns=columns, mask=mask)
    back = from_bytes(to_bytes(kept))
    assert np.array_equal(back.pixels, kept.pixels)
    assert (back.mask is None) == (mask is None)
    assert mask is None or np.array_equal(back.mask, mask)


@pytest.mark.parametrize("cut", [0, 3, 10, 60, 500])
def test_a_serialised_image_cut_short_is_refused(cut: int) -> None:
    with pytest.raises(IntegrityError):
        from_bytes(to_bytes(image())[:cut])


def test_index_and_file_names_say_nothing(home: NodeHome) -> None:
    fill(home, [("Ann Miller", image(1, label="malignant"), b"uid"), ("Ann Miller", image(2), None)])
    everything = b"".join(path.read_bytes() for path in home.vault_path.rglob("*") if path.is_file())
    for word in (b"Ann", b"Miller", b"malignant", b"benign", b"Logiq", image(1).pixels.tobytes()[:16]):
        assert word not in everything


def test_files_are_for_their_owner_only(home: NodeHome) -> None:
    fill(home, [("Ann", image(), None)])
    for path in [
        home.vault_key_path,
        home.identity_key_path,
        home.node_key_path,
        *(home.vault_path / "blobs").iterdir(),
    ]:
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(home.path.stat().st_mode) == 0o700


def test_a_changed_cut_or_moved_blob_does_not_open(home: NodeHome) -> None:
    fill(home, [("Ann", image(1), None), ("Bob", image(2), None)])
    with Vault(home) as vault:
        first, second = (patient.images[0] for patient in vault.patients())
        blobs = home.vault_path / "blobs"
        intact = (blobs / first.blob).read_bytes()
        for broken in (intact[:-1], intact[:5], b"", bytes([intact[0] ^ 1]) + intact[1:], intact[:-1] + b"\0\0"):
            (blobs / first.blob).write_bytes(broken)
            with pytest.raises(IntegrityError):
                vault.load(first)
        (blobs / first.blob).write_bytes((blobs / second.blob).read_bytes())
        with pytest.raises(IntegrityError):
            vault.load(first)
        with pytest.raises(IntegrityError):
            vault.load(ImageRef(second.blob, first.pseudonym))
        (blobs / second.blob).unlink()
        with pytest.raises(IntegrityError):
            vault.load(second)


def test_two_sealings_of_one_value_differ() -> None:
    assert len({KEYS.seal(b"x" * 40, "place") for _ in range(100)}) == 100
    assert KEYS.open(KEYS.seal(b"x", "place"), "place") == b"x"
    with pytest.raises(IntegrityError):
        OTHER_KEYS.open(KEYS.seal(b"x", "place"), "place")


def test_no_key_no_vault(home: NodeHome) -> None:
    key = home.vault_key_path.read_bytes()
    home.vault_key_path.chmod(0o644)
    with pytest.raises(InputError, match="other users"):
        Vault(home)
    home.vault_key_path.unlink()
    with pytest.raises(InputError, match="missing"):
        Vault(home)
    home.vault_key_path.write_bytes(key[:-1])
    home.vault_key_path.chmod(0o600)
    with pytest.raises(InputError, match="32 bytes"):
        Vault(home)


@settings(max_examples=40, deadline=None)
@given(patient=st.text(min_size=1), other=st.text(min_size=1))
def test_pseudonyms_are_keyed_and_distinct(patient: Any, other: Any) -> None:
    assert KEYS.pseudonym(patient) == KEYS.pseudonym(f" {patient}\n")
    assert KEYS.pseudonym(patient) != OTHER_KEYS.pseudonym(patient)
    assert (KEYS.pseudonym(patient) == KEYS.pseudonym(other)) == (patient.strip() == other.strip())


def test_split_is_a_fixed_coin_of_the_patient() -> None:
    held_out = [KEYS.held_out(KEYS.pseudonym(f"patient {number}"), 0.3) for number in range(4000)]
    assert held_out == [KEYS.held_out(KEYS.pseudonym(f"patient {number}"), 0.3) for number in range(4000)]
    # 4000 coins of 0.3: standard deviation 0.0072
    assert abs(np.mean(held_out) - 0.3) < 5 * 0.0072
    others = [OTHER_KEYS.held_out(KEYS.pseudonym(f"patient {number}"), 0.3) for number in range(4000)]
    assert abs(np.corrcoef(held_out, others)[0, 1]) < 0.08


def test_split_does_not_change_when_images_come_later(home: NodeHome) -> None:
    fill(home, [(f"patient {number}", image(number), None) for number in range(60)])
    with Vault(home) as vault:
        before = {patient.pseudonym: patient.held_out for patient in vault.patients()}
    fill(home, [(f"patient {number}", image(1000 + number), None) for number in range(90)])
    with Vault(home) as vault:
        after = {patient.pseudonym: patient.held_out for patient in vault.patients()}
    assert {True, False} == set(before.values())
    assert before == {pseudonym: after[pseudonym] for pseudonym in before}


def test_held_out_fraction_cannot_be_changed_after_the_first_image(home: NodeHome) -> None:
    other = Policy(cohort=CohortRules(held_out_fraction=0.4))
    home.policy_path.write_text(policy_text(other))
    Vault(home).close()
    fill(home, [("Ann", image(), None)])
    home.policy_path.write_text(policy_text(Policy()))
    with pytest.raises(InputError, match=r"held_out_fraction = 0\.4"):
        Vault(home)


def test_duplicates_and_conflicts_keep_the_first(home: NodeHome) -> None:
    added = fill(
        home,
        [
            ("Ann", image(1), b"uid 1"),
            ("Ann", image(1), b"uid 1"),
            ("Ann", image(1), b"uid 2"),
            ("Ann", image(1, label="malignant"), None),
            ("Bob", image(1), None),
            ("Ann", image(2), b"uid 1"),
            ("Bob", image(3), None),
        ],
    )
    assert [entry.name for entry in added] == [
        "STORED", "DUPLICATE", "DUPLICATE", "OTHER_CLASS", "OTHER_PATIENT", "OTHER_PICTURE", "STORED",
    ]  # fmt: skip
    assert_sound(home, 2)


def test_forgetting_a_patient_leaves_nothing(home: NodeHome) -> None:
    fill(home, [("Ann", image(1), None), ("Ann", image(2), b"uid"), ("Bob", image(3), None)])
    with Vault(home) as vault:
        pseudonym = vault.pseudonym("Ann")
        with vault.writing() as writer:
            assert writer.forget(pseudonym) == 2
            assert writer.forget(pseudonym) == 0
        assert {patient.pseudonym for patient in vault.patients()} == {vault.pseudonym("Bob")}
    assert pseudonym.encode() not in (home.vault_path / "index.db").read_bytes()
    assert_sound(home, 1)
    assert fill(home, [("Ann", image(2), b"uid")]) == [Added.STORED]


class FailingDisk:
    """Lets so many calls pass, then says that the disk is full."""

    def __init__(self, passing: int) -> None:
        self.passing = passing

    def wrap(self, function: Callable[..., int] | Callable[..., None]) -> Callable[..., Any]:
        def call(*arguments: Any, **named: Any) -> int:
            self.passing -= 1
            if self.passing < 0:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            return function(*arguments, **named)

        return call


@pytest.mark.parametrize("nth", [0, 1, 2, 20, 33, 34, 50, 65, 66, 67, 80, 100, 115])
def test_case_69_a_disk_that_fails_at_the_nth_write_leaves_whole_images(
    nth: int, home: NodeHome, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(home, [("Old", image(999), None)])
    disk = FailingDisk(nth)
    with monkeypatch.context() as patch:
        patch.setattr(vault_blobs.os, "open", disk.wrap(os.open))  # type: ignore[attr-defined]
        patch.setattr(vault_blobs.os, "fsync", disk.wrap(os.fsync))  # type: ignore[attr-defined]
        with pytest.raises((InputError, OSError)):
            fill(home, [(f"patient {number}", image(number), None) for number in range(BATCH + 8)])
    survived = assert_sound(home)
    assert survived in {1, 1 + BATCH}
    fill(home, [(f"patient {number}", image(number), None) for number in range(BATCH + 8)])
    assert_sound(home, 1 + BATCH + 8)


def test_case_69_a_full_index_leaves_whole_images(home: NodeHome) -> None:
    fill(home, [("Old", image(999), None)])
    with Vault(home) as vault:
        pages = vault._db.execute("PRAGMA page_count").fetchone()[0]
        vault._db.execute(f"PRAGMA max_page_count = {pages}")
        images = [(f"patient {number}", image(number)) for number in range(200)]
        with pytest.raises(InputError, match="free some disk space"), vault.writing() as writer:
            any(writer.add(*one) is None for one in images)
    survived = assert_sound(home)
    assert survived % BATCH == 1


def test_blobs_of_an_interrupted_writer_are_swept(home: NodeHome) -> None:
    fill(home, [("Ann", image(1), None)])
    (home.vault_path / "blobs" / ("0" * 32)).write_bytes(b"half")
    with Vault(home) as vault, vault.writing():
        pass
    assert_sound(home, 1)


def test_index_is_strict(home: NodeHome) -> None:
    fill(home, [("Ann", image(1), None)])
    with Vault(home) as vault, pytest.raises(sqlite3.IntegrityError):
        vault._db.execute("INSERT INTO image (blob, pseudonym, picture) SELECT 'x', 'y', picture FROM image")


def test_an_index_that_is_damaged_is_said_so(home: NodeHome) -> None:
    fill(home, [("Ann", image(), None)])
    (home.vault_path / "index.db").write_bytes(b"noise" * 1000)
    with pytest.raises(InputError, match="index is damaged"):
        Vault(home)
