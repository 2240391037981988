"""The coordinator's TLS certificates: made, renewed before they end, and how long everything with an end still lasts.

    pki/ca.crt  ca.key          the authority, for ten years; hospitals pin the certificate
    pki/server.pem  server.key  the server's certificate, for ninety days, signed by the authority

A renewal signs a new certificate for the same names and the same key and replaces one file at once, so that certificate
and key belong together whatever is killed; a running coordinator takes it up by itself (``federation.certificate``).
The authority's key is needed for it. Where that is kept elsewhere nothing is renewed by itself, and warnings say so.

Not promised: that a key which was stolen is of no more use: there is no revocation. Give the server a new key
(`renew` with ``new_key``); against a stolen authority only a new consortium certificate at every hospital helps.
"""

import ipaddress
import math
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final, Literal

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from sonoshare_server.changing import one_at_a_time
from sonoshare_server.paths import CoordinatorPaths
from sonoshare_shared.durable import create, write_atomically
from sonoshare_shared.errors import InputError

AUTHORITY_DAYS: Final = 3650
CERTIFICATE_DAYS: Final = 90
RENEWED_DAYS: Final = 30
"""With fewer days left the server's certificate is renewed without being asked."""
_SKEW: Final = timedelta(minutes=5)

Ending = Literal["server-certificate", "authority-certificate", "roster"]
WARNED_DAYS: Final[dict[Ending, int]] = {"server-certificate": 25, "authority-certificate": 180, "roster": 60}
"""With fewer days left a person is warned: the first is renewed by itself before, if that works."""


@dataclass(frozen=True)
class Expiry:
    """Something that ends.

    Attributes:
        name: what.
        until: when it ends.
        remedy: what renews it.
    """

    name: Ending
    until: datetime
    remedy: str

    def days_left(self, now: datetime) -> int:
        """Whole days until it ends; negative when it has ended."""
        return math.floor((self.until - now) / timedelta(days=1))

    def warns(self, now: datetime) -> bool:
        """Whether a person should see to it."""
        return self.days_left(now) < WARNED_DAYS[self.name]


def issue_certificates(home: CoordinatorPaths, hosts: Iterable[str], now: datetime | None = None) -> None:
    """Make the authority and the server's first certificate, in a new folder."""
    now = now or datetime.now(UTC)
    authority_key, server_key = ec.generate_private_key(ec.SECP384R1()), ec.generate_private_key(ec.SECP256R1())
    authority = _authority(authority_key, now)
    names = [_alternative_name(host) for host in dict.fromkeys(hosts)]
    create(home.authority_path, authority.public_bytes(serialization.Encoding.PEM))
    create(home.certificate_path, _pem(_certificate(authority, authority_key, server_key.public_key(), names, now)))
    for path, key in ((home.authority_key_path, authority_key), (home.certificate_key_path, server_key)):
        create(path, _key_pem(key), mode=0o600)


@one_at_a_time
def renew(
    home: CoordinatorPaths, *, hosts: Iterable[str] = (), new_key: bool = False, now: datetime | None = None
) -> Expiry:
    """Sign a new certificate for the server and put it in place.

    Args:
        home: the coordinator's folder.
        hosts: names and addresses that it is to be for beside those of the old one.
        new_key: give the server a new key too.
        now: the present.

    Raises:
        InputError: the authority's key or certificate is not there, or has expired.
    """
    now = now or datetime.now(UTC)
    authority, authority_key = _read_certificate(home.authority_path), _authority_key(home)
    if authority.not_valid_after_utc <= now:
        raise InputError("the authority's certificate has expired", remedy="see docs/keys.md")
    names = dict.fromkeys([*_names(home), *(_alternative_name(host) for host in hosts)])
    if new_key or not home.certificate_key_path.exists():
        key = ec.generate_private_key(ec.SECP256R1())
        # First the key: a kill before the certificate leaves two that do not match, which counts as due.
        write_atomically(home.certificate_key_path, _key_pem(key), mode=0o600)
        public = key.public_key()
    else:
        public = _server_key(home).public_key()
    certificate = _certificate(authority, authority_key, public, list(names), now)
    write_atomically(home.certificate_path, _pem(certificate))
    return _server_expiry(certificate)


def due(home: CoordinatorPaths, now: datetime) -> bool:
    """Whether the server's certificate must be renewed: it ends soon, cannot be read, or is not of the server's key."""
    try:
        certificate, matches = _read_certificate(home.certificate_path), certificate_matches(home)
    except InputError:
        return True
    return not matches or _server_expiry(certificate).days_left(now) < RENEWED_DAYS


def certificate_matches(home: CoordinatorPaths) -> bool:
    """Whether the server's certificate is of the key beside it.

    Raises:
        InputError: one of them cannot be read.
    """
    return _read_certificate(home.certificate_path).public_key() == _server_key(home).public_key()


def certificate_made(home: CoordinatorPaths) -> datetime:
    """When the server's certificate was made: a moment that has been.

    Raises:
        InputError: it cannot be read.
    """
    return _read_certificate(home.certificate_path).not_valid_before_utc


def expiries(home: CoordinatorPaths, roster_until: datetime | None) -> list[Expiry]:
    """When the certificates end, and the roster if there is one.

    Args:
        home: the coordinator's folder.
        roster_until: when the newest roster expires.

    Raises:
        InputError: a certificate cannot be read.
    """
    authority = _read_certificate(home.authority_path)
    found = [
        _server_expiry(_read_certificate(home.certificate_path)),
        Expiry("authority-certificate", authority.not_valid_after_utc, "see docs/keys.md"),
    ]
    if roster_until is not None:
        found.append(Expiry("roster", roster_until, "sonoshare coordinator renew --roster; send it to all"))
    return found


def _server_expiry(certificate: x509.Certificate) -> Expiry:
    return Expiry("server-certificate", certificate.not_valid_after_utc, "sonoshare coordinator renew")


def _read_certificate(path: Path) -> x509.Certificate:
    try:
        return x509.load_pem_x509_certificate(path.read_bytes())
    except (OSError, ValueError) as error:
        raise InputError(f"{path.name} cannot be read", remedy="put back its newest copy") from error


def _authority_key(home: CoordinatorPaths) -> ec.EllipticCurvePrivateKey:
    if not home.authority_key_path.is_file():
        raise InputError(
            f"the authority's key is not at {home.authority_key_path}",
            remedy="bring it back from where it is kept while the certificate is renewed",
        )
    return _private(home.authority_key_path)


def _server_key(home: CoordinatorPaths) -> ec.EllipticCurvePrivateKey:
    return _private(home.certificate_key_path)


def _private(path: Path) -> ec.EllipticCurvePrivateKey:
    try:
        key = serialization.load_pem_private_key(path.read_bytes(), password=None)
    except (OSError, ValueError) as error:
        raise InputError(f"{path.name} cannot be read", remedy="put back its newest copy") from error
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise InputError(f"{path.name} is a key of another kind", remedy="put back its newest copy")
    return key


def certificate_names(home: CoordinatorPaths) -> list[str]:
    """Names and addresses that the server's certificate is for, in its order.

    Raises:
        InputError: it cannot be read.
    """
    return [str(name.value) for name in _names(home)]


def _names(home: CoordinatorPaths) -> list[x509.GeneralName]:
    """What the present certificate is for."""
    extension = _read_certificate(home.certificate_path).extensions.get_extension_for_class(x509.SubjectAlternativeName)
    return list(extension.value)


def _authority(key: ec.EllipticCurvePrivateKey, now: datetime) -> x509.Certificate:
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "SonoShare consortium authority")])
    usage = x509.KeyUsage(
        digital_signature=False,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=True,
        crl_sign=True,
        encipher_only=False,
        decipher_only=False,
    )
    return (
        _dated(now, now + timedelta(days=AUTHORITY_DAYS))
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(usage, critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .sign(key, hashes.SHA384())
    )


def _certificate(
    authority: x509.Certificate,
    authority_key: ec.EllipticCurvePrivateKey,
    key: ec.EllipticCurvePublicKey,
    names: list[x509.GeneralName],
    now: datetime,
) -> x509.Certificate:
    issuer = x509.AuthorityKeyIdentifier.from_issuer_public_key(authority_key.public_key())
    until = min(now + timedelta(days=CERTIFICATE_DAYS), authority.not_valid_after_utc)
    return (
        _dated(now, until)
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "SonoShare coordinator")]))
        .issuer_name(authority.subject)
        .public_key(key)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(issuer, critical=False)
        .sign(authority_key, hashes.SHA384())
    )


def _dated(now: datetime, until: datetime) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _SKEW)
        .not_valid_after(until)
    )


def _alternative_name(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        pass
    try:
        return x509.DNSName(host)
    except ValueError as error:
        raise InputError(f"{host!r} is no host name", remedy="write it in ASCII, as in xn--...") from error


def _pem(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.PEM)


def _key_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
