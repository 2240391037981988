"""``--help`` and ``sonoshare verify`` start without what takes long to load: modules are named, no clock is read."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

HEAVY = {"torch", "numpy", "scipy", "sklearn", "PIL", "flwr", "fastapi", "sqlalchemy", "diffusers", "matplotlib"}
HEAVY |= {"pydicom", "httpx", "jinja2", "uvicorn", "opacus", "dp_accounting", "pandas", "boto3", "grpc"}


def loaded(*arguments: object) -> set[str]:
    """Packages that a command has loaded when it ends."""
    script = (
        "import sys, json, atexit\n"
        "packages = lambda: sorted({m.partition('.')[0] for m in sys.modules})\n"
        "atexit.register(lambda: print(json.dumps(packages()), file=sys.stderr))\n"
        "sys.argv = ['sonoshare', *sys.argv[1:]]\n"
        "from sonoshare_deploy.cli.main import main\n"
        "main()\n"
    )
    called = [sys.executable, "-c", script, *map(str, arguments)]
    run = subprocess.run(called, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL)
    return set(json.loads(run.stderr.splitlines()[-1]))


def test_help_of_every_noun_loads_nothing_heavy() -> None:
    script = (
        "import sys\n"
        "from sonoshare_deploy.cli.reference import leaves\n"
        "assert len(list(leaves())) > 80\n"
        "print(' '.join(sorted({m.partition('.')[0] for m in sys.modules})))\n"
    )
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert set(run.stdout.split()) & HEAVY == set()


@pytest.mark.parametrize("what", ["release", "ledger"])
def test_verify_loads_nothing_heavy(tmp_path: Path, what: str) -> None:
    roster = tmp_path / "roster.dsse.json"
    roster.write_text("{}")
    (tmp_path / "release").mkdir()
    (tmp_path / "ledger").write_text("{}")
    packages = loaded("verify", tmp_path / what, "--roster", roster)
    assert "sonoshare_shared" in packages
    assert packages & HEAVY == set()
