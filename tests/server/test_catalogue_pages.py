"""Pages as programs read them: what is looked for is found, commands do what they say, citations can be read."""

import re
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from html import unescape
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest
import yaml
from tests.server.catalogue_fixture import OTHER, UNPUBLISHED, Site, site
from tests.shared.consortium import NOW, RELEASE, Consortium, make_plan

from sonoshare_server.catalogue import citation
from sonoshare_server.catalogue.contact import contact_of
from sonoshare_server.catalogue.listing import PAGE
from sonoshare_shared.errors import InputError
from sonoshare_shared.protocol.canonical import sha256_file
from sonoshare_shared.protocol.release import layout
from sonoshare_shared.protocol.release.verify import verify_release

PAGES = 3
NASTY = "</script>\"'><svg onload=alert(1)>\\}{%$"
COMMAND = re.compile(r'<pre [^>]*aria-label="([^"]*)">(.*?)</pre>', re.DOTALL)


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """Three pages of releases under hostile names; those of the fixture are newer."""
    plan = make_plan()
    plan = plan.model_copy(update={"task": plan.task.model_copy(update={"question": NASTY})})
    folder = tmp_path_factory.mktemp("catalogue")
    with site(folder, Consortium(folder, plan=plan), title=f"R&D {NASTY}", contact="fed@example.org") as running:
        store, roster = running.storage.releases, running.settings.roster()
        verified, first = verify_release(running.bundle(), roster, now=NOW), store.find(RELEASE)
        assert first is not None
        for number in range(PAGE * (PAGES - 1)):
            name, summary = f"old-{number:02d}", {**first.summary, "images": number}
            summary |= {"release": name, "task": "grading", "privacy": {**first.summary["privacy"], "epsilon": 0.1}}
            manifest = verified.manifest.model_copy(update={"release": name})
            stored = replace(first, release=name, sequence=0, summary=summary)
            store.show(replace(verified, manifest=manifest), stored, now=NOW)
        yield running


def names(page: httpx.Response) -> list[str]:
    assert page.status_code == 200
    return re.findall(r'<h2 id="r-([^"]+)"', page.text)


def test_pages_lead_from_one_to_the_next_and_keep_what_was_asked_for(served: Site) -> None:
    address, seen = "/?task=grading&sort=images&class=benign", []
    for _ in range(PAGES):
        page = served.client.get(address)
        seen += names(page)
        following = re.search(r'rel="next" href="([^"]+)"', page.text)
        if following is None:
            break
        address = unescape(following.group(1))
        assert parse_qs(urlsplit(address).query)["task"] == ["grading"]
    assert seen == [f"old-{number:02d}" for number in reversed(range(PAGE * (PAGES - 1)))]
    assert names(served.client.get("/"))[:2] == [RELEASE, OTHER]
    assert names(served.client.get("/?epsilon=7&epsilon=&state=published&q=BREAST")) == [RELEASE, OTHER]


@pytest.mark.parametrize(
    ("query", "status", "said"),
    [
        ("q=never-was", 200, "No release is like that"),
        (f"q={UNPUBLISHED}", 200, "No release is like that"),
        ("page=9", 200, "There is no page 9"),
        ("page=0", 422, "whole number from 1"),
        ("page=1e9", 422, "whole number from 1"),
        ("epsilon=nan", 422, "for instance 8"),
        ("epsilon=-1", 422, "for instance 8"),
        ("size=" + "9" * 5000, 422, "number of pixels"),
        ("sort=random", 422, "The order"),
        ("state=unpublished", 422, "The state"),
        ("q=%00%ff%25_'\\", 200, "No release is like that"),
        ("task=%3Cb%3E&class=%22&nothing=1", 200, "No release is like that"),
    ],
)
def test_what_is_not_there_or_cannot_be_asked_is_said(served: Site, query: str, status: int, said: str) -> None:
    page = served.client.get(f"/?{query}")
    assert (page.status_code, names(page) if status == 200 else []) == (status, [])
    assert said in page.text


def test_an_empty_catalogue_says_when_something_appears(tmp_path: Path) -> None:
    with site(tmp_path) as running:
        for release in (RELEASE, OTHER):
            running.storage.releases.hide(release, now=NOW)
        page = running.client.get("/")
        assert "Nothing is published yet" in page.text
        assert names(page) == []


def commands(served: Site) -> dict[str, str]:
    page = served.client.get(f"/releases/{RELEASE}").text
    return {name: unescape(text) for name, text in COMMAND.findall(page)}


@pytest.mark.parametrize("tool", ["curl", "wget"])
def test_the_commands_for_curl_and_wget_fetch_every_file_and_its_digest_is_right(
    served: Site, tmp_path: Path, tool: str
) -> None:
    if shutil.which("curl") is None or shutil.which(tool) is None:
        pytest.skip(f"SKIPPED LOUDLY: no {tool} here")
    said = commands(served)
    script = said["Commands that fetch with curl"].replace("TOKEN=…", f"TOKEN={served.token()}")
    if tool == "wget":
        lines = script.splitlines()
        script = "\n".join([*lines[:4], said["Command that fetches with wget"], lines[-1]])
    done = subprocess.run(
        [str(shutil.which("bash")), "-ec", script],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
        env={"PATH": "/usr/bin:/bin"},
        check=False,
    )
    assert done.returncode == 0, done.stderr
    folder = tmp_path / RELEASE
    fetched = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    listed = {line[66:] for line in (folder / layout.SHA256SUMS).read_text().splitlines()}
    assert fetched == listed | {layout.SHA256SUMS}
    assert sha256_file(folder / layout.METADATA) == sha256_file(served.bundle() / layout.METADATA)


def test_what_the_page_says_of_our_own_commands_is_complete(served: Site) -> None:
    said = commands(served)
    assert f"sonoshare fetch {RELEASE} --server {served.url}" in said["Command that fetches with sonoshare"]
    assert f'sonoshare.load("{served.url}/releases/{RELEASE}")' in said["Python that loads the release"]
    assert f"curl -sSfo log.json {served.url}/api/v1/log" in said["Commands that verify"]


def test_case_27_a_citation_of_hostile_words_is_read_back_as_they_are(served: Site) -> None:
    page = served.client.get(f"/releases/{RELEASE}")
    said = commands(served)
    for path, name in (("citation.bib", "BibTeX entry"), ("CITATION.cff", "Citation file")):
        answer = served.client.get(f"/releases/{RELEASE}/{path}")
        assert "attachment" in answer.headers["content-disposition"]
        assert said[name] == answer.text
    read = yaml.safe_load(said["Citation file"])
    assert read["authors"] == [{"name": served.settings.title}]
    assert (read["cff-version"], read["type"], read["date-released"]) == ("1.2.0", "dataset", "2026-11-22")
    assert read["identifiers"][0]["value"] == f"sha256:{sha256_file(served.bundle() / layout.MANIFEST)}"
    entry = said["BibTeX entry"]
    assert entry.replace(r"\{", "").replace(r"\}", "").count("{") == entry.replace(r"\{", "").replace(r"\}", "").count(
        "}"
    )
    assert r"R\&D" in entry
    assert r"\textbackslash{}\}\{\%\$" in entry
    assert "<svg onload" not in page.text


def test_a_citation_of_what_was_revoked_says_so() -> None:
    summary: dict[str, Any] = {"release": "r", "created": "2026-01-02", "sequence": 1, "task": "t", "state": "revoked"}
    summary |= {"manifest_digest": "0" * 64, "privacy": {"epsilon": 1.0, "delta": 1e-4}}
    assert "REVOKED" in citation.bibtex(summary, "c", "https://x")
    assert "REVOKED" in citation.cff(summary, "c", "https://x")


def test_the_api_says_how_large_images_are_and_whom_to_ask(served: Site) -> None:
    one = served.client.get(f"/api/v1/releases/{RELEASE}").json()
    assert (one["image_size"], one["contact"]) == (16, "fed@example.org")
    assert one["gallery"] == [{"label": "benign", "images": 6}, {"label": "malignant", "images": 5}]
    listed = served.client.get("/api/v1/releases?limit=1").json()["releases"]
    assert [release["contact"] for release in listed] == ["fed@example.org"]
    assert 'href="mailto:fed@example.org"' in served.client.get("/").text


def test_a_release_of_before_shows_its_sheet_whole_and_one_whose_report_is_gone_says_so(served: Site) -> None:
    store = served.storage.releases
    first = store.find(RELEASE)
    assert first is not None
    verified = verify_release(served.bundle(), served.settings.roster(), now=NOW)
    verified = replace(verified, manifest=verified.manifest.model_copy(update={"release": "before"}))
    summary = {name: value for name, value in first.summary.items() if name not in {"gallery", "image_size"}}
    store.show(
        verified, replace(first, release="before", summary=summary | {"release": "before"}, place="gone"), now=NOW
    )
    page = served.client.get("/releases/before")
    assert page.status_code == 200
    assert 'class="sheet"' in page.text
    assert "cannot be read here at the moment" in page.text
    assert "before" in names(served.client.get("/"))
    store.hide("before", now=NOW)


@pytest.mark.parametrize(
    "text", ["nobody", "a@b", "http://example.org", "a@example.org\n", "javascript:alert(1)", "https://a b"]
)
def test_a_contact_that_nobody_can_write_to_is_refused(text: str) -> None:
    with pytest.raises(InputError, match="SONOSHARE_CONTACT"):
        contact_of(text)
    assert contact_of("") is None
    assert contact_of("https://example.org/ask") == "https://example.org/ask"
