"""Real peers of a node: dcmtk's commands, an Orthanc with its DICOMweb plug-in, and the node's own receiver."""

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import httpx
import pytest

from sonoshare_client.sources.settings import Settings, command

PLUGIN = Path("/usr/share/orthanc/plugins/libOrthancDicomWeb.so")
needs_dcmtk = pytest.mark.skipif(shutil.which("storescu") is None, reason="no dcmtk here: apt-get install dcmtk")
needs_orthanc = pytest.mark.skipif(
    shutil.which("Orthanc") is None or not PLUGIN.exists(), reason="no Orthanc here: apt-get install orthanc-dicomweb"
)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_for(port: int, process: subprocess.Popen[bytes]) -> None:
    for _ in range(600):
        assert process.poll() is None, "it ended by itself"
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
            return
        time.sleep(0.05)
    raise AssertionError("nobody listens")


Run = subprocess.CompletedProcess[str]


@dataclass
class Running:
    """A receiver's process."""

    settings: Settings
    process: subprocess.Popen[bytes]

    @property
    def inbox(self) -> Path:
        return Path(self.settings.inbox)

    @property
    def files(self) -> list[Path]:
        return sorted(self.inbox.iterdir())

    def kill(self) -> None:
        os.kill(self.process.pid, signal.SIGKILL)
        self.process.wait()


def settings_for(folder: Path, callers: Sequence[str] = ("*@127.0.0.1",)) -> Settings:
    return Settings(str(folder), "NODE", "127.0.0.1", free_port(), callers, 8 << 20, 64 << 20)


@contextlib.contextmanager
def receiver(settings: Settings, before: Sequence[str] = ()) -> Iterator[Running]:
    process = subprocess.Popen([*before, *command(settings)], stderr=subprocess.DEVNULL)
    try:
        wait_for(settings.port, process)
        yield Running(settings, process)
    finally:
        process.kill()
        process.wait()


def again(running: Running) -> Settings:
    """The same receiver, started again on a port that nobody remembers."""
    return replace(running.settings, port=free_port())


def storescu(
    port: int, *files: Path, calling: str = "PACS_SEND", called: str = "NODE"
) -> subprocess.CompletedProcess[str]:
    line = ["storescu", "-d", "-R", "-aet", calling, "-aec", called, "127.0.0.1", str(port), *map(str, files)]
    return subprocess.run(line, capture_output=True, text=True, timeout=60, check=False)


def echoscu(port: int) -> bool:
    line = ["echoscu", "-aet", "PACS_SEND", "-aec", "NODE", "127.0.0.1", str(port)]
    return subprocess.run(line, capture_output=True, timeout=60, check=False).returncode == 0


@dataclass
class Orthanc:
    """A running server."""

    url: str
    dicom_port: int

    def upload(self, file: Path) -> None:
        httpx.post(f"{self.url}/instances", content=file.read_bytes(), trust_env=False).raise_for_status()


@contextlib.contextmanager
def orthanc(folder: Path, node_port: int) -> Iterator[Orthanc]:
    """Orthanc, which calls itself ORTHANC and knows the node."""
    http_port, dicom_port = free_port(), free_port()
    folder.mkdir()
    configuration = {
        "Name": "test",
        "StorageDirectory": str(folder / "storage"),
        "IndexDirectory": str(folder / "storage"),
        "HttpPort": http_port,
        "DicomPort": dicom_port,
        "DicomAet": "ORTHANC",
        "RemoteAccessAllowed": False,
        "AuthenticationEnabled": False,
        "DicomModalities": {"node": ["NODE", "127.0.0.1", node_port]},
        "DicomAlwaysAllowMove": True,
        "Plugins": [str(PLUGIN)],
        "DicomWeb": {"Enable": True, "Root": "/dicom-web/"},
    }
    file = folder / "orthanc.json"
    file.write_text(json.dumps(configuration))
    with (folder / "orthanc.log").open("wb") as log:
        process = subprocess.Popen([shutil.which("Orthanc"), str(file)], cwd=folder, stdout=log, stderr=log)
    try:
        wait_for(http_port, process)
        yield Orthanc(f"http://127.0.0.1:{http_port}", dicom_port)
    finally:
        process.terminate()
        process.wait(timeout=30)
