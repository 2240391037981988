"""The process of a run: what it loads before it does anything."""

import subprocess
import sys


def test_a_run_starts_without_torch() -> None:
    """It checks, adds and signs: torch would cost each run a second, and 200 MB for as long as it lasts."""
    check = "import sys; import sonoshare_server.federation.server_app; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", check], check=True, capture_output=True, text=True)
    assert done.stdout == "False\n"
