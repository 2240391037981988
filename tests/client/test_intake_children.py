"""Children that die, hang or lie: the parent and the batch go on (cases 4, 20, 69), and no child is left behind."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest
from tests.client.crafted import assert_sound, make_node, save, ultrasound, write_labels

from sonoshare_client.intake import ingest as ingest_module
from sonoshare_client.intake.channel import Question
from sonoshare_client.intake.ingest import ingest, ingest_table
from sonoshare_client.intake.limits import Limits
from sonoshare_client.intake.pool import FileTask, Pool
from sonoshare_client.intake.reasons import SetAside
from sonoshare_shared.errors import InputError
from sonoshare_shared.science.label_table import LabelRow, LabelTable
from sonoshare_shared.science.labels import read_labels
from sonoshare_shared.science.pictures.reasons import Reason

FAKE = (sys.executable, "-P", str(Path(__file__).with_name("fake_worker.py")))
QUICK = Limits(wall_seconds=2.0, cpu_seconds=1)


def children() -> set[Any]:
    return {child.pid for child in psutil.Process().children(recursive=True) if child.status() != psutil.STATUS_ZOMBIE}


def archive(folder: Path, count: int, start: int = 0) -> list[str]:
    names = [f"{number:03d}.dcm" for number in range(count)]
    for number, name in enumerate(names):
        save(ultrasound(start + number), folder / name)
    write_labels(folder, [{"image": name} for name in names])
    return names


def test_case_04_a_child_that_dies_hangs_or_lies_costs_one_file(tmp_path: Path) -> None:
    home, folder = make_node(tmp_path / "home"), tmp_path / "in"
    names = archive(folder, 6)
    bad = {
        "abrt.dcm": (b"ABRT", SetAside.CRASHED),
        "hang.dcm": (b"HANG", SetAside.TIMED_OUT),
        "drip.dcm": (b"DRIP", SetAside.TIMED_OUT),
        "burn.dcm": (b"BURN", SetAside.TIMED_OUT),
        "junk.dcm": (b"JUNK", SetAside.BAD_ANSWER),
        "lies.dcm": (b"LIES", SetAside.BAD_ANSWER),
        "bomb.dcm": (b"BOMB", None),
    }
    order = []
    for name, (name_bad, (content, _)) in zip([*names, *names], bad.items(), strict=False):
        (folder / name_bad).write_bytes(content)
        order += [name_bad] if name in order else [name, name_bad]
    write_labels(folder, [{"image": name} for name in order])
    before = children()
    report = ingest_table(home, read_labels(folder), jobs=2, limits=QUICK, command=FAKE)
    assert report.accepted == len(names)
    reasons = {entry.source: entry.reason for entry in report.quarantined}
    assert set(reasons) == set(bad)
    for name, (_, reason) in bad.items():
        assert reason is None or reasons[name] == reason.value
    assert children() <= before
    assert_sound(home, len(names))


def test_case_05_memory_of_a_child_is_bounded(tmp_path: Path) -> None:
    (tmp_path / "bomb.dcm").write_bytes(b"BOMB")
    with Pool(1, str(tmp_path), QUICK, (), FAKE) as pool:
        answers = list(pool.answers([FileTask("bomb.dcm", (), Question(".dcm", None))]))
    assert answers[0] in {Reason.MEMORY, SetAside.CRASHED}


def test_killing_children_between_files_loses_no_file(tmp_path: Path) -> None:
    """Kills are further apart than files are in flight, so that none meets the same file twice."""
    home, folder = make_node(tmp_path / "home"), tmp_path / "in"
    names = archive(folder, 30)
    before = children()

    def kill(done: Any, _: Any) -> None:
        if done in {1, 15, 28}:
            for pid in children() - before:
                os.kill(pid, signal.SIGKILL)

    report = ingest(home, folder, jobs=2, progress=kill)
    assert (report.accepted, report.quarantined) == (len(names), ())
    assert children() <= before


def test_an_interruption_leaves_no_child_and_a_sound_vault(tmp_path: Path) -> None:
    home, folder = make_node(tmp_path / "home"), tmp_path / "in"
    archive(folder, 12)
    before = children()

    def interrupt(done: Any, _: Any) -> None:
        if done == 5:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        ingest(home, folder, jobs=2, progress=interrupt)
    assert children() <= before
    assert_sound(home)
    assert ingest(home, folder).patients == 12
    assert_sound(home, 12)


def test_case_18_kill_of_the_parent_leaves_whole_images_and_a_rerun_completes(tmp_path: Path) -> None:
    home, folder = make_node(tmp_path / "home"), tmp_path / "in"
    archive(folder, 80)
    script = (
        "import sys; from pathlib import Path; from sonoshare_client.node.home import NodeHome\n"
        "from sonoshare_client.intake.ingest import ingest\n"
        "ingest(NodeHome.open(Path(sys.argv[1])), Path(sys.argv[2]),"
        " progress=lambda done, total: print(done, flush=True))\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", script, str(home.path), str(folder)], stdout=subprocess.PIPE, start_new_session=True
    ) as parent:
        assert parent.stdout is not None
        while int(parent.stdout.readline()) < 40:
            pass
        orphans = psutil.Process(parent.pid).children(recursive=True)
        parent.kill()
    _, alive = psutil.wait_procs(orphans, timeout=10)
    assert not alive
    report = ingest(home, folder)
    assert report.accepted + report.duplicates == 80
    assert report.duplicates >= 32
    assert_sound(home, 80)


def outside_link(folder: Any, secret: Any) -> None:
    (folder / "x.dcm").symlink_to(secret)


def pipe(folder: Any, secret: Any) -> None:
    os.mkfifo(folder / "x.dcm")


def device(folder: Any, secret: Any) -> None:
    (folder / "x.dcm").symlink_to("/dev/zero")


def directory(folder: Any, secret: Any) -> None:
    (folder / "x.dcm").mkdir()


def nothing(folder: Any, secret: Any) -> None:
    pass


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (outside_link, Reason.OUTSIDE),
        (device, Reason.OUTSIDE),
        (pipe, Reason.NOT_A_FILE),
        (directory, Reason.NOT_A_FILE),
        (nothing, Reason.MISSING),
    ],
)
def test_case_20_links_pipes_and_devices_are_not_opened(
    make: Callable[..., Any], reason: Reason, tmp_path: Path
) -> None:
    home, folder = make_node(tmp_path / "home"), tmp_path / "in"
    folder.mkdir()
    make(folder, save(ultrasound(1), tmp_path / "secret.dcm"))
    table = LabelTable(folder, (LabelRow(folder / "x.dcm", "P", "benign"),))
    began = time.monotonic()
    report = ingest_table(home, table)
    assert [(entry.source, entry.reason) for entry in report.quarantined] == [("x.dcm", reason.value)]
    assert time.monotonic() - began < 10


def test_case_20_a_row_may_not_leave_the_folder(tmp_path: Path) -> None:
    home, folder = make_node(tmp_path / "home"), tmp_path / "in"
    folder.mkdir()
    secret = save(ultrasound(1), tmp_path / "secret.dcm")
    rows = (
        LabelRow(folder / ".." / "secret.dcm", "P", "benign"),
        LabelRow(secret, "Q", "benign"),
        LabelRow(save(ultrasound(2), folder / "x.dcm"), "R", "benign", masks=(secret,)),
    )
    report = ingest_table(home, LabelTable(folder, rows))
    assert [entry.reason for entry in report.quarantined] == [Reason.OUTSIDE.value] * 3


def test_a_file_too_large_is_not_opened_further(tmp_path: Path) -> None:
    home, folder = make_node(tmp_path / "home"), tmp_path / "in"
    archive(folder, 1)
    report = ingest(home, folder, limits=Limits(clip_bytes=1000))
    assert [entry.reason for entry in report.quarantined] == [Reason.TOO_LARGE.value]


def test_a_child_that_does_not_start_is_one_clear_error(tmp_path: Path) -> None:
    home, folder = make_node(tmp_path / "home"), tmp_path / "in"
    archive(folder, 2)
    with pytest.raises(InputError, match="does not start"):
        ingest_table(home, read_labels(folder), command=(sys.executable, "-c", "pass"))
    assert_sound(home, 0)


def test_a_child_killed_while_it_starts_is_started_again(tmp_path: Path) -> None:
    home, folder = make_node(tmp_path / "home"), tmp_path / "in"
    names = archive(folder, 2)
    script = (
        "import os, pathlib, signal, sys\n"
        f"first = pathlib.Path({str(tmp_path / 'first')!r})\n"
        "if not first.exists():\n"
        "    first.touch()\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
        "from sonoshare_client.intake import worker\n"
        "worker.main()\n"
    )
    report = ingest_table(home, read_labels(folder), command=(sys.executable, "-P", "-c", script))
    assert (report.accepted, report.quarantined) == (len(names), ())
    assert_sound(home, len(names))


def test_two_intakes_at_once_are_refused(tmp_path: Path) -> None:
    home, folder = make_node(tmp_path / "home"), tmp_path / "in"
    archive(folder, 2)
    seen = []

    def again(done: Any, _: Any) -> None:
        if done == 1:
            with pytest.raises(InputError, match="another intake"):
                ingest(home, folder)
            seen.append(done)

    ingest(home, folder, progress=again)
    assert seen == [1]


def test_missing_folder_and_missing_labels_are_clear(tmp_path: Path) -> None:
    home = make_node(tmp_path / "home")
    with pytest.raises(InputError, match="not a folder"):
        ingest(home, tmp_path / "nowhere")
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match=r"labels\.csv"):
        ingest(home, tmp_path / "empty")
    with pytest.raises(InputError, match="one job"):
        ingest_module.ingest_table(home, LabelTable(tmp_path, ()), jobs=0)
