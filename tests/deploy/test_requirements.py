"""What is installed is pinned by hash, and is what the project names."""

import re
import tomllib
from itertools import chain
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import NormalizedName, canonicalize_name
from packaging.version import Version

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
LOCKS = {"researcher": (), "client": ("model", "client"), "server": ("model", "server")}
AGAIN = "make requirements"


def locked(name: str) -> dict[NormalizedName, Version]:
    text = (ROOT / "deploy" / "requirements" / f"{name}.txt").read_text()
    entries = re.findall(r"^([\w.-]+)(?:\[\S+\])?==([^\s;]+)", text, re.MULTILINE)
    return {canonicalize_name(entry): Version(version) for entry, version in entries}


def asked(extras: tuple[str, ...]) -> list[Requirement]:
    lists = [PROJECT["dependencies"], *(PROJECT["optional-dependencies"][extra] for extra in extras)]
    return [found for line in chain(*lists) if (found := Requirement(line)).name != "sonoshare"]


@pytest.mark.parametrize("name", LOCKS)
def test_a_lock_holds_what_the_project_asks_for(name: str) -> None:
    versions = locked(name)
    for requirement in asked(LOCKS[name]):
        assert versions[canonicalize_name(requirement.name)] in requirement.specifier, AGAIN


@pytest.mark.parametrize("name", [*LOCKS, "build"])
def test_a_lock_names_hashes_and_no_place(name: str) -> None:
    text = (ROOT / "deploy" / "requirements" / f"{name}.txt").read_text()
    assert "://" not in text
    assert not re.search(r"^--", text, re.MULTILINE)
    entries = re.split(r"^(?=[\w.-]+(?:\[\S+\])?==)", text, flags=re.MULTILINE)[1:]
    assert len(entries) == len(locked(name))
    assert all(re.search(r"--hash=sha256:[0-9a-f]{64}", entry) for entry in entries)


@pytest.mark.parametrize("name", LOCKS)
def test_a_lock_installs_the_versions_that_the_tests_run_with(name: str) -> None:
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    tested = {canonicalize_name(n): Version(v) for n, _, v in (line.partition("==") for line in lines) if v}
    differing = {n: (v, tested[n]) for n, v in locked(name).items() if n in tested and tested[n] != v}
    assert not differing, AGAIN
