"""The catalogue's pages in a real browser: they show, and nothing in them asks for what the policy forbids."""

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image
from tests.server.catalogue_fixture import Site, site
from tests.shared.consortium import RELEASE

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--hide-scrollbars",
    "--enable-logging=stderr",
    "--window-size=1200,1600",
)
SECONDS = 120

pytestmark = pytest.mark.skipif(
    CHROMIUM is None, reason="SKIPPED LOUDLY: no Chromium here, so no page was seen in a browser (apt install chromium)"
)


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with site(tmp_path_factory.mktemp("catalogue"), title="Simulated <consortium>") as running:
        yield running


@pytest.mark.parametrize(
    ("path", "shown"),
    [
        ("/", "Simulated &lt;consortium&gt;"),
        (f"/releases/{RELEASE}", "PASS"),
        (f"/releases/{RELEASE}/agreement", "agreement"),
        (f"/api/v1/releases/{RELEASE}/files/privacy-report.html", "charged to the same ledgers"),
    ],
)
def test_a_page_shows_and_breaks_none_of_its_own_rules(served: Site, tmp_path: Path, path: str, shown: str) -> None:
    picture = tmp_path / "page.png"
    options = [f"--user-data-dir={tmp_path / 'profile'}", f"--screenshot={picture}", "--dump-dom"]
    done = subprocess.run(
        [str(CHROMIUM), *FLAGS, *options, served.url + path],
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=True,
        stdin=subprocess.DEVNULL,
    )
    assert shown in done.stdout
    said = [line for line in done.stderr.splitlines() if "CONSOLE" in line]
    assert said == [], "the page asks for something that its Content-Security-Policy forbids, or lacks a file"
    with Image.open(picture) as image:
        assert len(set(image.convert("L").resize((120, 160)).tobytes())) > 10, "the page is blank"
