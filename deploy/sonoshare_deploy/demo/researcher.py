"""The researcher of the demonstration: the same commands that any researcher runs, as processes of their own.

A token is asked for over the catalogue's API; ``sonoshare fetch`` downloads and verifies; ``sonoshare verify`` then
verifies again with every proxy pointing nowhere, from the files alone.
"""

import os
import subprocess
import sys
from pathlib import Path
from typing import Final

import httpx

from sonoshare_shared.errors import FederationError, VerificationError

TIMEOUT_SECONDS: Final = 300.0
_NOWHERE: Final = "http://127.0.0.1:9"


def download_and_verify(catalogue: str, release: str, out: Path, roster: Path) -> None:
    """Accept the agreement, download a release, and verify it offline.

    Raises:
        FederationError: the catalogue does not give a token.
        VerificationError: fetching or verifying failed; carries the command's last line.
    """
    token = accept_agreement(catalogue, release)
    _sonoshare(["fetch", release, "--server", catalogue, "--token", token, "--out", str(out), "--roster", str(roster)])
    offline = dict.fromkeys(("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"), _NOWHERE)
    _sonoshare(["verify", str(out), "--roster", str(roster)], offline)


def accept_agreement(catalogue: str, release: str) -> str:
    """Accept the data-use agreement and return a download token.

    Raises:
        FederationError: the catalogue refuses.
    """
    with httpx.Client(base_url=catalogue, timeout=TIMEOUT_SECONDS) as client:
        version = client.get("/api/v1/agreement").json()["version"]
        request = {
            "release": release,
            "name": "Demo Researcher",
            "email": "researcher@example.org",
            "purpose": "To see that the demonstration's release opens and verifies.",
            "agreement_version": version,
        }
        answer = client.post("/api/v1/agreements", json=request)
    if answer.status_code != httpx.codes.CREATED:
        raise FederationError("the catalogue gave no token", remedy=f"its answer: {answer.status_code}")
    return str(answer.json()["token"])


def _sonoshare(arguments: list[str], environment: dict[str, str] | None = None) -> None:
    command = [sys.executable, "-m", "sonoshare_deploy.cli.main", *arguments]
    done = subprocess.run(
        command,
        env={**os.environ, **(environment or {})},
        capture_output=True,
        text=True,
        timeout=TIMEOUT_SECONDS,
        check=False,
        stdin=subprocess.DEVNULL,
    )
    if done.returncode != 0:
        said = (done.stderr.strip().splitlines() or ["no output"])[-1]
        raise VerificationError(arguments[0], f"sonoshare {arguments[0]} failed: {said}")
