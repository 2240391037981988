"""What an agent holds open: one hospital's key, ledger, vault, stored replies, and models it has loaded.

Everything is opened once and stays warm between requests; the policy and the roster are read anew for each request,
so that a change of the hospital's rules takes effect at once.
"""

import logging
import secrets
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from sonoshare_client.agent.canary_store import CanaryStore
from sonoshare_client.agent.ledger_heads import require_logged_heads, require_signed_heads
from sonoshare_client.agent.replies import ReplyStore
from sonoshare_client.intake.twins import require_compared
from sonoshare_client.node.evidence import EvidenceFolder
from sonoshare_client.node.home import NodeHome
from sonoshare_client.node.ledger import open_ledger
from sonoshare_client.node.log_copy import LogCopy
from sonoshare_client.node.policy import check_cohort
from sonoshare_client.node.witness import pinned_roster
from sonoshare_client.vault.dataset import TrainingSet, grid
from sonoshare_client.vault.store import Vault
from sonoshare_privacy.ledger import Ledger
from sonoshare_shared.durable import write_atomically
from sonoshare_shared.errors import RefusedError, SonoShareError
from sonoshare_shared.events import EventLog
from sonoshare_shared.protocol.documents import Roster, StudyPlan
from sonoshare_shared.protocol.envelope import Envelope
from sonoshare_shared.protocol.keys import SigningKey
from sonoshare_shared.science.model.adapter import adapter_from_bytes, load_adapter
from sonoshare_shared.science.model.base import IMPORTED, load_pinned_base
from sonoshare_shared.science.model.network import ConditionedUNet

_log = logging.getLogger(__name__)


@dataclass
class Node:
    """An open node.

    Attributes:
        home: its folder.
        key: identity key.
        ledger: privacy ledger.
        replies: stored replies.
        events: the agent's own event log.
        log: its copy of the transparency log.
        evidence: evidence of misconduct that it holds.
        challenge: random, made when the node was opened; views of other hospitals must answer it.
        answered: challenges of other hospitals that this process has received, by hospital.
    """

    home: NodeHome
    key: SigningKey
    ledger: Ledger
    replies: ReplyStore
    events: EventLog
    log: LogCopy
    evidence: EvidenceFolder
    challenge: str = field(default_factory=lambda: secrets.token_hex(32))
    answered: dict[str, str] = field(default_factory=dict)
    _sets: dict[tuple[str, int], TrainingSet] = field(default_factory=dict)

    @classmethod
    def open(cls, home: NodeHome) -> "Node":
        """Open a node that is enrolled.

        Raises:
            InputError: it is not enrolled, or its key or policy cannot be read.
            LedgerError: the ledger is not intact, or older than a head of it that the node has signed or seen.
            IntegrityError: the node's copy of the transparency log is damaged.
        """
        pinned_roster(home.state_path)
        key = home.identity()
        ledger = open_ledger(home, key, lambda: datetime.now(UTC))
        ledger.verify()
        state = home.state_path
        replies, log = ReplyStore(state / "replies"), LogCopy.open(state)
        require_logged_heads(ledger, log.index, key.public)
        require_signed_heads(ledger, (result.envelope for result in replies.results()))
        require_signed_heads(ledger, map(Envelope.load, sorted(home.statements_path.glob("*.dsse.json"))))
        return cls(
            home=home,
            key=key,
            ledger=ledger,
            replies=replies,
            events=EventLog(state / "events.jsonl"),
            log=log,
            evidence=EvidenceFolder(state / "evidence"),
        )

    @property
    def hospital(self) -> str:
        """Id of the hospital."""
        return self.home.hospital

    def roster(self) -> Roster:
        """The pinned roster."""
        return pinned_roster(self.home.state_path)

    def record(self, kind: str, **fields: object) -> None:
        """Append to the agent's event log."""
        self.events.record(kind, **fields)

    def patients(self, plan: StudyPlan, size: int) -> TrainingSet:
        """The hospital's patients for a plan's task, from the vault the first time and from memory after.

        Raises:
            RefusedError: the vault does not fit the task or the hospital's own rules. What is wrong with it (classes,
                counts) is said in the agent's log alone: a refusal leaves the hospital, and no charge covers it.
        """
        try:
            return self._fitting_patients(plan, size)
        except SonoShareError as error:
            _log.warning("the vault does not fit study %s: %s", plan.study, error)
            raise RefusedError(
                "this hospital's vault does not fit the study", remedy="see the agent's log at the hospital"
            ) from None

    def _fitting_patients(self, plan: StudyPlan, size: int) -> TrainingSet:
        place = (plan.task.digest(), size)
        if place not in self._sets:
            with Vault(self.home) as vault:
                require_compared(vault)
                self._sets = {place: grid(vault, plan.task, size)}
        patients = self._sets[place]
        joined = self.home.state_path / "joined" / plan.digest()
        if not joined.exists():
            check_cohort(self.home.policy(), trained=len(patients.trained), held_out=len(patients.held_out))
            # Settled for this plan: asked at every request, the answer would tell of each patient who comes or goes.
            joined.parent.mkdir(parents=True, exist_ok=True)
            write_atomically(joined, b"")
        return patients

    def model(self, plan: StudyPlan, adapter: bytes) -> ConditionedUNet:
        """The plan's base with an adapter on it.

        Raises:
            ModelError: the plan's base is not here, or the adapter does not fit.
        """
        model = load_pinned_base(plan.profile, plan.base_digest, self.home.path / IMPORTED)
        load_adapter(model, adapter_from_bytes(adapter), plan.trained)
        return model

    def canaries(self, plan: StudyPlan) -> CanaryStore:
        """What the canaries of a study have seen here; secret."""
        return CanaryStore(self.home.state_path / "canaries", plan)

    def candidate_path(self, digest: str) -> Path:
        """Where the listing of an audited candidate is kept."""
        return self.home.state_path / "candidates" / f"{digest}.json"

    def audited_plan_path(self, digest: str) -> Path:
        """Where the plan that a candidate was audited under is kept."""
        return self.home.state_path / "candidates" / f"{digest}.plan.json"

    def statement_path(self, candidate: str) -> Path:
        """Where the signed statement about a candidate is kept."""
        return self.home.statements_path / f"{candidate}.dsse.json"
