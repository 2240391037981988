"""Make the conformance kit: small releases, ledgers and evidence, each with the verdict that a verifier must give.

    python -m tests.conformance.make_kit        # writes tests/conformance/kit.zip

Keys come from fixed seeds and Ed25519 signs the same each time, so the same code makes the same kit. It is committed:
another implementation needs nothing of this one, and what verified once must verify for ever. Make it anew only to add
cases; ``README.md`` tells the format.
"""

import hashlib
import json
import tempfile
import zipfile
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from tests.conformance.faults import FOLDER, MANIFEST, REPORT, STATEMENT
from tests.log_parts import STUDY, Keys
from tests.shared.consortium import HOSPITALS, MODEL, NOW, RELEASE, Consortium, make_plan
from tests.shared.sealed_release import replace_file, reseal

from sonoshare_server.release.build import finalise
from sonoshare_server.release.facts import Facts
from sonoshare_shared.protocol.canonical import canonical_bytes, sha256_file, sha256_hex
from sonoshare_shared.protocol.closed_rounds import ClosedRound
from sonoshare_shared.protocol.documents import ReleaseManifest
from sonoshare_shared.protocol.documents.exchange import VOTES_PAYLOAD_TYPE, CalibrationVotes
from sonoshare_shared.protocol.documents.plan import CalibrationPlan
from sonoshare_shared.protocol.documents.release import MANIFEST_PAYLOAD_TYPE
from sonoshare_shared.protocol.documents.roster import ROSTER_PAYLOAD_TYPE
from sonoshare_shared.protocol.documents.statement import STATEMENT_PAYLOAD_TYPE
from sonoshare_shared.protocol.envelope import Envelope
from sonoshare_shared.protocol.keys import SigningKey
from sonoshare_shared.protocol.misconduct import split_view
from sonoshare_shared.protocol.release import evidence, layout
from sonoshare_shared.protocol.release.candidate import Candidate
from sonoshare_shared.protocol.release.votes import VotesEvidence

KIT = Path(__file__).parent / "kit.zip"
GOLDEN = Path(__file__).parents[1] / "golden" / "v1"
BALLOT = b"a ballot: verifiers hold it against its digest and open it no further"
IMAGES = 6
LINK = "/etc/hostname"
DAY_OF_ZIP = (2026, 11, 22, 12, 0, 0)


def key(name: str) -> SigningKey:
    """The key that belongs to a name; for nothing but this kit."""
    return SigningKey(Ed25519PrivateKey.from_private_bytes(hashlib.sha256(f"conformance {name}".encode()).digest()))


def consortium(folder: Path, **choices: Any) -> Consortium:
    """A consortium of keys that are the same in every run."""
    keys = {name: key(name) for name in HOSPITALS}
    kind = choices.pop("kind", Consortium)
    made: Consortium = kind(
        folder, root=key("root"), coordinator=key("coordinator"), keys=keys, **{"plan": make_plan(IMAGES)} | choices
    )
    return made


class Calibrated(Consortium):
    """A consortium whose patients voted on ``ballot``."""

    ballot: bytes = BALLOT

    def draft(self, release: str = RELEASE, vetoed: tuple[int, ...] = ()) -> ReleaseManifest:
        candidate = self.candidate(release)
        votes = {
            hospital: Envelope.sign(
                VOTES_PAYLOAD_TYPE,
                CalibrationVotes(
                    hospital=hospital,
                    study=self.plan.study,
                    plan_digest=self.plan.digest(),
                    ballot=sha256_hex(self.ballot),
                    votes=(3, 1, 4),
                    epsilon=0.5,
                    ledger_head=sha256_hex(b"head"),
                    log_size=2,
                ).canonical(),
                signing,
            )
            for hospital, signing in self.keys.items()
        }
        return finalise(
            self.folder / f"{release}.candidate",
            self.folder / f"{release}.draft",
            plan=self.plan,
            roster=self.signed_roster(),
            statements={hospital: self.attest(hospital, candidate) for hospital in self.keys},
            facts=Facts(sequence=1, created=self.now, consortium="Simulated consortium", title=self.title),
            vetoed=vetoed,
            votes=VotesEvidence(self.ballot, votes),
        )


@dataclass
class Kit:
    """Cases as they are collected.

    Attributes:
        files: bytes by path in the kit.
        cases: what ``expected.json`` says of each.
    """

    folder: Path
    files: dict[str, bytes] = field(default_factory=dict)
    cases: list[dict[str, Any]] = field(default_factory=list)
    bases: dict[str, dict[str, bytes]] = field(default_factory=dict)

    def given(self, data: bytes) -> str:
        """Path in the kit of something that the caller of a verifier gives."""
        path = f"given/{sha256_hex(data)[:16]}.json"
        self.files[path] = data
        return path

    def base(self, name: str, folder: Path) -> None:
        """A release that cases differ from."""
        self.bases[name] = contents(folder)
        self.files |= {f"{name}/{path}": data for path, data in self.bases[name].items()}

    def release(
        self,
        name: str,
        why: str,
        cause: str | None,
        folder: Path,
        roster: Envelope,
        *,
        base: str = "base",
        log: evidence.LogView | Envelope | None = None,
        root: str | None = None,
        now: datetime = NOW,
    ) -> None:
        """Add a release as it lies in a folder."""
        here, there = contents(folder), self.bases[base]
        changed = {path: data for path, data in here.items() if there.get(path) != data}
        self.files |= {f"cases/{name}/{path}": data for path, data in changed.items()}
        logged = None
        if log is not None:
            logged = self.given(log.canonical() if isinstance(log, evidence.LogView) else log.to_bytes())
        links = {p.relative_to(folder).as_posix(): LINK for p in folder.rglob("*") if p.is_symlink()}
        self._add({"name": name, "why": why, "kind": "release", "cause": cause}, roster, root, now)
        self.cases[-1] |= {
            "log": logged,
            "base": base,
            "changed": sorted(changed),
            "removed": sorted(there.keys() - here.keys() - links.keys()),
            "links": links,
        }

    def file(self, name: str, why: str, cause: str | None, *, kind: str, data: bytes, roster: Envelope) -> None:
        """Add a ledger, or evidence."""
        self.files[f"cases/{name}/{kind}.json"] = data
        self._add({"name": name, "why": why, "kind": kind, "cause": cause}, roster, None, NOW)

    def _add(self, said: dict[str, Any], roster: Envelope, root: str | None, now: datetime) -> None:
        trusted = {"roster": self.given(roster.to_bytes()), "root": root, "now": now.isoformat()}
        self.cases.append(said | {"verified": said["cause"] is None} | trusted)

    def write(self, path: Path) -> None:
        """The kit as one archive, the same bytes each time."""
        expected = {"schema": "sonoshare/conformance/v1", "cases": self.cases}
        files = self.files | {"expected.json": json.dumps(expected, indent=1, sort_keys=True).encode() + b"\n"}
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive:
            for name in sorted(files):
                archive.writestr(zipfile.ZipInfo(name, DAY_OF_ZIP), files[name], zipfile.ZIP_DEFLATED, 9)


def contents(folder: Path) -> dict[str, bytes]:
    """Every plain file of a folder."""
    found = (path for path in folder.rglob("*") if path.is_file() and not path.is_symlink())
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in found}


def make(folder: Path) -> Kit:
    """All cases."""
    kit = Kit(folder)
    first = consortium(folder / "base")
    kit.base("base", first.release())
    calibrated = consortium(
        folder / "calibrated",
        kind=Calibrated,
        plan=make_plan(IMAGES).model_copy(
            update={"calibration": CalibrationPlan(epsilon=0.5, ballot=sha256_hex(BALLOT), sharpness=0.0)}
        ),
    )
    kit.base("calibrated", calibrated.release())
    of_folders(kit, first)
    of_documents(kit)
    of_statements(kit)
    of_rosters(kit, first)
    of_logs(kit, first)
    of_votes(kit, calibrated)
    of_other_files(kit)
    return kit


def fresh(kit: Kit, name: str, **choices: Any) -> tuple[Consortium, Path]:
    """A consortium of its own and its release."""
    made = consortium(kit.folder / name, **choices)
    return made, made.release()


def of_folders(kit: Kit, first: Consortium) -> None:
    """Files that were changed, lost or added after everybody had signed."""
    kit.release("whole", "a release as it was published", None, first.folder / RELEASE, first.signed_roster())
    for name, (breaking, cause) in FOLDER.items():
        made, release = fresh(kit, f"folder-{name}")
        breaking(release)
        kit.release(f"folder-{name}", name.replace("-", " "), cause, release, made.signed_roster())


def of_documents(kit: Kit) -> None:
    """Manifests and reports that break a rule, and that everybody signed all the same."""
    for name, (edit, cause) in MANIFEST.items():
        made, release = fresh(kit, f"manifest-{name}")
        reseal(made, release, edit)
        why = f"signed manifest: {name.replace('-', ' ')}"
        kit.release(f"manifest-{name}", why, cause, release, made.signed_roster())
    for name, change in REPORT.items():
        made, release = fresh(kit, f"report-{name}")
        report = json.loads((release / layout.PRIVACY_JSON).read_bytes())
        change(report)
        replace_file(made, release, layout.PRIVACY_JSON, json.dumps(report).encode())
        why = f"privacy report: {name.replace('-', ' ')}"
        kit.release(f"report-{name}", why, "privacy", release, made.signed_roster())
    made, release = fresh(kit, "image-of-no-candidate")
    replace_file(made, release, "images/000000.png", (release / "images/000001.png").read_bytes())
    kit.release("image-of-no-candidate", "an image that nobody audited", "candidate", release, made.signed_roster())


def of_statements(kit: Kit) -> None:
    """Audit statements that say no, are about something else, or are somebody else's."""
    path = layout.attestation_path("south")

    def put(name: str, why: str, cause: str, said: Callable[[Consortium, Candidate], Envelope]) -> None:
        made, release = fresh(kit, f"statement-{name}")
        candidate = Candidate.from_bytes((release / layout.CANDIDATE).read_bytes())
        replace_file(made, release, path, said(made, candidate).to_bytes())
        kit.release(f"statement-{name}", why, cause, release, made.signed_roster())

    for name, (changes, cause) in STATEMENT.items():
        why = f"audit statement: {name.replace('-', ' ')}"
        put(name, why, cause, lambda made, candidate, changes=changes: made.attest("south", candidate, **changes))  # type: ignore[misc]

    def signed(payload_type: str, signer: str, edit: Callable[[bytes], bytes] = lambda data: data) -> Any:
        def said(made: Consortium, candidate: Candidate) -> Envelope:
            return Envelope.sign(payload_type, edit(made.statement("south", candidate).canonical()), made.keys[signer])

        return said

    other = lambda data: data.replace(b"sonoshare.org/audit/v1", b"slsa.dev/provenance/v1")  # noqa: E731
    put("payload-type", "signed under another payload type", "payload-type", signed(MANIFEST_PAYLOAD_TYPE, "south"))
    put("predicate-type", "another predicate type", "statement", signed(STATEMENT_PAYLOAD_TYPE, "south", other))
    put("signer", "signed by another hospital", "signature", signed(STATEMENT_PAYLOAD_TYPE, "north"))
    made, release = fresh(kit, "statement-missing")
    (release / path).unlink()
    reseal(made, release, lambda v: v.update(files=[entry for entry in v["files"] if entry["path"] != path]))
    kit.release("statement-missing", "a hospital did not speak", "quorum", release, made.signed_roster())


def of_rosters(kit: Kit, first: Consortium) -> None:
    """What the caller trusts."""
    release, roster, stranger = first.folder / RELEASE, first.roster(), key("stranger")
    root, signed = first.root.public.hex, first.signed_roster()
    kit.release("root-pinned", "the pinned root key", None, release, first.signed_roster(), root=root)
    kit.release("root-other", "another pinned root key", "roster", release, signed, root=stranger.public.hex)
    forged = Envelope.sign(ROSTER_PAYLOAD_TYPE, roster.canonical(), stranger)
    kit.release("roster-forged", "a roster that its root key did not sign", "roster", release, forged)
    late = NOW + timedelta(days=366)
    kit.release("roster-expired", "the roster has expired", "roster-expired", release, signed, now=late)
    fewer = roster.model_copy(update={"hospitals": roster.hospitals[:2]})
    same = Envelope.sign(ROSTER_PAYLOAD_TYPE, fewer.canonical(), first.root)
    kit.release("roster-same-version", "another roster of the same version", "roster", release, same)
    doubled = json.loads(roster.canonical())
    doubled["hospitals"][1]["identity_key"] = doubled["hospitals"][0]["identity_key"]
    twice = Envelope.sign(ROSTER_PAYLOAD_TYPE, canonical_bytes(doubled), first.root)
    kit.release("roster-one-key-twice", "one key under two names", "roster", release, twice)
    later = roster.model_copy(update={"version": 2, "hospitals": tuple(e for e in roster.hospitals if e.id != "west")})
    newer = Envelope.sign(ROSTER_PAYLOAD_TYPE, later.canonical(), first.root)
    kit.release("roster-newer", "an old release under a newer roster, which lacks a hospital", None, release, newer)
    _, second = fresh(kit, "roster-older", version=2)
    kit.release("roster-older", "a release that needs a newer roster", "roster", second, first.signed_roster())
    tomorrow = Envelope.sign(
        ROSTER_PAYLOAD_TYPE, canonical_bytes(json.loads(roster.canonical()) | {"colour": "red"}), first.root
    )
    kit.release("roster-of-tomorrow", "a roster with a field of a newer version", "version", release, tomorrow)


def of_logs(kit: Kit, first: Consortium) -> None:
    """A fresh log beside the release."""
    release, roster = first.folder / RELEASE, first.signed_roster()
    whole = evidence.view(first.log())
    kit.release("log-fresh", "a fresh log without a revocation", None, release, roster, log=whole)
    kit.release("log-head-of-then", "the very head of the release's proof", None, release, roster,
        log=evidence.LogProof.from_bytes((release / layout.LOG_PROOF).read_bytes()).head)  # fmt: skip
    short = whole.model_copy(update={"entries": whole.entries[:-1]})
    kit.release("log-shortened", "an entry was left out under the same head", "log-proof", release, roster, log=short)
    made, other = fresh(kit, "log-revoked")
    proof = evidence.LogProof.from_bytes((other / layout.LOG_PROOF).read_bytes())
    made.revoke(sha256_file(other / layout.MANIFEST))
    revoked = evidence.view(made.log())
    kit.release("log-revoked", "a hospital has revoked it", "revoked", other, roster, log=revoked)
    kit.release("log-revoked-unseen", "the same without a log: nobody can know", None, other, roster)
    kit.release("log-head-alone", "a newer head alone links to nothing", "log-proof", other, roster, log=revoked.head)
    kit.release("log-head-then-known", "the head of then, after the revocation", None, other, roster, log=proof.head)
    digest = sha256_file(other / layout.MANIFEST)
    log = made.log()
    index = log.append(evidence.release_entry(RELEASE, digest))
    again = evidence.LogProof(index=index, proof=tuple(log.inclusion_proof(index)), head=log.head())
    (other / layout.LOG_PROOF).write_bytes(again.canonical())
    kit.release("log-revoked-and-again", "logged once more behind its revocation", "revoked", other, roster,
        log=evidence.view(log))  # fmt: skip
    fork = consortium(kit.folder / "fork")
    for number in range(6):
        fork.log().append({"kind": "model", "study": "other", "round": number, "digest": str(number)})
    forked = evidence.view(fork.log())
    kit.release("log-forked", "a log of another beginning", "log-proof", release, roster, log=forked)
    named = consortium(kit.folder / "named", participants=("north", "south"))
    for number in (1, 2):
        named.log().append(
            ClosedRound(study=named.plan.study, round=number, hospitals=("north", "south"), adapter=MODEL).entry
        )
    some = named.release()
    said = evidence.view(named.log())
    kit.release("participants", "two of three took part, as the log says", None, some, roster, log=said)
    kit.release("participants-unlogged", "a log that names nobody who took part", "log-proof", some, roster, log=whole)
    more = named.log()
    for number in (1, 2):
        more.append({"kind": "model", "study": "another", "round": number, "digest": "0" * 64})
    kit.release("log-longer", "a log that went on", None, some, roster, log=evidence.view(more))


def of_votes(kit: Kit, calibrated: Consortium) -> None:
    """Releases that patients' votes were drawn by."""
    release, roster = calibrated.folder / RELEASE, calibrated.signed_roster()
    kit.release("votes", "ballot and votes are there", None, release, roster, base="calibrated")
    for name, why, path in (
        ("votes-missing", "a hospital's votes are not there", layout.votes_path("west")),
        ("ballot-missing", "the ballot is not there", layout.BALLOT),
    ):
        made, other = fresh(kit, name, kind=Calibrated, plan=calibrated.plan)
        (other / path).unlink()
        reseal(made, other, lambda v, path=path: v.update(files=[e for e in v["files"] if e["path"] != path]))  # type: ignore[misc]
        kit.release(name, why, "calibration", other, roster, base="calibrated")
    made, other = fresh(kit, "ballot-other", kind=Calibrated, plan=calibrated.plan)
    replace_file(made, other, layout.BALLOT, BALLOT + b"!")
    kit.release("ballot-other", "another ballot than the plan's", "calibration", other, roster, base="calibrated")


def of_other_files(kit: Kit) -> None:
    """Exported ledgers, and evidence of misconduct."""
    golden = Envelope.load(GOLDEN / "roster.dsse.json")
    export = (GOLDEN / "ledger-north.json").read_bytes()
    kit.file("ledger", "an exported ledger", None, kind="ledger", data=export, roster=golden)
    cut = json.loads(export)
    cut["entries"] = cut["entries"][:-1]
    kit.file(
        "ledger-cut", "its last entry is cut off", "ledger", kind="ledger", data=canonical_bytes(cut), roster=golden
    )
    renamed = json.loads(export) | {"hospital": "nobody"}
    kit.file(
        "ledger-of-nobody", "of nobody known", "ledger", kind="ledger", data=canonical_bytes(renamed), roster=golden
    )
    keys = Keys(key("coordinator"), key("root"), {name: key(name) for name in "abc"})
    roster = Envelope.sign(ROSTER_PAYLOAD_TYPE, keys.roster.canonical(), keys.root)
    forked = [*STUDY[:2], *STUDY[:1]]
    proof = split_view(keys.head(STUDY), keys.head(forked), tuple(STUDY), keys.coordinator.public)
    kit.file(
        "evidence", "the coordinator signed two logs", None, kind="evidence", data=proof.canonical(), roster=roster
    )
    honest = split_view(keys.head(STUDY), keys.head(STUDY), tuple(STUDY), keys.coordinator.public)
    kit.file(
        "evidence-of-nothing",
        "two heads of one log",
        "evidence",
        kind="evidence",
        data=honest.canonical(),
        roster=roster,
    )


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as place:
        made = make(Path(place))
        made.write(KIT)
        print(f"{len(made.cases)} cases, {KIT.stat().st_size >> 10} KiB")  # noqa: T201
