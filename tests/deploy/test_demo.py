"""The demonstration: who goes where, bad input, and one run with every real process."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from signal import Signals
from subprocess import Popen
from typing import Any

import psutil
import pytest
from click.testing import CliRunner
from PIL import Image
from rich.console import Console

from sonoshare_client.vault.store import Vault
from sonoshare_deploy.cli.main import cli
from sonoshare_deploy.demo.cohorts import cohorts_of, nominal_cohort, scanners_of
from sonoshare_deploy.demo.display import Display
from sonoshare_deploy.demo.journey import DemoSettings, Journey, require_room, study_delta
from sonoshare_deploy.demo.memory import PeakMemory
from sonoshare_deploy.processes import Supervisor
from sonoshare_shared.errors import InputError, SonoShareError
from sonoshare_shared.science.label_table import LabelTable
from sonoshare_shared.science.labels import read_labels
from sonoshare_shared.science.phantom.dicom_study import write_studies

COMMAND = [sys.executable, "-m", "sonoshare_deploy.cli.main"]


def table(tmp_path: Path, rows: list[Any], header: str = "image,patient,label,device,hospital") -> LabelTable:
    for row in rows:
        Image.new("L", (8, 8)).save(tmp_path / row.split(",")[0])
    (tmp_path / "labels.csv").write_text("\n".join([header, *rows]) + "\n")
    return read_labels(tmp_path)


def many(
    count: int, device: Callable[..., str] = lambda i: "", hospital: Callable[..., str] = lambda i: ""
) -> list[Any]:
    return [f"{i}.png,p{i},{'benign' if i % 2 else 'malignant'},{device(i)},{hospital(i)}" for i in range(count)]


def test_rows_go_to_the_hospital_that_they_name(tmp_path: Path) -> None:
    rows = many(50, hospital=lambda i: "St. Ann" if i < 30 else "Nord")
    assert {c.hospital: c.patients for c in cohorts_of(table(tmp_path, rows), 3)} == {"st-ann": 30, "nord": 20}


def test_without_names_the_largest_scanners_make_hospitals_and_the_rest_make_the_last(tmp_path: Path) -> None:
    rows = many(90, device=lambda i: "A" if i < 40 else "B" if i < 65 else f"C{i % 2}")
    cohorts = cohorts_of(table(tmp_path, rows), 3)
    assert {c.hospital: c.patients for c in cohorts} == {"north": 40, "south": 25, "west": 25}
    assert scanners_of(cohorts, 8) == ("A", "B", "C0", "C1")
    assert scanners_of(cohorts, 2) == ("A", "B")


def test_without_devices_patients_take_turns(tmp_path: Path) -> None:
    assert [c.patients for c in cohorts_of(table(tmp_path, many(60)), 3)] == [20, 20, 20]


def test_a_hospital_with_too_few_patients_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="20 are the least"):
        cohorts_of(table(tmp_path, many(30)), 3)


def test_the_declared_cohort_is_round_and_delta_is_below_its_inverse(tmp_path: Path) -> None:
    assert [nominal_cohort(n) for n in (26, 220, 488)] == [10, 160, 350]
    cohorts = cohorts_of(table(tmp_path, many(120)), 2)
    assert 0.05 / 40 < study_delta(cohorts) <= 0.1 / 40


@pytest.mark.parametrize(
    ("make", "named"),
    [
        (lambda folder: folder / "missing", "missing"),
        (lambda folder: folder, ""),
        (lambda folder: with_csv(folder, "image,label\n"), "patient"),
        (lambda folder: with_csv(folder, "image,patient,label\na.png,p,strange\n"), "strange"),
        (lambda folder: with_csv(folder, "image,patient,label\n"), "row"),
        (
            lambda folder: with_csv(
                folder, "image,patient,label,hospital\na.png,p,benign,x\nb.png,p,benign,y\n", ("b.png",)
            ),
            "hospital",
        ),
    ],
)
def test_bad_data_gives_one_line_and_leaves_nothing_half_written(
    tmp_path: Path, make: Callable[..., Any], named: str
) -> None:
    (tmp_path / "data").mkdir()
    work = tmp_path / "work"
    outcome = CliRunner().invoke(
        cli, ["demo", "--data", str(make(tmp_path / "data")), "--work", str(work)], standalone_mode=False
    )
    assert isinstance(outcome.exception, SonoShareError), outcome.output
    assert "\n" not in str(outcome.exception)
    assert named in str(outcome.exception)
    assert outcome.exception.remedy
    assert not work.exists() or list(work.iterdir()) == []


def with_csv(folder: Any, text: str, images: tuple[str] | tuple[()] = ()) -> Any:
    for name in ("a.png", *images):
        Image.new("L", (8, 8)).save(folder / name)
    (folder / "labels.csv").write_text(text)
    return folder


def test_a_folder_in_use_and_a_full_disk_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "used").mkdir()
    (tmp_path / "used" / "file").touch()
    with pytest.raises(InputError, match="not empty"):
        require_room(tmp_path / "used")
    monkeypatch.setattr("shutil.disk_usage", lambda _: type("Usage", (), {"free": 1 << 20})())
    with pytest.raises(InputError, match="GiB free"):
        require_room(tmp_path / "new")


def test_a_busy_port_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        port = str(listener.getsockname()[1])
        work = tmp_path / "work"
        outcome = CliRunner().invoke(cli, ["demo", "--serve", port, "--work", str(work)], standalone_mode=False)
    assert isinstance(outcome.exception, InputError)
    assert f"port {port} on 127.0.0.1 is busy" in str(outcome.exception)
    assert not work.exists()


def test_an_unreadable_image_is_set_aside_with_its_reason_and_the_rest_is_taken_in(tmp_path: Path) -> None:
    folder = write_studies(tmp_path / "data", patients=40, seed=1, hospitals=["only"], size=96).parent
    rows = (folder / "labels.csv").read_text().splitlines()
    broken = rows[1].split(",")[0]
    (folder / broken).write_bytes(b"no picture")
    with Display(Console(stderr=True)) as display, Supervisor(tmp_path / "logs") as supervisor:
        journey = Journey(DemoSettings(tmp_path / "work", folder, profile="tiny"), display, supervisor)
        journey._gather()
        journey._found_consortium()
        journey._take_in()
    assert [entry.source for entry in journey.quarantined] == [broken]
    assert journey.quarantined[0].reason
    with Vault(journey.nodes["only"]) as vault:
        assert sum(len(patient.images) for patient in vault.patients()) == len(rows) - 2


def test_peak_memory_counts_children_and_no_page_twice() -> None:
    holds = "import sys; block = bytearray(96 << 20); print('ready', flush=True); sys.stdin.read()"
    with PeakMemory() as peak:
        before = peak.mib
        child = subprocess.Popen([sys.executable, "-c", holds], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        assert child.stdout is not None
        child.stdout.readline()
        deadline = time.monotonic() + 60
        while peak.mib < before + 96 and time.monotonic() < deadline:
            time.sleep(0.1)
        child.communicate(b"")
    assert 96 < peak.mib <= peak.resident_mib


def started(arguments: list[Any], folder: Path) -> Popen[bytes]:
    """Start a command whose output goes to files in the folder."""
    with (folder / "stdout").open("w") as out, (folder / "stderr").open("w") as err:
        return subprocess.Popen(
            [*COMMAND, *arguments], stdin=subprocess.DEVNULL, stdout=out, stderr=err, env={**os.environ}
        )


def descendants(pid: int) -> Any:
    try:
        return psutil.Process(pid).children(recursive=True)
    except psutil.NoSuchProcess:
        return []


def gone(processes: Any, seconds: int = 30) -> Any:
    _, alive = psutil.wait_procs(processes, timeout=seconds)
    return alive == []


@pytest.mark.processes
def test_the_whole_journey_with_real_processes(tmp_path: Path) -> None:
    """A release is published and verified, or honestly refused; nothing is left behind either way."""
    work = tmp_path / "w"
    arguments = ["demo", "--profile", "tiny", "--rounds", "1", "--images", "32", "--hospitals", "2"]
    process = started([*arguments, "--work", str(work), "--json"], tmp_path)
    seen = set()
    while process.poll() is None:
        seen |= set(descendants(process.pid))
        time.sleep(0.5)
    output, errors = (tmp_path / "stdout").read_text(), (tmp_path / "stderr").read_text()
    assert output.strip(), errors
    result = json.loads(output.splitlines()[-1])
    assert len(seen) > 5
    assert gone(seen)
    assert len(result["hospitals"]) == 2
    for hospital in result["hospitals"]:
        assert 0 < hospital["epsilon"] <= hospital["budget_epsilon"]
        assert hospital["verdict"] in {"PASS", "FAIL", "INCONCLUSIVE"}
    # The audits' noise is real, so either end may come; each must be whole.
    assert process.returncode == (0 if result["published"] else 1)
    assert result["published"] == (result["verdict"] == "PASS")
    for figure in (result["utility"]["synthetic"], result["utility"]["phantoms"]):
        assert 0 <= figure["interval"][0] <= figure["auc"] <= figure["interval"][1] <= 1
    if result["published"]:
        verify = [*COMMAND, "verify", result["bundle"], "--roster", result["roster"], "--json"]
        verified = subprocess.run(verify, capture_output=True, text=True, check=False)
        assert json.loads(verified.stdout) == json.loads(verified.stdout) | {"verified": True, "cause": None}
        assert (work / "researcher" / result["release"] / "metadata.csv").is_file()
    else:
        assert "not published" in errors
        assert list((work / "coordinator" / "releases").iterdir()) == []


@pytest.mark.processes
@pytest.mark.parametrize("end", [signal.SIGTERM, signal.SIGKILL])
def test_no_process_is_left_whatever_ends_the_demonstration(tmp_path: Path, end: Signals) -> None:
    """A termination signal (which ends it as Ctrl-C does) and a kill, while SuperLink, agent and courier run."""
    write_studies(tmp_path / "data", patients=40, seed=1, hospitals=["only"], size=96)
    options = ["--profile", "tiny", "--rounds", "50", "--images", "32", "--data", str(tmp_path / "data")]
    process = started(["demo", *options, "--work", str(tmp_path / "w")], tmp_path)
    deadline = time.monotonic() + 240
    events = tmp_path / "w" / "coordinator" / "studies" / "demo" / "events.jsonl"
    while not (events.exists() and "update" in events.read_text()):
        assert process.poll() is None, (tmp_path / "stderr").read_text()
        assert time.monotonic() < deadline
        time.sleep(0.5)
    family = descendants(process.pid)
    assert len(family) >= 4
    process.send_signal(end)
    process.wait(timeout=60)
    assert gone(family, seconds=60)
