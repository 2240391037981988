"""A coordinator that nobody looks after for a year: certificates are renewed under it, and warnings come in time."""

import logging
import socket
import ssl
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from tests.deploy.command import sonoshare
from tests.deploy.fleet_listener import listener
from tests.deploy.members import admit

from sonoshare_deploy import certificates
from sonoshare_deploy.coordinator_watch import CertificateWatch
from sonoshare_deploy.provision import create_coordinator
from sonoshare_server.consortium.audit_terms import audit_policy
from sonoshare_server.consortium.members import Consortium
from sonoshare_server.home import CoordinatorHome
from sonoshare_shared.errors import InputError


@pytest.fixture
def home(tmp_path: Path) -> CoordinatorHome:
    return create_coordinator(tmp_path / "c", Consortium("c", audit_policy(1.0, 0.6, 0.97, 0.001)), ("127.0.0.1",))


def presented(port: int, home: CoordinatorHome) -> x509.Certificate:
    """The certificate that a new connection is shown, checked against the authority."""
    context = ssl.create_default_context(cafile=str(home.authority_path))
    with (
        socket.create_connection(("127.0.0.1", port), 5) as plain,
        context.wrap_socket(plain, server_hostname="127.0.0.1") as wrapped,
    ):
        shown = wrapped.getpeercert(binary_form=True)
    assert shown is not None
    return x509.load_der_x509_certificate(shown)


def on_disk(home: CoordinatorHome) -> x509.Certificate:
    return x509.load_pem_x509_certificate(home.certificate_path.read_bytes())


@pytest.mark.parametrize("new_key", [False, True])
def test_a_renewed_certificate_is_taken_up_while_open_connections_go_on(home: CoordinatorHome, new_key: bool) -> None:
    with listener(home) as (port, certificate):
        first = presented(port, home)
        context = ssl.create_default_context(cafile=str(home.authority_path))
        with (
            socket.create_connection(("127.0.0.1", port), 5) as plain,
            context.wrap_socket(plain, server_hostname="127.0.0.1") as held,
        ):
            assert not certificate.take_up()  # nothing has changed
            certificates.renew(home, hosts=["fed.example.org"], new_key=new_key)
            assert certificate.take_up()
            held.sendall(b"GET /health HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
            assert held.recv(1000).startswith(b"HTTP/1.1 200")
        second = presented(port, home)
        assert second == on_disk(home) != first
        assert (second.public_key() != first.public_key()) is new_key
        home.certificate_path.write_bytes(b"torn")
        assert not certificate.take_up()
        assert presented(port, home) == second  # what works stays
    names = second.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == ["fed.example.org"]
    assert [str(address) for address in names.get_values_for_type(x509.IPAddress)] == ["127.0.0.1"]


def test_a_year_unattended_has_a_valid_certificate_on_every_day(home: CoordinatorHome) -> None:
    now, serials = datetime.now(UTC), set()
    for day in range(366):
        today = now + timedelta(days=day)
        CertificateWatch(home, lambda today=today: today).check()  # type: ignore[misc]
        certificate = on_disk(home)
        assert certificate.not_valid_before_utc < today + timedelta(days=1) < certificate.not_valid_after_utc
        serials.add(certificate.serial_number)
    assert 5 <= len(serials) <= 7  # every sixty days, not every day


def test_what_ends_is_warned_of_once_a_day_and_names_its_remedy(
    home: CoordinatorHome, caplog: pytest.LogCaptureFixture
) -> None:
    admit(home.path, "north")
    now = datetime.now(UTC)
    home.authority_key_path.rename(home.path / "ca.key")  # kept elsewhere: nothing renews itself
    caplog.set_level(logging.WARNING)
    watch = CertificateWatch(home, lambda: now)
    watch.check()
    assert caplog.messages == []
    now += timedelta(days=70)
    for _ in range(3):
        watch.check()
        now += timedelta(hours=7)
    assert [line.split(":")[0].split(" ends")[0] for line in caplog.messages] == [
        "the server's certificate is due and was not renewed",
        "server certificate",
    ]
    assert "ca.key (bring it back" in caplog.messages[0]
    assert "(sonoshare coordinator renew)" in caplog.messages[1]
    caplog.clear()
    now += timedelta(days=240)
    watch.check()
    assert any("roster ends in" in line and "renew --roster" in line for line in caplog.messages)
    assert any("server certificate has ended" in line for line in caplog.messages)


def test_a_key_that_does_not_fit_its_certificate_is_mended_at_the_next_look(home: CoordinatorHome) -> None:
    """A kill between the two writes of a renewal with a new key."""
    kept = home.certificate_path.read_bytes()
    certificates.renew(home, new_key=True)
    home.certificate_path.write_bytes(kept)
    assert certificates.due(home, datetime.now(UTC))
    CertificateWatch(home, lambda: datetime.now(UTC)).check()
    ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(home.certificate_path, home.certificate_key_path)


def test_renewing_says_until_when_and_asks_for_what_is_kept_elsewhere(home: CoordinatorHome) -> None:
    run = sonoshare("coordinator", "renew", "--home", home.path)
    assert run.returncode == 0
    assert "days_left: 89" in run.stdout
    assert sonoshare("coordinator", "renew", "--home", home.path, "--host", "bücher").errors != []
    (line,) = sonoshare("coordinator", "renew", "--home", home.path, "--roster").errors
    assert "nobody is admitted yet" in line
    admit(home.path, "north")
    assert sonoshare("coordinator", "renew", "--home", home.path, "--roster").returncode == 0
    assert home.roster.version == 2
    home.authority_key_path.unlink()
    with pytest.raises(InputError, match="the authority's key is not at"):
        certificates.renew(home)


def test_no_certificate_outlives_its_authority(home: CoordinatorHome) -> None:
    authority = x509.load_pem_x509_certificate(home.authority_path.read_bytes())
    late = authority.not_valid_after_utc - timedelta(days=10)
    assert certificates.renew(home, now=late).until == authority.not_valid_after_utc
    with pytest.raises(InputError, match="authority's certificate has expired"):
        certificates.renew(home, now=late + timedelta(days=11))
