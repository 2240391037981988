"""From a trained study to a sealed release: vote, draw, have it audited, gate, have it signed, log, seal.

Each step leaves something durable behind and is skipped when it is there already, so a pipeline that was killed is
simply run again. The gate is strict: without a PASS over this very candidate of every hospital that took part in the
study's rounds nothing is built that could be mistaken for a release; the refusal names each hospital's verdict and its
reasons.

``Act`` runs one federated action (``calibrate``, ``audit`` or ``sign``); the pipeline does not know Flower.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Literal

from sonoshare_server.federation.calibration import votes_evidence
from sonoshare_server.federation.closing import participants, whom_to_ask
from sonoshare_server.federation.statements import stored_envelopes
from sonoshare_server.home import CoordinatorHome, Study
from sonoshare_server.paths import CandidatePaths
from sonoshare_server.release.build import finalise, seal
from sonoshare_server.release.candidates import objections_to, place_of, said_of, why_silent
from sonoshare_server.release.draw import Outcome, outcome_of
from sonoshare_server.release.drawing import Drawing
from sonoshare_server.release.facts import Facts
from sonoshare_server.release.leases import LEASE_SECONDS
from sonoshare_server.release.sequence import take_sequence
from sonoshare_server.release.workers import InFolder, Part, Progress, Sharing, draw_candidate, drawing_place
from sonoshare_shared.errors import FederationError, RefusedError
from sonoshare_shared.protocol.documents import AuditStatement
from sonoshare_shared.protocol.documents.base import public_day
from sonoshare_shared.protocol.documents.release import ReleaseManifest
from sonoshare_shared.protocol.envelope import Envelope
from sonoshare_shared.protocol.release.candidate import Candidate
from sonoshare_shared.protocol.release.evidence import LogProof, append_release
from sonoshare_shared.protocol.release.veto import vetoed_images
from sonoshare_shared.science.model.base import IMPORTED

Action = Literal["calibrate", "audit", "sign"]
Act = Callable[[Action, str], None]


@dataclass(frozen=True)
class Pipeline:
    """The steps of one release.

    Attributes:
        home: the coordinator's folder.
        study: a trained study.
        release: identifier of the release.
        act: runs a federated action on this release.
    """

    home: CoordinatorHome
    study: Study
    release: str
    act: Act

    @property
    def candidate(self) -> CandidatePaths:
        """Where the candidate lies."""
        return self.study.candidate(self.release)

    @property
    def folder(self) -> Path:
        """Folder of the candidate."""
        return self.candidate.path

    def require_asked(self) -> tuple[str, ...]:
        """Hospitals whose votes, PASS and signature are asked for: those that took part in the study's rounds.

        Raises:
            RefusedError: one of them is not in the roster any more, so nobody can speak for its patients.
        """
        asked, roster = whom_to_ask(self.home, self.study), self.home.roster
        if gone := [hospital for hospital in asked if roster.hospital(hospital) is None]:
            raise RefusedError(
                f"{gone[0]} took part in study {self.study.plan.study} and is not in the roster any more: "
                "without its PASS and signature there is no release",
                remedy=f"admit {gone[0]} again, by its identity key and a new node key (there: sonoshare hospital keys "
                "rotate --node), and run the same; or train a new study without it",
            )
        return asked

    def calibrate(self) -> Outcome | None:
        """Have the hospitals that took part vote on the phantoms, once; None where the plan has no calibration.

        Raises:
            FederationError: too few voted.
        """
        if self.study.plan.calibration is None:
            return None
        if votes_evidence(self.study) is None:
            self.act("calibrate", self.release)
        evidence = votes_evidence(self.study)
        if evidence is None:
            raise FederationError("too few hospitals have voted on the phantoms", remedy="run the same again")
        return outcome_of(evidence, self.study.plan, self.home.roster, participants(self.home, self.study))

    @property
    def bases(self) -> Path:
        """Folder of imported bases."""
        return self.home.path / IMPORTED

    def in_folder(self, lease_seconds: float = LEASE_SECONDS) -> InFolder:
        """Shards and leases in the study's folder, for workers that see it."""
        return InFolder(drawing_place(self.folder), lease_seconds)

    def drawing(self) -> Drawing:
        """What is to be drawn; hospitals vote first if they have to.

        Raises:
            InputError: the study is not trained to its end, or as ``place_of``.
            RefusedError: the plan has no candidate left; nothing was drawn, and nobody voted.
            FederationError: too few voted.
        """
        plan, state = self.study.plan, self.study.state
        self.study.require_trained()
        self.require_asked()  # what could never be released is not drawn
        place = place_of(self.home, self.study, self.release)
        return Drawing(
            plan=plan,
            adapter=self.study.adapter(),
            adapter_digest=state.adapter_digest,
            release=self.release,
            number=place,
            outcome=self.calibrate(),
        )

    def draw(
        self,
        progress: Progress,
        share: Callable[[Drawing], Sharing] | None = None,
        part: Part | None = None,
    ) -> None:
        """Draw the candidate, sharing the work with whoever else draws it; hospitals vote first if they have to.

        Args:
            progress: called with (images done by all workers, images in all).
            share: gives what the drawing is shared by; absent, by those that see the coordinator's folder.
            part: what this process does of it; absent, it draws on the processor.

        Raises:
            SonoShareError: as ``drawing`` and ``draw_candidate``.
        """
        drawing = self.drawing()
        sharing = self.in_folder() if share is None else share(drawing)
        draw_candidate(self.folder, drawing, sharing, part or Part(self.bases), progress)

    def audit(self) -> dict[str, AuditStatement]:
        """Have the candidate audited by the hospitals that took part; returns what they say, by hospital.

        Raises:
            RefusedError: the plan has no candidate left.
        """
        if set(self.statements()) != set(self.require_asked()):
            place_of(self.home, self.study, self.release)
            self.act("audit", self.release)
        return self.said()

    def statements(self) -> dict[str, Envelope]:
        """Signed statements that came back."""
        return stored_envelopes(self.candidate.statements_path, whom_to_ask(self.home, self.study))

    def said(self) -> dict[str, AuditStatement]:
        """What the hospitals say, signatures checked."""
        return said_of(self.home, self.study, self.release)

    def require_passes(self) -> None:
        """The gate.

        Raises:
            RefusedError: a hospital did not answer, or did not say PASS; names each and why.
        """
        if objections := objections_to(self.study, self.release, self.said(), self.require_asked()):
            raise RefusedError("not published: " + "; ".join(objections), remedy=self._next_step())

    def _next_step(self) -> str:
        """What can be done where a candidate is not passed."""
        if all(statement.predicate.verdict == "PASS" for statement in self.said().values()):
            return "mend what the hospitals name and run the same again: verdicts that were given stand"
        logged = self.home.log().index.candidates(self.study.plan.study)
        left = self.study.plan.planned_candidates - len(logged)
        if left > 0:
            return f"draw the next candidate under another --name: {left} more are planned and paid for"
        return "the plan has no candidate left: create a study with more --candidates, or change the audits"

    def finish(self, facts: Facts) -> Path:
        """Build the release, have every hospital sign it, log it and seal it.

        Returns:
            The sealed release folder.

        Raises:
            RefusedError: see ``require_passes``.
            FederationError: a hospital did not sign.
            InputError: a release of another study has the name.
        """
        destination = self.home.releases / self.release
        if destination.exists():
            take_sequence(self.home, self.study.plan.study, self.release)  # or it is another study's
            return destination
        self.require_passes()
        draft = self.candidate.draft_path
        if not draft.exists():
            finalise(
                self.folder,
                draft,
                plan=self.study.plan,
                roster=self.home.roster_envelope,
                statements=self.statements(),
                facts=replace(facts, sequence=take_sequence(self.home, self.study.plan.study, self.release)),
                vetoed=self._vetoed(),
                votes=votes_evidence(self.study),
                participants=participants(self.home, self.study),
            )
        signatures = self._signatures()
        manifest = ReleaseManifest.from_bytes(self.candidate.manifest_path.read_bytes())
        log_proof = self._logged(manifest)
        seal(draft, destination, signatures=signatures, log_proof=log_proof, roster=self.home.roster)
        return destination

    def _vetoed(self) -> frozenset[int]:
        candidate = Candidate.from_bytes(self.candidate.listing_path.read_bytes())
        return vetoed_images(candidate, self.study.plan.audit.veto, tuple(self.said().values()))

    def _signatures(self) -> Mapping[str, Envelope]:
        folder, asked = self.candidate.signatures_path, self.require_asked()
        if len(stored_envelopes(folder, asked)) < len(asked):
            self.act("sign", self.release)
        signatures = stored_envelopes(folder, asked)
        if missing := sorted(set(asked) - set(signatures)):
            events = self.study.events()
            why = "; ".join(f"{hospital}: {why_silent(events, hospital, self.release)}" for hospital in missing)
            raise FederationError(
                f"{', '.join(missing)} did not sign the manifest ({why})", remedy="mend it, then run the same again"
            )
        return signatures

    def _logged(self, manifest: ReleaseManifest) -> LogProof:
        return append_release(self.home.log(), manifest.release, manifest.digest())


def facts_for(home: CoordinatorHome, study: Study, created: datetime, **known: object) -> Facts:
    """Facts of a release that the coordinator's folder holds, and what the caller knows besides; not its number."""
    title = f"Synthetic breast ultrasound: {study.plan.task.name}"
    # The day: when exactly the last hospital's audit had ended is nobody's business.
    day = public_day(created)
    return Facts(created=day, consortium=home.roster.consortium, title=title, **known)  # type: ignore[arg-type]
