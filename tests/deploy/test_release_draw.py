"""`sonoshare coordinator release draw`: several workers, one candidate; kills, a full disk and damaged shards."""

import errno
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import psutil
import pytest
import torch
from tests.deploy.conftest import SHARDS
from tests.deploy.drawings import KILLED, arguments, copy_of, draw, drawn_alone, files
from tests.server.memory import MemoryLeases

from sonoshare_server.home import CoordinatorHome
from sonoshare_server.release import drawing as what_is_drawn
from sonoshare_server.release import workers
from sonoshare_server.release.build import Samples
from sonoshare_server.release.draw import Outcome, draw_shard
from sonoshare_shared import durable
from sonoshare_shared.errors import InputError
from sonoshare_shared.protocol.documents import StudyPlan
from sonoshare_shared.science.model.network import ConditionedUNet


@pytest.fixture
def home(trained: Path, tmp_path: Path) -> Path:
    return copy_of(trained, tmp_path)


@pytest.fixture(scope="module")
def alone(trained: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """What one worker draws."""
    return drawn_alone(trained, tmp_path_factory.mktemp("alone"))


def draw_all_but_the_candidate(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def stopped(*_arguments: object, **_named: Any) -> None:
        raise InputError("stopped")

    with monkeypatch.context() as patch:
        patch.setattr(workers, "build_candidate", stopped)
        with pytest.raises(InputError, match="stopped"):
            draw(home)


def drawing(home: Path) -> Path:
    return home / "studies" / "study" / "candidates" / ".r1.drawing"


def test_two_workers_share_the_shards_and_draw_what_one_draws(
    home: Path, alone: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn: list[int] = []

    def patient(model: ConditionedUNet, plan: StudyPlan, shard: int, outcome: Outcome | None, number: int) -> Samples:
        # Waits at its first shard until the helper is at one as well.
        end = time.monotonic() + 120
        while not drawn and len(list(drawing(home).glob("*.lease"))) < 2 and time.monotonic() < end:
            time.sleep(0.02)
        drawn.append(shard)
        return draw_shard(model, plan, shard, outcome, number)

    monkeypatch.setattr(what_is_drawn, "draw_shard", patient)
    draw(home, "--workers", "2")
    assert 0 < len(drawn) < SHARDS
    assert files(home) == alone
    assert not [child for child in psutil.Process().children() if "draw" in child.cmdline()]


def test_a_killed_workers_shard_is_taken_over(home: Path, alone: dict[str, bytes]) -> None:
    dead = subprocess.run([sys.executable, "-c", KILLED, *arguments(home)], capture_output=True, check=False)
    assert dead.returncode == -signal.SIGKILL
    left = sorted(path.name for path in drawing(home).iterdir())
    assert "shard-000000.safetensors" in left
    assert "shard-000001.lease" in left
    draw(home)
    assert files(home) == alone


def test_a_full_disk_is_one_line_and_the_same_command_goes_on(
    home: Path, alone: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    shards: list[str] = []
    flush = os.fsync

    def full(descriptor: int) -> None:
        # The disk has room for two shards: the third write fails when it is flushed, as on a real file system.
        name = Path(f"/proc/self/fd/{descriptor}").readlink().name
        if name.startswith("shard-"):
            shards.append(name)
        if len(shards) > 2:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        flush(descriptor)

    with monkeypatch.context() as patch:
        patch.setattr(durable.os, "fsync", full)  # type: ignore[attr-defined]
        with pytest.raises(InputError) as caught:
            draw(home)
    assert str(caught.value) == (
        "the drawing cannot be written: No space left on device"
        " (make room, then run the same command again; finished shards are kept)"
    )
    kept = sorted(path.name for path in drawing(home).iterdir())
    assert kept == ["drawing.json", "shard-000000.safetensors", "shard-000001.safetensors"]
    drawn: list[int] = []

    def watched(model: ConditionedUNet, plan: StudyPlan, shard: int, outcome: Outcome | None, number: int) -> Samples:
        drawn.append(shard)
        return draw_shard(model, plan, shard, outcome, number)

    monkeypatch.setattr(what_is_drawn, "draw_shard", watched)
    draw(home)
    assert drawn == [2]
    assert files(home) == alone


def test_damaged_shards_are_drawn_again(home: Path, alone: dict[str, bytes], monkeypatch: pytest.MonkeyPatch) -> None:
    draw_all_but_the_candidate(home, monkeypatch)
    half, changed, other = sorted(drawing(home).glob("shard-*.safetensors"))
    half.write_bytes(half.read_bytes()[: half.stat().st_size // 2])
    data = changed.read_bytes()
    changed.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    other.write_bytes(b"not a shard")
    draw(home)
    assert files(home) == alone


def test_a_drawing_begun_with_another_adapter_is_refused(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    draw_all_but_the_candidate(home, monkeypatch)
    study = CoordinatorHome(home).study("study")
    study.commit_round(1, study.adapter(), "0" * 64)
    with pytest.raises(InputError, match="begun with another plan, adapter or version"):
        draw(home)


def test_a_worker_on_another_kind_of_device_is_refused_and_told_which_kind_was_begun_with(
    home: Path, alone: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: "AVX2")
        draw_all_but_the_candidate(home, patch)
        patch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: "AVX512")
        with pytest.raises(InputError, match=r"begun on another kind of device \(cpu AVX2; here cpu AVX512\)") as found:
            draw(home)
        assert "--device" in found.value.remedy
        patch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: "AVX2")
        draw(home)
    assert files(home) == alone


def test_a_worker_that_gets_the_lease_after_the_candidate_is_made_does_nothing(
    home: Path, alone: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    class AnotherWasFaster(MemoryLeases):
        def claim(self, work: str) -> bool:
            if work == "candidate":
                shutil.copytree(made, home / "studies" / "study" / "candidates" / "r1")
                for shard in drawing(home).glob("shard-*"):
                    shard.unlink()
            return super().claim(work)

    made = home.parent / "made"
    draw_all_but_the_candidate(home, monkeypatch)
    copy = home.parent / "copy"
    shutil.copytree(home, copy)
    draw(copy)
    shutil.copytree(copy / "studies" / "study" / "candidates" / "r1", made)
    monkeypatch.setattr(workers, "FileLeases", lambda _folder, seconds: AnotherWasFaster(seconds=seconds))
    draw(home)
    assert files(home) == alone
