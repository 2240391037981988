"""A coordinator with hospitals, studies and releases in every state, as files alone: keys and documents are real."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from tests.deploy.console_shown import Shown
from tests.deploy.members import node_key
from tests.shared.consortium import Consortium as Keys
from tests.shared.consortium import make_plan, make_samples

from sonoshare_deploy.coordinator_console.app import coordinator_console
from sonoshare_deploy.coordinator_console.live import Live
from sonoshare_deploy.coordinator_console.starting import Commands
from sonoshare_deploy.provision import create_coordinator
from sonoshare_server.consortium import admission
from sonoshare_server.consortium.members import Consortium
from sonoshare_server.federation.statements import store_envelope
from sonoshare_server.home import CoordinatorHome
from sonoshare_server.release.build import build_candidate, finalise, seal
from sonoshare_server.release.facts import Facts
from sonoshare_shared.local_pages.door import Door
from sonoshare_shared.local_pages.serving import listening, server_of
from sonoshare_shared.protocol.canonical import sha256_hex
from sonoshare_shared.protocol.documents.release import ReleaseManifest
from sonoshare_shared.protocol.log_index import candidate_entry, manifest_entry, plan_entry
from sonoshare_shared.protocol.release import evidence
from sonoshare_shared.protocol.release.candidate import Candidate
from sonoshare_shared.protocol.release.statements import sign_manifest

PORT = 4323
STUDY = "lesions"
HOSTILE = "too few? <script>alert(1)</script><img src=x onerror=alert(2)>\u202e\"'"
MARKUP = ("<script>alert", "<img src=x", "\u202e")
ADAPTER = b"adapter"


@dataclass
class CoordinatorWorld:
    home: CoordinatorHome
    keys: Keys

    def candidate(self, release: str) -> Candidate:
        """Drawn, and given to nobody yet."""
        folder = self.home.study(STUDY).candidate(release).path
        plan = self.keys.plan
        return build_candidate(
            folder, [make_samples(plan.release.images)], release=release, plan=plan, model_digest=sha256_hex(ADAPTER)
        )

    def audited(self, release: str, candidate: Candidate, *hospitals: str, **changes: Any) -> None:
        """These hospitals have spoken."""
        place = self.home.study(STUDY).candidate(release)
        for hospital in hospitals:
            store_envelope(place.statements_path, hospital, self.keys.attest(hospital, candidate, **changes))

    def drafted(self, release: str, *signers: str) -> ReleaseManifest:
        """Passed by everybody, and signed by these."""
        candidate, study = self.candidate(release), self.home.study(STUDY)
        self.audited(release, candidate, *self.keys.keys)
        place = study.candidate(release)
        manifest = finalise(
            place.path,
            place.draft_path,
            plan=study.plan,
            roster=self.home.roster_envelope,
            statements={h: self.keys.attest(h, candidate) for h in self.keys.keys},
            facts=Facts(sequence=1, created=self.keys.now, consortium="clinics", title="Lesions"),
            vetoed=frozenset(),
        )
        for hospital in signers:
            store_envelope(place.signatures_path, hospital, sign_manifest(manifest, self.keys.keys[hospital]))
        return manifest

    def sealed(self, release: str) -> ReleaseManifest:
        """Sealed, and in no catalogue yet."""
        manifest, log = self.drafted(release, *self.keys.keys), self.home.log()
        log.append(plan_entry(STUDY, self.keys.plan.digest()))
        log.append(candidate_entry(STUDY, release, manifest.candidate_digest))
        log.append(manifest_entry(STUDY, release, manifest.digest()))
        seal(
            self.home.study(STUDY).candidate(release).draft_path,
            self.home.releases / release,
            signatures={h: sign_manifest(manifest, key) for h, key in self.keys.keys.items()},
            log_proof=evidence.append_release(log, release, manifest.digest()),
            roster=self.home.roster,
        )
        return manifest


def coordinator_world(folder: Path) -> CoordinatorWorld:
    """A consortium of three, a trained study, and one whose rounds go on."""
    keys = Keys(folder, now=datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0))
    home = create_coordinator(folder / "c", Consortium("clinics", keys.plan.audit), ("localhost", "127.0.0.1"))
    keys.coordinator = home.key
    for hospital, key in keys.keys.items():
        admission.admit(home, hospital, key.public.hex, node_key())
    plan = make_plan()
    for name, done in ((STUDY, plan.rounds), ("second", 1)):
        made = plan.model_copy(update={"study": name})
        study = home.create_study(made, ADAPTER, sha256_hex(ADAPTER))
        study.event("round", round=1, rounds=plan.rounds)
        study.event("refused", hospital="south", reason=HOSTILE)
        study.commit_round(done, ADAPTER, sha256_hex(ADAPTER))
    return CoordinatorWorld(home, keys)


@contextmanager
def shown_in(home: CoordinatorHome) -> Iterator[Shown[CoordinatorHome]]:
    """The console of a folder, and its session."""
    door = Door(PORT)
    with Commands(home) as commands:
        shown = Shown.entered(home, door, coordinator_console(home, commands, door), PORT)
        yield shown
        shown.client.close()


@contextmanager
def served(home: CoordinatorHome, live: Live) -> Iterator[Door]:
    """The console on a port, for real browsers."""
    with listening(0) as listener, Commands(home) as commands:
        door = Door(listener.getsockname()[1])
        server = server_of(coordinator_console(home, commands, door, live), door.leave)
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
        thread.start()
        try:
            yield door
        finally:
            server.handle_exit(signal.SIGINT, None)
            thread.join(10)
