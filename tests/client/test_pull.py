"""Fetching from a real Orthanc, by DICOMweb and by C-MOVE; and from nowhere else than the policy says."""

import hashlib
import socket
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from pydicom import dcmread
from pydicom.uid import generate_uid
from tests.client.crafted import save, ultrasound
from tests.client.dicom_peers import Orthanc, Running, needs_orthanc, orthanc, receiver, settings_for

from sonoshare_client.node.source_rules import Origin, Peer, SourceRules
from sonoshare_client.sources.inbox import Inbox
from sonoshare_client.sources.moving import move
from sonoshare_client.sources.query import Match, Query, read_query
from sonoshare_client.sources.web import checked_session, fetch, require_reachable
from sonoshare_shared.errors import FederationError, InputError, PolicyError

MIB = 1 << 20


@dataclass(frozen=True)
class World:
    """An archive with three studies, and a node that receives."""

    archive: Orthanc
    node: Running


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    folder = tmp_path_factory.mktemp("pull")
    # Orthanc sends as ORTHANC from this machine.
    settings = settings_for(folder / "inbox", ["ORTHANC@127.0.0.1"])
    with receiver(settings) as node, orthanc(folder / "orthanc", settings.port) as archive:
        for study in range(3):
            study_uid, series_uid = generate_uid(), generate_uid()
            for number in range(2):
                picture = ultrasound(10 * study + number)
                picture.StudyInstanceUID, picture.SeriesInstanceUID = study_uid, series_uid
                picture.PatientID, picture.AccessionNumber = f"P{study}", f"A-{study}"
                picture.StudyDate, picture.InstanceNumber = f"2026010{study + 1}", number + 1
                archive.upload(save(picture, folder / f"{study}-{number}.dcm"))
        yield World(archive, node)


def accessions(folder: Path) -> list[str]:
    files = sorted(folder.glob("*.dcm"))
    assert all(path.stem == hashlib.sha256(path.read_bytes()).hexdigest() for path in files)
    return sorted(dcmread(path).AccessionNumber for path in files)


@needs_orthanc
def test_what_is_asked_for_by_dicomweb_is_in_the_inbox(world: World, tmp_path: Path) -> None:
    origin = Origin.of(world.archive.url)
    matches = (Match(AccessionNumber="A-1"), Match(StudyDate="20260103-20260104"))
    inbox = Inbox(tmp_path / "inbox", 64 * MIB, "pull")
    fetched = fetch(f"{world.archive.url}/dicom-web", checked_session(origin, 8 * MIB), matches, inbox)
    assert (fetched.studies, fetched.objects, fetched.failed) == (2, 4, 0)
    assert accessions(tmp_path / "inbox") == ["A-1", "A-1", "A-2", "A-2"]


@needs_orthanc
def test_what_is_asked_for_by_c_move_arrives_at_the_receiver(world: World) -> None:
    peer = Peer.of(f"ORTHANC@127.0.0.1:{world.archive.dicom_port}")
    moved = move(peer, "NODE", [Match(PatientID="P0")])
    assert (moved.studies, moved.objects, moved.failed) == (1, 2, 0)
    assert accessions(world.node.inbox) == ["A-0", "A-0"]
    with pytest.raises(FederationError, match="whether it knows us"):
        move(peer, "STRANGER", [Match(PatientID="P1")])


@needs_orthanc
def test_an_answer_larger_than_an_object_may_be_is_not_read_on(world: World, tmp_path: Path) -> None:
    session = checked_session(Origin.of(world.archive.url), 4000)
    with pytest.raises(FederationError, match="does not answer as it should"):
        fetch(
            f"{world.archive.url}/dicom-web",
            session,
            [Match(AccessionNumber="A-1")],
            Inbox(tmp_path / "inbox", MIB, "pull"),
        )


class Redirecting(ThreadingHTTPServer):
    asked: list[str]


class _Handler(BaseHTTPRequestHandler):
    server: Redirecting

    def do_GET(self) -> None:
        self.server.asked.append(self.path)
        self.send_response_only(302)
        self.send_header("Location", f"http://127.0.0.1:{self.server.server_port}/secret")
        self.end_headers()


@pytest.fixture
def redirecting() -> Iterator[Redirecting]:
    server = Redirecting(("127.0.0.1", 0), _Handler)
    server.asked = []
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


def test_case_23_a_redirect_is_not_followed(redirecting: Redirecting, tmp_path: Path) -> None:
    url = f"http://127.0.0.1:{redirecting.server_port}"
    with pytest.raises(InputError, match="sends elsewhere"):
        fetch(url, checked_session(Origin.of(url), MIB), [Match(PatientID="1")], Inbox(tmp_path / "i", MIB, "pull"))
    assert [path.partition("?")[0] for path in redirecting.asked] == ["/studies"]


def test_case_23_a_name_that_leads_to_this_machine_gets_no_byte(
    redirecting: Redirecting, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As after DNS rebinding: the policy's name now resolves to an inner address."""
    real = socket.getaddrinfo
    monkeypatch.setattr(
        socket,
        "getaddrinfo",
        lambda host, *more, **how: real("127.0.0.1" if host == "pacs.test" else host, *more, **how),
    )
    for url in (f"https://pacs.test:{redirecting.server_port}", f"http://pacs.test:{redirecting.server_port}"):
        with pytest.raises(InputError, match="where no archive may be"):
            fetch(url, checked_session(Origin.of(url), MIB), [Match(PatientID="1")], Inbox(tmp_path / "i", MIB, "pull"))
    assert redirecting.asked == []


@pytest.mark.parametrize(
    ("origin", "address", "right"),
    [
        ("https://pacs.test", "10.1.2.3", True),
        ("https://pacs.test", "169.254.169.254", False),
        ("https://pacs.test", "::ffff:169.254.169.254", False),
        ("https://pacs.test", "fe80::1%eth0", False),
        ("https://pacs.test", "::1", False),
        ("https://pacs.test", "127.0.0.1", False),
        ("https://pacs.test", "0.0.0.0", False),  # noqa: S104
        ("http://10.1.2.3", "10.1.2.3", True),
        ("http://10.1.2.3", "10.1.2.4", False),
        ("http://127.0.0.1:8042", "127.0.0.1", True),
        ("https://[::1]:8042", "::1", True),
    ],
)
def test_case_23_where_a_connection_may_have_led(origin: str, address: str, right: bool) -> None:
    if right:
        require_reachable(Origin.of(origin), address)
    else:
        with pytest.raises(InputError):
            require_reachable(Origin.of(origin), address)


@pytest.mark.parametrize(
    "url",
    [
        "http://169.254.169.254",
        "https://169.254.169.254:443",
        "http://[fe80::1]",
        "http://[::ffff:169.254.169.254]",
        "http://0.0.0.0",
        "http://pacs.test",
        "https://user@pacs.test",
        "https://pacs.test/dicom-web",
        "file:///etc/passwd",
        "http://2852039166",
    ],
)
def test_case_23_a_policy_cannot_name_it(url: str) -> None:
    with pytest.raises(ValueError, match="dicomweb"):
        SourceRules(dicomweb=(url,))


@pytest.mark.parametrize(
    "source",
    [
        "https://pacs.test.evil:8443/dicom-web",
        "https://pacs.test:8444/dicom-web",
        "http://169.254.169.254/latest/meta-data",
        "http://[::1]:8443/",
        "https://10.1.2.3:8443/",
    ],
)
def test_case_23_a_query_asks_no_server_that_the_policy_does_not_name(source: str) -> None:
    rules = SourceRules(dicomweb=("https://pacs.test:8443",), peers=("PACS@10.1.2.3:104",))
    with pytest.raises(PolicyError, match="does not name"):
        Query(source=source, match=(Match(PatientID="1"),)).permitted_origin(rules)
    with pytest.raises(PolicyError, match="does not name"):
        Query(source="PACS@10.1.2.4:104", match=(Match(PatientID="1"),)).permitted_peer(rules)
    right = Query(source="https://PACS.test:8443/dicom-web", match=(Match(PatientID="1"),))
    assert right.permitted_origin(rules).host == "pacs.test"


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ('source = "PACS@10.1.2.3:104"', "match"),
        ('source = "PACS@10.1.2.3:104"\n[[match]]', "at least one key"),
        ('source = "PACS@10.1.2.3:104"\n[[match]]\nPatientID = "*"', "more than wildcards"),
        ('source = "PACS@10.1.2.3:104"\n[[match]]\nModality = "US"', "Modality"),
        ("source = ", "not TOML"),
    ],
)
def test_a_query_that_asks_for_everything_or_for_nothing_known_is_refused(
    text: str, reason: str, tmp_path: Path
) -> None:
    path = tmp_path / "query.toml"
    path.write_text(text)
    with pytest.raises(InputError, match=reason):
        read_query(path)
