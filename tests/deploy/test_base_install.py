"""A researcher's commands on the base install: everything that it does not bring is taken away."""

import json
import subprocess
import sys
import tomllib
from importlib.metadata import packages_distributions, requires
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[2]
RELEASE = ROOT / "tests" / "golden" / "v1" / "release"

RUN = """
import json, sys
away, *arguments = json.loads(sys.argv[1])
class Away:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in away:
            raise ModuleNotFoundError(f"{name} is not in the base install", name=name)
sys.meta_path.insert(0, Away())
sys.argv = ["sonoshare", *arguments]
from sonoshare_deploy.cli.main import main
main()
"""


def base_install() -> set[str]:
    """Distributions that the base install brings, with what they need themselves."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    found: set[str] = set()
    wanted = [Requirement(text) for text in project["dependencies"]]
    while wanted:
        one = wanted.pop()
        name = canonicalize_name(one.name)
        if name in found or (one.marker is not None and not one.marker.evaluate({"extra": ""})):
            continue
        found.add(name)
        wanted += [Requirement(text) for text in requires(one.name) or ()]
    return found


@pytest.fixture(scope="module")
def away() -> list[str]:
    """Top-level modules of everything else that is installed here."""
    kept = base_install()
    modules = {
        module
        for module, owners in packages_distributions().items()
        if not module.startswith(("sonoshare_", "_")) and not any(canonicalize_name(owner) in kept for owner in owners)
    }
    assert {"torch", "numpy", "PIL", "flwr", "fastapi", "scipy", "pydicom"} <= modules
    assert not {"click", "cryptography", "httpx", "pydantic"} & modules
    return sorted(modules)


def sonoshare(away: list[str], *arguments: object) -> subprocess.CompletedProcess[str]:
    given = json.dumps([away, *map(str, arguments)])
    return subprocess.run([sys.executable, "-c", RUN, given], capture_output=True, text=True, check=False)


@pytest.mark.parametrize("arguments", [["--help"], ["verify", "--help"], ["fetch", "--help"], ["releases", "--help"]])
def test_help_needs_the_base_install_alone(away: list[str], arguments: list[str]) -> None:
    done = sonoshare(away, *arguments)
    assert (done.returncode, done.stderr) == (0, "")
    assert "Usage: sonoshare" in done.stdout


def test_a_release_is_verified_on_the_base_install(away: list[str]) -> None:
    done = sonoshare(away, "verify", RELEASE, "--roster", RELEASE.parent / "roster.dsse.json", "--json")
    assert json.loads(done.stdout.strip().splitlines()[-1])["verified"] is True, done.stderr
    assert done.returncode == 0


def test_a_catalogue_is_asked_on_the_base_install(away: list[str]) -> None:
    """Nobody listens there: the refusal comes from the network, not from a module that is missing."""
    done = sonoshare(away, "releases", "--server", "https://127.0.0.1:9")
    assert done.returncode == 1
    assert "cannot reach the catalogue at https://127.0.0.1:9: " in done.stderr


def test_another_noun_names_the_extra_that_it_needs(away: list[str]) -> None:
    done = sonoshare(away, "plan", "--patients", 600, "--epsilon", 8, "--delta", "1e-4")
    assert done.returncode == 1
    assert "sonoshare[model]" in done.stderr
