"""Every rule of ``release.verify``: a valid release passes, and each broken thing has its cause."""

import hashlib
import json
import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from tests.shared.consortium import NOW, RELEASE, Consortium
from tests.shared.sealed_release import cause_of, check, replace_file, reseal

from sonoshare_shared.errors import VerificationError
from sonoshare_shared.protocol.canonical import canonical_bytes, sha256_file
from sonoshare_shared.protocol.documents import FileEntry, HospitalEntry, ReleaseManifest
from sonoshare_shared.protocol.documents.release import MANIFEST_PAYLOAD_TYPE
from sonoshare_shared.protocol.documents.roster import ROSTER_PAYLOAD_TYPE
from sonoshare_shared.protocol.documents.statement import STATEMENT_PAYLOAD_TYPE
from sonoshare_shared.protocol.envelope import Envelope
from sonoshare_shared.protocol.keys import SigningKey
from sonoshare_shared.protocol.release import layout
from sonoshare_shared.protocol.release.candidate import Candidate, require_candidate_minus
from sonoshare_shared.protocol.release.paths import require_distinct_paths, require_safe_path
from sonoshare_shared.protocol.release.statements import sign_manifest
from sonoshare_shared.protocol.release.verify import open_roster, verify_release


def test_valid_release_verifies_and_says_what_was_checked(built: Consortium, folder: Path) -> None:
    verified = check(built, folder)
    assert verified.manifest.release == RELEASE
    assert verified.manifest_digest == sha256_file(folder / layout.MANIFEST)
    assert verified.files == len(verified.manifest.files)
    assert verified.revocations_known_until is None
    assert sum(verified.manifest.counts.values()) == 11


def test_sha256sum_reads_our_sums(folder: Path) -> None:
    done = subprocess.run(
        ["/usr/bin/sha256sum", "--check", "--strict", "--quiet", layout.SHA256SUMS], cwd=folder, check=False
    )
    assert done.returncode == 0


def test_case_63_no_socket_is_opened(built: Consortium, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise AssertionError("verification opened a socket")

    monkeypatch.setattr(socket, "socket", refuse)
    check(built, folder)


def test_verification_imports_neither_torch_nor_numpy() -> None:
    code = "import sys, sonoshare_shared.protocol.release.verify, sonoshare_shared.protocol.release.fetch;"
    code += "sys.exit(bool({'torch', 'numpy', 'fastapi'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def _append(path: str) -> Callable[[Path], object]:
    return lambda folder: (folder / path).write_bytes((folder / path).read_bytes() + b" ")


def _flip(path: str) -> Callable[[Path], object]:
    def flip(folder: Path) -> None:
        data = bytearray((folder / path).read_bytes())
        data[len(data) // 2] ^= 1
        (folder / path).write_bytes(data)

    return flip


FOLDER_FAULTS: dict[str, Any] = {
    "image removed": (lambda f: (f / "images/000000.png").unlink(), "file-missing"),
    "mask flipped": (_flip("masks/000001.png"), "file-digest"),
    "metadata longer": (_append(layout.METADATA), "file-size"),
    "report flipped": (_flip(layout.PRIVACY_HTML), "file-digest"),
    "sums flipped": (_flip(layout.SHA256SUMS), "file-digest"),
    "sums removed": (lambda f: (f / layout.SHA256SUMS).unlink(), "file-missing"),
    "manifest removed": (lambda f: (f / layout.MANIFEST).unlink(), "file-missing"),
    "manifest is no JSON": (lambda f: (f / layout.MANIFEST).write_bytes(b"{"), "manifest"),
    "manifest with white space": (_append(layout.MANIFEST), "manifest"),
    "extra image (67)": (lambda f: (f / "images/999999.png").write_bytes(b"x"), "file-extra"),
    "extra signature (67)": (
        lambda f: (f / "signatures/east.dsse.json").write_bytes((f / "signatures/west.dsse.json").read_bytes()),
        "file-extra",
    ),
    "part left behind": (lambda f: (f / "images/000000.png.part").write_bytes(b"x"), "file-extra"),
    "symbolic link (20)": (lambda f: (f / "link").symlink_to("/etc/passwd"), "path"),
    "image is a link (20)": (
        lambda f: (
            (f / "images/000000.png").rename(f.parent / "x"),
            (f / "images/000000.png").symlink_to(f.parent / "x"),
        ),
        "path",
    ),
    "pipe (20)": (lambda f: os.mkfifo(f / "pipe"), "path"),
    "hidden file": (lambda f: (f / ".hidden").write_bytes(b"x"), "path"),
    "signature removed": (lambda f: (f / "signatures/south.dsse.json").unlink(), "quorum"),
    "log proof removed": (lambda f: (f / layout.LOG_PROOF).unlink(), "file-missing"),
    "log proof is no JSON": (lambda f: (f / layout.LOG_PROOF).write_bytes(b"[]"), "log-proof"),
    "log proof with white space": (_append(layout.LOG_PROOF), "log-proof"),
    "signature is no envelope": (lambda f: (f / "signatures/south.dsse.json").write_bytes(b"{}"), "envelope"),
    "signature of another hospital": (
        lambda f: shutil.copy(f / "signatures/north.dsse.json", f / "signatures/south.dsse.json"),
        "signature",
    ),
    "folder is gone": (shutil.rmtree, "file-missing"),
}


@pytest.mark.parametrize("name", FOLDER_FAULTS)
def test_case_59_67_folder_faults_are_named(built: Consortium, folder: Path, name: str) -> None:
    breaking, cause = FOLDER_FAULTS[name]
    breaking(folder)
    assert cause_of(lambda: check(built, folder)) == cause


def test_case_59_every_byte_counts(built: Consortium, folder: Path) -> None:
    """Flip sampled bits of each file, attached ones included: none goes unnoticed."""
    for path in sorted(p for p in folder.rglob("*") if p.is_file() and p.parent.name not in {"images", "masks"}):
        original = path.read_bytes()
        attached = (
            path.name in {layout.LOG_PROOF, layout.SHA256SUMS, layout.MANIFEST} or path.parent.name == "signatures"
        )
        step = max(1, len(original) // (40 if attached else 4))
        for position in range(0, len(original), step):
            data = bytearray(original)
            data[position] ^= 1 << (position % 7)
            path.write_bytes(data)
            assert cause_of(lambda: check(built, folder))
        path.write_bytes(original)
    check(built, folder)


def test_malleable_signature_envelope_is_refused(built: Consortium, folder: Path) -> None:
    """Other bytes that still verify (a second signature, another hint, stray base64 bits) are not the same file."""
    path = folder / layout.signature_path("north")
    value = json.loads(path.read_bytes())
    for change in (
        {"signatures": [*value["signatures"], {"keyid": "x", "sig": "AA=="}]},
        {"signatures": [value["signatures"][0] | {"keyid": "north"}]},
        {"signatures": [value["signatures"][0] | {"sig": _stray_bit(value["signatures"][0]["sig"])}]},
    ):
        path.write_bytes(Envelope.model_validate(value | change).to_bytes())
        assert cause_of(lambda: check(built, folder)) == "envelope"


def _stray_bit(text: str) -> str:
    assert text.endswith("==")
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
    return text[:-3] + alphabet[alphabet.index(text[-3]) ^ 1] + "=="


@pytest.mark.parametrize("verdict", ["FAIL", "INCONCLUSIVE"])
def test_case_56_a_verdict_other_than_pass_is_refused_everywhere(consortium: Consortium, verdict: str) -> None:
    folder = consortium.release()
    candidate = Candidate.from_bytes((folder / layout.CANDIDATE).read_bytes())
    said = consortium.attest("south", candidate, verdict=verdict)
    replace_file(consortium, folder, layout.attestation_path("south"), said.to_bytes())
    assert cause_of(lambda: check(consortium, folder)) == "verdict"


def test_case_56_missing_statement(consortium: Consortium) -> None:
    folder = consortium.release()
    (folder / layout.attestation_path("south")).unlink()
    gone = layout.attestation_path("south")
    reseal(consortium, folder, lambda v: v.update(files=[e for e in v["files"] if e["path"] != gone]))
    assert cause_of(lambda: check(consortium, folder)) == "quorum"


STATEMENT_FAULTS: dict[str, Any] = {
    "another study": ({"study": "other"}, "statement"),
    "another hospital's name": ({"hospital": "north"}, "statement"),
    "another audit policy": ({"policy_digest": "0" * 64}, "statement"),
    "after the roster expired": ({"time": NOW + timedelta(days=400)}, "roster-expired"),
    "spent more than the manifest says": ({"spent_epsilon": 6.6}, "privacy"),
    "spent more delta": ({"spent_delta": 2e-4}, "privacy"),
}


@pytest.mark.parametrize("name", STATEMENT_FAULTS)
def test_case_58_statement_about_something_else(consortium: Consortium, name: str) -> None:
    changes, cause = STATEMENT_FAULTS[name]
    folder = consortium.release()
    candidate = Candidate.from_bytes((folder / layout.CANDIDATE).read_bytes())
    said = consortium.attest("south", candidate, **changes)
    replace_file(consortium, folder, layout.attestation_path("south"), said.to_bytes())
    assert cause_of(lambda: check(consortium, folder)) == cause


REPORT_FAULTS: dict[str, Callable[[dict[str, Any]], None]] = {
    "less epsilon overall": lambda report: report.update(epsilon=0.1),
    "less epsilon of a hospital": lambda report: report["hospitals"][1].update(epsilon=0.1),
    "a better figure": lambda report: report["hospitals"][0]["figures"]["membership"].update(auc=0.5),
    "a hospital left out": lambda report: report["hospitals"].pop(),
    "more noise": lambda report: report["mechanism"].update(noise_multiplier=9.0),
    "no report": lambda report: report.clear(),
}


@pytest.mark.parametrize("name", REPORT_FAULTS)
def test_a_privacy_report_that_says_else_than_the_signed_statements_is_refused(
    consortium: Consortium, name: str
) -> None:
    """All hospitals sign a manifest that lists it: they see its digest alone."""
    folder = consortium.release()
    report = json.loads((folder / layout.PRIVACY_JSON).read_bytes())
    REPORT_FAULTS[name](report)
    replace_file(consortium, folder, layout.PRIVACY_JSON, json.dumps(report).encode())
    assert cause_of(lambda: check(consortium, folder)) == "privacy"


def test_case_58_verdict_for_another_candidate(consortium: Consortium) -> None:
    folder = consortium.release()
    other = consortium.candidate("breast-2026-2")
    said = consortium.attest("south", other)
    replace_file(consortium, folder, layout.attestation_path("south"), said.to_bytes())
    assert cause_of(lambda: check(consortium, folder)) == "statement"


def test_case_58_payload_and_predicate_types_are_not_interchangeable(consortium: Consortium) -> None:
    folder = consortium.release()
    candidate = Candidate.from_bytes((folder / layout.CANDIDATE).read_bytes())
    payload = consortium.statement("south", candidate).canonical()
    path = layout.attestation_path("south")
    wrong_type = Envelope.sign(MANIFEST_PAYLOAD_TYPE, payload, consortium.keys["south"])
    replace_file(consortium, folder, path, wrong_type.to_bytes())
    assert cause_of(lambda: check(consortium, folder)) == "payload-type"
    other = payload.replace(b"sonoshare.org/audit/v1", b"slsa.dev/provenance/v1")
    wrong_predicate = Envelope.sign(STATEMENT_PAYLOAD_TYPE, other, consortium.keys["south"])
    replace_file(consortium, folder, path, wrong_predicate.to_bytes())
    assert cause_of(lambda: check(consortium, folder)) == "statement"


def test_statement_of_a_stranger_is_refused(consortium: Consortium) -> None:
    folder = consortium.release()
    candidate = Candidate.from_bytes((folder / layout.CANDIDATE).read_bytes())
    stranger = SigningKey.generate()
    said = Envelope.sign(STATEMENT_PAYLOAD_TYPE, consortium.statement("south", candidate).canonical(), stranger)
    replace_file(consortium, folder, "attestations/east.dsse.json", said.to_bytes())
    assert cause_of(lambda: check(consortium, folder)) == "statement"


def test_statement_signed_by_another_key_is_refused(consortium: Consortium) -> None:
    folder = consortium.release()
    candidate = Candidate.from_bytes((folder / layout.CANDIDATE).read_bytes())
    payload = consortium.statement("south", candidate).canonical()
    said = Envelope.sign(STATEMENT_PAYLOAD_TYPE, payload, consortium.keys["north"])
    replace_file(consortium, folder, layout.attestation_path("south"), said.to_bytes())
    assert cause_of(lambda: check(consortium, folder)) == "signature"


def test_case_57_one_key_under_two_ids_is_refused(consortium: Consortium) -> None:
    """Also when the roster was signed by a root that does not check."""
    value = json.loads(consortium.roster().canonical())
    value["hospitals"][1]["identity_key"] = value["hospitals"][0]["identity_key"]
    doubled = Envelope.sign(ROSTER_PAYLOAD_TYPE, canonical_bytes(value), consortium.root)
    folder = consortium.release()
    assert cause_of(lambda: verify_release(folder, doubled, now=NOW)) == "roster"


def test_case_57_one_hospital_cannot_sign_for_another(consortium: Consortium) -> None:
    with pytest.raises(VerificationError) as caught:
        consortium.release(sign=lambda _, manifest: sign_manifest(manifest, consortium.keys["north"]))
    assert caught.value.cause == "signature"
    assert not (consortium.folder / RELEASE).exists()


def test_signature_over_another_manifest_is_refused(consortium: Consortium) -> None:
    folder = consortium.release()
    other = ReleaseManifest.from_bytes((folder / layout.MANIFEST).read_bytes()).model_copy(update={"sequence": 2})
    signed = sign_manifest(other, consortium.keys["west"])
    (folder / layout.signature_path("west")).write_bytes(signed.to_bytes())
    assert cause_of(lambda: check(consortium, folder)) == "signature"


MANIFEST_FAULTS = {
    "counts": (lambda v: v.update(counts={"benign": 600, "malignant": 5}), "candidate"),
    "another plan": (lambda v: v.update(plan_digest="0" * 64), "plan"),
    "another candidate": (lambda v: v.update(candidate_digest="0" * 64), "candidate"),
    "another model": (lambda v: v.update(model_digest="0" * 64), "candidate"),
    "less epsilon": (lambda v: v["privacy"].update(epsilon=1.0), "privacy"),
    "a hospital's budget left out": (lambda v: v["privacy"]["hospitals"].pop(), "privacy"),
    "path outside (20)": (lambda v: v["files"][0].update(path="../evil"), "path"),
    "absolute path (20)": (lambda v: v["files"][0].update(path="/etc/passwd"), "path"),
    "same path in capitals (20)": (lambda v: v["files"].append(v["files"][0] | {"path": "DATASHEET.MD"}), "manifest"),
    "a report is not listed": (
        lambda v: v.update(files=[e for e in v["files"] if e["path"] != layout.PRIVACY_JSON]),
        "manifest",
    ),
    "unknown field": (lambda v: v.update(status="published"), "version"),
}


@pytest.mark.parametrize("name", MANIFEST_FAULTS)
def test_signed_manifest_that_breaks_a_rule(consortium: Consortium, name: str) -> None:
    edit, cause = MANIFEST_FAULTS[name]
    folder = consortium.release()
    reseal(consortium, folder, edit)
    assert cause_of(lambda: check(consortium, folder)) == cause


def test_plan_with_another_audit_policy_than_the_roster(consortium: Consortium) -> None:
    lax = consortium.plan.audit.model_copy(update={"tolerated_share": 0.9})
    plan = consortium.plan.model_copy(update={"audit": lax})
    strict = consortium.signed_roster()
    consortium.plan = plan
    consortium.signed_roster = lambda: strict
    honest = consortium.attest
    policy = strict_policy(strict)
    consortium.attest = lambda hospital, candidate: honest(hospital, candidate, policy_digest=policy)  # type: ignore[assignment, misc]
    folder = consortium.release()
    assert cause_of(lambda: check(consortium, folder)) == "plan"


def strict_policy(roster: Envelope) -> str:
    return open_roster(roster).audit_policy


def test_image_that_was_not_in_the_candidate(consortium: Consortium) -> None:
    folder = consortium.release()
    replace_file(consortium, folder, "images/000000.png", (folder / "images/000001.png").read_bytes())
    assert cause_of(lambda: check(consortium, folder)) == "candidate"


def test_table_that_says_more_than_the_candidate(consortium: Consortium) -> None:
    folder = consortium.release()
    table = (folder / layout.METADATA).read_bytes()
    replace_file(consortium, folder, layout.METADATA, table.replace(b",train,", b",test,", 1))
    assert cause_of(lambda: check(consortium, folder)) == "candidate"


def test_hospital_signs_only_the_candidate_minus_vetoes(consortium: Consortium) -> None:
    manifest = consortium.draft(vetoed=(3, 4))
    data = (consortium.folder / f"{RELEASE}.draft" / layout.CANDIDATE).read_bytes()
    candidate = Candidate.from_bytes(data)
    digest = hashlib.sha256(data).hexdigest()
    assert digest == candidate.digest()
    require_candidate_minus(manifest, candidate, digest, [3, 4])
    assert cause_of(lambda: require_candidate_minus(manifest, candidate, digest, [3])) == "candidate"
    assert cause_of(lambda: require_candidate_minus(manifest, candidate, "0" * 64, [3, 4])) == "candidate"
    for path in ("adapter.safetensors", "images/model/000001.png", "images/000001.bin", "votes/adapter.safetensors"):
        # The hospitals' verdict on the release of the model is another than that on its pictures.
        more = (*manifest.files, FileEntry(path=path, sha256="1" * 64, size=1))
        larger = manifest.model_copy(update={"files": more})
        assert cause_of(lambda: require_candidate_minus(larger, candidate, digest, [3, 4])) == "manifest"  # noqa: B023 - called at once


@pytest.mark.parametrize(
    "path",
    [
        "",
        "/a",
        "a//b",
        "../a",
        "a/..",
        "./a",
        "a\\b",
        "C:a",
        "a\0b",
        "nul",
        "a/CON.png",
        "a.",
        "-a",
        ".a",
        "é",
        "a b",
        "x" * 201,
    ],
)
def test_case_20_unsafe_paths(path: str) -> None:
    assert cause_of(lambda: require_safe_path(path)) == "path"


def test_case_20_paths_that_clash() -> None:
    require_distinct_paths(["a/b", "a/c", "d"])
    assert cause_of(lambda: require_distinct_paths(["a", "A"])) == "path"
    assert cause_of(lambda: require_distinct_paths(["a", "a/b"])) == "path"


def test_hospital_entry_with_a_key_that_is_no_point(consortium: Consortium) -> None:
    """A key that is 32 bytes but no point of the curve verifies nothing."""
    entry = HospitalEntry(id="odd", identity_key="f" * 64, node_key="n")
    envelope = Envelope.sign(STATEMENT_PAYLOAD_TYPE, b"{}", consortium.root)
    assert cause_of(lambda: envelope.verify(entry.key, STATEMENT_PAYLOAD_TYPE)) == "signature"
