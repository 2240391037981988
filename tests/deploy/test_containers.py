"""Containers of every role: what no engine here can run is read by what engines are made of."""

import http.server
import json
import os
import re
import shlex
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml
from tests.deploy.outside_tools import PACKAGED, said, tool

CONTAINERS, COMPOSE = PACKAGED / "containers", PACKAGED / "compose"
FILES = ("hospital", "coordinator", "researcher")
TOOLS = "make tools"
PASSWORD = re.compile(r"password|secret|token|passphrase", re.IGNORECASE)


def services(name: str) -> dict[str, dict[str, Any]]:
    read = yaml.safe_load((COMPOSE / f"{name}.yaml").read_text())
    return dict(read["services"])


EVERY = [(name, service) for name in FILES for service in services(name)]


@pytest.mark.parametrize(("name", "service"), EVERY)
def test_a_service_has_no_root_no_capability_and_nothing_to_write_but_its_volumes(name: str, service: str) -> None:
    found = services(name)[service]
    assert found["read_only"] is True
    assert found["cap_drop"] == ["ALL"]
    assert "cap_add" not in found
    assert "privileged" not in found
    assert found["security_opt"] == ["no-new-privileges:true"]
    assert re.search(r"\b[1-9]\d{2,4}:[1-9]\d{2,4}\b", found["user"])
    assert found["mem_limit"] == found["memswap_limit"]
    assert found["pids_limit"]
    assert found["ulimits"]["core"] == 0
    assert all("noexec" in mount or mount.startswith("/run/postgresql") for mount in found.get("tmpfs", []))


def test_who_holds_patients_has_no_network_and_the_courier_no_key() -> None:
    found = services("hospital")
    for service in ("agent", "intake"):
        assert found[service]["network_mode"] == "none"
        assert "networks" not in found[service]
    targets = {service: {m["source"] for m in found[service]["volumes"]} for service in found}
    assert not any("/node" in source for source in targets["courier"])
    assert not any("ports" in service for service in found.values())
    assert found["agent"]["user"] != found["courier"]["user"]


def test_only_the_gate_is_reached_and_nobody_else_gets_out() -> None:
    read = yaml.safe_load((COMPOSE / "coordinator.yaml").read_text())
    assert read["networks"]["inside"]["internal"] is True
    for name, service in read["services"].items():
        assert ("ports" in service) == (name == "gate")
        assert list(service["networks"]) == (["inside", "outside"] if name == "gate" else ["inside"])
    assert "0.0.0.0" not in str([word for word in read["services"]["coordinator"]["command"] if ":9093" in word])  # noqa: S104


@pytest.mark.parametrize("name", FILES)
def test_a_secret_is_a_file(name: str) -> None:
    for service in services(name).values():
        for variable, value in service.get("environment", {}).items():
            if PASSWORD.search(variable) or variable.startswith(("DATABASE", "SONOSHARE_BLOBS")):
                assert variable.endswith("_FILE")
                assert value.startswith("/run/secrets/")


def test_a_containerfile_passes_the_linter() -> None:
    said(tool("hadolint", TOOLS), CONTAINERS / "Containerfile")


def test_every_role_ends_as_a_user_and_is_installed_by_hash() -> None:
    text = (CONTAINERS / "Containerfile").read_text()
    stages = dict(re.findall(r"^FROM \S+ AS (\S+)\n(.*?)(?=^FROM|\Z)", text, re.DOTALL | re.MULTILINE))
    for role in ("hospital", "coordinator", "catalogue", "researcher"):
        assert re.search(r"^USER 1000\d:1000\d$", stages[role], re.MULTILINE)
    installs = re.findall(r"pip install .*", text)
    assert installs
    assert all("--require-hashes" in line or "--no-index" in line for line in installs)


@pytest.mark.parametrize("files", [("hospital",), ("hospital", "hospital-gpu"), ("coordinator",), ("researcher",)])
def test_compose_reads_its_files(files: tuple[str, ...]) -> None:
    compose = tool("docker-compose", TOOLS)
    named = [part for file in files for part in ("-f", str(COMPOSE / f"{file}.yaml"))]
    read = json.loads(said(compose, *named, "--profile", "*", "config", "--format", "json", SONOSHARE="/srv/sonoshare"))
    assert set(read["services"]) == set(services(files[0]))


def test_a_folder_that_is_not_named_is_asked_for() -> None:
    compose = tool("docker-compose", TOOLS)
    ran = subprocess.run([compose, "-f", str(COMPOSE / "hospital.yaml"), "config"], capture_output=True, check=False)
    assert ran.returncode != 0
    assert b"name the folder of this hospital" in ran.stderr


def test_shell_scripts_pass_the_linter() -> None:
    scripts = sorted(PACKAGED.glob("*/*.sh"))
    assert scripts
    said(tool("shellcheck", TOOLS), *scripts)


def test_a_couriers_folder_has_what_a_courier_needs_whatever_the_umask(tmp_path: Path) -> None:
    node = tmp_path / "node"
    (node / "state").mkdir(parents=True)
    courier = {"home.toml", "node.key", "node.key.pub", "state/root.pub", "state/roster.dsse.json", "state/ca.crt"}
    for name in (*courier, "identity.key", "vault.key", "ledger.db", "policy.toml", "state/log.jsonl"):
        (node / name).write_text(name)
    script = f"umask 000; chown() {{ :; }}; set -- '{tmp_path}'; . '{COMPOSE / 'hospital-folders.sh'}'"
    said("sh", "-c", script)
    made = [path for path in (tmp_path / "courier").rglob("*") if path.is_file()]
    assert {str(path.relative_to(tmp_path / "courier")) for path in made} == courier
    assert all(path.stat().st_mode & 0o777 == 0o600 for path in made)
    assert all((tmp_path / "courier" / name).stat().st_mode & 0o777 == 0o700 for name in (".", "state"))


def test_what_is_no_node_has_no_couriers_folder_and_what_to_type_can_be_pasted(tmp_path: Path) -> None:
    place = tmp_path / "St. Ann's node"
    (place / "node").mkdir(parents=True)
    for made, words in (("node/home.toml", "join INVITATION"), (None, "enrol")):
        ran = subprocess.run([COMPOSE / "hospital-folders.sh", place], capture_output=True, text=True, check=False)
        assert ran.returncode == 1
        line = next(line for line in ran.stderr.splitlines() if line.startswith("  sonoshare "))
        assert f"sonoshare hospital {words} --home" in line
        assert str(place / "node") in shlex.split(line)
        assert not (place / "courier").exists()
        if made is not None:
            (place / made).touch()


def entered(tmp_path: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    program = tmp_path / "sonoshare"
    program.write_text('#!/bin/sh\necho "$DATABASE_URL|${DATABASE_URL_FILE:-}|$*"\n')
    program.chmod(0o755)
    environment = {"PATH": f"{tmp_path}{os.pathsep}{os.environ['PATH']}", **variables}
    command = [str(CONTAINERS / "entrypoint.sh"), "coordinator", "status"]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)


def test_a_secret_comes_from_its_file(tmp_path: Path) -> None:
    secret = tmp_path / "url"
    secret.write_text("postgresql://fed:pa $`ss'\"@db/catalogue\n")
    ran = entered(tmp_path, DATABASE_URL_FILE=str(secret))
    assert ran.stdout == "postgresql://fed:pa $`ss'\"@db/catalogue||coordinator status\n"


def test_a_secret_that_cannot_be_read_stops_the_start(tmp_path: Path) -> None:
    ran = entered(tmp_path, DATABASE_URL_FILE=str(tmp_path / "none"))
    assert ran.returncode == 1
    assert ran.stdout == ""
    assert ran.stderr == "error: the file that DATABASE_URL_FILE names cannot be read\n"


class Answering(http.server.BaseHTTPRequestHandler):
    status = 200

    def do_GET(self) -> None:
        self.send_response(self.status)
        self.end_headers()
        self.wfile.write(self.path.encode())

    def log_message(self, *words: object) -> None:
        pass


@contextmanager
def answering(status: int) -> Iterator[int]:
    handler = type("Handler", (Answering,), {"status": status})
    with http.server.HTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server.server_port
        server.shutdown()
        thread.join()


def healthy(port: int) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-I", "-S", str(CONTAINERS / "healthy.py"), str(port)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


@pytest.mark.parametrize(("status", "ends"), [(200, 0), (503, 1)])
def test_a_container_is_as_healthy_as_its_role(status: int, ends: int) -> None:
    with answering(status) as port:
        assert healthy(port).returncode == ends
    assert healthy(port).stderr.startswith("no answer")


def test_public_files_are_renamed_into_place_and_stay_when_nobody_answers(tmp_path: Path) -> None:
    command = [sys.executable, "-I", "-S", str(CONTAINERS / "public_files.py")]
    with answering(200) as port:
        assert subprocess.run([*command, f"http://127.0.0.1:{port}", str(tmp_path)], check=False).returncode == 0
    gone = subprocess.run([*command, f"http://127.0.0.1:{port}", str(tmp_path)], capture_output=True, check=False)
    assert gone.returncode == 1
    assert b"is as it was" in gone.stderr
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {
        "roster.json": "/api/v1/roster",
        "log.json": "/api/v1/log",
    }
