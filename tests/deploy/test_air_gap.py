"""A hospital without a line out: a round, an audit and a signature by files, beside two that are asked directly."""

import json
import shutil
import struct
import threading
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from tests.deploy.carrier import WEST, Carrier, action, pipeline, run
from tests.deploy.in_process import World, archives_in, build

from sonoshare_client.agent.server import AgentServer
from sonoshare_client.node.joining import enrol
from sonoshare_client.node.policy_file import policy_text
from sonoshare_deploy.cli.action_words import ActionWords
from sonoshare_deploy.cli.coordinator import command as coordinator_command
from sonoshare_deploy.cli.hospital import command as hospital_command
from sonoshare_server.federation import file_fleet, holding, rounds
from sonoshare_server.federation.carried import by_files, mixed_fleet, set_by_files, take_reply
from sonoshare_server.federation.coordinator import Coordinator
from sonoshare_server.federation.file_fleet import Boxes, FileFleet
from sonoshare_server.federation.introduction import settle, verified_answer
from sonoshare_server.federation.proposing import propose
from sonoshare_server.federation.statements import collect_signatures, stored_envelopes
from sonoshare_server.queue.standing import Standing, standing
from sonoshare_server.release.pipeline import facts_for
from sonoshare_shared.errors import InputError, IntegrityError, SonoShareError
from sonoshare_shared.events import EventLog
from sonoshare_shared.locks import locked
from sonoshare_shared.protocol.bundle import read_bundle, write_bundle
from sonoshare_shared.protocol.canonical import sha256_hex
from sonoshare_shared.protocol.documents.exchange import KeysRequest, Refusal, Reply, decode_frame, encode_frame
from sonoshare_shared.protocol.release.verify import verify_release

NOW = datetime(2026, 1, 2, tzinfo=UTC)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """Three hospitals; west's agent runs on its socket and reaches nobody."""
    folder = tmp_path_factory.mktemp("air-gap")
    archives = archives_in(folder / "archives", ("north", "south", WEST))
    world = build(folder / "w", archives, rounds=1, local_steps=1, cohorts=tuple(archives))
    run(coordinator_command, "line", "--id", WEST, "--by", "files", "--home", world.home.path)
    agent = world.fleet.agents.pop(WEST)
    state = world.nodes[WEST].home.state
    with locked(state.agent_lock_path, SonoShareError("busy")):
        server = AgentServer(state.socket_path, agent)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield world
        server.shutdown()
        server.server_close()


@pytest.fixture
def _quick_looks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(file_fleet, "POLL_SECONDS", 0.05)


@pytest.mark.usefixtures("_quick_looks")
def test_a_study_is_trained_audited_and_signed_with_one_hospital_by_files(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(holding, "BATCH_BYTES", 9000)
    carrier = Carrier(world, tmp_path)
    with carrier.walking():
        rounds.train(action(world, carrier.require_well))
    assert world.study.state.rounds_done == 1
    # One walk to be introduced, once, and one for each thing that is asked.
    assert carrier.walks == ["keys", "round-1"]
    assert carrier.charged == ["round-1"]
    steps = pipeline(world, carrier.require_well)
    steps.draw(lambda done, total: None)
    with carrier.walking():
        said = steps.audit()
    assert {hospital: statement.predicate.verdict for hospital, statement in said.items()} == dict.fromkeys(
        ("north", "south", WEST), "PASS"
    )
    (audit,) = (header for _, header, _ in Boxes(world.home).waiting(WEST).values() if header.what == "audit-r1")
    assert audit.ahead is not None
    assert len(audit.ahead) > 2
    assert not list(world.nodes[WEST].home.state.inbox_path.glob("*"))
    with carrier.walking():
        bundle = steps.finish(facts_for(world.home, world.study, NOW))
    assert verify_release(bundle, world.home.roster_envelope, now=NOW).manifest.sequence == 1
    assert carrier.walks == ["keys", "round-1", "audit-r1", "sign"]
    told = [event["words"] for event in world.study.events() if event["kind"] == "carry"]
    assert len(told) == len(carrier.walks)
    assert told[1].startswith("waiting for study-round-1-")
    assert told[1].endswith(".bundle of west to be carried")
    # Nothing but sticks has reached west.
    assert WEST not in {hospital for hospital, _ in world.fleet.asked}


@pytest.mark.usefixtures("_quick_looks")
def test_a_study_is_proposed_by_files_and_a_persons_answer_comes_by_the_next_walk(world: World, tmp_path: Path) -> None:
    """The plan is another one of the same consortium, so that the world's study is as it was."""
    plan = world.study.plan.model_copy(update={"study": "proposed"})
    study = world.home.create_study(plan, world.study.adapter_of(0), world.study.state.adapter_digest)
    west, carrier = world.nodes[WEST].home, Carrier(world, tmp_path)
    rules = west.policy()
    asked = rules.model_copy(update={"federation": rules.federation.model_copy(update={"approve": "person"})})

    def proposed() -> Standing:
        fleet = mixed_fleet(world.home, study, world.fleet, by_files(world.home), carrier.require_well)
        with carrier.walking():
            propose(Coordinator(world.home, study, fleet, world.home.log(), by_files=by_files(world.home)))
        return standing(world.home, study)

    west.policy_path.write_text(policy_text(asked))
    before = len(world.nodes[WEST].ledger.entries())
    assert (proposed().answers[WEST], carrier.walks) == ("waiting", ["propose"])
    done = CliRunner().invoke(
        hospital_command, ["approve", "proposed", "--home", str(west.path), "--plan", plan.digest()]
    )
    assert done.exit_code == 0, done.output
    assert proposed().state == "accepted"
    assert carrier.walks == ["propose"] * 2
    assert proposed().answers == dict.fromkeys(("north", "south", WEST), "accepted")
    assert carrier.walks == ["propose"] * 2, "who has accepted is not asked by a walk again"
    assert carrier.charged == []
    assert len(world.nodes[WEST].ledger.entries()) == before
    west.policy_path.write_text(policy_text(rules))


@pytest.mark.usefixtures("_quick_looks")
def test_the_same_stick_again_gets_the_same_bytes_and_no_second_charge(world: World, tmp_path: Path) -> None:
    boxes = Boxes(world.home)
    (path, header, frame), *_ = boxes.waiting(WEST).values()
    carrier = Carrier(world, tmp_path)
    first = carrier.walk(path)
    again = tmp_path / "again.bundle"
    run(hospital_command, "answer", path, "--home", world.nodes[WEST].home.path, "--out", again)
    assert carrier.charged == []
    one, two = (read_bundle(reply.read_bytes(), "reply") for reply in (first, again))
    assert one[0].request == two[0].request == header.request == sha256_hex(frame)
    with pytest.raises(InputError, match=r"again\.bundle exists"):
        refused(hospital_command, "answer", path, "--home", world.nodes[WEST].home.path, "--out", again)


def refused(command: Any, *arguments: Any) -> None:
    done = CliRunner().invoke(command, [*map(str, arguments), "--json"])
    assert done.exception is not None
    raise done.exception


def test_a_hospital_answers_no_foreign_cut_or_newer_bundle_and_nothing_is_charged(world: World, tmp_path: Path) -> None:
    path, header, frame = next(iter(Boxes(world.home).waiting(WEST).values()))
    whole = path.read_bytes()
    before = len(world.nodes[WEST].ledger.entries())
    for name, data, kind, words in (
        ("cut", whole[:-9], IntegrityError, "was cut or changed on its way"),
        ("short", whole[:3], IntegrityError, "is no bundle, or was cut"),
        ("photo", b"\xff\xd8 a picture", IntegrityError, "is no bundle"),
        ("theirs", changed(header, frame, hospital="south"), InputError, "is for south, not for west"),
        ("other", changed(header, frame, consortium="elsewhere"), InputError, "is of consortium elsewhere, not of"),
        ("newer", changed(header, frame, roster=99), InputError, "made under roster version 99; this hospital has"),
        ("reply", changed(header, frame, kind="reply"), InputError, "is a reply"),
    ):
        stick = tmp_path / f"{name}.bundle"
        stick.write_bytes(data)
        out = tmp_path / f"{name}.out"
        with pytest.raises(kind, match=words) as found:
            refused(hospital_command, "answer", stick, "--home", world.nodes[WEST].home.path, "--out", out)
        assert found.value.remedy
        assert not out.exists()
    assert len(world.nodes[WEST].ledger.entries()) == before


def changed(header: Any, frame: bytes, **fields: Any) -> bytes:
    return write_bundle(header.model_copy(update=fields), frame)


def test_a_coordinator_takes_no_foreign_late_or_forged_reply(world: World, tmp_path: Path) -> None:
    path = next(iter(Boxes(world.home).waiting(WEST).values()))[0]
    reply = Carrier(world, tmp_path).walk(path)
    header, frame = read_bundle(reply.read_bytes(), "reply")
    own = world.fleet.agents["south"].answer(encode_frame(KeysRequest()))
    for name, data, kind, words in (
        ("request", path.read_bytes(), InputError, "is a request"),
        ("cut", reply.read_bytes()[:-1], IntegrityError, "was cut or changed"),
        ("late", changed(header, frame, request="0" * 64), InputError, "answers nothing that is waited for"),
        ("other", changed(header, frame, consortium="elsewhere"), InputError, "is of consortium elsewhere"),
        ("stranger", changed(header, frame, hospital="nobody"), InputError, "is of nobody, which is not in the roster"),
        (
            "forged",
            write_bundle(header.model_copy(update={"frame": sha256_hex(own)}), own),
            IntegrityError,
            "is not an answer of west",
        ),
    ):
        stick = tmp_path / f"{name}.reply"
        stick.write_bytes(data)
        with pytest.raises(kind, match=words) as found:
            take_reply(world.home, stick)
        assert found.value.remedy or kind is IntegrityError
    assert take_reply(world.home, reply).what == header.what
    assert take_reply(world.home, reply).what == header.what  # twice is once


def frame_of(header: bytes) -> bytes:
    return struct.pack(">I", len(header)) + header


@pytest.mark.usefixtures("_quick_looks")
def test_a_refusal_is_carried_back_and_asked_anew(world: World, tmp_path: Path) -> None:
    boxes, roster = Boxes(world.home), world.home.roster
    path, digest = boxes.put(roster, WEST, "another-study", frame_of(b'{"kind":"tea"}'))
    out = tmp_path / "refused.bundle"
    with pytest.raises(SonoShareError, match="the request was refused: not a request that this agent knows"):
        refused(hospital_command, "answer", path, "--home", world.nodes[WEST].home.path, "--out", out)
    taken = run(coordinator_command, "take", out, "--home", world.home.path)
    assert taken["refused"].startswith("not a request that this agent knows")
    assert boxes.reply(WEST, digest) is not None
    assert boxes.reply(WEST, digest) is None
    assert not path.exists()


@pytest.mark.usefixtures("_quick_looks")
def test_a_refusal_that_came_between_two_runs_is_heard_by_the_next_and_then_asked_anew(
    world: World, tmp_path: Path
) -> None:
    """Whoever carries can make a refusal: it must not leave an action waiting for what lies in no outbox."""
    said = list[str]()

    def tell(_kind: str, **about: Any) -> None:
        said.append(about["words"])

    fleet = FileFleet(Boxes(world.home), world.home.roster, "third-study", patience_seconds=2, tell=tell)
    request = {WEST: frame_of(b'{"kind":"tea"}')}
    next(iter(fleet.ask(request, 0)))
    (path,) = (world.home.outbox_path / WEST).glob("third-study-*.bundle")
    refusal = encode_frame(Reply(refusal=Refusal(error="PolicyError", message="no", remedy="ask")))
    take_reply(world.home, made(tmp_path, path, refusal))
    assert next(iter(fleet.ask(request, 0))) == {WEST: refusal}
    next(iter(fleet.ask(request, 0)))
    assert len(said) == 2
    assert len(list((world.home.outbox_path / WEST).glob("third-study-*.bundle"))) == 1


def test_an_older_answer_does_not_stand_in_the_place_of_the_true_one(world: World, tmp_path: Path) -> None:
    """It is signed by the hospital: taken, nobody would carry what was asked, and each run would find it again."""
    boxes = Boxes(world.home)
    sign = next(path for path, header, _ in boxes.waiting(WEST).values() if header.what == "sign")
    reply = Carrier(world, tmp_path).walk(sign)
    answer = read_bundle(reply.read_bytes(), "reply")[1]
    header, payload = decode_frame(read_bundle(sign.read_bytes(), "request")[1])
    plan = world.study.plan_envelope.model_dump(mode="json")
    for change in (
        {"manifest_digest": "0" * 64},
        {"kind": "audit", "candidate_digest": "0" * 64, "release": "r2"},
        {"kind": "train", "round": 1, "plan": plan, "adapter_digest": "0" * 64},
        {"kind": "calibrate", "plan": plan},
        {"kind": "propose", "plan": plan},
        {"kind": "keys"},
    ):
        frame = frame_of(json.dumps(json.loads(header) | change).encode()) + payload
        path, digest = boxes.put(world.home.roster, WEST, "fourth-study", frame)
        with pytest.raises(IntegrityError, match="once answered to another request"):
            take_reply(world.home, made(tmp_path, path, answer))
        assert path.exists(), "it is still to be carried"
        boxes.clear(WEST, digest)


def made(folder: Path, request: Path, frame: bytes) -> Path:
    """A reply bundle to a request, of any frame."""
    header, _ = read_bundle(request.read_bytes(), request.name)
    stick = folder / f"{header.request[:8]}-made.bundle"
    stick.write_bytes(changed(header.model_copy(update={"frame": sha256_hex(frame)}), frame, kind="reply"))
    return stick


def test_a_reply_to_what_an_action_clears_away_meanwhile_is_told_to_be_late(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    boxes = Boxes(world.home)
    path, digest = boxes.put(world.home.roster, WEST, "fifth-study", encode_frame(KeysRequest()))
    reply = Carrier(world, tmp_path).walk(path)
    checked = verified_answer

    def slowly(*arguments: Any) -> Any:
        boxes.clear(WEST, digest)
        return checked(*arguments)

    monkeypatch.setattr("sonoshare_server.federation.carried.verified_answer", slowly)
    with pytest.raises(InputError, match="answers nothing that is waited for"):
        take_reply(world.home, reply)
    assert not (world.home.inbox_path / WEST / f"{digest}.frame").exists()


def test_without_a_running_agent_nothing_is_answered_unless_nobody_elses_view_is_needed(
    world: World, tmp_path: Path
) -> None:
    path = next(iter(Boxes(world.home).waiting(WEST).values()))[0]
    header, frame = read_bundle(path.read_bytes(), "request")
    stick, out = tmp_path / "south.bundle", tmp_path / "out.bundle"
    stick.write_bytes(write_bundle(header.model_copy(update={"hospital": "south", "study": "study"}), frame))
    south = world.nodes["south"].home
    with pytest.raises(InputError, match="the agent does not run") as found:
        refused(hospital_command, "answer", stick, "--home", south.path, "--out", out)
    assert "--only agent" in found.value.remedy
    assert not out.exists()


def test_who_is_asked_by_files_is_introduced_only_where_it_was_never_seen(world: World) -> None:
    coordinator = replace(action(world), by_files=frozenset({WEST}))
    before = set(Boxes(world.home).waiting(WEST))
    settle(coordinator, len(coordinator.log) - 1)
    assert set(Boxes(world.home).waiting(WEST)) == before
    set_by_files(world.home, WEST, files=False)
    assert by_files(world.home) == frozenset()
    set_by_files(world.home, WEST, files=True)
    assert by_files(world.home) == {WEST}


def test_a_command_says_what_somebody_has_to_carry_until_it_is_back(tmp_path: Path) -> None:
    log, shown = EventLog(tmp_path / "events.jsonl"), list[str]()
    words = ActionWords(tmp_path / "events.jsonl", "study s1: training", shown.append)
    words()
    assert shown == []
    log.record("carry", hospital=WEST, bundle="/c/x.bundle", words="waiting for x.bundle of west to be carried")
    log.record("waiting", awaited=["north", "south", WEST])
    words()
    assert shown[-1] == "study s1: training; waiting for north, south; waiting for x.bundle of west to be carried"
    log.record("waiting", awaited=[WEST])
    words()
    assert shown[-1] == "study s1: training; waiting for x.bundle of west to be carried"
    log.record("waiting", awaited=["north"])
    words()
    assert shown[-1] == "study s1: training; waiting for north"


@pytest.mark.usefixtures("_quick_looks")
def test_an_identity_is_changed_by_files_and_what_the_old_key_answered_is_asked_anew(
    world: World, tmp_path: Path
) -> None:
    """A reply that was on its way while the key was changed would be found again by every run, and help none."""
    west, place, change = world.nodes[WEST].home, world.study.candidate("r1"), tmp_path / "change.json"
    shutil.copytree(world.home.releases / "r1", place.draft_path)
    shutil.rmtree(place.signatures_path)
    old, carrier = west.identity().public, Carrier(world, tmp_path)
    made = run(hospital_command, "keys", "rotate", "--identity", "--home", west.path, "--out", change)
    assert west.identity().public == old
    rotate_it = ("admit", "--home", world.home.path, "--rotate", change, "--fingerprint", made["fingerprint"])
    assert run(coordinator_command, *rotate_it)["hospital"] == WEST
    for boxed in world.home.outbox_path.glob(f"{WEST}/*-sign-*"):  # the stick of before: its log shows no change
        run(coordinator_command, "take", carrier.walk(boxed), "--home", world.home.path)
    assert west.identity().public == old
    enrol(west, world.home.roster_envelope, world.home.root)  # the new roster comes with the next stick (docs/keys.md)
    carrier.walks.clear()
    for left in world.home.outbox_path.glob(f"{WEST}/*-study-*"):  # what other tests have laid out, of other studies
        left.unlink()
    with carrier.walking():
        collect_signatures(action(world, carrier.require_well), "r1")
    assert carrier.walks == ["keys", "sign"]
    assert west.identity().public.hex == made["identity_public_key"]
    assert not west.next_identity_key_path.exists()
    kinds = [signed.charge.kind for signed in world.nodes[WEST].ledger.entries()]
    assert (kinds.count("succession"), carrier.charged) == (1, [])
    signed = stored_envelopes(place.signatures_path, (WEST,))[WEST]
    assert signed.signer_among([west.identity().public]) is not None
    collect_signatures(action(world, carrier.require_well), "r1")
    assert carrier.walks == ["keys", "sign"], "what the present key has answered is not carried twice"


def test_an_agent_alone_needs_no_address_and_a_courier_does(world: World) -> None:
    home = str(world.nodes["south"].home.path)
    done = CliRunner().invoke(hospital_command, ["start", "--home", home])
    assert done.exit_code == 2
    assert "a courier needs --superlink and --root-certificate" in done.output
    # Its lock is held by the agent that runs: an agent alone gets as far as that, and no address is asked for.
    west = str(world.nodes[WEST].home.path)
    done = CliRunner().invoke(hospital_command, ["start", "--home", west, "--only", "agent", "--device", "cpu"])
    assert isinstance(done.exception, InputError)
    assert "runs" in done.exception.message
