"""Units of systemd and gates of nginx and Caddy, read by those programs themselves."""

import re
import shutil
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from tests.deploy.outside_tools import PACKAGED, said, tool

UNITS = PACKAGED / "systemd"
PROXY = PACKAGED / "proxy"
SERVICES = sorted(path.name for path in UNITS.glob("*.service"))
MOST_EXPOSED = 20
"""Of 100; what systemd itself calls OK ends at 49."""
STREAM = "/usr/lib/nginx/modules/ngx_stream_module.so"


def lines(unit: str) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for name, value in re.findall(r"^(\w+)=(.*)$", (UNITS / unit).read_text(), re.MULTILINE):
        found.setdefault(name, []).append(value)
    return found


def installed(folder: Path) -> list[Path]:
    """The units with a program in the place of those under /opt."""
    shutil.copytree(UNITS, folder)
    for path in folder.iterdir():
        program = re.compile(r"^ExecStart=/opt/sonoshare/bin/\w+", re.MULTILINE)
        path.write_text(program.sub("ExecStart=/bin/true", path.read_text()))
    return sorted(folder.iterdir())


def test_systemd_reads_every_unit(tmp_path: Path) -> None:
    analyze = tool("systemd-analyze", "it comes with systemd")
    said(analyze, "verify", "--man=no", *installed(tmp_path / "units"))


def test_a_unit_exposes_little(tmp_path: Path) -> None:
    analyze = tool("systemd-analyze", "it comes with systemd")
    services = [path for path in installed(tmp_path / "units") if path.suffix == ".service"]
    said(analyze, "security", "--offline=true", f"--threshold={MOST_EXPOSED}", "--no-pager", *services)


@pytest.mark.parametrize("unit", SERVICES)
def test_a_unit_has_a_user_and_no_capability(unit: str) -> None:
    found = lines(unit)
    assert found["User"][0].startswith("sonoshare-")
    assert found["CapabilityBoundingSet"] == [""]
    assert found["NoNewPrivileges"] == ["yes"]
    assert found["ProtectSystem"] == ["strict"]
    assert found["UMask"] == ["0077"]
    assert found["LimitCORE"] == ["0"]
    assert found["MemoryMax"]


def test_the_agent_has_no_network_and_the_courier_does_not_see_the_node() -> None:
    agent, courier = lines("sonoshare-agent.service"), lines("sonoshare-courier.service")
    assert agent["PrivateNetwork"] == ["yes"]
    assert "/srv/sonoshare/node" in courier["InaccessiblePaths"][0]
    assert agent["User"] != courier["User"]
    assert agent["Group"] == courier["Group"]


def certificate(folder: Path) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "catalogue.example.org")])
    now = datetime.now(UTC)
    made = x509.CertificateBuilder(name, name, key.public_key(), 1, now, now + timedelta(days=1))
    (folder / "tls.crt").write_bytes(made.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM))
    form = (serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    (folder / "tls.key").write_bytes(key.private_bytes(*form))


def test_nginx_reads_the_gate(tmp_path: Path) -> None:
    nginx = tool("nginx", "install nginx, and its stream module")
    certificate(tmp_path)
    text = (PROXY / "nginx.conf").read_text().replace(" /tmp/", f" {tmp_path}/")
    text = text.replace("/etc/sonoshare-tls", str(tmp_path))
    # Names of the container's network, which nobody knows here.
    text = re.sub(r"(proxy_pass (?:http://)?)(catalogue|coordinator):", r"\g<1>127.0.0.1:", text)
    has_stream = Path(STREAM).exists()
    text = f"load_module {STREAM};\n{text}" if has_stream else text[: text.index("stream {")]
    (tmp_path / "nginx.conf").write_text(text)
    said(nginx, "-t", "-q", "-p", tmp_path, "-c", tmp_path / "nginx.conf")


def test_caddy_reads_the_gate(tmp_path: Path) -> None:
    caddy = tool("caddy", "install caddy")
    where = {"HOME": str(tmp_path), "XDG_DATA_HOME": str(tmp_path)}
    said(caddy, "validate", "--adapter", "caddyfile", "--config", PROXY / "Caddyfile", **where)


def test_a_gate_passes_no_control_and_keeps_no_log_of_people() -> None:
    nginx, caddy = (PROXY / "nginx.conf").read_text(), (PROXY / "Caddyfile").read_text()
    assert not re.search(r"^[^#]*9093", nginx + caddy, re.MULTILINE)
    assert "access_log off" in nginx
    assert "proxy_set_header X-Forwarded-For $remote_addr" in nginx
