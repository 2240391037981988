"""The catalogue's API and pages: what it shows, to whom, and what it refuses."""

import random
import socket
import string
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import httpx
import pytest
from tests.server.catalogue_fixture import ACCEPTANCE, OTHER, UNPUBLISHED, Site, site
from tests.server.memory import memory_storage
from tests.shared.consortium import NOW, RELEASE, Consortium, make_plan

from sonoshare_server.catalogue.app import create_app, serving
from sonoshare_server.catalogue.files import requested_range
from sonoshare_server.catalogue.publishing import revoke
from sonoshare_server.catalogue.storage import open_storage
from sonoshare_server.catalogue.store import StoredFile
from sonoshare_shared.errors import FederationError, InputError, RefusedError, VerificationError
from sonoshare_shared.protocol.canonical import sha256_hex
from sonoshare_shared.protocol.documents import Roster
from sonoshare_shared.protocol.documents.roster import ROSTER_PAYLOAD_TYPE
from sonoshare_shared.protocol.envelope import Envelope
from sonoshare_shared.protocol.release import evidence, layout
from sonoshare_shared.protocol.signed import Signed

FILES = f"/api/v1/releases/{RELEASE}/files"
IMAGE = f"{FILES}/images/000000.png"


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with site(tmp_path_factory.mktemp("catalogue")) as running:
        yield running


@pytest.fixture(scope="module")
def in_memory(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with site(tmp_path_factory.mktemp("catalogue"), storage=memory_storage()) as running:
        yield running


@pytest.fixture
def fresh(tmp_path: Path) -> Iterator[Site]:
    with site(tmp_path) as running:
        yield running


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


def test_list_and_one_release(served: Site) -> None:
    listed = served.client.get("/api/v1/releases").json()["releases"]
    assert {release["release"] for release in listed} == {RELEASE, OTHER}
    one = served.client.get(f"/api/v1/releases/{RELEASE}").json()
    assert one["counts"] == {"benign": 6, "malignant": 5}
    assert one["privacy"]["epsilon"] == 6.5
    assert [hospital["verdict"] for hospital in one["hospitals"]] == ["PASS"] * 3
    assert one["utility"]["measured"] is False
    assert one["state"] == "published"


def test_manifest_is_the_signed_bytes(served: Site) -> None:
    answer = served.client.get(f"/api/v1/releases/{RELEASE}/manifest")
    assert answer.content == (served.bundle() / layout.MANIFEST).read_bytes()
    assert answer.headers["etag"] == f'"{sha256_hex(answer.content)}"'


def test_every_listed_file_is_served_with_its_digest(served: Site) -> None:
    token = served.token()
    listing = served.client.get(FILES).json()["files"]
    on_disk = {p.relative_to(served.bundle()).as_posix() for p in served.bundle().rglob("*") if p.is_file()}
    assert {file["path"] for file in listing} == on_disk
    for file in listing:
        answer = served.client.get(file["url"], headers=bearer(token))
        assert (len(answer.content), sha256_hex(answer.content)) == (file["size"], file["sha256"])


def test_public_files_need_no_token_and_data_do(served: Site) -> None:
    for file in served.client.get(FILES).json()["files"]:
        status = served.client.get(file["url"]).status_code
        assert status == (200 if file["public"] else 401), file["path"]
    assert served.client.get(f"{FILES}/{layout.METADATA}").status_code == 401


def test_case_24_unpublished_or_unknown_release_is_404_on_every_route(served: Site) -> None:
    routes = served.client.get("/api/v1/openapi.json").json()["paths"]
    concrete = [route for route in routes if "{release}" in route or "{object_id}" in route]
    assert len(concrete) >= 9
    token = served.token()
    for release in (UNPUBLISHED, "never-was"):
        for route in [*concrete, "/releases/{release}", "/releases/{release}/agreement"]:
            path = route.replace("{release}", release).replace("{object_id}", release)
            path = path.replace("{path}", "metadata.csv").replace("{access_id}", "https")
            assert served.client.get(path, headers=bearer(token)).status_code == 404, path
        answer = served.client.post("/api/v1/agreements", json=ACCEPTANCE | {"release": release})
        assert answer.status_code == 404


def raw(served: Site, method: str, target: bytes, headers: dict[str, bytes], body: bytes = b"") -> int:
    """Send bytes as they are, without a client library that would tidy them, and return the status."""
    lines = [method.encode() + b" " + target + b" HTTP/1.1", *(k.encode() + b": " + v for k, v in headers.items())]
    lines += [b"Content-Length: %d" % len(body), b"Connection: close", b"", body]
    host, port = served.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=10) as connection:
        connection.sendall(b"\r\n".join(lines))
        answer = connection.makefile("rb").readline()
    assert answer.startswith(b"HTTP/1.1 "), answer
    return int(answer.split()[1])


@pytest.mark.parametrize(
    "path", ["../manifest.json", "%2e%2e/manifest.json", "images/../manifest.json", "/etc/passwd", "catalogue.db", ""]
)
def test_case_20_only_listed_paths_are_served(served: Site, path: str) -> None:
    token = {"Host": b"x", "Authorization": f"Bearer {served.token()}".encode()}
    for target in (f"{FILES}/{path}", f"{FILES}/images/../{path}", f"{FILES}//{path}"):
        if target != f"{FILES}/images/../images/../manifest.json":
            assert raw(served, "GET", target.encode(), token) == 404, target


@pytest.mark.parametrize("extra", [{"is_admin": True}, {"status": "published"}, {"scope": "*"}])
def test_case_25_extra_fields_are_refused(served: Site, extra: dict[str, bool] | dict[str, str]) -> None:
    answer = served.client.post("/api/v1/agreements", json=ACCEPTANCE | extra)
    assert answer.status_code == 422
    assert ACCEPTANCE["email"] not in answer.text


@pytest.mark.parametrize(
    "change", [{"email": "nobody"}, {"name": ""}, {"purpose": " "}, {"name": "a\nb"}, {"release": "../x"}, {"name": 3}]
)
def test_acceptance_is_validated(served: Site, change: dict[str, str] | dict[str, int]) -> None:
    assert served.client.post("/api/v1/agreements", json=ACCEPTANCE | change).status_code == 422


def test_old_agreement_is_refused(served: Site) -> None:
    assert served.client.post("/api/v1/agreements", json=ACCEPTANCE | {"agreement_version": "0.9"}).status_code == 409


def test_case_26_tokens_that_do_not_open(fresh: Site) -> None:
    good = fresh.token()
    assert fresh.client.get(IMAGE, headers=bearer(good)).status_code == 200
    none_algorithm = "eyJhbGciOiJub25lIn0.eyJzdWIiOiJhZG1pbiJ9."
    for token in ("x", good[:-1], good + "A", good.upper(), none_algorithm, "a" * 5000, fresh.token(OTHER)):
        answer = fresh.client.get(IMAGE, headers=bearer(token))
        assert answer.status_code == 401
        assert "bearer" in answer.headers["www-authenticate"].lower()
    assert fresh.client.get(IMAGE, headers={"Authorization": f"Basic {good}"}).status_code == 401
    fresh.clock.now += timedelta(days=30)
    late = fresh.client.get(IMAGE, headers=bearer(good))
    assert (late.status_code, late.json()["error"]) == (401, "token-expired")


def test_case_26_revoked_token_does_not_open(served: Site) -> None:
    token = served.token()
    assert served.client.delete("/api/v1/tokens/current", headers=bearer(token)).status_code == 204
    assert served.client.get(IMAGE, headers=bearer(token)).status_code == 401
    assert served.client.delete("/api/v1/tokens/current", headers=bearer(token)).status_code == 401


def test_tokens_are_kept_as_digests_only(served: Site) -> None:
    token = served.token()
    kept = list(served.settings.database.parent.glob("catalogue.db*"))
    assert kept
    for path in kept:
        assert token.encode() not in path.read_bytes()


def test_too_many_tokens_in_a_minute(fresh: Site) -> None:
    fresh.settings.__dict__["grants_per_minute"] = 2
    answers = [fresh.client.post("/api/v1/agreements", json=ACCEPTANCE).status_code for _ in range(3)]
    assert answers == [201, 201, 429]
    fresh.clock.now += timedelta(minutes=2)
    assert fresh.client.post("/api/v1/agreements", json=ACCEPTANCE).status_code == 201


def test_case_27_scripts_in_texts_are_escaped(tmp_path: Path) -> None:
    nasty = "<script>alert(1)</script>\"'><img src=x onerror=alert(2)>"
    plan = make_plan()
    plan = plan.model_copy(update={"task": plan.task.model_copy(update={"question": nasty})})
    consortium = Consortium(tmp_path, plan=plan, title=nasty)
    with site(tmp_path, consortium, title=nasty) as running:
        revocation = running.revocation(OTHER)
        signed = evidence.sign_revocation(revocation, consortium.keys["south"])
        revoke(running.storage.releases, signed, consortium.roster(), consortium.log())
        report = f"{FILES}/{layout.PRIVACY_HTML}", f"{FILES}/{layout.UTILITY_HTML}"
        form = {"name": nasty, "email": nasty, "purpose": nasty, "agreement_version": "1.0"}
        pages = [
            running.client.get(path)
            for path in ("/", f"/releases/{RELEASE}", f"/releases/{OTHER}", *report, f"/{nasty}")
        ]
        pages.append(running.client.post(f"/releases/{RELEASE}/agreement", data=form))
        for page in pages:
            assert "<script" not in page.text
            assert "<img src=x" not in page.text
            assert "<b>consent" not in page.text
            policy = page.headers["content-security-policy"]
            assert "default-src 'none'" in policy
            assert "script-src" not in policy
        assert "&lt;script" in pages[1].text
        assert "Revoked" in pages[2].text


def test_pages_carry_no_script_and_nothing_from_elsewhere(served: Site) -> None:
    for path in ("/", f"/releases/{RELEASE}", f"/releases/{RELEASE}/agreement"):
        page = served.client.get(path)
        assert page.status_code == 200
        assert "<script" not in page.text
        assert " style=" not in page.text
        assert 'src="http' not in page.text
        for name in ("x-content-type-options", "referrer-policy", "x-frame-options"):
            assert name in page.headers
    assert served.client.get("/static/style.css").headers["content-type"].startswith("text/css")
    assert served.client.get("/static/../app.py").status_code == 404


def test_agreement_form_gives_a_token_that_opens(served: Site) -> None:
    form = {"name": "Ada", "email": "ada@example.org", "purpose": "teaching", "agreement_version": "1.0"}
    refused = served.client.post(f"/releases/{RELEASE}/agreement", data=form)
    assert refused.status_code == 422
    assert 'value="Ada"' in refused.text
    page = served.client.post(f"/releases/{RELEASE}/agreement", data=form | {"accept": "yes"})
    assert page.status_code == 201
    token = page.text.split('<pre class="token">')[1].split("<")[0]
    assert served.client.get(IMAGE, headers=bearer(token)).status_code == 200


RANGES = {
    "bytes=0-9": (206, slice(0, 10)),
    "bytes=10-": (206, slice(10, None)),
    "bytes=-5": (206, slice(-5, None)),
    "bytes=0-99999999": (206, slice(0, None)),
    "bytes=-99999999": (206, slice(0, None)),
    "bytes=9-3": (200, slice(0, None)),
    "bytes=0-0,2-3": (200, slice(0, None)),
    "bytes=" + ",".join(f"{n}-{n}" for n in range(500)): (200, slice(0, None)),
    "items=0-3": (200, slice(0, None)),
    "bytes=a-b": (200, slice(0, None)),
    "bytes=-": (200, slice(0, None)),
    "bytes=99999999-": (416, None),
    "bytes=-0": (416, None),
}


@pytest.mark.parametrize("header", RANGES)
def test_case_28_ranges(in_memory: Site, header: str) -> None:
    status, part = RANGES[header]
    content = (in_memory.bundle() / layout.DATASHEET).read_bytes()
    answer = in_memory.client.get(f"{FILES}/{layout.DATASHEET}", headers={"Range": header})
    assert answer.status_code == status
    assert answer.content == (b"" if part is None else content[part])
    assert len(answer.content) <= len(content)
    if status == 416:
        assert answer.headers["content-range"] == f"bytes */{len(content)}"


def test_case_28_conditional_requests(served: Site) -> None:
    url = f"{FILES}/{layout.DATASHEET}"
    whole = served.client.get(url)
    etag = whole.headers["etag"]
    stale = served.client.get(url, headers={"Range": "bytes=5-9", "If-Range": '"old"'})
    assert (stale.status_code, stale.content) == (200, whole.content)
    current = served.client.get(url, headers={"Range": "bytes=5-9", "If-Range": etag})
    assert (current.status_code, current.content) == (206, whole.content[5:10])
    for header in (etag, f'"x", {etag}', f"W/{etag}", "*"):
        unchanged = served.client.get(url, headers={"If-None-Match": header})
        assert (unchanged.status_code, unchanged.content) == (304, b"")
    assert served.client.get(url, headers={"If-None-Match": '"x"'}).status_code == 200
    head = served.client.head(url)
    assert (head.content, head.headers["content-length"]) == (b"", str(len(whole.content)))
    assert "sha-256=:" in head.headers["repr-digest"]


def test_large_file_is_streamed_in_ranges(tmp_path: Path) -> None:
    """A file of several blocks, and every range of it, comes out right."""
    assert requested_range("bytes=0-0", 0) == (0, 0)
    with site(tmp_path, storage=memory_storage()) as running:
        data = bytes(range(256)) * (3 << 12)
        (place,) = [place for place in running.storage.blobs.files if place == RELEASE]  # type: ignore[attr-defined]
        running.storage.blobs.files[place][layout.DATASHEET] = data  # type: ignore[attr-defined]
        stored = running.storage.releases.find(RELEASE)
        stored.files[layout.DATASHEET] = StoredFile(layout.DATASHEET, len(data), sha256_hex(data))  # type: ignore[index]
        assert running.client.get(f"{FILES}/{layout.DATASHEET}").content == data
        part = running.client.get(f"{FILES}/{layout.DATASHEET}", headers={"Range": "bytes=1000000-2999999"})
        assert part.content == data[1000000:3000000]


def test_case_30_junk_is_answered_and_never_with_5xx(served: Site) -> None:
    rng = random.Random(30)  # noqa: S311 - repeatable
    alphabet = string.printable + "äß\u202e漢\U0001f4a3"
    routes = list(served.client.get("/api/v1/openapi.json").json()["paths"])
    routes += ["/", "/releases/{release}", "/releases/{release}/agreement", "/static/{path}", "/{path}"]
    token = served.token()

    def junk(longest: int) -> str:
        return "".join(rng.choice(alphabet) for _ in range(rng.randrange(longest)))

    for _ in range(400):
        release = rng.choice([RELEASE, OTHER, UNPUBLISHED, junk(12)])
        path = rng.choice(["metadata.csv", "images/000000.png", junk(30), "%00", "%ff%fe", "a" * 3000])
        method = rng.choice(["GET", "HEAD", "POST", "DELETE", "PUT", "PATCH", "OPTIONS", "BREW"])
        body = rng.choice([b"", b"{", b"[]", b"null", rng.randbytes(50), b'{"a":' * 2000, junk(80).encode()])
        headers = {
            "Authorization": rng.choice([f"Bearer {token}", "Bearer", "Bearer " + "é" * 5, "Basic !!"]).encode(),
            "Range": rng.choice(["bytes=0-1", "bytes=" + "9" * 30 + "-", "bytes=--1", "bytes=,", "\t"]).encode(),
            "If-None-Match": rng.choice(["*", '"', ",,,"]).encode(),
            "Content-Type": rng.choice(["application/json", "text/plain", "multipart/form-data", "x"]).encode(),
            "Host": rng.choice(["127.0.0.1", "<script>", "a b", "x:99999999"]).encode(),
        }
        target = rng.choice(routes).replace("{release}", release).replace("{path}", path).encode()
        target = target.translate(None, b" \r\n\t\x0b\x0c")
        assert raw(served, method, target, headers, body) < 500, (method, target, body, headers)


def test_long_bodies_are_cut_off(served: Site) -> None:
    answer = served.client.post(
        "/api/v1/agreements", content=b" " * 100_000, headers={"Content-Type": "application/json"}
    )
    assert answer.status_code == 413
    form = served.client.post(f"/releases/{RELEASE}/agreement", content=b"x" * 100_000)
    assert form.status_code == 413


def test_case_56_publish_verifies_first(tmp_path: Path) -> None:
    consortium = Consortium(tmp_path)
    folder = consortium.release()
    with site(tmp_path / "site") as running:
        roster = consortium.signed_roster()
        (folder / "images/000000.png").write_bytes(b"x")
        with pytest.raises(VerificationError):
            running.publish(RELEASE, bundle=folder, roster=roster)
        assert running.storage.releases.find(RELEASE) is not None  # the site's own, untouched
        with pytest.raises(VerificationError) as caught:
            running.publish(OTHER, roster=roster)
        assert caught.value.cause == "roster"
        with pytest.raises(VerificationError) as caught:
            running.publish(OTHER, now=NOW + timedelta(days=500))
        assert caught.value.cause == "roster-expired"


def test_a_roster_that_changes_while_the_catalogue_runs_is_the_one_that_is_shown(fresh: Site) -> None:
    fresh.consortium.version += 1
    shown = Envelope.from_bytes(fresh.client.get("/api/v1/roster").content)
    opened = Signed.opened(Roster, shown, fresh.consortium.root.public, ROSTER_PAYLOAD_TYPE)
    assert opened.document.version == 2


def test_another_manifest_cannot_take_a_name(fresh: Site, tmp_path: Path) -> None:
    other = Consortium(tmp_path / "other", root=fresh.consortium.root, coordinator=fresh.consortium.coordinator)
    other.folder.mkdir()
    other.keys = fresh.consortium.keys
    other.title = "another"
    folder = other.release()
    with pytest.raises(RefusedError):
        fresh.publish(RELEASE, bundle=folder)


def test_revocation_is_seen_at_once_and_wins(fresh: Site) -> None:
    token = fresh.token()
    consortium, roster = fresh.consortium, fresh.consortium.roster()
    forged = evidence.sign_revocation(fresh.revocation(RELEASE), consortium.keys["north"])
    with pytest.raises(VerificationError):
        revoke(fresh.storage.releases, forged, roster, consortium.log())
    by_coordinator = evidence.sign_revocation(fresh.revocation(OTHER, "coordinator"), consortium.coordinator)
    revoke(fresh.storage.releases, by_coordinator, roster, consortium.log())
    signed = evidence.sign_revocation(fresh.revocation(RELEASE), consortium.keys["south"])
    revoke(fresh.storage.releases, signed, roster, consortium.log())
    assert fresh.client.get(f"/api/v1/releases/{RELEASE}").json()["state"] == "revoked"
    assert fresh.client.get(IMAGE, headers=bearer(token)).status_code == 410
    assert fresh.client.get(f"{FILES}/{layout.PRIVACY_JSON}").status_code == 200
    assert fresh.client.post("/api/v1/agreements", json=ACCEPTANCE).status_code == 410
    assert fresh.client.get(f"/releases/{RELEASE}/agreement").status_code == 410
    with pytest.raises(RefusedError):
        fresh.publish(RELEASE)
    log = evidence.LogView.from_bytes(fresh.client.get("/api/v1/log").content)
    with pytest.raises(VerificationError) as caught:
        fresh.publish(RELEASE, log=log)
    assert caught.value.cause == "revoked"


def test_revocation_of_an_unknown_manifest(fresh: Site) -> None:
    revocation = fresh.revocation(RELEASE).model_copy(update={"manifest_digest": "0" * 64})
    signed = evidence.sign_revocation(revocation, fresh.consortium.keys["south"])
    with pytest.raises(InputError):
        revoke(fresh.storage.releases, signed, fresh.consortium.roster(), fresh.consortium.log())


def test_another_process_publishes_and_the_running_catalogue_shows_it(fresh: Site) -> None:
    other = Site(fresh.consortium, fresh.settings, open_storage(fresh.settings), fresh.clock)
    other.publish(UNPUBLISHED)
    assert fresh.client.get(f"/api/v1/releases/{UNPUBLISHED}").status_code == 200
    other.storage.releases.hide(UNPUBLISHED, now=NOW)
    assert fresh.client.get(f"/api/v1/releases/{UNPUBLISHED}").status_code == 404


def test_health_roster_and_agreement(served: Site) -> None:
    assert served.client.get("/api/v1/health").json() == {"status": "ok"}
    assert Envelope.from_bytes(served.client.get("/api/v1/roster").content) == served.settings.roster()
    assert served.client.get("/api/v1/agreement").json()["version"] == "1.0"


def test_busy_port_is_a_clear_error(served: Site) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(FederationError, match=str(port)), serving(create_app(served.settings), port=port):
            pass
    with pytest.raises(FederationError), serving(create_app(served.settings), port=99999):
        pass


def test_damaged_file_is_not_served(fresh: Site) -> None:
    (fresh.bundle() / layout.LICENCE).unlink()
    answer = fresh.client.get(f"{FILES}/{layout.LICENCE}")
    assert answer.status_code == 503
    assert answer.json()["error"] == "file-missing"


def test_a_catalogue_whose_folder_was_renamed_serves_as_before(tmp_path: Path) -> None:
    with site(tmp_path / "before") as running:
        content = running.client.get(f"{FILES}/{layout.DATASHEET}").content
    (tmp_path / "before").rename(tmp_path / "after")
    settings = replace(running.settings, database=tmp_path / "after" / "catalogue.db")
    with serving(create_app(settings)) as url:
        answer = httpx.get(f"{url}{FILES}/{layout.DATASHEET}", trust_env=False)
    assert (answer.status_code, answer.content) == (200, content)


def test_a_release_that_lies_elsewhere_is_served_from_there(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    consortium = Consortium(tmp_path / "elsewhere")
    with site(tmp_path / "catalogue", consortium) as running:
        assert running.client.get(f"{FILES}/{layout.DATASHEET}").status_code == 200
