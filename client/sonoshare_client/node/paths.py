"""Where each thing in the folder of a hospital node lies.

    home.toml        hospital id and where the vault key lies
    identity.key     Ed25519 key that signs statements and the ledger (PEM, 0600)
    identity.next.key    its successor while it is being changed
    node.key         P-384 key that authenticates the courier to the federation (OpenSSH, 0600); node.key.pub beside it
    node.next.key    its successor while it is being changed, with node.next.key.pub
    vault.key        32 bytes that open the vault (0600); may lie elsewhere and belong to another OS user
    policy.toml      the hospital's own rules
    vault/           sealed images and their index
    ledger.db        the privacy ledger
    statements/      signed audit statements
    approvals/       what persons decided about studies; written by their commands alone
    inbox/           pictures that came by network and wait for intake; patient data
    bases/           imported base weights, by digest
    state/           what the agent needs to go on after a restart:
        root.pub  roster.dsse.json                     the consortium it has joined
        joined.json  ca.crt                            what its invitation said: address, keys, authority
        log.jsonl  log-head.dsse.json  log-head.json   its copy of the transparency log
        replies/  evidence/  events.jsonl              what was answered, proof of misconduct, events
        proposals/                                     the newest plan of each study that was proposed
        canaries/  candidates/  pictures/              what an audit will need again
        inbox/                                         the candidate that is about to be audited
        unpacked/                                      an archive while it is taken in; patient data
        pooled/                                        where each study with pooled noise stands, by its sums
        masking/                                       updates and keys of masked rounds that are not closed (secret)
        agent.sock  flower/  bin/  logs/               of the running processes
        link.json  spent.json                          what a look at the node shows at once
        change.lock                                    held while a command changes keys or the pinned roster
        identity.lock                                  held while the next identity key takes the present one's place
        agent.lock  agent.run.json                     held and written by the agent that runs; so courier.*,
                                                       receiver.*

No other module spells one of these names: whoever needs a path asks here, or the home (``node.home``) that opens the
folder and inherits them.
"""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class StatePaths:
    """Where each thing in a node's state folder lies, whether it is there yet or not.

    Attributes:
        path: the folder.
    """

    path: Path

    @property
    def root_key_path(self) -> Path:
        """The consortium's root key, one line of hexadecimal."""
        return self.path / "root.pub"

    @property
    def roster_path(self) -> Path:
        """The pinned roster."""
        return self.path / "roster.dsse.json"

    @property
    def joined_path(self) -> Path:
        """What the invitation said of the consortium; nothing secret of it."""
        return self.path / "joined.json"

    @property
    def authority_path(self) -> Path:
        """Certificate of the authority of the coordinator's TLS certificates, as in the invitation (PEM)."""
        return self.path / "ca.crt"

    @property
    def log_path(self) -> Path:
        """Entries of the transparency log, one canonical JSON a line."""
        return self.path / "log.jsonl"

    @property
    def log_head_path(self) -> Path:
        """The newest signed head that the entries amount to."""
        return self.path / "log-head.dsse.json"

    @property
    def log_head_alone_path(self) -> Path:
        """What a node of the first version kept: size and root without entries. The first log shown must extend it."""
        return self.path / "log-head.json"

    @property
    def replies_path(self) -> Path:
        """Results that were given."""
        return self.path / "replies"

    @property
    def proposals_path(self) -> Path:
        """The newest signed plan of each study that was proposed."""
        return self.path / "proposals"

    @property
    def evidence_path(self) -> Path:
        """Proof of misconduct."""
        return self.path / "evidence"

    @property
    def events_path(self) -> Path:
        """The agent's event log."""
        return self.path / "events.jsonl"

    @property
    def canaries_path(self) -> Path:
        """What the canaries of each study saw; secret."""
        return self.path / "canaries"

    @property
    def pooled_path(self) -> Path:
        """Where studies with pooled noise stand, by the sums that were shown; public."""
        return self.path / "pooled"

    @property
    def masking_path(self) -> Path:
        """Updates that wait to be masked, and their keys; secret."""
        return self.path / "masking"

    @property
    def inbox_path(self) -> Path:
        """A candidate that comes in batches, until its audit; not public yet."""
        return self.path / "inbox"

    @property
    def pictures_path(self) -> Path:
        """Pictures of audited candidates, by study."""
        return self.path / "pictures"

    @property
    def socket_path(self) -> Path:
        """The agent's socket."""
        return self.path / "agent.sock"

    @property
    def change_lock_path(self) -> Path:
        """Held while a command changes the node's keys or its pinned roster."""
        return self.path / "change.lock"

    @property
    def identity_lock_path(self) -> Path:
        """Held while the next identity key takes the place of the present one."""
        return self.path / "identity.lock"

    @property
    def agent_lock_path(self) -> Path:
        """Held by the one agent that may run."""
        return self.path / "agent.lock"

    @property
    def link_path(self) -> Path:
        """How the link to the federation was last seen."""
        return self.path / "link.json"

    @property
    def courier_lock_path(self) -> Path:
        """Held by the one courier that may run."""
        return self.path / "courier.lock"

    @property
    def agent_run_path(self) -> Path:
        """What the running agent says of itself."""
        return self.path / "agent.run.json"

    @property
    def courier_run_path(self) -> Path:
        """What the running courier says of itself."""
        return self.path / "courier.run.json"

    @property
    def receiver_lock_path(self) -> Path:
        """Held by the one receiver that may run."""
        return self.path / "receiver.lock"

    @property
    def receiver_run_path(self) -> Path:
        """What the running receiver says of itself."""
        return self.path / "receiver.run.json"

    @property
    def unpacked_path(self) -> Path:
        """An archive that is being taken in."""
        return self.path / "unpacked"

    @property
    def spent_path(self) -> Path:
        """What the ledger had spent at its newest head, as it was computed last."""
        return self.path / "spent.json"

    @property
    def flower_path(self) -> Path:
        """Flower's own folder."""
        return self.path / "flower"

    @property
    def logs_path(self) -> Path:
        """Output of the processes that were started."""
        return self.path / "logs"

    def candidate_path(self, digest: str) -> Path:
        """The listing of an audited candidate."""
        return self.path / "candidates" / f"{digest}.json"

    def audited_plan_path(self, digest: str) -> Path:
        """The plan that a candidate was audited under."""
        return self.path / "candidates" / f"{digest}.plan.json"


class NodePaths:
    """Where each thing in a node's folder lies, whether it is there yet or not."""

    path: Path

    @property
    def home_path(self) -> Path:
        """Hospital id and where the vault key lies."""
        return self.path / "home.toml"

    @property
    def identity_key_path(self) -> Path:
        """The Ed25519 identity key."""
        return self.path / "identity.key"

    @property
    def next_identity_key_path(self) -> Path:
        """The next identity key, until this node has seen in the log that it follows."""
        return self.path / "identity.next.key"

    @property
    def node_key_path(self) -> Path:
        """The courier's private key."""
        return self.path / "node.key"

    @property
    def node_public_key_path(self) -> Path:
        """The courier's public key, one line of OpenSSH text."""
        return self.path / "node.key.pub"

    @property
    def next_node_key_path(self) -> Path:
        """The courier's next private key, until the coordinator knows it."""
        return self.path / "node.next.key"

    @property
    def next_node_public_key_path(self) -> Path:
        """Its public key."""
        return self.path / "node.next.key.pub"

    @property
    def policy_path(self) -> Path:
        """The hospital's rules."""
        return self.path / "policy.toml"

    @property
    def vault_path(self) -> Path:
        """Sealed images and their index."""
        return self.path / "vault"

    @property
    def ledger_path(self) -> Path:
        """The privacy ledger."""
        return self.path / "ledger.db"

    @property
    def statements_path(self) -> Path:
        """Signed audit statements."""
        return self.path / "statements"

    @property
    def approvals_path(self) -> Path:
        """What persons decided about studies."""
        return self.path / "approvals"

    @property
    def inbox_path(self) -> Path:
        """Pictures that came by network and wait for intake."""
        return self.path / "inbox"

    @property
    def state_path(self) -> Path:
        """What the agent needs to go on after a restart."""
        return self.path / "state"

    @property
    def state(self) -> StatePaths:
        """Where each thing in the state folder lies."""
        return StatePaths(self.state_path)

    def statement_path(self, candidate: str) -> Path:
        """The signed statement about a candidate."""
        return self.statements_path / f"{candidate}.dsse.json"


class NewNode(NodePaths):
    """A node's folder that is being made."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @property
    def vault_key_path(self) -> Path:
        """The vault key, where it does not lie elsewhere."""
        return self.path / "vault.key"
