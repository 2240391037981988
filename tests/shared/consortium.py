"""A whole consortium in memory, with real keys, that builds a tiny valid release in a folder.

Each test breaks one thing: it changes the consortium before the release is built, or the folder afterwards.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np

from sonoshare_server.release.build import Samples, build_candidate, finalise, seal
from sonoshare_server.release.facts import Facts, Measurement
from sonoshare_shared.protocol.canonical import sha256_hex
from sonoshare_shared.protocol.documents import (
    AuditPlan,
    AuditPredicate,
    AuditStatement,
    Digests,
    HospitalEntry,
    Mechanism,
    ReleaseManifest,
    ReleasePlan,
    Roster,
    StudyPlan,
    Subject,
    Task,
)
from sonoshare_shared.protocol.documents.figures import (
    AuditFigures,
    CopyFigures,
    MembershipFigures,
    NominalCohort,
    VerdictFigures,
)
from sonoshare_shared.protocol.documents.roster import ROSTER_PAYLOAD_TYPE
from sonoshare_shared.protocol.documents.statement import STATEMENT_PAYLOAD_TYPE
from sonoshare_shared.protocol.envelope import Envelope
from sonoshare_shared.protocol.keys import SigningKey
from sonoshare_shared.protocol.log_index import candidate_entry, manifest_entry, plan_entry
from sonoshare_shared.protocol.release import evidence
from sonoshare_shared.protocol.release.candidate import Candidate
from sonoshare_shared.protocol.release.statements import sign_manifest
from sonoshare_shared.protocol.translog import TransparencyLog

NOW = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)
RELEASE = "breast-2026-1"
HOSPITALS = ("north", "south", "west")
MODEL = sha256_hex(b"adapter")
SIZE = 16


def make_plan(images: int = 12) -> StudyPlan:
    """A plan small enough for a test."""
    return StudyPlan(
        study="lesions",
        task=Task(
            name="diagnosis",
            question="Benign or malignant?",
            classes=("benign", "malignant"),
            scanners=("alpha", "beta"),
        ),
        profile="tiny",
        base_digest=sha256_hex(b"base"),
        trained="affine",
        rounds=2,
        local_steps=3,
        mechanism=Mechanism(rate=0.25, noise_multiplier=1.5, clip_norm=1.0, draws=2, delta=1e-4),
        learning_rate=0.02,
        cohorts=dict.fromkeys(HOSPITALS, 100),
        quorum=2,
        round_deadline_seconds=60,
        audit=AuditPlan(
            held_out_fraction=0.3, epsilon_copies=0.5, epsilon_membership=0.5, tolerated_share=0.1, tolerated_auc=0.7
        ),
        release=ReleasePlan(images=images, sampler_steps=10, start="phantom", seed=7),
    )


def make_samples(images: int = 12, start: int = 0, size: int = SIZE) -> Samples:
    """Noise with a square lesion; the last image has no lesion."""
    rng = np.random.default_rng(start)
    masks = np.zeros((images, size, size), bool)
    masks[:-1, 4:10, 3:11] = True
    boxes = np.tile(np.array([3 / 16, 4 / 16, 8 / 16, 6 / 16], np.float32), (images, 1))
    boxes[-1] = 0
    return Samples(
        images=rng.random((images, size, size), np.float32),
        masks=masks,
        labels=np.arange(images) % 2,
        scanners=np.arange(images) % 3 - 1,
        boxes=boxes,
        cases=start + np.arange(images),
        mm_per_pixel=np.tile(np.array([0.625, 0.75]), (images, 1)),
        start_index=start,
    )


def figures() -> AuditFigures:
    """Figures of an audit that saw nothing to object to."""
    return AuditFigures(
        nominal_cohort=NominalCohort(trained=100, held_out=43),
        alpha=0.05,
        copies=CopyFigures(
            epsilon=0.5,
            threshold=0.66,
            declared_recall=0.85,
            declared_false_rate=0.003,
            recall_by_edit={"exact": 1.0},
            blind_spots=("speckle",),
            search="every pair",
            critical_count=7,
            tolerated_patients=10,
            operating_points=(),
            patients_flagged=1.0,
            rate=0.01,
            interval=(0.0, 0.05),
        ),
        membership=MembershipFigures(attack="denoising loss", auc=0.52, interval=(0.43, 0.61)),
        verdicts=VerdictFigures(release_images="PASS", release_weights="PASS", by_attack={"copies": "PASS"}),
    )


@dataclass
class Consortium:
    """Keys and choices of everybody; change a field, then ``release``."""

    folder: Path
    root: SigningKey = field(default_factory=SigningKey.generate)
    coordinator: SigningKey = field(default_factory=SigningKey.generate)
    keys: dict[str, SigningKey] = field(default_factory=lambda: {name: SigningKey.generate() for name in HOSPITALS})
    plan: StudyPlan = field(default_factory=make_plan)
    version: int = 1
    expires: datetime = NOW + timedelta(days=365)
    now: datetime = NOW
    title: str = "Breast lesions, simulated consortium"
    utility: tuple[Measurement, ...] = ()
    participants: tuple[str, ...] | None = None

    @property
    def policy(self) -> str:
        """Digest of the audit policy in force."""
        return self.plan.audit.digest()

    def roster(self) -> Roster:
        """The roster as it stands."""
        return Roster(
            consortium="simulated",
            version=self.version,
            expires=self.expires,
            root_key=self.root.public.hex,
            coordinator_key=self.coordinator.public.hex,
            hospitals=tuple(
                HospitalEntry(id=name, identity_key=key.public.hex, node_key=f"node-{name}")
                for name, key in self.keys.items()
            ),
            audit_policy=self.policy,
        )

    def signed_roster(self) -> Envelope:
        """The roster, signed by the root."""
        return Envelope.sign(ROSTER_PAYLOAD_TYPE, self.roster().canonical(), self.root)

    def log(self) -> TransparencyLog:
        """The transparency log of the consortium."""
        return TransparencyLog(self.folder / "log.jsonl", self.coordinator, lambda: self.now)

    def statement(self, hospital: str, candidate: Candidate, /, **changes: Any) -> AuditStatement:
        """An honest PASS; ``changes`` replace fields of the predicate."""
        predicate = {
            "hospital": hospital,
            "study": candidate.study,
            "verdict": "PASS",
            "figures": figures(),
            "reasons": ["upper bounds are under the tolerated figures"],
            "smallest_detectable_leak": 7,
            "epsilon": 1.0,
            "policy_digest": self.policy,
            "ledger_head": sha256_hex(hospital.encode()),
            "spent_epsilon": 6.5,
            "spent_delta": 1e-4,
            "time": self.now,
        }
        return AuditStatement(
            subject=(Subject(name=candidate.release, digest=Digests(sha256=candidate.digest())),),
            predicate=AuditPredicate.model_validate(predicate | changes),
        )

    def attest(self, hospital: str, candidate: Candidate, /, **changes: Any) -> Envelope:
        """The hospital's signed statement."""
        statement = self.statement(hospital, candidate, **changes)
        return Envelope.sign(STATEMENT_PAYLOAD_TYPE, statement.canonical(), self.keys[hospital])

    def candidate(self, release: str = RELEASE, samples: Samples | None = None) -> Candidate:
        """Build the candidate folder."""
        samples = samples or make_samples(self.plan.release.images)
        return build_candidate(
            self.folder / f"{release}.candidate", [samples], release=release, plan=self.plan, model_digest=MODEL
        )

    def draft(self, release: str = RELEASE, vetoed: tuple[int, ...] = (5,)) -> ReleaseManifest:
        """Build candidate and unsigned release."""
        candidate = self.candidate(release)
        return finalise(
            self.folder / f"{release}.candidate",
            self.folder / f"{release}.draft",
            plan=self.plan,
            roster=self.signed_roster(),
            statements={hospital: self.attest(hospital, candidate) for hospital in self.participants or self.keys},
            facts=Facts(
                sequence=1, created=self.now, consortium="Simulated consortium", title=self.title, utility=self.utility
            ),
            vetoed=vetoed,
            participants=self.participants,
        )

    def release(self, release: str = RELEASE, sign: Callable[[str, ReleaseManifest], Envelope] | None = None) -> Path:
        """Build, sign and log a release, and return its folder."""
        manifest = self.draft(release)
        self.log_steps(manifest)
        sign = sign or (lambda hospital, m: sign_manifest(m, self.keys[hospital]))
        seal(
            self.folder / f"{release}.draft",
            self.folder / release,
            signatures={hospital: sign(hospital, manifest) for hospital in self.participants or self.keys},
            log_proof=evidence.append_release(self.log(), release, manifest.digest()),
            roster=self.roster(),
        )
        return self.folder / release

    def log_steps(self, manifest: ReleaseManifest) -> None:
        """Log what hospitals act upon: the plan, the candidate, and the manifest."""
        study, release, log = self.plan.study, manifest.release, self.log()
        log.append(plan_entry(study, self.plan.digest()))
        log.append(candidate_entry(study, release, manifest.candidate_digest))
        log.append(manifest_entry(study, release, manifest.digest()))

    def revoke(self, manifest_digest: str, by: str = "south", release: str = RELEASE) -> None:
        """A hospital revokes a release, and the coordinator logs it."""
        revocation = evidence.Revocation(
            release=release, manifest_digest=manifest_digest, by=by, reason="consent withdrawn", time=self.now
        )
        signed = evidence.sign_revocation(revocation, self.keys[by])
        self.log().append(evidence.revocation_entry(revocation, signed))
