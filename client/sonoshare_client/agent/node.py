"""What an agent holds open: one hospital's key, ledger, vault, stored replies, and models it has loaded.

Everything is opened once and stays warm between requests, and nothing stays that the hospital has changed: policy,
budgets and roster are read anew for each request, and patients whenever the vault's generation is another.
"""

import logging
import secrets
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime

import torch

from sonoshare_client.agent.canary_store import CanaryStore
from sonoshare_client.agent.identity import followed_identity
from sonoshare_client.agent.inbox import Inbox
from sonoshare_client.agent.ledger_heads import require_kept_heads
from sonoshare_client.agent.mask_store import MaskStore
from sonoshare_client.agent.pooled_view import PooledView
from sonoshare_client.agent.replies import ReplyStore
from sonoshare_client.node.evidence import EvidenceFolder
from sonoshare_client.node.home import NodeHome
from sonoshare_client.node.ledger import open_ledger
from sonoshare_client.node.log_copy import LogCopy
from sonoshare_client.node.witness import pinned_roster
from sonoshare_client.vault.dataset import TrainingSet, grid
from sonoshare_client.vault.store import Vault, generation_of
from sonoshare_privacy.budget import Reservation
from sonoshare_privacy.ledger import Ledger
from sonoshare_privacy.patient_gradients.room import memory_of
from sonoshare_shared.errors import LedgerError
from sonoshare_shared.events import MOST_BYTES, EventLog, details
from sonoshare_shared.protocol.documents import Roster, StudyPlan
from sonoshare_shared.protocol.keys import SigningKey
from sonoshare_shared.science.device import chosen_device
from sonoshare_shared.science.model.adapter import adapter_from_bytes, load_adapter
from sonoshare_shared.science.model.base import IMPORTED, load_pinned_base
from sonoshare_shared.science.model.network import ConditionedUNet

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class _Opened:
    """Patients in memory: for which study, task and size, and of which generation of the vault."""

    place: tuple[str, str, int]
    generation: int
    patients: TrainingSet


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
        inbox: the candidate that is about to be audited.
        evidence: evidence of misconduct that it holds.
        device: where it computes.
        further_devices: where processes beside it train with it.
        challenge: random, made when the node was opened; views of other hospitals must answer it.
        answered: challenges of other hospitals that this process has received, by hospital.
    """

    home: NodeHome
    key: SigningKey
    ledger: Ledger
    replies: ReplyStore
    events: EventLog
    log: LogCopy
    inbox: Inbox
    evidence: EvidenceFolder
    device: torch.device
    further_devices: tuple[torch.device, ...] = ()
    challenge: str = field(default_factory=lambda: secrets.token_hex(32))
    answered: dict[str, str] = field(default_factory=dict)
    _opened: _Opened | None = None

    @classmethod
    def open(
        cls, home: NodeHome, device: torch.device | None = None, further_devices: Sequence[torch.device] = ()
    ) -> "Node":
        """Open a node that is enrolled.

        Args:
            home: its folder.
            device: where it computes; None for what its folder says.
            further_devices: where processes beside it train with it.

        Raises:
            InputError: it is not enrolled, its key or policy cannot be read, or its device is not here.
            LedgerError: the ledger is not intact, or older than a head of it that the node has signed or seen.
            RefusedError: the log passes the hospital's identity to a key that is not here.
            IntegrityError: the node's copy of the transparency log is damaged.
        """
        pinned_roster(home.state_path)
        device = device or chosen_device(home.device)
        memory_of(device)  # looks now, before any patient is in this process
        ledger = open_ledger(home, lambda: datetime.now(UTC))
        ledger.verify()
        state = home.state
        replies, log = ReplyStore(state.replies_path), LogCopy.open(state.path)
        key = followed_identity(home, home.identity(), ledger, log.index)
        require_kept_heads(home, ledger)
        inbox = Inbox(state.inbox_path)
        inbox.tidy(lambda digest: home.statement_path(digest).exists())
        return cls(
            home=home,
            key=key,
            ledger=ledger,
            replies=replies,
            events=EventLog(state.events_path, most_bytes=MOST_BYTES),
            log=log,
            inbox=inbox,
            evidence=EvidenceFolder(state.evidence_path),
            device=device,
            further_devices=tuple(further_devices),
        )

    @property
    def hospital(self) -> str:
        """Id of the hospital."""
        return self.home.hospital

    def roster(self) -> Roster:
        """The pinned roster, with the identity keys that its hospitals have by this node's copy of the log."""
        return self.log.index.followed(pinned_roster(self.home.state_path))

    def follow_identity(self) -> None:
        """Go over to the next identity key, if the log shows that it follows.

        Raises:
            RefusedError: the log passes the hospital's identity to a key that is not here.
            LedgerError: the ledger is older than a head that the log holds.
        """
        key = followed_identity(self.home, self.key, self.ledger, self.log.index)
        if key.public != self.key.public:
            self.key = key
            self.record("identity-changed", key=key.public.hex)

    def record(self, kind: str, **fields: object) -> None:
        """Append to the agent's event log, and say it; one that cannot be written must not decide what is answered."""
        try:
            event = self.events.record(kind, **fields)
        except OSError as error:
            _log.warning("an event is lost: %s", error.strerror)
            return
        _log.log(logging.getLevelNamesMapping()[event["level"].upper()], "%s %s", kind, details(event))

    def refresh(self) -> None:
        """Let go of patients in memory if the vault has changed beside the running agent."""
        if self._opened is not None and self._opened.generation != generation_of(self.home):
            self._opened = None

    def patients(self, plan: StudyPlan, size: int, paid: Reservation) -> TrainingSet:
        """The hospital's patients who take part in a plan's study, for its task; the only way from agent to vault.

        They are read again whenever an image or pair of the vault has changed: a patient who was forgotten is not in
        what the next call returns. What a call has returned is used to the end of that request.

        Args:
            plan: the study.
            size: side of the grid.
            paid: the charge that pays for looking; it is open.

        Raises:
            LedgerError: the charge is not open in the ledger.
            InputError: the vault cannot be opened.
            IntegrityError: its list of who takes part is damaged.
        """
        if paid.digest not in {one.digest for one in self.ledger.open_reservations()}:
            raise LedgerError("patients are looked at under an open charge only", remedy="reserve first")
        with Vault(self.home) as vault:
            generation = vault.generation()  # first: what changes from here on is read again next time
            enrolled = vault.enrolled(plan.study)
            place = (plan.study, plan.task.digest(), size)
            if self._opened is None or (self._opened.place, self._opened.generation) != (place, generation):
                self._opened = None
                self._opened = _Opened(place, generation, grid(vault, enrolled, plan.task, size))
        patients = self._opened.patients
        _log.info(
            "study %s: %d trained and %d held-out patients take part; left out: %s",
            plan.study,
            len(patients.trained),
            len(patients.held_out),
            dict(patients.left_out) or "none",
        )
        return patients

    def model(self, plan: StudyPlan, adapter: bytes) -> ConditionedUNet:
        """The plan's base with an adapter on it, on the node's device.

        Raises:
            ModelError: the plan's base is not here, or the adapter does not fit.
        """
        model = load_pinned_base(plan.profile, plan.base_digest, self.home.path / IMPORTED)
        load_adapter(model, adapter_from_bytes(adapter), plan.trained)
        return model.to(self.device)

    @property
    def masks(self) -> MaskStore:
        """Updates of masked rounds that wait here, and their keys; secret."""
        return MaskStore(self.home.state.masking_path, self.home.vault_key_path)

    def sums(self, plan: StudyPlan) -> PooledView:
        """What the sums of a study with pooled noise have shown."""
        return PooledView(self.home.state.pooled_path, plan)

    def share_canaries(self, plan: StudyPlan) -> CanaryStore:
        """What the canaries of a study have seen in this hospital's own shares: never to leave, nor what it says."""
        return CanaryStore(self.home.state.canaries_path / "shares", plan)

    def canaries(self, plan: StudyPlan) -> CanaryStore:
        """What the canaries of a study have seen here; secret."""
        return CanaryStore(self.home.state.canaries_path, plan)
