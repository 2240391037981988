"""A PostgreSQL of its own for the tests: in a temporary folder, on a Unix socket alone, never as root."""

import os
import pwd
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
import sqlalchemy as sa

BINARIES = next(
    (p.parent for p in sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), reverse=True)),
    Path(found).parent if (found := shutil.which("initdb")) else None,
)
SECONDS = 60
USER = "sonoshare"


@contextmanager
def postgres() -> Iterator[str]:
    """The URL of a server that runs while the block does."""
    if BINARIES is None:
        pytest.skip("SKIPPED LOUDLY: no PostgreSQL here, so the catalogue was not tried on it (apt install postgresql)")
    folder = Path(tempfile.mkdtemp(prefix="sonoshare-pg-"))
    other: dict[str, Any] = (
        {"user": "nobody", "group": pwd.getpwnam("nobody").pw_gid, "extra_groups": []} if os.geteuid() == 0 else {}
    )
    if other:
        shutil.chown(folder, "nobody")
    data = folder / "data"
    make: list[Any] = [
        BINARIES / "initdb",
        "-D",
        data,
        "-U",
        USER,
        "--auth=trust",
        "--no-sync",
        "-E",
        "UTF8",
        "--locale=C",
    ]
    serve: list[Any] = [BINARIES / "postgres", "-D", data, "-k", folder, "-c", "listen_addresses=", "-c", "fsync=off"]
    quiet: dict[str, Any] = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, "cwd": folder}
    try:
        subprocess.run(make, check=True, timeout=SECONDS, **quiet, **other)
        server = subprocess.Popen(serve, **quiet, **other)
        try:
            url = f"postgresql://{USER}@/postgres?host={folder}"
            _wait(url, server)
            yield url
        finally:
            server.send_signal(2)  # a fast shutdown: clients are sent away
            server.wait(SECONDS)
    finally:
        shutil.rmtree(folder)


def fresh_schema(url: str) -> str:
    """The URL of an empty place in a server's database."""
    name = f"t{uuid4().hex}"
    engine = _engine(url)
    with engine.begin() as connection:
        connection.execute(sa.schema.CreateSchema(name))
    engine.dispose()
    return f"{url}&options=-csearch_path%3D{name}"


def _wait(url: str, server: subprocess.Popen[bytes]) -> None:
    engine, end = _engine(url), time.monotonic() + SECONDS
    while True:
        try:
            with engine.connect():
                return
        except sa.exc.OperationalError:
            assert server.poll() is None
            assert time.monotonic() < end
            time.sleep(0.05)


def _engine(url: str) -> sa.Engine:
    return sa.create_engine(url.replace("postgresql:", "postgresql+psycopg:"), poolclass=sa.NullPool)
