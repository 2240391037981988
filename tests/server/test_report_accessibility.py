"""The reports in a browser, read by axe-core: nothing that keeps anybody from reading them, light or dark.

axe-core is no part of this project (MPL-2.0, from its registry). Where it lies says ``SONOSHARE_AXE``:

    npm pack axe-core && tar xzf axe-core-*.tgz
    SONOSHARE_AXE=package/axe.min.js pytest tests/server/test_report_accessibility.py
"""

import html
import json
import os
import re
import subprocess
from pathlib import Path

import pytest
from tests.server.test_browser import CHROMIUM, FLAGS, SECONDS
from tests.server.test_report_pages import release  # noqa: F401 - a fixture

from sonoshare_shared.protocol.release import layout

AXE = os.environ.get("SONOSHARE_AXE", "")
RUN = """<script>document.querySelectorAll("details").forEach(one => one.open = true);
axe.run().then(found => { const told = document.createElement("pre"); told.id = "told";
told.textContent = JSON.stringify(found.violations.map(one => [one.id, one.nodes[0].html])) + found.passes.length;
document.body.appendChild(told); });</script>"""

pytestmark = pytest.mark.skipif(
    CHROMIUM is None or not AXE, reason="SKIPPED LOUDLY: no Chromium, or no axe-core named by SONOSHARE_AXE"
)


@pytest.mark.parametrize("scheme", ["0", "1"])
@pytest.mark.parametrize("name", [layout.PRIVACY_HTML, layout.UTILITY_HTML])
def test_axe_finds_nothing(release: Path, tmp_path: Path, name: str, scheme: str) -> None:  # noqa: F811
    page = tmp_path / "page.html"
    axe = Path(AXE).read_text(encoding="utf-8").replace("</script", "<\\/script")
    body = (release / name).read_text(encoding="utf-8")
    page.write_text(body.replace("</body>", f"<script>{axe}</script>{RUN}</body>"), encoding="utf-8")
    options = [f"--user-data-dir={tmp_path / 'profile'}", f"--blink-settings=preferredColorScheme={scheme}"]
    done = subprocess.run(
        [str(CHROMIUM), *FLAGS, *options, "--virtual-time-budget=60000", "--dump-dom", page.as_uri()],
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=True,
        stdin=subprocess.DEVNULL,
    )
    told = re.search(r'<pre id="told">(.*?)(\d+)</pre>', done.stdout, re.DOTALL)
    assert told is not None
    assert json.loads(html.unescape(told[1])) == []
    assert int(told[2]) > 20
