"""The process of a hospital's agent, by itself."""

import subprocess
import sys

LIMITS = """
import resource, subprocess, sys
from sonoshare_deploy.hospital_node import write_no_core_files
write_no_core_files()
print(resource.getrlimit(resource.RLIMIT_CORE))
started = "import resource; print(resource.getrlimit(resource.RLIMIT_CORE))"
subprocess.run([sys.executable, "-c", started], check=True)
"""


def test_an_agent_and_what_it_starts_write_no_core_files() -> None:
    found = subprocess.run([sys.executable, "-c", LIMITS], check=True, capture_output=True, text=True)
    assert found.stdout.split("\n")[:2] == ["(0, 0)", "(0, 0)"]
