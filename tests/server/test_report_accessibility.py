"""The reports in a browser, read by axe-core: nothing that keeps anybody from reading them, light or dark."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.server.chromium import Eyes, chromium, needs_chromium
from tests.server.test_report_pages import release  # noqa: F401 - a fixture

from sonoshare_shared.protocol.release import layout

pytestmark = needs_chromium


@pytest.fixture(scope="module")
def eyes() -> Iterator[Eyes]:
    with chromium() as open_eyes:
        yield open_eyes


@pytest.mark.parametrize("name", [layout.PRIVACY_HTML, layout.UTILITY_HTML])
def test_axe_finds_nothing(release: Path, eyes: Eyes, name: str) -> None:  # noqa: F811
    eyes.page.goto((release / name).as_uri())
    eyes.page.evaluate("document.querySelectorAll('details').forEach(one => one.open = true)")
    assert eyes.found() == []
    assert eyes.contrast_found() == []
    assert eyes.said == []
