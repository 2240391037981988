"""A hospital that a coordinator asks, where persons decide and charges stand: for tests of its console."""

from datetime import UTC, datetime
from typing import Any

from tests.deploy.in_process import World

from sonoshare_client.node.home import NodeHome
from sonoshare_client.node.ledger import open_ledger
from sonoshare_client.node.policy_file import policy_text
from sonoshare_privacy.budget import ChargeRequest
from sonoshare_shared.protocol.documents.charge import PureDP
from sonoshare_shared.protocol.documents.exchange import encode_frame
from sonoshare_shared.protocol.documents.plan import PLAN_PAYLOAD_TYPE
from sonoshare_shared.protocol.documents.proposal import ProposeRequest
from sonoshare_shared.protocol.envelope import Envelope

HOSTILE = "benign? <script>alert(1)</script><img src=x onerror=alert(2)>\u202e\"'"


def propose(world: World, **changes: Any) -> None:
    """A plan of the coordinator reaches north's agent."""
    plan = world.study.plan.model_copy(update=changes)
    signed = Envelope.sign(PLAN_PAYLOAD_TYPE, plan.canonical(), world.home.key)
    world.fleet.agents["north"].answer(encode_frame(ProposeRequest(plan=signed)))


def rules_of_persons(world: World) -> NodeHome:
    """North, where persons decide from now on."""
    home = world.nodes["north"].home
    policy = home.policy()
    rules = policy.federation.model_copy(update={"approve": "person"})
    home.policy_path.write_text(policy_text(policy.model_copy(update={"federation": rules})))
    world.reopen("north")
    return home


def with_charges(home: NodeHome) -> None:
    """Two charges of an earlier study, one of them for a hostile purpose."""
    ledger = open_ledger(home, lambda: datetime.now(UTC))
    for purpose in ("votes", HOSTILE):
        ledger.commit(ledger.reserve(ChargeRequest("earlier", purpose, (PureDP(0.5),), 3e-3, 50)))
    ledger.close()
