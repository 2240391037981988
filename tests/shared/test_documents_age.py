"""Documents gain fields: old bytes verify with later code, and later bytes are refused by older code in plain words.

A version of tomorrow is played by subclasses with one more field. The careless one has a default that its canonical
form shows, so whoever serialises a parsed document anew gets other bytes than were signed.
"""

import base64
import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from tests.deploy.command import sonoshare
from tests.shared.consortium import NOW, RELEASE, Consortium, figures, make_plan

from sonoshare_deploy.cli.verify import check
from sonoshare_shared.errors import IntegrityError, NewerVersionError, VerificationError
from sonoshare_shared.protocol import translog
from sonoshare_shared.protocol.canonical import canonical_bytes, sha256_file, sha256_hex
from sonoshare_shared.protocol.closed_rounds import ClosedRound
from sonoshare_shared.protocol.documents import AuditStatement, LogHead, ReleaseManifest, Roster, StudyPlan
from sonoshare_shared.protocol.documents.base import added, public_day
from sonoshare_shared.protocol.documents.charge import Charge, LedgerExport
from sonoshare_shared.protocol.documents.exchange import CalibrationVotes, TrainReply
from sonoshare_shared.protocol.documents.figures import AuditFigures
from sonoshare_shared.protocol.documents.masking import MaskedReply, MaskReady
from sonoshare_shared.protocol.documents.node_key_change import NodeKeyChange
from sonoshare_shared.protocol.documents.plan import PLAN_PAYLOAD_TYPE
from sonoshare_shared.protocol.documents.proposal import PlanAnswer
from sonoshare_shared.protocol.documents.release import LOG_HEAD_PAYLOAD_TYPE
from sonoshare_shared.protocol.documents.statement import STATEMENT_PAYLOAD_TYPE
from sonoshare_shared.protocol.documents.view import HospitalView
from sonoshare_shared.protocol.envelope import Envelope
from sonoshare_shared.protocol.keys import SigningKey
from sonoshare_shared.protocol.release import evidence, layout, statements, verify, votes
from sonoshare_shared.protocol.release.candidate import Candidate
from sonoshare_shared.protocol.release.evidence import LogProof, LogView, Revocation
from sonoshare_shared.protocol.signed import Signed

V1 = Path(__file__).parents[1] / "golden" / "v1"
V3 = V1.with_name("v3")


def careless(kind: Any) -> Any:
    """The document as a later version might have it: one more field, which shows itself even where nobody set it."""
    fields = {"__annotations__": {"tomorrow": str}, "tomorrow": "unset", "__module__": __name__}
    return type(f"Tomorrow{kind.__name__}", (kind,), fields)


def payload(name: str, folder: Path = V1) -> bytes:
    return base64.b64decode(json.loads((folder / name).read_text())["payload"])


def closed_round() -> bytes:
    entries = LogView.from_bytes((V3 / "log.json").read_bytes()).entries
    return next(entry.encode() for entry in entries if '"closed-round"' in entry)


GOLDEN: dict[Any, bytes] = {
    StudyPlan: payload("plan.dsse.json"),
    Roster: payload("roster.dsse.json"),
    AuditStatement: payload("release/attestations/north.dsse.json"),
    CalibrationVotes: payload("release/votes/north.dsse.json"),
    TrainReply: payload("train-reply.dsse.json"),
    Revocation: payload("revocation.dsse.json"),
    ReleaseManifest: (V1 / "release" / layout.MANIFEST).read_bytes(),
    Candidate: (V1 / "release" / layout.CANDIDATE).read_bytes(),
    LogProof: (V1 / "release" / layout.LOG_PROOF).read_bytes(),
    LogView: (V1 / "log.json").read_bytes(),
    LogHead: base64.b64decode(json.loads((V1 / "log.json").read_text())["head"]["payload"]),
    PlanAnswer: payload("plan-answer-west.dsse.json", V3),
    MaskReady: payload("mask-ready.dsse.json", V3),
    MaskedReply: payload("masked-reply.dsse.json", V3),
    ClosedRound: closed_round(),
    HospitalView: payload("view-north.dsse.json", V3),
    NodeKeyChange: payload("node-key-change.dsse.json", V3),
    Charge: LedgerExport.from_bytes((V1 / "ledger-north.json").read_bytes()).entries[1].body.encode(),
}


@pytest.mark.parametrize("kind", GOLDEN, ids=lambda kind: kind.__name__)
def test_a_later_version_computes_the_digest_of_the_old_bytes(kind: Any) -> None:
    data = GOLDEN[kind]
    later = careless(kind).from_bytes(data)
    assert later.tomorrow == "unset"
    assert later.canonical() == data == kind.from_bytes(data).canonical()
    assert later.digest() == sha256_hex(data)


@pytest.mark.parametrize("kind", GOLDEN, ids=lambda kind: kind.__name__)
def test_an_older_version_says_that_a_document_is_newer(kind: Any) -> None:
    newer = canonical_bytes(json.loads(GOLDEN[kind]) | {"tomorrow": "set"})
    with pytest.raises(
        NewerVersionError, match="was made by a newer version of SonoShare: tomorrow is unknown"
    ) as found:
        kind.from_bytes(newer)
    assert found.value.remedy == "update SonoShare"
    assert "\n" not in str(found.value)
    assert careless(kind).from_bytes(newer).tomorrow == "set"


def test_a_later_version_verifies_an_old_release(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every document of the golden release is read by a careless later version of itself."""
    monkeypatch.setattr(verify, "StudyPlan", _later_plan())
    for module, kinds in {
        verify: (ReleaseManifest, Candidate, LogProof, Roster),
        statements: (AuditStatement,),
        votes: (CalibrationVotes,),
        evidence: (LogHead,),
        translog: (LogHead,),
    }.items():
        for kind in kinds:
            monkeypatch.setattr(module, kind.__name__, careless(kind))
    log = LogView.from_bytes((V1 / "log.json").read_bytes())
    roster = Envelope.load(V1 / "roster.dsse.json")
    verified = verify.verify_release(V1 / "release", roster, now=datetime(2027, 1, 1, tzinfo=UTC), log=log)
    assert verified.manifest.tomorrow == "unset"  # type: ignore[attr-defined]
    assert verified.manifest_digest == sha256_file(V1 / "release" / layout.MANIFEST)


def _later_plan() -> type:
    """A plan whose audit policy has the field too: the roster names the policy's digest."""
    policy = careless(StudyPlan.model_fields["audit"].annotation)
    return type("LaterPlan", (careless(StudyPlan),), {"__annotations__": {"audit": policy}, "__module__": __name__})


def test_a_field_that_is_added_is_not_in_the_bytes_unless_it_is_set() -> None:
    class Later(LogHead):
        witnessed: int | None = added()

    fields: dict[str, Any] = {"size": 1, "root": "a" * 64, "time": NOW}
    assert Later(**fields).canonical() == LogHead(**fields).canonical()
    assert LogHead.from_bytes(Later(**fields).canonical()).size == 1
    with pytest.raises(NewerVersionError):
        LogHead.from_bytes(Later(**fields, witnessed=3).canonical())


@pytest.mark.parametrize(
    ("schema", "newer"),
    [("sonoshare/plan/v2", True), ("sonoshare/plan/v10", True), ("sonoshare/plan/v0", False), ("other/v9", False)],
)
def test_a_higher_version_of_a_schema_is_newer_and_another_schema_is_not(schema: str, newer: bool) -> None:
    value = json.loads(make_plan().canonical()) | {"schema": schema}
    value.pop("quorum")
    with pytest.raises(IntegrityError) as found:
        StudyPlan.from_bytes(canonical_bytes(value))
    assert isinstance(found.value, NewerVersionError) is newer
    assert (found.value.remedy == "update SonoShare") is newer


def test_a_mechanism_that_is_not_known_is_of_a_newer_version() -> None:
    value = json.loads(GOLDEN[Charge])
    value["events"] = [{"mechanism": "of tomorrow", "epsilon": 1.0}]
    with pytest.raises(NewerVersionError, match=r"events\.0"):
        Charge.from_bytes(canonical_bytes(value))


def test_another_document_is_not_called_a_newer_one() -> None:
    with pytest.raises(IntegrityError) as found:
        StudyPlan.from_bytes(GOLDEN[Roster])
    assert not isinstance(found.value, NewerVersionError)


def test_the_name_of_an_unknown_field_cannot_write_to_a_terminal() -> None:
    value = json.loads(GOLDEN[Roster]) | {"\x1b[2J\n" + "x" * 500: 1}
    with pytest.raises(NewerVersionError) as found:
        Roster.from_bytes(canonical_bytes(value))
    assert str(found.value).isprintable()
    assert len(str(found.value)) < 300


def test_a_changed_copy_has_bytes_of_its_own() -> None:
    data = GOLDEN[StudyPlan]
    plan = StudyPlan.from_bytes(data)
    assert plan.model_copy().digest() == plan.digest()
    changed = plan.model_copy(update={"rounds": 7})
    assert changed.digest() != plan.digest()
    assert StudyPlan.from_bytes(changed.canonical()) == changed
    assert plan == StudyPlan.model_validate_json(data)


KEY = SigningKey.generate()


@pytest.mark.parametrize(
    "spoil",
    [
        lambda data: data.replace(b'{"', b'{ "', 1),
        lambda data: data[:-1] + b',"rounds":2}',
        lambda data: data.replace(b'"rounds":', b'"rounds":9,"rounds":', 1),
        lambda data: data + b"\n",
    ],
    ids=["a space", "a name twice", "a name twice, first", "a line end"],
)
def test_signed_bytes_that_can_be_read_in_two_ways_are_refused(spoil: Callable[..., Any]) -> None:
    spoilt = spoil(make_plan().canonical())
    StudyPlan.from_bytes(spoilt)
    envelope = Envelope.sign(PLAN_PAYLOAD_TYPE, spoilt, KEY)
    with pytest.raises(IntegrityError, match="canonical"):
        Signed.opened(StudyPlan, envelope, KEY.public, PLAN_PAYLOAD_TYPE)


def test_what_is_opened_is_what_was_signed() -> None:
    plan = make_plan()
    envelope = Envelope.sign(PLAN_PAYLOAD_TYPE, plan.canonical(), KEY)
    signed = Signed.opened(StudyPlan, envelope, KEY.public, PLAN_PAYLOAD_TYPE)
    assert (signed.document, signed.data, signed.digest) == (plan, plan.canonical(), plan.digest())
    with pytest.raises(VerificationError):
        Signed.opened(StudyPlan, envelope, SigningKey.generate().public, PLAN_PAYLOAD_TYPE)
    with pytest.raises(VerificationError):
        Signed.opened(StudyPlan, envelope, KEY.public, STATEMENT_PAYLOAD_TYPE)


@pytest.mark.parametrize("losses", [(1e17, -1e20), (0.1, 2.0**53), (1e300,)])
def test_numbers_beyond_whole_ones_stay_canonical(losses: tuple[float, float] | tuple[float]) -> None:
    reply = TrainReply.from_bytes(GOLDEN[TrainReply]).model_copy(update={"losses": losses})
    envelope = Envelope.sign("t", reply.canonical(), KEY)
    assert Signed.opened(TrainReply, envelope, KEY.public, "t").document.losses == losses


@pytest.fixture
def consortium(tmp_path: Path) -> Consortium:
    return Consortium(tmp_path)


def test_the_command_tells_a_researcher_to_update(consortium: Consortium, tmp_path: Path) -> None:
    """A hospital of tomorrow signs a statement with a field more."""

    def attest(hospital: str, candidate: Candidate, **changes: Any) -> Envelope:
        value = json.loads(consortium.statement(hospital, candidate, **changes).canonical())
        value["predicate"]["tomorrow"] = "set"
        return Envelope.sign(STATEMENT_PAYLOAD_TYPE, canonical_bytes(value), consortium.keys[hospital])

    folder = consortium.release()
    candidate = Candidate.from_bytes((folder / layout.CANDIDATE).read_bytes())
    (tmp_path / "roster.dsse.json").write_bytes(consortium.signed_roster().to_bytes())
    path = f"{layout.ATTESTATIONS}/north.dsse.json"
    data = attest("north", candidate).to_bytes()
    manifest = ReleaseManifest.from_bytes((folder / layout.MANIFEST).read_bytes())
    with pytest.raises(VerificationError) as found:
        statements.statement_of(path, data, manifest, consortium.roster())
    assert found.value.cause == "version"
    assert "newer version" in found.value.message
    assert found.value.remedy == "update SonoShare"

    value = json.loads((folder / layout.MANIFEST).read_bytes()) | {"tomorrow": "set"}
    (folder / layout.MANIFEST).write_bytes(canonical_bytes(value))
    run = sonoshare("verify", folder, "--roster", tmp_path / "roster.dsse.json", "--json")
    assert run.returncode == 1
    assert json.loads(run.stdout.splitlines()[-1])["cause"] == "version"
    (error,) = run.errors
    assert error == (
        "error: version: this ReleaseManifest was made by a newer version of SonoShare: tomorrow is unknown here "
        "(update SonoShare)"
    )


@pytest.mark.parametrize(("digest", "cause"), [("model", None), (None, None), ("other", "statement")])
def test_a_verdict_on_images_is_about_the_manifests_adapter(
    consortium: Consortium, digest: str | None, cause: str | None
) -> None:
    manifest = ReleaseManifest.from_bytes((consortium.release() / layout.MANIFEST).read_bytes())
    candidate = Candidate.from_bytes((consortium.folder / RELEASE / layout.CANDIDATE).read_bytes())
    named = {"model": manifest.model_digest, "other": sha256_hex(b"another adapter"), None: None}[digest]
    data = consortium.attest("south", candidate, adapter_digest=named).to_bytes()

    def said() -> AuditStatement:
        return statements.statement_of(layout.attestation_path("south"), data, manifest, consortium.roster())

    if cause is None:
        assert said().predicate.adapter_digest == named
        return
    with pytest.raises(VerificationError, match="another adapter") as found:
        said()
    assert found.value.cause == cause


def test_figures_have_no_place_for_names_of_images_or_for_numbers_nobody_declared() -> None:
    value = figures().model_dump(mode="json", by_alias=True)
    assert AuditFigures.model_validate(value) == figures()
    for change in ({"images": ["000003.png"]}, {"true_count": 12}):
        with pytest.raises(ValueError, match=r"images|true_count"):
            AuditFigures.model_validate(value | {"copies": value["copies"] | change})


def test_public_documents_say_the_day(consortium: Consortium) -> None:
    """The same documents, made at two moments of one day, have the same bytes where they are signed."""
    moments = (NOW, NOW + timedelta(hours=5, seconds=7, microseconds=123))
    signed = set()
    for moment in moments:
        consortium.now = moment
        head = Signed.opened(LogHead, consortium.log().head(), consortium.coordinator.public, LOG_HEAD_PAYLOAD_TYPE)
        revocation = Revocation(release=RELEASE, manifest_digest="a" * 64, by="south", reason="consent", time=moment)
        envelope = evidence.sign_revocation(revocation, consortium.keys["south"])
        signed.add((head.data, envelope.payload))
    assert len(signed) == 1
    assert public_day(datetime(2026, 1, 2, 0, 30, tzinfo=UTC).astimezone()).isoformat() == "2026-01-02T00:00:00+00:00"


def test_a_log_of_tomorrow_is_said_to_be_one(consortium: Consortium, tmp_path: Path) -> None:
    folder = consortium.release()
    newer = json.loads(evidence.view(consortium.log()).canonical()) | {"schema": "sonoshare/log/v2"}
    (tmp_path / "log.json").write_bytes(canonical_bytes(newer))
    with pytest.raises(VerificationError, match="newer version") as found:
        check(folder, consortium.signed_roster(), log_head=tmp_path / "log.json", root=None)
    assert found.value.cause == "version"
