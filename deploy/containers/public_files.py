#!/usr/bin/env python3
"""Keeps the two files fresh that a catalogue without a private key serves: ``public_files.py URL FOLDER [SECONDS]``.

Asks a coordinator's own catalogue at URL for ``/api/v1/roster`` and ``/api/v1/log`` and renames them into FOLDER as
``roster.json`` and ``log.json``, every SECONDS, or once if absent. Both are signed, and checked by whoever verifies a
release: this program need not be trusted. An answer over 256 MiB is not taken.
"""

import http.client
import os
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

MOST_BYTES = 256 << 20
SECONDS = 30.0
FILES = {"roster.json": "/api/v1/roster", "log.json": "/api/v1/log"}


def fetch(url: str, out: Path) -> None:
    """Put what the URL answers in the place of ``out``."""
    with urllib.request.urlopen(url, timeout=SECONDS) as answer:  # noqa: S310 - of the operator's own choice
        content = answer.read(MOST_BYTES + 1)
    if len(content) > MOST_BYTES:
        raise OSError("the answer is too large")
    fresh = out.with_name(f".{out.name}.new")
    with fresh.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    fresh.chmod(0o444)
    fresh.replace(out)


def main() -> None:
    """Fetch once, or for ever."""
    url, folder = sys.argv[1].rstrip("/"), Path(sys.argv[2])
    pause = float(sys.argv[3]) if len(sys.argv) > 3 else 0.0
    while True:
        failed = False
        for name, path in FILES.items():
            try:
                fetch(url + path, folder / name)
            except (OSError, urllib.error.URLError, http.client.HTTPException) as error:
                print(f"{name} is as it was: {error}", file=sys.stderr, flush=True)  # noqa: T201
                failed = True
        if not pause:
            sys.exit(1 if failed else 0)
        time.sleep(pause)


if __name__ == "__main__":
    main()
