"""Provisioning a coordinator: a new folder with keys and certificates.

Private keys are made where they stay: the coordinator's keys in its folder, each hospital's in the hospital's. What
travels is public: identity keys, node keys, the authority's certificate and the signed roster. The consortium's root
key signs the roster and nothing else; it lies in ``root/`` and should be taken off the machine after admissions.
"""

import ipaddress
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from sonoshare_server.consortium.members import Consortium
from sonoshare_server.home import CoordinatorHome
from sonoshare_server.paths import CoordinatorPaths
from sonoshare_shared.durable import appearing, create
from sonoshare_shared.errors import InputError
from sonoshare_shared.protocol.keys import SigningKey
from sonoshare_shared.state import write_state

AUTHORITY_DAYS: Final = 3650
CERTIFICATE_DAYS: Final = 90


def create_coordinator(path: Path, consortium: Consortium, hosts: Iterable[str]) -> CoordinatorHome:
    """Make a coordinator's folder, whole or not at all: what the consortium is, keys, and a TLS certificate.

    Args:
        path: the folder; absent or empty.
        consortium: its name and audit policy.
        hosts: names and addresses of the server, for its certificate.

    Raises:
        InputError: the folder is in use.
    """
    if path.exists() and any(path.iterdir()):
        raise InputError(f"{path} is not empty", remedy="choose another folder for the coordinator")
    with appearing(path, durable=True) as folder:
        home = CoordinatorPaths(folder)
        home.root_key_path.parent.mkdir(mode=0o700)
        home.authority_path.parent.mkdir(mode=0o700)
        home.releases.mkdir()
        root = SigningKey.generate()
        root.save(home.root_key_path)
        create(home.root_public_path, f"{root.public.hex}\n".encode())
        _issue_certificates(home, list(hosts))
        consortium.write(home)
        write_state(home.nodes_path, {})
        SigningKey.generate().save(home.key_path)
    return CoordinatorHome(path)


def _issue_certificates(home: CoordinatorPaths, hosts: list[str]) -> None:
    authority_key, server_key = ec.generate_private_key(ec.SECP384R1()), ec.generate_private_key(ec.SECP256R1())
    authority = _authority(authority_key)
    certificate = _certificate(authority, authority_key, server_key, hosts)
    create(home.authority_path, authority.public_bytes(serialization.Encoding.PEM))
    create(home.certificate_path, certificate.public_bytes(serialization.Encoding.PEM))
    for path, key in ((home.authority_key_path, authority_key), (home.certificate_key_path, server_key)):
        pem = key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        create(path, pem, mode=0o600)


def _authority(key: ec.EllipticCurvePrivateKey) -> x509.Certificate:
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
        _dated(AUTHORITY_DAYS)
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
    key: ec.EllipticCurvePrivateKey,
    hosts: list[str],
) -> x509.Certificate:
    issuer = x509.AuthorityKeyIdentifier.from_issuer_public_key(authority_key.public_key())
    return (
        _dated(CERTIFICATE_DAYS)
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "SonoShare coordinator")]))
        .issuer_name(authority.subject)
        .public_key(key.public_key())
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(x509.SubjectAlternativeName([_alternative_name(host) for host in hosts]), critical=False)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(issuer, critical=False)
        .sign(authority_key, hashes.SHA384())
    )


def _dated(days: int) -> x509.CertificateBuilder:
    now = datetime.now(UTC)
    return (
        x509.CertificateBuilder()
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(minutes=5))
        .not_valid_after(now + timedelta(days=days))
    )


def _alternative_name(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)
