"""The API beyond files: pages of lists, problems, proofs, DRS objects, limits; and clients that others wrote."""

import base64
import json
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.server.catalogue_fixture import ACCEPTANCE, OTHER, UNPUBLISHED, Site, site
from tests.shared.consortium import RELEASE

from sonoshare_server.catalogue import limits
from sonoshare_server.catalogue.cursors import page
from sonoshare_server.catalogue.limits import Buckets
from sonoshare_server.catalogue.problems import Refusal
from sonoshare_server.catalogue.publishing import revoke
from sonoshare_shared.protocol import merkle
from sonoshare_shared.protocol.canonical import sha256_hex
from sonoshare_shared.protocol.release import evidence, layout
from sonoshare_shared.protocol.release.evidence import LogProof, LogView, require_logged
from sonoshare_shared.protocol.translog import verified_head

FILES = f"/api/v1/releases/{RELEASE}/files"
DRS = "/ga4gh/drs/v1/objects"


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with site(tmp_path_factory.mktemp("catalogue")) as running:
        signed = evidence.sign_revocation(running.revocation(OTHER), running.consortium.keys["south"])
        revoke(running.storage.releases, signed, running.consortium.roster(), running.consortium.log())
        yield running


def pages(served: Site, path: str, name: str, limit: int) -> list[Any]:
    found: list[Any] = []
    cursor = None
    for _ in range(100):
        answer = served.client.get(path, params={"limit": limit} | ({"cursor": cursor} if cursor else {})).json()
        assert 1 <= len(answer[name]) <= limit
        found += answer[name]
        cursor = answer["next"]
        if cursor is None:
            return found
    raise AssertionError("there is no end")


@pytest.mark.parametrize("limit", [1, 2, 7, 100])
def test_pages_of_a_list_are_the_list(served: Site, limit: int) -> None:
    assert [r["release"] for r in pages(served, "/api/v1/releases", "releases", limit)] == [RELEASE, OTHER]
    assert pages(served, FILES, "files", limit) == served.client.get(FILES).json()["files"]


def test_a_cursor_goes_on_behind_what_was_seen_whatever_comes_and_goes() -> None:
    def key(item: int) -> list[Any]:
        return [item]

    part, cursor = page([1, 3, 5, 7], key, cursor=None, limit=2)
    assert list(part) == [1, 3]
    assert [list(page(items, key, cursor=cursor, limit=9)[0]) for items in ([1, 4, 5, 7], [0, 2, 3, 9], [1], [])] == [
        [4, 5, 7],
        [9],
        [],
        [],
    ]
    for wrong in ("x", "", "bnVsbA", "WyJhIl0", "WzEsMl0", "é", "W" * 2000):
        with pytest.raises(Refusal, match="422"):
            page([1, 2], key, cursor=wrong, limit=1)


REFUSALS: dict[str, tuple[str, str, int, dict[str, Any]]] = {
    "not-found": ("GET", "/api/v1/releases/never-was", 404, {}),
    "token": ("GET", f"{FILES}/{layout.METADATA}", 401, {}),
    "revoked": ("GET", f"/api/v1/releases/{OTHER}/files/{layout.METADATA}", 410, {}),
    "agreement-version": ("POST", "/api/v1/agreements", 409, {"json": ACCEPTANCE | {"agreement_version": "0.1"}}),
    "invalid": ("POST", "/api/v1/agreements", 422, {"json": {"a": 1}}),
    "too-large": ("POST", "/api/v1/agreements", 413, {"content": b" " * 40_000}),
    "http": ("PATCH", "/api/v1/releases", 405, {}),
}


@pytest.mark.parametrize("word", REFUSALS)
def test_every_refusal_is_a_problem_with_its_word(served: Site, word: str) -> None:
    method, path, status, options = REFUSALS[word]
    answer = served.client.request(method, path, **options)
    said = answer.json()
    assert answer.headers["content-type"] == "application/problem+json"
    assert (answer.status_code, said["status"], said["error"]) == (status, status, word)
    assert said["type"] == f"urn:sonoshare:problem:{word}"
    assert said["title"]
    assert said["detail"]
    assert answer.headers["content-security-policy"]


def test_statements_name_every_hospital_with_digests_of_what_it_signed(served: Site) -> None:
    said = served.client.get(f"/api/v1/releases/{RELEASE}/statements").json()
    assert [s["hospital"] for s in said["statements"]] == sorted(served.consortium.keys)
    for statement in said["statements"]:
        for what in ("statement", "signature"):
            assert sha256_hex(served.client.get(statement[f"{what}_url"]).content) == statement[f"{what}_sha256"]


def test_a_release_is_proved_in_todays_log_and_every_entry_too(served: Site) -> None:
    coordinator = served.consortium.coordinator.public
    proof = LogProof.from_bytes(served.client.get(f"/api/v1/releases/{RELEASE}/proof").content)
    digest = served.client.get(f"/api/v1/releases/{RELEASE}").json()["manifest_digest"]
    head = require_logged(proof, RELEASE, digest, coordinator)
    log = LogView.from_bytes(served.client.get("/api/v1/log").content)
    assert head.size == len(log.entries)
    listed = served.client.get("/api/v1/log/entries", params={"first": 1, "limit": 2}).json()
    assert (listed["entries"], listed["next"]) == (list(log.entries[1:3]), 3 if len(log.entries) > 3 else None)
    for index, entry in enumerate(log.entries):
        one = LogProof.from_bytes(served.client.get(f"/api/v1/log/proofs/{index}").content)
        path = [bytes.fromhex(node) for node in one.proof]
        root = bytes.fromhex(verified_head(one.head, coordinator).root)
        assert merkle.verify_inclusion(entry.encode(), index, len(log.entries), path, root)
    assert served.client.get(f"/api/v1/log/proofs/{len(log.entries)}").status_code == 404


def test_the_log_of_before_is_proved_the_beginning_of_todays(served: Site) -> None:
    leaves = [entry.encode() for entry in LogView.from_bytes(served.client.get("/api/v1/log").content).entries]
    for first in range(1, len(leaves) + 1):
        said = served.client.get("/api/v1/log/consistency", params={"first": first}).json()
        nodes = [bytes.fromhex(node) for node in said["proof"]]
        old, new = merkle.root(leaves[:first]), merkle.root(leaves)
        assert merkle.verify_consistency(first, len(leaves), old, new, nodes)
    assert served.client.get("/api/v1/log/consistency", params={"first": len(leaves) + 1}).status_code == 404
    assert served.client.get("/api/v1/log/consistency", params={"first": 0}).status_code == 422


def test_revocations_are_listed_with_what_was_signed(served: Site) -> None:
    (said,) = served.client.get("/api/v1/revocations").json()["revocations"]
    assert (said["release"], said["by"]) == (OTHER, "south")
    entry = LogView.from_bytes(served.client.get("/api/v1/log").content).entries[said["index"]]
    assert said["signed"]["payload"] in entry


def test_data_use_is_told_in_words(served: Site) -> None:
    (term,) = served.client.get(f"/api/v1/releases/{RELEASE}/data-use").json()["terms"]
    assert (term["code"], term["label"]) == ("DUO:0000006", "health or medical or biomedical research")
    assert term["iri"].endswith("DUO_0000006")


def test_a_drs_client_gets_a_release_file_by_file(served: Site) -> None:
    info = served.client.get("/ga4gh/drs/v1/service-info").json()
    assert info["type"] == {"group": "org.ga4gh", "artifact": "drs", "version": "1.4.0"}
    bundle = served.client.get(f"{DRS}/{RELEASE}", params={"expand": "true"}).json()
    assert bundle["self_uri"] == served.url.replace("http", "drs") + f"/{RELEASE}"
    token = {"Authorization": f"Bearer {served.token()}"}
    seen = {}
    for content in bundle["contents"]:
        said = served.client.get(f"{DRS}/{content['id']}").json()
        (method,) = said["access_methods"]
        url = served.client.get(f"{DRS}/{content['id']}/access/{method['access_id']}", headers=token).json()["url"]
        assert url == method["access_url"]["url"]
        data = served.client.get(url, headers=token).content
        assert said["checksums"] == [{"checksum": sha256_hex(data), "type": "sha-256"}]
        assert said["size"] == len(data)
        seen[content["name"]] = sha256_hex(data)
    assert set(seen) == {p.relative_to(served.bundle()).as_posix() for p in served.bundle().rglob("*") if p.is_file()}
    assert bundle["checksums"][0]["checksum"] == sha256_hex("".join(sorted(seen.values())).encode())


def test_case_24_what_is_not_shown_is_no_drs_object(served: Site) -> None:
    data = (served.bundle(UNPUBLISHED) / layout.METADATA).read_bytes()
    hidden = f"{UNPUBLISHED}.{sha256_hex(data)}"
    shown = f"{RELEASE}.{sha256_hex((served.bundle() / layout.METADATA).read_bytes())}"
    for path in (UNPUBLISHED, hidden, f"{hidden}/access/https", f"{RELEASE}.{'0' * 64}", f"{shown}/access/s3", "A b"):
        answer = served.client.get(f"{DRS}/{path}")
        assert answer.status_code == 404, path
        assert answer.json()["status_code"] == 404
        assert answer.json()["msg"]
    assert served.client.get(f"{DRS}/{shown}").json()["access_methods"][0]["authorizations"] == {
        "supported_types": ["BearerAuth"]
    }
    assert served.client.get(f"{DRS}/{shown}/access/https").status_code == 401
    revoked = f"{OTHER}.{sha256_hex((served.bundle(OTHER) / layout.METADATA).read_bytes())}"
    assert served.client.get(f"{DRS}/{revoked}/access/https").status_code == 410


def test_curl_and_wget_resume_a_download(served: Site, tmp_path: Path) -> None:
    url, data = f"{served.url}{FILES}/{layout.METADATA}", (served.bundle() / layout.METADATA).read_bytes()
    header = f"Authorization: Bearer {served.token()}"
    commands = {
        "curl": ["curl", "-sS", "--fail", "--noproxy", "*", "-C", "-", "-H", header, "-o", "part", url],
        "wget": ["wget", "-q", "-c", "--no-proxy", f"--header={header}", "-O", "part", url],
    }
    for name, command in commands.items():
        if shutil.which(name) is None:
            continue
        part = tmp_path / "part"
        part.write_bytes(data[:100])
        subprocess.run(command, check=True, timeout=60, cwd=tmp_path)
        assert part.read_bytes() == data, name
    assert shutil.which("curl"), "no client was tried"


def test_who_asks_too_often_waits_and_others_do_not(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    buckets = Buckets(60, lambda: now[0])
    assert [buckets.wait("a") for _ in range(10)] == [0.0] * 10
    assert buckets.wait("a") == 1.0
    assert buckets.wait("b") == 0.0
    now[0] += 1.0
    assert (buckets.wait("a"), buckets.wait("a")) == (0.0, 1.0)
    monkeypatch.setattr(limits, "_MOST_BUCKETS", 50)
    for number in range(1000):
        buckets.wait(str(number))
    assert len(buckets) <= 50


def test_an_address_or_token_that_asks_too_often_is_told_when_to_come_back(tmp_path: Path) -> None:
    with site(tmp_path, requests_per_minute=120) as running:
        token = {"Authorization": f"Bearer {running.token()}"}
        answers = [running.client.get("/api/v1/health") for _ in range(20)]
        assert {answer.status_code for answer in answers} == {200, 429}
        assert answers[-1].json()["error"] == "too-many"
        assert int(answers[-1].headers["retry-after"]) >= 1
        assert answers[-1].headers["content-security-policy"]
        assert running.client.get("/api/v1/health", headers=token).status_code == 200
        with_invented = [{"Authorization": f"Bearer {n}"} for n in range(200)]
        invented = [running.client.get("/api/v1/health", headers=one).status_code for one in with_invented]
        assert 429 in invented, "invented tokens have no end"


def cursor_of(key: object) -> str:
    return base64.urlsafe_b64encode(json.dumps(key).encode()).decode().rstrip("=")


@pytest.mark.parametrize(
    "key",
    [[0], [0, 1], ["0", "a"], [0, "a\x00"], [0, "\ud800"], [0, "A"], [2**31, "a"], [-(10**300), "a"], [True, "a"], {}],
)
def test_a_cursor_that_is_none_of_ours_never_reaches_the_database(served: Site, key: object) -> None:
    answer = served.client.get("/api/v1/releases", params={"cursor": cursor_of(key)})
    assert (answer.status_code, answer.json()["error"]) == (422, "invalid")
