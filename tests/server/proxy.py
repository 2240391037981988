"""A catalogue that speaks TLS, and a proxy in front of it (RFC 9110, CONNECT), both on loopback."""

import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from ipaddress import ip_address
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

Tunnels = list[tuple[str, bytes]]


class _Releases(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        body = b'{"releases": [{"release": "r1"}]}'
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


def _certificate(folder: Path) -> ssl.SSLContext:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "catalogue of a test")])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, hashes.SHA256())
    )
    (folder / "certificate.pem").write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    (folder / "key.pem").write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "certificate.pem", folder / "key.pem")
    return context


def _pump(source: socket.socket, sink: socket.socket) -> None:
    try:
        with suppress(OSError):
            while data := source.recv(1 << 16):
                sink.sendall(data)
    finally:
        for end in (source, sink):
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)


def _tunnel(client: socket.socket, tunnels: Tunnels) -> None:
    head = b""
    while b"\r\n\r\n" not in head:
        head += client.recv(4096)
    line = head.split(b"\r\n", 1)[0].decode()
    tunnels.append((line, head))
    host, _, port = line.split()[1].rpartition(":")
    with client, socket.create_connection((host, int(port))) as target:
        client.sendall(b"HTTP/1.1 200 Connection established\r\n\r\n")
        back = threading.Thread(target=_pump, args=(target, client))
        back.start()
        _pump(client, target)
        back.join()


def _accept(listener: socket.socket, tunnels: Tunnels) -> None:
    while True:
        try:
            client, _ = listener.accept()
        except OSError:
            return
        threading.Thread(target=_tunnel, args=(client, tunnels), daemon=True).start()


@contextmanager
def proxied_catalogue(folder: Path) -> Iterator[tuple[str, str, Tunnels]]:
    """Addresses of both, and what the proxy was asked for; ``certificate.pem`` in the folder is the one to trust."""
    tunnels: Tunnels = []
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Releases)
    server.socket = _certificate(folder).wrap_socket(server.socket, server_side=True)
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
    listener = socket.create_server(("127.0.0.1", 0))
    threading.Thread(target=_accept, args=(listener, tunnels), daemon=True).start()
    try:
        yield f"https://127.0.0.1:{server.server_port}", f"http://127.0.0.1:{listener.getsockname()[1]}", tunnels
    finally:
        server.shutdown()
        server.server_close()
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
