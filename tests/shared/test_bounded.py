"""A file of another's is not held before its size was looked at."""

import os
import subprocess
import sys
import threading
import tracemalloc
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from tests.shared.consortium import NOW, Consortium

from sonoshare_client.node.plan_check import read_plan
from sonoshare_deploy.cli.verify import check_evidence, read_log
from sonoshare_shared.bounded import read_bounded
from sonoshare_shared.errors import InputError, SonoShareError, VerificationError
from sonoshare_shared.protocol.envelope import Envelope
from sonoshare_shared.protocol.release import layout
from sonoshare_shared.protocol.release.paths import read_regular
from sonoshare_shared.protocol.release.sources import FolderSource
from sonoshare_shared.protocol.release.verify import verify_release
from sonoshare_shared.science.tasks.files import read_task

HUGE = 8 << 30
LITTLE = 4 << 20


@pytest.fixture
def huge(tmp_path: Path) -> Path:
    """A file with holes: it says that it has 8 GiB, and takes no place."""
    path = tmp_path / "huge.json"
    path.touch()
    os.truncate(path, HUGE)
    return path


@pytest.fixture
def light() -> Iterator[None]:
    """Nothing that a test does takes more than a little memory."""
    tracemalloc.start()
    yield
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < LITTLE


READERS: dict[str, Callable[[Path], object]] = {
    "an envelope": Envelope.load,
    "a log": read_log,
    "a plan": read_plan,
    "a task": read_task,
    "a file of a release": lambda path: read_regular(path.parent, path.name, 64 << 20),
    "anything": lambda path: read_bounded(path, 64 << 20),
}


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.usefixtures("light")
def test_a_file_that_is_too_large_is_refused_before_it_is_read(huge: Path, reader: str) -> None:
    with pytest.raises(SonoShareError, match="larger than"):
        READERS[reader](huge)


@pytest.mark.usefixtures("light")
def test_a_device_without_end_is_read_no_further_than_a_file_may_reach() -> None:
    with pytest.raises(InputError, match="larger than"):
        read_bounded(Path("/dev/zero"), 1 << 20)


def test_what_fits_is_read_from_a_file_and_from_a_pipe(tmp_path: Path) -> None:
    for size in (0, 1, 70_000, 1 << 17):
        data = os.urandom(size)
        (tmp_path / "file").write_bytes(data)
        assert read_bounded(tmp_path / "file", 1 << 17) == data
        pipe = tmp_path / f"pipe-{size}"
        os.mkfifo(pipe)
        writer = threading.Thread(target=pipe.write_bytes, args=(data,))
        writer.start()
        assert read_bounded(pipe, 1 << 17) == data
        writer.join()
    with pytest.raises(InputError):
        read_bounded(tmp_path / "file", (1 << 17) - 1)


def test_a_release_with_a_huge_document_is_not_verified_and_costs_no_memory(tmp_path: Path) -> None:
    made = Consortium(tmp_path)
    bundle = made.release()
    hospital = next(iter(made.keys))
    trusted = made.signed_roster()
    for path in (layout.signature_path(hospital), layout.LOG_PROOF, layout.SHA256SUMS, layout.MANIFEST):
        before = (bundle / path).read_bytes()
        os.truncate(bundle / path, HUGE)
        tracemalloc.start()
        with pytest.raises(VerificationError, match="larger than"):
            verify_release(bundle, trusted, now=NOW)
        if path == layout.MANIFEST:
            with pytest.raises(VerificationError, match="larger than"):
                FolderSource(tmp_path).listing(bundle.name)
        with pytest.raises(SonoShareError):
            check_evidence(bundle / path, trusted, root=None)
        assert tracemalloc.get_traced_memory()[1] < LITTLE
        tracemalloc.stop()
        (bundle / path).write_bytes(before)
    assert verify_release(bundle, trusted, now=NOW)


def test_the_command_needs_no_memory_for_a_huge_roster(huge: Path, tmp_path: Path) -> None:
    (tmp_path / "release").mkdir()
    command = ["sonoshare", "verify", str(tmp_path / "release"), "--roster", str(huge)]
    limited = (
        "import resource, sys; resource.setrlimit(resource.RLIMIT_AS, (1 << 30, 1 << 30)); "
        f"sys.argv = {command!r}; from sonoshare_deploy.cli.main import main; main()"
    )
    done = subprocess.run([sys.executable, "-c", limited], capture_output=True, text=True, check=False)
    assert done.returncode == 1, done.stderr
    assert "larger than 64 MiB" in done.stdout + done.stderr
