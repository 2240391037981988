"""The receiver under real peers (dcmtk's storescu) and hostile ones: what it keeps, and whom it still serves."""

import contextlib
import hashlib
import socket
import socketserver
import struct
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import psutil
import pytest
from pydicom import dcmread
from tests.client.crafted import save, ultrasound
from tests.client.dicom_peers import Running, again, echoscu, free_port, needs_dcmtk, receiver, settings_for, storescu

from sonoshare_client.sources import bounded
from sonoshare_client.sources.bounded import MOST_OF_ONE_ADDRESS
from sonoshare_client.sources.listener import Receiver

pytestmark = needs_dcmtk
MEMORY_MIB = 400


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    callers = ("PACS_SEND@127.0.0.1", "*@127.0.0.2", "OTHER@127.0.0.3")
    with receiver(settings_for(tmp_path_factory.mktemp("node") / "inbox", callers)) as process:
        yield process


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    return save(ultrasound(1), tmp_path / "a.dcm")


def connected(running: Running, source: str = "127.0.0.1") -> socket.socket:
    return socket.create_connection(("127.0.0.1", running.settings.port), timeout=30, source_address=(source, 0))


def request(calling: bytes = b"PACS_SEND", called: bytes = b"NODE") -> bytes:
    """An A-ASSOCIATE-RQ for C-ECHO."""

    def item(kind: int, body: bytes) -> bytes:
        return struct.pack(">BBH", kind, 0, len(body)) + body

    syntaxes = item(0x30, b"1.2.840.10008.1.1") + item(0x40, b"1.2.840.10008.1.2")
    user = item(0x50, item(0x51, struct.pack(">I", 16384)) + item(0x52, b"1.2.3"))
    body = struct.pack(">HH16s16s32x", 1, 0, called.ljust(16), calling.ljust(16))
    body += item(0x10, b"1.2.840.10008.3.1.1.1") + item(0x20, b"\x01\0\0\0" + syntaxes) + user
    return struct.pack(">BBI", 1, 0, len(body)) + body


def answered(connection: socket.socket) -> bytes:
    """The type of the PDU that comes back; empty where the connection is closed."""
    with contextlib.suppress(ConnectionResetError):
        return connection.recv(10)[:1]
    return b""


def test_what_a_pacs_sends_is_in_the_inbox_byte_for_byte_under_no_name_of_its_own(
    running: Running, picture: Path
) -> None:
    assert storescu(running.settings.port, picture).returncode == 0
    sent = dcmread(picture)
    (kept,) = [path for path in running.files if dcmread(path).SOPInstanceUID == sent.SOPInstanceUID]
    assert kept.name == hashlib.sha256(kept.read_bytes()).hexdigest() + ".dcm"
    assert kept.stat().st_mode & 0o777 == 0o600
    assert dcmread(kept).PixelData == sent.PixelData
    before = running.files
    assert storescu(running.settings.port, picture).returncode == 0, "sent again"
    assert running.files == before


@pytest.mark.parametrize(("calling", "called"), [("STRANGER", "NODE"), ("PACS_SEND", "ANY-SCP"), ("OTHER", "NODE")])
def test_case_17_wrong_titles_are_refused(calling: str, called: str, running: Running, picture: Path) -> None:
    before = running.files
    run = storescu(running.settings.port, picture, calling=calling, called=called)
    assert run.returncode != 0
    assert "Association Rejected" in run.stdout + run.stderr
    assert running.files == before


def test_case_17_an_address_on_no_list_is_not_read_at_all(running: Running) -> None:
    with connected(running, "127.0.0.9") as stranger:
        assert answered(stranger) == b""


def test_case_17_a_caller_of_another_address_may_use_any_title_where_its_rule_says_so(running: Running) -> None:
    with connected(running, "127.0.0.2") as other:
        other.sendall(request(calling=b"WHATEVER"))
        assert answered(other) == b"\x02"
    with connected(running, "127.0.0.3") as other:
        other.sendall(request(calling=b"PACS_SEND"))
        assert answered(other) == b"\x03"


def test_case_17_a_pdu_of_4_gib_is_refused_by_its_length(running: Running, picture: Path) -> None:
    process = psutil.Process(running.process.pid)
    for opening in (b"", request()):
        with connected(running) as hostile:
            if opening:
                hostile.sendall(opening)
                assert answered(hostile) == b"\x02"
                hostile.recv(1 << 16)
            hostile.sendall(struct.pack(">BBI", 4 if opening else 1, 0, 0xFFFFFFFF))
            ended = False
            for _ in range(64):  # it may take what lies in the system's buffers, and no more
                try:
                    hostile.sendall(bytes(1 << 20))
                except OSError:
                    ended = True
                    break
            assert ended
    assert process.memory_info().rss < MEMORY_MIB << 20
    assert storescu(running.settings.port, picture).returncode == 0


def test_case_17_an_object_without_an_end_is_broken_off_at_its_bound(running: Running, picture: Path) -> None:
    fragment = bytes(100_000)
    # A P-DATA-TF with one command fragment that is not the last.
    pdu = struct.pack(">BBIIBB", 4, 0, len(fragment) + 6, len(fragment) + 2, 1, 0x01) + fragment
    sent = 0
    with connected(running) as hostile:
        hostile.sendall(request())
        assert answered(hostile) == b"\x02"
        with contextlib.suppress(OSError):
            while sent < 64 << 20:
                hostile.sendall(pdu)
                sent += len(pdu)
    assert sent < running.settings.object_bytes + (16 << 20)
    assert storescu(running.settings.port, picture).returncode == 0


def test_case_17_200_associations_and_slow_peers_leave_room_for_a_healthy_one(running: Running, picture: Path) -> None:
    """All from one address, which may take its own places alone; the healthy peer calls from another."""
    with contextlib.ExitStack() as held:
        crowd = [held.enter_context(connected(running, "127.0.0.2")) for _ in range(200)]
        for number, slow in enumerate(crowd):
            with contextlib.suppress(OSError):
                slow.sendall(request()[: 1 + number % 5])
        assert storescu(running.settings.port, picture).returncode == 0
        open_ones = 0
        for slow in crowd:
            slow.settimeout(0.02)
            try:
                slow.recv(1)
            except TimeoutError:
                open_ones += 1
            except OSError:
                pass
        assert open_ones <= MOST_OF_ONE_ADDRESS
        assert psutil.Process(running.process.pid).num_threads() < 8 * MOST_OF_ONE_ADDRESS
    assert echoscu(running.settings.port)


def test_case_18_a_kill_while_objects_come_leaves_no_half_file_and_a_resend_works(tmp_path: Path) -> None:
    pictures = [save(ultrasound(seed), tmp_path / f"{seed}.dcm") for seed in range(40)]
    settings = settings_for(tmp_path / "inbox")
    with receiver(settings) as running:
        sender = threading.Thread(target=storescu, args=(settings.port, *pictures))
        sender.start()
        while len(list(running.inbox.glob("*.dcm"))) < 5:
            time.sleep(0.002)
        running.kill()
        sender.join()
    whole = list(running.inbox.glob("*.dcm"))
    assert 5 <= len(whole) < len(pictures)
    assert all(path.stem == hashlib.sha256(path.read_bytes()).hexdigest() for path in whole)
    (running.inbox / "cut.dcm.receive").write_bytes(b"what a kill in the middle of a write leaves")
    with receiver(again(running)) as second:
        assert storescu(second.settings.port, *pictures).returncode == 0
        assert len(second.files) == len(pictures)


@pytest.mark.parametrize("cause", ["the disk", "the inbox"])
def test_case_19_without_room_the_sender_hears_a700_and_nothing_is_left(
    cause: str, tmp_path: Path, picture: Path
) -> None:
    settings = settings_for(tmp_path / "inbox")
    if cause == "the inbox":
        settings = replace(settings, inbox_bytes=1000)
    limit = ["bash", "-c", 'ulimit -f 8; exec "$@"', "bash"] if cause == "the disk" else []
    with receiver(settings, limit) as running:
        run = storescu(settings.port, picture)
        assert "0xa700" in (run.stdout + run.stderr).lower()
        assert running.files == []
        assert echoscu(settings.port)


def test_case_17_a_peer_that_drips_bytes_is_cut_off(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bounded, "PDU_SECONDS", 0.3)
    settings = settings_for(tmp_path / "inbox")
    server = Receiver(settings).server
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    began = time.monotonic()
    with socket.create_connection(("127.0.0.1", settings.port)) as slow, contextlib.suppress(OSError):
        for byte in request():
            slow.sendall(bytes([byte]))
            time.sleep(0.05)
    assert time.monotonic() - began < 5
    socketserver.BaseServer.shutdown(server)
    server.server_close()
    thread.join()


def test_the_receiver_listens_on_the_address_that_it_is_told(running: Running) -> None:
    listening = [c for c in psutil.Process(running.process.pid).net_connections() if c.status == psutil.CONN_LISTEN]
    assert [(c.laddr.ip, c.laddr.port) for c in listening] == [("127.0.0.1", running.settings.port)]
    assert free_port() != running.settings.port
