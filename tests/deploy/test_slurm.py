"""The job and the carrier as two processes over a shared folder; what travels is held by ``test_air_gap``."""

import os
import subprocess
from pathlib import Path

from tests.deploy.outside_tools import PACKAGED, said, tool

SLURM = PACKAGED / "slurm"
# In the place of the real programs, which need a cluster and another machine: files are copied, nothing is computed.
SONOSHARE = """#!/bin/sh
case "$2" in
start) trap 'exit 0' TERM; sleep 3 & wait $! ;;
answer) cp "$3" "$7" ;;
take) mv "$3" taken.reply ;;
esac
"""
SSH = '#!/bin/sh\nshift\ncd "$FAR" && "$@"\n'
SCP = '#!/bin/sh\nfrom=$2; to=$3\ncase "$to" in far:*) to="$FAR/${to#far:}";; esac\ncp "${from#far:}" "$to"\n'


def test_scripts_pass_the_linter() -> None:
    said(tool("shellcheck", "make tools"), "--shell=bash", SLURM / "agent.sbatch", SLURM / "carry.sh")


def test_a_bundle_comes_to_the_job_and_its_reply_goes_back_once(tmp_path: Path) -> None:
    programs, far, shared = tmp_path / "bin", tmp_path / "far", tmp_path / "shared"
    (far / "C" / "outbox" / "west").mkdir(parents=True)
    (far / "C" / "outbox" / "west" / "s1-round-1.bundle").write_text("request")
    programs.mkdir()
    for name, text in {"sonoshare": SONOSHARE, "ssh": SSH, "scp": SCP}.items():
        (programs / name).write_text(text)
        (programs / name).chmod(0o755)
    where = {"COORDINATOR": "far", "FOLDER": str(far / "C"), "HOSPITAL": "west", "SHARED": str(shared)}
    path = {"PATH": f"{programs}{os.pathsep}{os.environ['PATH']}", "FAR": str(far), "PAUSE": "0.1", "ONCE": "1"}
    said(SLURM / "carry.sh", **where, **path)
    assert [file.name for file in (shared / "in").iterdir()] == ["s1-round-1.bundle"]
    node = {"NODE": str(tmp_path / "node"), "SHARED": str(shared), **path}
    subprocess.run([SLURM / "agent.sbatch"], env=os.environ | node, check=False, timeout=30)
    assert [file.name for file in (shared / "out").iterdir()] == ["s1-round-1.reply"]
    said(SLURM / "carry.sh", **where, **path)
    assert (far / "taken.reply").read_text() == "request"
    assert not list((shared / "in").iterdir()) + list((shared / "out").iterdir())
