"""Where each thing in the coordinator's folder lies.

    root/root.key  root.pub     the consortium's root key; the private half may be taken off this machine
    coordinator.key             signs plans, log heads and rosters' coordinator entry (PEM, 0600)
    pki/                        the authority and the server's TLS certificate
    consortium.json  audit-policy.json  members.json  nodes.json  retired.json  roster.dsse.json
    invited.json                who may ask to be admitted, and the public half of the code that each was given
    log.jsonl                   the transparency log
    views/  evidence/           what each hospital last signed that it has seen, and proof that one signed falsely
    releases/  sequences.json  catalogue.db     sealed releases, their numbers, and what the catalogue says of them
    .start.lock  run.json  events.jsonl     of the running coordinator: held, what it says of itself, what happened
    addresses.json  fleet.json  logs/  flower/  flower.db     of the running processes
    .change.lock                held while a command changes any of these
    .lock  turns/               whose turn it is to ask the hospitals, and who waits for one
    by-files.json  outbox/  inbox/   hospitals without a line out, and what is carried to and from them
    studies/<study>/plan.dsse.json  state.json  events.jsonl  rounds/0000.safetensors ...  rounds/0001.set.json ...
                    wanted.json  actions/  answers/     what is wanted of it, who runs it, what hospitals answered
                    ballot.safetensors  votes/  voters.json
                    candidates/<release>/  candidates/.<release>.drawing/

No other module spells one of these names: whoever needs a path asks here, or the home (``home``) that opens
the folder and inherits them.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Final

from sonoshare_shared.protocol.release import layout

DRAFT: Final = "draft"
HOME_VARIABLE: Final = "SONOSHARE_COORDINATOR_HOME"
"""Tells the processes of a running coordinator its folder."""


class CoordinatorPaths:
    """Where each thing in a coordinator's folder lies, whether it is there yet or not."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @property
    def root_key_path(self) -> Path:
        """The root's private key; not there while it is kept elsewhere."""
        return self.path / "root" / "root.key"

    @property
    def next_root_key_path(self) -> Path:
        """The next root's private key, while the root key is being changed."""
        return self.path / "root" / "root.next.key"

    @property
    def root_public_path(self) -> Path:
        """The root's public key, one line of hexadecimal."""
        return self.path / "root.pub"

    @property
    def key_path(self) -> Path:
        """The coordinator's private key."""
        return self.path / "coordinator.key"

    @property
    def authority_path(self) -> Path:
        """Certificate of the authority that signed the server's certificate (PEM)."""
        return self.path / "pki" / "ca.crt"

    @property
    def authority_key_path(self) -> Path:
        """Private key of the authority (PEM)."""
        return self.path / "pki" / "ca.key"

    @property
    def certificate_path(self) -> Path:
        """The server's TLS certificate (PEM)."""
        return self.path / "pki" / "server.pem"

    @property
    def certificate_key_path(self) -> Path:
        """Private key of the server's TLS certificate (PEM)."""
        return self.path / "pki" / "server.key"

    @property
    def consortium_path(self) -> Path:
        """The consortium's name."""
        return self.path / "consortium.json"

    @property
    def audit_policy_path(self) -> Path:
        """The consortium's audit policy."""
        return self.path / "audit-policy.json"

    @property
    def members_path(self) -> Path:
        """Admitted hospitals and their keys."""
        return self.path / "members.json"

    @property
    def invited_path(self) -> Path:
        """Invitations that wait for a request."""
        return self.path / "invited.json"

    @property
    def roster_path(self) -> Path:
        """The signed roster."""
        return self.path / "roster.dsse.json"

    @property
    def nodes_path(self) -> Path:
        """Flower node ids by hospital."""
        return self.path / "nodes.json"

    @property
    def retired_path(self) -> Path:
        """Node keys that are to be, or were, taken off the SuperLink."""
        return self.path / "retired.json"

    @property
    def nodes_lock_path(self) -> Path:
        """Locked while who is let in changes."""
        return self.path / ".nodes.lock"

    @property
    def change_lock_path(self) -> Path:
        """Locked while a command changes what the folder says; see ``changing``."""
        return self.path / ".change.lock"

    @property
    def log_path(self) -> Path:
        """The transparency log."""
        return self.path / "log.jsonl"

    @property
    def by_files_path(self) -> Path:
        """Hospitals that are asked by bundles."""
        return self.path / "by-files.json"

    @property
    def outbox_path(self) -> Path:
        """Requests to be carried, by hospital."""
        return self.path / "outbox"

    @property
    def inbox_path(self) -> Path:
        """Replies that were carried back, by hospital."""
        return self.path / "inbox"

    @property
    def views_path(self) -> Path:
        """Each hospital's newest signed view, for all studies."""
        return self.path / "views"

    @property
    def evidence_path(self) -> Path:
        """Proof that a hospital signed what cannot be true."""
        return self.path / "evidence"

    @property
    def studies_path(self) -> Path:
        """A folder for each study."""
        return self.path / "studies"

    @property
    def releases(self) -> Path:
        """A folder for each sealed release."""
        return self.path / "releases"

    def sealed_manifests(self) -> list[Path]:
        """The manifest of each sealed release."""
        return sorted(self.releases.glob(f"*/{layout.MANIFEST}"))

    @property
    def sequences_path(self) -> Path:
        """Which number each release of the consortium has."""
        return self.path / "sequences.json"

    @property
    def catalogue_path(self) -> Path:
        """The catalogue's database."""
        return self.path / "catalogue.db"

    @property
    def addresses_path(self) -> Path:
        """Where the running coordinator listens."""
        return self.path / "addresses.json"

    @property
    def start_lock_path(self) -> Path:
        """Held by the one coordinator that may run."""
        return self.path / ".start.lock"

    @property
    def run_path(self) -> Path:
        """What the running coordinator says of itself."""
        return self.path / "run.json"

    @property
    def events_path(self) -> Path:
        """The coordinator's own event log; each study has another."""
        return self.path / "events.jsonl"

    @property
    def fleet_path(self) -> Path:
        """Which couriers were online at the last look."""
        return self.path / "fleet.json"

    @property
    def logs_path(self) -> Path:
        """Output of the processes that were started."""
        return self.path / "logs"

    @property
    def flower_path(self) -> Path:
        """Flower's own folder."""
        return self.path / "flower"

    @property
    def flower_database_path(self) -> Path:
        """The SuperLink's database."""
        return self.path / "flower.db"

    @property
    def lock_path(self) -> Path:
        """Locked by the action whose turn it is."""
        return self.path / ".lock"

    @property
    def turns_path(self) -> Path:
        """A file for each action that waits for its turn or has it."""
        return self.path / "turns"


class StudyPaths:
    """Where each thing in a study's folder lies, whether it is there yet or not."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @property
    def created(self) -> bool:
        """Whether the study was created to its end."""
        return self.state_path.exists()

    @property
    def plan_path(self) -> Path:
        """The signed plan."""
        return self.path / "plan.dsse.json"

    @property
    def state_path(self) -> Path:
        """How far the study is."""
        return self.path / "state.json"

    @property
    def events_path(self) -> Path:
        """The study's event log."""
        return self.path / "events.jsonl"

    @property
    def wanted_path(self) -> Path:
        """What the coordinator wants of the study."""
        return self.path / "wanted.json"

    @property
    def wanted_lock_path(self) -> Path:
        """Locked while that changes."""
        return self.path / ".wanted.lock"

    @property
    def actions_path(self) -> Path:
        """What commands have the hospitals do now; see ``actions``."""
        return self.path / "actions"

    @property
    def answers_path(self) -> Path:
        """What hospitals answered to the proposed plan, signed, by hospital."""
        return self.path / "answers"

    @property
    def rounds_path(self) -> Path:
        """Adapters by round."""
        return self.path / "rounds"

    def masked_set_path(self, number: int) -> Path:
        """What the hospitals of a round's masked sum signed when they were ready."""
        return self.rounds_path / f"{number:04d}.set.json"

    def sum_path(self, number: int) -> Path:
        """The sum of a round with pooled noise, as it travelled."""
        return self.rounds_path / f"{number:04d}.sum"

    def pooled_state_path(self, number: int) -> Path:
        """The optimiser's state after a round with pooled noise."""
        return self.rounds_path / f"{number:04d}.pooled.npz"

    @property
    def ballot_path(self) -> Path:
        """The ballot of a study that has a calibration."""
        return self.path / layout.BALLOT

    @property
    def voters_path(self) -> Path:
        """Whose votes count, once they have been asked for."""
        return self.path / "voters.json"

    @property
    def votes_path(self) -> Path:
        """Signed votes by hospital."""
        return self.path / layout.VOTES

    @property
    def candidates_path(self) -> Path:
        """A folder for each candidate."""
        return self.path / "candidates"

    def drafted_manifests(self) -> list[Path]:
        """The manifest of each release that was built, sealed or not."""
        return sorted(self.candidates_path.glob(f"*/{DRAFT}/{layout.MANIFEST}"))

    def candidate(self, release: str) -> "CandidatePaths":
        """A candidate's folder."""
        return CandidatePaths(self.candidates_path / release)


@dataclass(frozen=True)
class CandidatePaths:
    """Where each thing in a candidate's folder lies, whether it is there yet or not.

    Attributes:
        path: the folder; images and masks lie in it as in a release.
    """

    path: Path

    @property
    def listing_path(self) -> Path:
        """What hospitals audit: every image with its digest."""
        return self.path / layout.CANDIDATE

    @property
    def statements_path(self) -> Path:
        """Signed audit statements by hospital."""
        return self.path / "statements"

    @property
    def draft_path(self) -> Path:
        """The release as it will be, before it is signed."""
        return self.path / DRAFT

    @property
    def manifest_path(self) -> Path:
        """The draft's manifest."""
        return self.draft_path / layout.MANIFEST

    @property
    def signatures_path(self) -> Path:
        """Signatures over the draft's manifest by hospital."""
        return self.path / layout.SIGNATURES
