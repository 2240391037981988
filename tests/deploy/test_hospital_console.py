"""The hospital's console: every page shows what the commands say, every form does what the commands do, and no words of
others become markup."""

import re
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from starlette.testclient import TestClient
from tests.client.crafted import nearly_blank, ultrasound, write_labels
from tests.client.crafted import save as save_dicom
from tests.deploy.asked_hospital import HOSTILE, propose, rules_of_persons, with_charges
from tests.deploy.command import sonoshare
from tests.deploy.console_shown import Shown
from tests.deploy.in_process import STUDY, World, copied

from sonoshare_client.intake.ingest import ingest
from sonoshare_client.node.approvals import decide, decision_about, keep_proposal
from sonoshare_client.node.home import NodeHome
from sonoshare_client.node.plan_check import check_plan
from sonoshare_client.own_eyes import proposed
from sonoshare_client.own_eyes.kept_pictures import keep_pictures
from sonoshare_client.own_eyes.overview import ledger_overview
from sonoshare_client.vault.store import Vault
from sonoshare_deploy.hospital_console.app import NAVIGATION, hospital_console
from sonoshare_deploy.hospital_console.charts import BOTTOM, TOP, Gauge, history_of
from sonoshare_deploy.hospital_console.study_pages import MOST_WORKED_OUT
from sonoshare_deploy.hospital_console.turning import turned
from sonoshare_shared.events import EventLog
from sonoshare_shared.local_pages.door import Door
from sonoshare_shared.local_pages.guard import FORM_WORD
from sonoshare_shared.protocol.documents import StudyPlan
from sonoshare_shared.protocol.documents.plan import PLAN_PAYLOAD_TYPE
from sonoshare_shared.protocol.envelope import Envelope
from sonoshare_shared.protocol.release.evidence import REVOCATION_PAYLOAD_TYPE, Revocation
from sonoshare_shared.science.device import CPU
from sonoshare_shared.science.imaging import png_bytes
from sonoshare_shared.science.phantom import simulate

PORT = 4322
MARKUP = ("<script>alert", "<img src=x", "\u202e")


def opened(home: NodeHome) -> Shown[NodeHome]:
    door = Door(PORT)
    return Shown.entered(home, door, hospital_console(home, CPU, door), PORT)


@pytest.fixture(scope="module")
def world(pristine: World, tmp_path_factory: pytest.TempPathFactory) -> World:
    """North decides by persons, was asked, has charges, things set aside, and a candidate's pictures."""
    folder = tmp_path_factory.mktemp("console")
    world = copied(pristine, folder / "world")
    home = rules_of_persons(world)
    propose(world, task=world.study.plan.task.model_copy(update={"question": HOSTILE}))
    with_charges(home)
    EventLog(home.state.events_path).record("refused", error="PolicyError", reason=HOSTILE)
    EventLog(home.state.events_path).record("audited", study=STUDY, release="r1", verdict=HOSTILE)
    set_aside(home, folder / "in")
    keep_pictures(home, candidate())
    return world


def set_aside(home: NodeHome, folder: Path) -> None:
    nearly_blank(folder / "cyst.png")
    nearly_blank(folder / "<b>cyst.png", level=12)
    (folder / "junk.dcm").write_bytes(b"junk")
    save_dicom(ultrasound(1), folder / "good.dcm")
    names = ("cyst.png", "junk.dcm", "good.dcm", "<b>cyst.png")
    write_labels(folder, [{"image": name, "patient": f"Ann Secret {name}"} for name in names])
    ingest(home, folder)


def candidate(digest: str = "a" * 64) -> Any:
    images = [png_bytes((255 * image).astype("uint8")) for image in simulate(2, seed=9, size=128).images]
    listed = [SimpleNamespace(index=index) for index in range(2)]
    return SimpleNamespace(digest=digest, images=images, candidate=SimpleNamespace(study=STUDY, images=listed))


@pytest.fixture(scope="module")
def shown(world: World) -> Iterator[Shown[NodeHome]]:
    console = opened(world.nodes["north"].home)
    yield console
    console.client.close()


def test_commands_on_pages_name_the_folder_as_it_was_given(
    shown: Shown[NodeHome], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.argv", ["sonoshare", "hospital", "console", "--home", "Kö ord"])
    assert "sonoshare hospital start --home &#39;Kö ord&#39;</code> where it runs" in shown.page("/")
    assert "see: sonoshare hospital quarantine list --home &#39;Kö ord&#39;" in shown.page("/")
    assert "<code>sonoshare hospital events --home &#39;Kö ord&#39;</code> has all" in shown.page("/log")


def number_of(home: NodeHome, name: str) -> int:
    with Vault(home) as vault:
        return next(item.number for item in vault.quarantine.items() if item.file == name)


def test_every_page_is_shown_and_holds_no_markup_of_others(shown: Shown[NodeHome]) -> None:
    paths = [path for path, _ in NAVIGATION]
    paths += [f"/studies/{STUDY}", f"/set-aside/{number_of(shown.home, '<b>cyst.png')}", "/log?only=trouble"]
    for path in paths:
        page = shown.page(path)
        assert page.count("<h1") == 1
        assert '<main id="content"' in page
        assert not any(markup in page for markup in (*MARKUP, "<b>cyst")), path
        assert " style=" not in page
        assert "<script" not in page
        assert "Ann Secret" not in page
        forms = page.count("<form")
        assert forms == page.count(f'name="{FORM_WORD}"') >= 1


def test_no_page_is_shown_and_no_form_taken_without_the_session(world: World, shown: Shown[NodeHome]) -> None:
    stranger = TestClient(shown.client.app, base_url=f"http://127.0.0.1:{PORT}")
    routes = ["/", f"/studies/{STUDY}", "/pictures/1/0.png", f"/audits/{STUDY}/pairs.png", "/set-aside/1/picture.png"]
    for path in [*routes, *(path for path, _ in NAVIGATION)]:
        assert stranger.get(f"{shown.door.root}{path}").status_code == 403
        assert shown.client.get(f"{shown.door.root}{path}", headers={"host": "evil.example"}).status_code == 421
    forms = [f"/studies/{STUDY}/approve", f"/studies/{STUDY}/refuse", "/set-aside/1/accept", "/set-aside/1/drop"]
    for path in [*forms, "/twins/1/two-people", f"/audits/{STUDY}/compare", "/releases/revoke", "/leave"]:
        assert stranger.post(f"{shown.door.root}{path}", data={FORM_WORD: shown.door.form_word}).status_code == 403
        assert shown.client.post(f"{shown.door.root}{path}", data={"sure": "yes"}).status_code == 403
        assert shown.get(path).status_code in {404, 405}
    assert decision_about(shown.home, STUDY) is None


def test_a_study_is_approved_by_its_digest_and_refused_with_a_reason(world: World, shown: Shown[NodeHome]) -> None:
    assert "WAITS FOR YOU" in shown.page("/studies")
    assert f"Study {STUDY}</a> waits for your decision" in shown.page("/")
    digest = re.search(r'name="plan" value="([0-9a-f]{64})"', shown.page(f"/studies/{STUDY}"))[1]
    for wrong in ("", digest[:32], "0" * 64):
        assert shown.post(f"/studies/{STUDY}/approve", plan=wrong).status_code == 409
    assert decision_about(shown.home, STUDY) is None
    assert "is approved" in shown.post(f"/studies/{STUDY}/approve", plan=digest).text
    decided = decision_about(shown.home, STUDY)
    assert (decided.decision, decided.plan) == ("approved", digest)
    assert "ACCEPTED" in shown.page("/studies")
    assert shown.post(f"/studies/{STUDY}/refuse", plan=digest, reason=" ").status_code == 409
    refused = shown.post(f"/studies/{STUDY}/refuse", plan=digest, reason=f"our board {HOSTILE}")
    assert not any(markup in refused.text for markup in MARKUP)
    assert "REFUSED" in refused.text
    assert decision_about(shown.home, STUDY).reason == f"our board {HOSTILE}"
    assert shown.get("/studies/none-such").status_code == 409
    assert shown.get("/studies/..%2f..").status_code == 404


def test_a_plan_that_was_exchanged_after_the_page_was_shown_is_not_approved(
    world: World, shown: Shown[NodeHome]
) -> None:
    digest = re.search(r'name="plan" value="([0-9a-f]{64})"', shown.page(f"/studies/{STUDY}"))[1]
    propose(world, learning_rate=world.study.plan.learning_rate / 2)
    before = decision_about(shown.home, STUDY)
    assert shown.post(f"/studies/{STUDY}/approve", plan=digest).status_code == 409
    assert decision_about(shown.home, STUDY) == before


def test_a_flood_of_proposals_costs_a_page_a_bounded_part_of_them(
    pristine: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = copied(pristine, tmp_path / "world")
    home, composed = rules_of_persons(world), list[str]()
    for number in range(2 * MOST_WORKED_OUT + 1):
        plan = world.study.plan.model_copy(update={"study": f"flood-{number:04d}"})
        keep_proposal(home.state, plan.study, Envelope.sign(PLAN_PAYLOAD_TYPE, plan.canonical(), world.home.key))
    decide(home, world.study.plan.model_copy(update={"study": "flood-0000"}), "approved")

    def counted(plan: StudyPlan, *rest: Any) -> float:
        composed.append(plan.study)
        return check_plan(plan, *rest)

    monkeypatch.setattr(proposed, "check_plan", counted)
    console = opened(home)
    for path in ("/", "/studies", "/studies?page=3", "/studies?page=99"):
        composed.clear()
        page = console.page(path)
        assert len(composed) <= MOST_WORKED_OUT, path
        if path == "/":
            assert "Study flood-0001</a> waits for your decision" in page
            assert f"{MOST_WORKED_OUT} further studies were proposed" in page
        else:
            assert "of 3</span>" in page
    assert "flood-0000" in page  # what was decided about stands last
    assert "flood-0001" not in page


def test_the_budget_page_says_what_the_ledger_says(shown: Shown[NodeHome]) -> None:
    overview, page = ledger_overview(shown.home, lambda: datetime.now(UTC)), shown.page("/budget")
    assert overview.spent.epsilon > 0.5
    assert f"Spent: <b>{overview.spent.epsilon:.3f}</b> of 80 epsilon" in page
    assert f"<td>earlier</td><td>2</td><td>{overview.entries[-1].epsilon_study:.3f}</td>" in page
    assert overview.head in page
    assert 'class="history"' in page
    for charge in overview.entries:
        assert f"<td>{charge.epsilon_lifetime:.3f}</td>" in page


def test_the_log_is_in_words_and_leaves_no_kind_out(shown: Shown[NodeHome]) -> None:
    page = shown.page("/log")
    assert "it was refused" in page
    assert "a candidate was audited" in page
    EventLog(shown.home.state.events_path).record("of-a-later-version")
    assert "of-a-later-version" in shown.page("/log")
    assert "a candidate was audited" not in shown.page("/log?only=trouble")


def test_history_steps_up_to_what_was_reached() -> None:
    assert history_of([], 8.0) is None
    charges: Any = [
        SimpleNamespace(time=f"2026-11-{day:02d}T00:00:00Z", epsilon_lifetime=epsilon)
        for day, epsilon in ((1, 1.0), (1, 2.0), (11, 4.0))
    ]
    history = history_of(charges, 8.0)
    points = [tuple(map(float, point.split(","))) for point in history.points.split()]
    assert points == sorted(points, key=lambda point: point[0])
    assert (points[0][1], points[-1][1]) == (BOTTOM, history.reached_at)
    assert TOP < history.limit_at < history.reached_at < BOTTOM
    assert (BOTTOM - history.reached_at) / (BOTTOM - history.limit_at) == pytest.approx(0.5, abs=0.01)
    assert (Gauge(9.0, 8.0, exact=True).filled, Gauge(2.0, 8.0, exact=True).filled) == (400, 100)


def test_a_long_list_is_turned_and_a_page_that_is_none_is_the_nearest() -> None:
    assert (turned(range(5), "2", 2).rows, turned(range(5), "2", 2).first) == (range(2, 4), 2)
    for asked, page in (("", 1), ("-1", 1), ("x", 1), ("99", 3), ("9" * 50, 1), ("²", 1)):
        assert turned(range(5), asked, 2).page == page
    assert turned([], "1", 2).pages == 1


def test_what_was_set_aside_is_shown_let_in_and_forgotten(shown: Shown[NodeHome]) -> None:
    cyst, junk = number_of(shown.home, "cyst.png"), number_of(shown.home, "junk.dcm")
    assert shown.get(f"/set-aside/{cyst}/picture.png").headers["content-type"] == "image/png"
    assert shown.post(f"/set-aside/{junk}/accept").status_code == 409
    assert shown.post(f"/set-aside/{cyst}/accept", region="1,2,3").status_code == 409
    with Vault(shown.home) as vault:
        before = len(vault.images())
    assert f"Number {cyst} is taken in." in shown.post(f"/set-aside/{cyst}/accept", note="a cyst").text
    with Vault(shown.home) as vault:
        assert len(vault.images()) == before + 1
        assert vault.quarantine.item(cyst).note == "a cyst"
    assert shown.post(f"/set-aside/{junk}/drop").status_code == 409
    assert f"Number {junk} is forgotten." in shown.post(f"/set-aside/{junk}/drop", sure="yes").text
    assert shown.get(f"/set-aside/{junk}").status_code == 409


def test_pictures_of_the_vault_are_shown_and_never_another_in_their_place(shown: Shown[NodeHome]) -> None:
    page = shown.page("/pictures?page=1")
    source = re.search(rf'src="{shown.door.root}(/pictures/(\d+)/0\.png)"', page)
    assert shown.get(source[1]).content.startswith(b"\x89PNG")
    assert shown.get(f"/pictures/{int(source[2]) + 1}/0.png").status_code == 404
    assert shown.get(f"/pictures/{source[2]}/99999.png").status_code == 404


def test_parts_of_the_vault_are_its_images_in_order(shown: Shown[NodeHome]) -> None:
    with Vault(shown.home) as vault:
        images = vault.images()
        assert vault.count() == len(images)
        assert vault.part(1, 3) + vault.part(4, len(images)) == images[1:]
        assert vault.part(len(images), 5) == ()


def test_pairs_are_decided(shown: Shown[NodeHome]) -> None:
    with Vault(shown.home) as vault, vault.writing() as writer:
        first, *_, last = vault.images()
        writer.record_twins([(first.blob, last.blob, 0.9)], last=None)
        number = vault.twins()[-1].number
    assert shown.get(f"/twins/{number}.png").content.startswith(b"\x89PNG")
    assert "They are two people" in shown.page("/twins")
    assert f"Pair {number} is two people." in shown.post(f"/twins/{number}/two-people").text
    assert shown.post("/twins/999/two-people").status_code == 409
    assert shown.get("/twins/999.png").status_code == 404


def test_a_candidate_is_compared_with_the_own_patients_behind_the_pages(shown: Shown[NodeHome]) -> None:
    assert shown.get(f"/audits/{STUDY}").status_code == 409
    assert shown.post("/audits/other/compare").status_code == 409
    assert "is being compared" in shown.post(f"/audits/{STUDY}/compare").text
    deadline = time.monotonic() + 120
    while f'href="{shown.door.root}/audits/{STUDY}"' not in shown.page("/audits"):
        assert time.monotonic() < deadline
        time.sleep(0.1)
    page = shown.page(f"/audits/{STUDY}")
    assert "reach the copy threshold" in page
    assert "Never send it, and never decide by it" in page
    for source in re.findall(rf'src="{shown.door.root}(/audits/[^"]*)"', page):
        assert shown.get(source).content.startswith(b"\x89PNG")
    assert shown.get(f"/audits/{STUDY}/other.png").status_code == 404
    keep_pictures(shown.home, candidate("b" * 64))
    assert shown.get(f"/audits/{STUDY}").status_code == 409  # another candidate: what was compared is not it


def test_an_address_with_a_number_that_is_none_is_not_there(shown: Shown[NodeHome]) -> None:
    for path in (
        "/set-aside/{}",
        "/set-aside/{}/picture.png",
        "/twins/{}.png",
        "/pictures/{}/0.png",
        "/pictures/1/{}.png",
    ):
        for number in ("9" * 30, "9" * 5000, "-1", "x", "²"):
            assert shown.get(path.format(number)).status_code == 404
    assert shown.post(f"/set-aside/{'9' * 30}/accept").status_code == 404


def test_a_revocation_is_a_signed_file_and_nothing_else(shown: Shown[NodeHome]) -> None:
    answer = shown.post("/releases/revoke", name="r1", reason="a consent was withdrawn", manifest_digest="ab" * 32)
    assert answer.headers["content-disposition"] == 'attachment; filename="r1-revocation.dsse.json"'
    payload = Envelope.from_bytes(answer.content).verify(shown.home.identity().public, REVOCATION_PAYLOAD_TYPE)
    said = Revocation.from_bytes(payload)
    assert (said.release, said.by, said.reason) == ("r1", "north", "a consent was withdrawn")
    for fields in ({"name": "r1", "reason": ""}, {"name": 'r"\r\nx: y', "reason": "x"}, {"name": "r9", "reason": "x"}):
        assert shown.post("/releases/revoke", **fields).status_code == 409


def test_a_node_that_is_not_enrolled_has_pages_too(tmp_path: Path) -> None:
    console = opened(NodeHome.create(tmp_path / "node", "south"))
    for path, _ in NAVIGATION:
        console.page(path)
    assert "not enrolled" in console.page("/studies")


def test_a_port_or_a_home_that_cannot_be_had_is_one_line(tmp_path: Path) -> None:
    run = sonoshare("hospital", "console", "--home", tmp_path / "none")
    assert (run.returncode, len(run.errors)) == (1, 1)
    assert sonoshare("hospital", "console", "--home", tmp_path / "none", "--port", "70000").returncode == 2
