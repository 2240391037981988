"""A candidate that comes in batches: bounds, resuming, other candidates, leftovers, and what is wrong."""

import os
from pathlib import Path
from typing import Any

import pytest
from tests.shared.killed import full_disk_after, killed_at
from tests.shared.travelling import ADAPTER, DIGEST, IMAGES, LISTING, STREAM, listing_of

from sonoshare_client.agent.inbox import KEPT_DAYS, Inbox, Terms
from sonoshare_shared.errors import IntegrityError, NotHeldError, PolicyError, RefusedError
from sonoshare_shared.protocol.canonical import sha256_hex
from sonoshare_shared.protocol.documents.holding import MOST_BATCH_BYTES
from sonoshare_shared.protocol.release.candidate import Candidate

HALF = len(STREAM) // 2
OTHER_LISTING = listing_of(IMAGES[:1], IMAGES[:1])
OTHER = b"".join(len(part).to_bytes(4, "big") + part for part in (OTHER_LISTING, ADAPTER, IMAGES[0], IMAGES[0]))
OTHER_DIGEST = sha256_hex(OTHER_LISTING)


def accept(_candidate: Candidate) -> None:
    """Everything is of its plan."""


def terms(**changes: Any) -> Terms:
    return Terms(**{"accept": accept, "most_listing_bytes": len(LISTING), "most_bytes": len(STREAM), **changes})


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "inbox"


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.glob("*"))


def sent(inbox: Inbox, start: int = 0, end: int = len(STREAM), **changes: Any) -> tuple[int, bool]:
    check = inbox.take(DIGEST, start, STREAM[start:end], terms(**changes))
    return check.size, check.whole


def test_batches_of_any_size_are_held_in_one_file_that_only_its_owner_reads(folder: Path) -> None:
    inbox, step = Inbox(folder), 33_333
    for start in range(0, len(STREAM), step):
        sent(inbox, start, start + step)
    assert names(folder) == [f"{DIGEST}.candidate"]
    assert (folder / f"{DIGEST}.candidate").read_bytes() == STREAM
    assert [path.stat().st_mode & 0o777 for path in (folder, folder / f"{DIGEST}.candidate")] == [0o700, 0o600]
    with inbox.opened(DIGEST) as files:
        assert (list(files.images), files.adapter) == (IMAGES, ADAPTER)


def test_what_is_held_already_is_passed_over_and_nothing_is_kept_behind_a_gap(folder: Path) -> None:
    inbox = Inbox(folder)
    assert sent(inbox, HALF) == (0, False)
    assert not folder.exists()
    assert sent(inbox, 0, HALF) == (HALF, False)
    assert sent(inbox, HALF + 1) == (HALF, False)
    assert sent(inbox, 0, HALF - 9) == (HALF, False)
    assert sent(inbox, HALF - 100, HALF + 100) == (HALF + 100, False)
    assert sent(inbox, 0) == (len(STREAM), True)
    assert sent(inbox, 0) == (len(STREAM), True)
    assert inbox.take(DIGEST, len(STREAM), b"more", terms()).whole
    assert (folder / f"{DIGEST}.candidate").read_bytes() == STREAM


def test_a_restarted_agent_goes_on_from_the_last_file_that_is_whole(folder: Path) -> None:
    sent(Inbox(folder), 0, HALF)
    again = Inbox(folder)
    held, whole = sent(again, 0, 0)
    assert HALF - len(IMAGES[0]) - 4 <= held <= HALF
    assert not whole
    assert sent(again, held) == (len(STREAM), True)
    with Inbox(folder).opened(DIGEST) as files:
        assert list(files.images) == IMAGES


@pytest.mark.parametrize("step", range(8))
def test_a_kill_at_any_write_leaves_what_can_be_gone_on_from(folder: Path, step: int) -> None:
    sent(Inbox(folder), 0, 200_000)
    killed_at(step, lambda: sent(Inbox(folder), 0, HALF), folder)
    again = Inbox(folder)
    held, _ = sent(again, 0, 0)
    assert held > 0
    assert sent(again, held) == (len(STREAM), True)


def test_a_full_disk_keeps_what_was_held(folder: Path) -> None:
    inbox = Inbox(folder)
    sent(inbox, 0, HALF)
    with full_disk_after(0), pytest.raises(OSError, match="No space left"):
        sent(inbox, HALF)
    held, _ = sent(inbox, 0, 0)
    assert held > 0
    assert sent(inbox, held) == (len(STREAM), True)


def test_a_wrong_file_is_never_on_the_disk_and_nothing_of_its_candidate_is_held(folder: Path) -> None:
    inbox, wrong = Inbox(folder), bytearray(STREAM)
    wrong[-1] ^= 1
    sent(inbox, 0, HALF)
    with pytest.raises(IntegrityError, match="another digest than listed"):
        inbox.take(DIGEST, HALF, bytes(wrong[HALF:]), terms())
    assert names(folder) == []
    assert sent(inbox) == (len(STREAM), True)


def test_of_a_listing_that_is_refused_not_one_byte_is_kept(folder: Path) -> None:
    def refuse(_candidate: Candidate) -> None:
        raise RefusedError("not of the plan")

    with pytest.raises(RefusedError, match="not of the plan"):
        sent(Inbox(folder), accept=refuse)
    with pytest.raises(IntegrityError, match="not the one that was announced"):
        Inbox(folder).take(OTHER_DIGEST, 0, STREAM, terms())
    with pytest.raises(IntegrityError, match="lists more"):
        sent(Inbox(folder), most_listing_bytes=len(LISTING) - 1)
    assert names(folder) == []


def test_no_more_is_kept_than_the_policy_permits(folder: Path) -> None:
    inbox = Inbox(folder)
    sent(inbox, 0, HALF)
    with pytest.raises(PolicyError, match=r"more than the 1 MiB that the policy permits"):
        sent(inbox, HALF, most_bytes=1 << 20)
    assert (folder / f"{DIGEST}.candidate").stat().st_size == HALF
    with pytest.raises(IntegrityError, match="a batch of more than 16 MiB"):
        inbox.take(DIGEST, HALF, bytes(MOST_BATCH_BYTES + 1), terms())


def test_another_candidate_takes_its_place(folder: Path) -> None:
    inbox = Inbox(folder)
    sent(inbox)
    assert inbox.take(OTHER_DIGEST, 0, OTHER, terms()).whole
    assert names(folder) == [f"{OTHER_DIGEST}.candidate"]
    with pytest.raises(NotHeldError), inbox.opened(DIGEST):
        pass
    assert sent(inbox, 0, 0) == (0, False)


def test_a_question_alone_takes_nobodys_place(folder: Path) -> None:
    inbox = Inbox(folder)
    sent(inbox)
    assert not inbox.take(OTHER_DIGEST, 0, b"", terms()).whole
    assert sent(inbox, 0, 0) == (len(STREAM), True)


def test_what_is_not_whole_is_not_given_and_stays(folder: Path) -> None:
    inbox = Inbox(folder)
    sent(inbox, 0, HALF)
    with pytest.raises(NotHeldError, match="not held here"), inbox.opened(DIGEST):
        pass
    assert sent(inbox, 0, 0)[0] > 0


def test_a_swap_between_holding_and_reading_is_noticed_and_the_candidate_let_go(folder: Path) -> None:
    inbox = Inbox(folder)
    sent(inbox)
    with inbox.opened(DIGEST) as files:
        before = list(files.masks)
    (folder / f"{DIGEST}.candidate").write_bytes(OTHER.ljust(len(STREAM), b"\x00"))
    with pytest.raises(NotHeldError, match="has changed"), inbox.opened(DIGEST) as files:
        list(files.masks)
    assert names(folder) == []
    assert len(before) == len(IMAGES)
    assert sent(inbox) == (len(STREAM), True)


def test_what_is_of_no_use_is_removed_at_the_start(folder: Path) -> None:
    sent(Inbox(folder))
    held = folder / f"{DIGEST}.candidate"
    for name in (f"{OTHER_DIGEST}.candidate", f"{DIGEST}.candidate.part", "anything"):
        (folder / name).touch()
        os.utime(folder / name, (0, 0))
    Inbox(folder).tidy(lambda digest: False)
    assert names(folder) == [held.name]
    Inbox(folder).tidy(lambda digest: digest == DIGEST)
    assert names(folder) == []
    Inbox(folder).tidy(lambda digest: False)
    sent(Inbox(folder))
    week = held.stat().st_mtime - KEPT_DAYS * 86_400 - 1
    os.utime(held, (week, week))
    Inbox(folder).tidy(lambda digest: False)
    assert names(folder) == []
    Inbox(folder.parent / "absent").tidy(lambda digest: False)
