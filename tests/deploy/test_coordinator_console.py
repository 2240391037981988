"""The coordinator's console: its pages show what the commands show, its forms do what the commands do, and no words of
others become markup."""

import re
import sqlite3
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

import pytest
from starlette.testclient import TestClient
from tests.deploy.command import sonoshare
from tests.deploy.console_shown import Shown
from tests.deploy.console_world import (
    HOSTILE,
    MARKUP,
    PORT,
    STUDY,
    CoordinatorWorld,
    coordinator_world,
    shown_in,
)

from sonoshare_client.node.invitation import join
from sonoshare_deploy.addresses import Addresses, free_ports
from sonoshare_deploy.coordinator_console.app import NAVIGATION
from sonoshare_deploy.coordinator_console.release_view import release_view
from sonoshare_server.consortium.inviting import read_invited
from sonoshare_server.consortium.members import read_members
from sonoshare_server.consortium.publication import catalogue_states
from sonoshare_server.home import CoordinatorHome
from sonoshare_server.queue.actions import begun, require_asked_for
from sonoshare_server.queue.wanted import wanted
from sonoshare_shared.errors import StoppedError
from sonoshare_shared.events import EventLog
from sonoshare_shared.local_pages.guard import FORM_WORD
from sonoshare_shared.local_pages.serving import listening
from sonoshare_shared.protocol.documents.invitation import Invitation
from sonoshare_shared.protocol.envelope import Envelope
from sonoshare_shared.protocol.release import evidence

PAGES = [*(path for path, _ in NAVIGATION), "/log?only=trouble", f"/studies/{STUDY}", "/studies/second"]
FORMS = [
    *(f"/studies/second/{verb}" for verb in ("run", "pause", "retire")),
    *(f"/releases/sealed/{verb}" for verb in ("publish", "unpublish", "revoke")),
    *("/releases/create", "/releases/revoked-by-hospital", "/members/invite", "/members/admit"),
    *("/members/south/expel", "/leave"),
]
RELEASES = ("half", "failed", "open", "unsigned", "sealed")


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> CoordinatorWorld:
    made = coordinator_world(tmp_path_factory.mktemp("console"))
    (made.home.study(STUDY).candidates_path / ".half.drawing").mkdir(parents=True)
    failed = made.candidate("failed")
    made.audited("failed", failed, "south", verdict="FAIL", reasons=(HOSTILE,))
    made.audited("open", made.candidate("open"), "north", spent_epsilon=7.25)
    made.home.study(STUDY).event("online", hospitals=["west"], missing=[])
    made.home.study(STUDY).event("refused", hospital="west", release="open", reason=HOSTILE)
    made.drafted("unsigned", "north")
    made.sealed("sealed")
    EventLog(made.home.events_path).record("failed", action="train", reason=HOSTILE)
    return made


@pytest.fixture
def shown(world: CoordinatorWorld) -> Iterator[Shown[CoordinatorHome]]:
    with shown_in(world.home) as console:
        yield console


@pytest.fixture
def fresh(tmp_path: Path) -> Iterator[tuple[CoordinatorWorld, Shown[CoordinatorHome]]]:
    made = coordinator_world(tmp_path)
    with shown_in(made.home) as console:
        yield made, console


def test_commands_on_pages_name_the_folder_as_it_was_given(
    shown: Shown[CoordinatorHome], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.argv", ["sonoshare", "coordinator", "console", "--home", "c"])
    assert "Start it: <code>sonoshare coordinator start --home c</code>" in shown.page("/")
    assert "<code>sonoshare hospital join</code>" in shown.page("/members")  # for another machine
    refused = shown.post("/studies/second/run").text
    assert "run: sonoshare coordinator start --home c" in refused


def test_every_page_is_shown_and_holds_no_markup_of_others(shown: Shown[CoordinatorHome]) -> None:
    for path in [*PAGES, *(f"/releases/{name}" for name in RELEASES)]:
        page = shown.page(path)
        assert page.count("<h1") == 1
        assert not any(markup in page for markup in MARKUP), path
        assert " style=" not in page
        assert re.findall(r"<script[^>]*>", page) in ([], ['<script src="/static/own/live.js" defer>'])
        assert page.count("<form") == page.count(f'name="{FORM_WORD}"') >= 1
    assert "too few? &lt;script&gt;" in shown.page(f"/studies/{STUDY}")


def test_nothing_is_shown_and_nothing_taken_without_the_session(
    world: CoordinatorWorld, shown: Shown[CoordinatorHome]
) -> None:
    stranger = TestClient(shown.client.app, base_url=f"http://127.0.0.1:{PORT}")
    before = read_members(world.home)
    for path in [*PAGES, "/live", f"/studies/{STUDY}/live", "/releases/sealed"]:
        assert stranger.get(f"{shown.door.root}{path}").status_code == 403
        assert shown.client.get(f"{shown.door.root}{path}", headers={"host": "evil.example"}).status_code == 421
    for path in FORMS:
        assert stranger.post(f"{shown.door.root}{path}", data={FORM_WORD: shown.door.form_word}).status_code == 403
        assert shown.client.post(f"{shown.door.root}{path}", data={"sure": "yes"}).status_code == 403
        elsewhere = {"host": f"evil.example:{PORT}"}
        assert shown.client.post(f"{shown.door.root}{path}", headers=elsewhere).status_code == 421
        assert shown.get(path).status_code in {404, 405, 409}
    assert read_members(world.home) == before
    assert wanted(world.home.study("second")).state == "run"
    assert catalogue_states(world.home, ["sealed"]) == {}


@pytest.mark.parametrize(
    ("release", "state", "waits"),
    [
        ("half", "drawing", "the drawing"),
        ("failed", "refused", ""),
        ("open", "audits", "verdicts of south, west"),
        ("unsigned", "signatures", "signatures of south, west"),
        ("sealed", "sealed", "you: it can be published"),
    ],
)
def test_a_release_says_whom_it_waits_for(
    world: CoordinatorWorld, shown: Shown[CoordinatorHome], release: str, state: str, waits: str
) -> None:
    view = release_view(world.home, release)
    assert (view.state, view.waits) == (state, waits)
    assert (waits or "nobody") in shown.page(f"/releases/{release}")
    assert waits in shown.page("/releases")


def test_verdicts_are_told_in_the_words_of_hospitals(world: CoordinatorWorld, shown: Shown[CoordinatorHome]) -> None:
    page = shown.page("/releases/open")
    assert "upper bounds are under the tolerated figures" in page
    assert '<span class="verdict PASS">PASS</span>' in page
    assert "refused: too few? &lt;script&gt;" in page
    assert '<span class="verdict FAIL">FAIL</span>' in shown.page("/releases/failed")
    assert "Go on with it" not in shown.page("/releases/failed")


def test_budgets_tell_what_was_asked_and_what_hospitals_have_signed(shown: Shown[CoordinatorHome]) -> None:
    page = shown.page("/budgets")
    assert re.search(r"north</td><td>epsilon 7.250</td><td>0.0001</td><td><a [^>]*>open</a>", page)
    assert re.search(r"Asked by now: epsilon <b>[0-9]+\.[0-9]{3}</b> at delta 0.0001", page)
    second = page.partition('id="b-second"')[2]
    assert second.count("nothing yet") == 3


def test_what_needs_the_coordinator_says_so_where_it_does_not_run(
    world: CoordinatorWorld, shown: Shown[CoordinatorHome]
) -> None:
    assert "sonoshare coordinator start" in shown.page("/studies/second")
    assert "/studies/second/run" not in shown.page("/studies/second")
    for path, fields in (("/studies/second/run", {}), ("/releases/create", {"study": STUDY, "release": "r9"})):
        answer = shown.post(path, **fields)
        assert answer.status_code == 409
        assert "sonoshare coordinator start" in answer.text
    assert not world.home.logs_path.exists()


def test_a_button_runs_the_very_command_and_tells_how_it_ended(
    fresh: tuple[CoordinatorWorld, Shown[CoordinatorHome]],
) -> None:
    world, shown = fresh
    nobody = free_ports(1)[0]
    Addresses(f"127.0.0.1:{nobody}", f"127.0.0.1:{nobody}", f"http://127.0.0.1:{nobody}").write(world.home)
    assert "is started" in shown.post("/studies/second/run").text
    assert "study second: run: runs" in shown.page("/studies/second")
    assert shown.post("/studies/second/run").status_code == 409  # once at a time
    end = time.monotonic() + 60
    while "study second: run: runs" in (page := shown.page("/studies/second")) and time.monotonic() < end:
        time.sleep(0.2)
    assert '<span class="FAIL">ended</span>, error: ' in page
    assert "error: " in (world.home.logs_path / "console-study-run-second.log").read_text()


def test_a_study_that_runs_is_stopped_and_one_is_retired_once_that_was_meant(
    fresh: tuple[CoordinatorWorld, Shown[CoordinatorHome]],
) -> None:
    world, shown = fresh
    study, held, stopped = world.home.study("second"), threading.Event(), threading.Event()

    def command() -> None:
        try:
            with begun(study, "train") as action:
                held.set()
                while True:
                    require_asked_for(study, action)
                    time.sleep(0.02)
        except StoppedError:
            stopped.set()

    running = threading.Thread(target=command, daemon=True)
    running.start()
    assert held.wait(10)
    assert "Stop what runs" in shown.page("/studies/second")
    assert "Study second: paused, 1 of 2 rounds done." in shown.post("/studies/second/pause").text
    assert stopped.wait(1)
    asked = shown.post("/studies/second/retire")
    assert "Retire study second?" in asked.text
    assert wanted(study).state == "paused"
    assert "Study second: retired" in shown.post("/studies/second/retire", sure="yes").text
    assert shown.post("/studies/second/pause").status_code == 409  # final
    assert wanted(study).state == "retired"
    for none in ("/studies/none-such", "/studies/..%2f..", "/studies/none-such/live"):
        assert shown.get(none).status_code == 404


def test_a_release_is_published_taken_off_and_taken_back(
    fresh: tuple[CoordinatorWorld, Shown[CoordinatorHome]],
) -> None:
    world, shown = fresh
    manifest = world.sealed("r1")
    assert "stands in the catalogue" in shown.post("/releases/r1/publish").text
    assert catalogue_states(world.home, ["r1"])["r1"][0] == "published"
    assert "off the catalogue" in shown.post("/releases/r1/unpublish").text
    assert shown.post("/releases/r1/revoke", reason=" ").status_code == 409
    assert shown.post("/releases/r1/revoke", reason="x" * 2001, sure="yes").status_code == 409
    asked = shown.post("/releases/r1/revoke", reason=HOSTILE)
    assert "Take release r1 back?" in asked.text
    assert not any(markup in asked.text for markup in MARKUP[:2])
    assert catalogue_states(world.home, ["r1"])["r1"][0] == "unpublished"
    assert "is taken back, for good" in shown.post("/releases/r1/revoke", reason=HOSTILE, sure="yes").text
    assert catalogue_states(world.home, ["r1"])["r1"] == ("revoked", f"coordinator: {HOSTILE}")
    assert not any(markup in shown.page("/releases/r1") for markup in MARKUP)
    assert shown.post("/releases/r1/publish").status_code == 409
    assert shown.post("/releases/none-such/publish").status_code == 409
    for wrong in ("", "{}", "no envelope"):
        assert shown.post("/releases/revoked-by-hospital", signed=wrong).status_code == 409
    said = evidence.Revocation(
        release="r1", manifest_digest=manifest.digest(), by="south", reason="consent", time=world.keys.now
    )
    signed = evidence.sign_revocation(said, world.keys.keys["south"]).to_bytes().decode()
    assert "south has taken r1 back" in shown.post("/releases/revoked-by-hospital", signed=signed).text


def test_who_is_invited_is_admitted_by_the_fingerprint_that_was_told(
    fresh: tuple[CoordinatorWorld, Shown[CoordinatorHome]], tmp_path: Path
) -> None:
    world, shown = fresh
    assert shown.post("/members/invite", hospital="No Name").status_code == 409
    file = shown.post("/members/invite", hospital="east")
    assert 'filename="east-invitation.json"' in file.headers["content-disposition"]
    assert "east, until" in shown.page("/members")
    node, joined = join(tmp_path / "east", Invitation.opened(Envelope.from_bytes(file.content)), now=datetime.now(UTC))
    request, fingerprint = joined.to_bytes().decode(), node.identity().public.fingerprint
    looked = shown.post("/members/admit", request=request)
    assert "asks to be admitted" in looked.text
    assert fingerprint not in looked.text  # it is typed as it was heard
    assert "east" not in read_members(world.home)
    assert shown.post("/members/admit", request=request, fingerprint="0" * 16).status_code == 409
    assert shown.post("/members/admit", request="{}").status_code == 409
    assert "east" not in read_members(world.home)
    assert (
        "east is admitted: roster version 4"
        in shown.post("/members/admit", request=request, fingerprint=fingerprint).text
    )
    assert read_invited(world.home) == {}


def test_who_is_expelled_was_seen_with_its_fingerprint(fresh: tuple[CoordinatorWorld, Shown[CoordinatorHome]]) -> None:
    world, shown = fresh
    fingerprint = world.keys.keys["south"].public.fingerprint
    assert fingerprint in shown.page("/members")
    asked = shown.post("/members/south/expel")
    assert fingerprint in asked.text
    assert "It is in the plan of lesions, second" in asked.text
    assert shown.post("/members/south/expel", fingerprint="0" * 16).status_code == 409
    assert "south" in read_members(world.home)
    elsewhere = shown.post("/members/south/expel", fingerprint=fingerprint, root_key="/nowhere/root.key")
    assert elsewhere.status_code == 409
    assert "south is expelled: roster version 4" in shown.post("/members/south/expel", fingerprint=fingerprint).text
    assert "south" not in read_members(world.home)
    assert shown.post("/members/south/expel", fingerprint=fingerprint).status_code == 409
    assert shown.page("/")


def test_what_cannot_be_served_is_one_line(tmp_path: Path, world: CoordinatorWorld) -> None:
    (line,) = sonoshare("coordinator", "console", "--home", tmp_path).errors
    assert "is not a coordinator's folder" in line
    with listening(0) as taken:
        busy = sonoshare("coordinator", "console", "--home", world.home.path, "--port", taken.getsockname()[1])
    assert (busy.returncode, len(busy.errors)) == (1, 1)
    assert "cannot listen on 127.0.0.1" in busy.errors[0]
    assert sonoshare("coordinator", "console", "--home", tmp_path, "--port", "70000").returncode == 2


@pytest.mark.parametrize("fault", ["gone", "damaged", "a folder", "a table lost"])
def test_a_database_that_does_not_answer_is_a_page_that_says_what_to_do(
    fresh: tuple[CoordinatorWorld, Shown[CoordinatorHome]], monkeypatch: pytest.MonkeyPatch, fault: str
) -> None:
    world, shown = fresh
    world.sealed("r1")
    shown.page("/releases/r1")
    database = world.home.catalogue_path
    if fault == "gone":
        monkeypatch.setenv("DATABASE_URL", "postgresql://fed:secret@127.0.0.1:1/catalogue")
    elif fault == "a table lost":
        with closing(sqlite3.connect(database)) as connection:
            connection.execute("DROP TABLE releases")
    else:
        for file in database.parent.glob(f"{database.name}*"):
            file.unlink()
        if fault == "damaged":
            database.write_bytes(b"no database" * 1000)
        else:
            database.mkdir()
    for path in ("/", "/releases", "/releases/r1", "/budgets"):
        answer = shown.get(path)
        assert answer.status_code == 503, path
        assert "database" in answer.text
        assert "put back its newest copy" in answer.text
        assert "secret" not in answer.text
    checked = sonoshare("coordinator", "check", "--home", world.home.path).stdout
    assert ("fail  database" in checked) == (fault != "a table lost")  # a check asks whether it answers
    run = sonoshare("coordinator", "release", "publish", "--home", world.home.path, "--name", "r1")
    assert (run.returncode, len(run.errors)) == (1, 1)
    assert "does not answer" in run.errors[0]
