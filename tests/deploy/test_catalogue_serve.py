"""The catalogue apart from the coordinator: several workers without a key, on one PostgreSQL and one object store."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from click.testing import CliRunner
from tests.server.catalogue_fixture import ACCEPTANCE
from tests.server.postgres import fresh_schema, postgres
from tests.server.s3 import bucket_server
from tests.shared.consortium import NOW, RELEASE, Consortium

from sonoshare_deploy.addresses import free_ports
from sonoshare_deploy.catalogue_service import CataloguePlace
from sonoshare_deploy.cli.main import cli
from sonoshare_server.catalogue.publishing import publish
from sonoshare_server.catalogue.storage import open_storage
from sonoshare_shared.errors import InputError
from sonoshare_shared.protocol.release import evidence, layout

DATA = f"/api/v1/releases/{RELEASE}/files/{layout.METADATA}"
ASKED = 16
"""Connections of which each worker takes some: that all go to one of two has a chance of 2⁻¹⁵."""


@contextmanager
def running(*arguments: str) -> Iterator[tuple[str, subprocess.Popen[str]]]:
    """The command, and its address; it ends by SIGTERM, with all its workers."""
    command = [sys.executable, "-m", "sonoshare_deploy.cli.main", "catalogue", "serve", "--json", *arguments]
    command += ["--listen", f"127.0.0.1:{free_ports(1)[0]}"]
    process = subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        yield json.loads(process.stdout.readline())["catalogue"], process
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(30)
        process.stdout.close()
        end = time.monotonic() + 10
        while alive(process.pid):
            assert time.monotonic() < end, "a worker is left"
            time.sleep(0.05)


def alive(group: int) -> bool:
    """Whether a process of the group is left."""
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True


def asked(address: str, path: str, **options: Any) -> list[httpx.Response]:
    """Answers on connections of their own."""
    answers = []
    for _ in range(ASKED):
        with httpx.Client(base_url=address, trust_env=False, timeout=60) as client:
            answers.append(client.get(path, **options))
    return answers


def until(address: str, path: str, status: int) -> None:
    """Every worker answers so, now or in a moment."""
    end = time.monotonic() + 10
    while {answer.status_code for answer in asked(address, path)} != {status}:
        assert time.monotonic() < end


def test_workers_without_a_key_serve_what_is_published_elsewhere_and_agree(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    consortium = Consortium(tmp_path)
    consortium.release(RELEASE)
    roster, log = tmp_path / "roster.json", tmp_path / "log.json"
    roster.write_bytes(consortium.signed_roster().to_bytes())
    log.write_bytes(evidence.view(consortium.log()).canonical())
    with postgres() as url, bucket_server() as bucket:
        monkeypatch.setenv("DATABASE_URL", fresh_schema(url))
        monkeypatch.setenv("SONOSHARE_BLOBS", bucket)
        with running("--roster", str(roster), "--log", str(log), "--workers", "2") as (address, _):
            assert {a.status_code for a in asked(address, f"/api/v1/releases/{RELEASE}")} == {404}
            storage = open_storage(CataloguePlace(roster=roster).settings())
            publish(storage.releases, storage.blobs, consortium.folder / RELEASE, consortium.signed_roster(), now=NOW)
            until(address, f"/api/v1/releases/{RELEASE}", 200)
            token = httpx.post(f"{address}/api/v1/agreements", json=ACCEPTANCE, trust_env=False).json()["token"]
            bearer = {"Authorization": f"Bearer {token}"}
            whole = (consortium.folder / RELEASE / layout.METADATA).read_bytes()
            answers = asked(address, DATA, headers=bearer | {"Range": "bytes=7-99"})
            assert {(answer.status_code, answer.content) for answer in answers} == {(206, whole[7:100])}
            assert {a.content for a in asked(address, "/api/v1/log")} == {log.read_bytes()}
            with httpx.Client(base_url=address, headers=bearer, trust_env=False, timeout=60) as client:
                assert client.delete("/api/v1/tokens/current").status_code == 204
            assert {a.status_code for a in asked(address, DATA, headers=bearer)} == {401}
            storage.releases.hide(RELEASE, now=NOW)
            until(address, f"/api/v1/releases/{RELEASE}", 404)
            assert httpx.get(f"{address}/api/v1/ready", trust_env=False, timeout=60).status_code == 200
            storage.close()


def test_what_is_missing_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    roster = tmp_path / "roster.json"
    roster.write_bytes(Consortium(tmp_path).signed_roster().to_bytes())
    for name in ("DATABASE_URL", "SONOSHARE_BLOBS"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(InputError, match="database and an object store"):
        CataloguePlace(roster=roster)()
    for arguments in ([], ["--roster", str(roster), "--home", str(tmp_path)], ["--workers", "0"]):
        assert CliRunner().invoke(cli, ["catalogue", "serve", *arguments]).exit_code == 2
    listen = ["--listen", f"127.0.0.1:{free_ports(1)[0]}"]  # the usual port may be somebody's
    told = CliRunner().invoke(cli, ["catalogue", "serve", "--home", str(tmp_path), *listen])
    assert isinstance(told.exception, InputError)
    assert "not a coordinator's folder" in str(told.exception)
