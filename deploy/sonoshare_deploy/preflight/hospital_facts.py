"""Reads a hospital's node for ``hospital``: its files, and what is listened on. The way out is tested elsewhere."""

from collections.abc import Callable
from datetime import date, datetime
from typing import Final

from sonoshare_client.courier.proxy import proxy_for
from sonoshare_client.node.evidence import EvidenceFolder
from sonoshare_client.node.home import NodeHome
from sonoshare_client.node.log_copy import LogCopy
from sonoshare_client.node.witness import pinned_roster
from sonoshare_client.own_eyes.fit import VaultState, vault_state
from sonoshare_client.own_eyes.key_overview import key_overview
from sonoshare_client.own_eyes.overview import ledger_overview
from sonoshare_client.vault.store import Vault
from sonoshare_deploy.addresses import require_free
from sonoshare_deploy.preflight import hospital, machine
from sonoshare_deploy.preflight.finding import Finding
from sonoshare_deploy.preflight.hospital import Typed
from sonoshare_deploy.preflight.looking import Look, looked
from sonoshare_deploy.preflight.machine_facts import machine_findings
from sonoshare_shared.errors import InputError
from sonoshare_shared.locks import is_locked
from sonoshare_shared.protocol.keys import PublicKey
from sonoshare_shared.protocol.translog import verified_head

ROSTER_DAYS: Final = 60


def node_findings(
    home: NodeHome, counts: Callable[[], dict[str, int | None]], now: datetime, host: str | None, typed: Typed
) -> list[Finding]:
    """Look at a node and its machine, without the network.

    Args:
        home: the node.
        counts: of its quarantine.
        now: the present.
        host: of the coordinator; None where it is not known.
        typed: gives a command as it is typed here.
    """
    keys = (home.identity_key_path, home.next_identity_key_path, home.node_key_path, home.next_node_key_path)
    found = machine_findings("client", home.path, (*keys, home.vault_key_path), home.device)
    state = _Read(home)
    looks: tuple[Look, ...] = (
        ("clock", lambda: machine.clock(now, _log_day(home), "the log")),
        ("keys", lambda: hospital.keys(key_overview(home))),
        ("roster", lambda: _roster(home, now, typed)),
        ("rules", lambda: Finding.ok("rules", f"policy.toml reads, {home.policy().digest()[:12]}")),
        ("vault", lambda: hospital.vault(state.vault, home.policy(), typed)),
        ("declared", lambda: hospital.declared(state.vault, home.policy())),
        ("quarantine", lambda: hospital.quarantine(counts(), typed)),
        ("ledger", lambda: hospital.ledger(ledger_overview(home, lambda: now, exact=False), typed)),
        ("evidence", lambda: hospital.evidence(EvidenceFolder(home.state.evidence_path).standing())),
        ("ports in", lambda: _port_in(home)),
        ("proxy", lambda: _proxy(host)),
    )
    return [*found, *looked(looks)]


class _Read:
    """The vault's counts, read once for all that ask."""

    def __init__(self, home: NodeHome) -> None:
        self._home = home
        self._state: VaultState | None = None

    @property
    def vault(self) -> VaultState:
        if self._state is None:
            with Vault(self._home) as vault:
                self._state = vault_state(vault)
        return self._state


def _log_day(home: NodeHome) -> date | None:
    head = LogCopy.open(home.state_path).head
    if head is None:
        return None
    coordinator = PublicKey.from_hex(pinned_roster(home.state_path).coordinator_key)
    return verified_head(head, coordinator).time.date()


def _roster(home: NodeHome, now: datetime, typed: Typed) -> Finding:
    if not home.state.roster_path.exists():
        return Finding(
            "roster", "warn", "none is pinned yet", typed("hospital", "enrol", "--roster", "roster.dsse.json")
        )
    until = pinned_roster(home.state_path).expires
    remedy = "ask the coordinator for its newest, and enrol again"
    return machine.ending("roster", until.date(), (until - now).days, ROSTER_DAYS, remedy)


def _port_in(home: NodeHome) -> Finding:
    rules = home.policy().intake.sources
    if rules.port == 0 or not rules.callers:
        return hospital.port_in(None, free=True, receiving=False)
    if is_locked(home.state.receiver_lock_path):
        return hospital.port_in(f"port {rules.port}", free=False, receiving=True)
    try:
        require_free("0.0.0.0", rules.port)  # noqa: S104 - tried and let go at once, never listened on
    except InputError:
        return hospital.port_in(f"port {rules.port}", free=False, receiving=False)
    return hospital.port_in(f"port {rules.port}", free=True, receiving=False)


def _proxy(host: str | None) -> Finding:
    anywhere = proxy_for("coordinator.invalid")
    used = anywhere if host is None else proxy_for(host)
    return machine.proxy(anywhere.place if anywhere else None, bypassed=used is None)
