"""Which version of its rules intake reads by, and how a node's own rules are told apart.

Raise `RULES` whenever a change of what reads pictures refuses one that was taken before, or takes more text out of it
(bounds, plausibility, text). Images of an older version are held against today's rules by ``hospital ingest --again``.
"""

from typing import Final

from sonoshare_client.node.policy import IntakeRules
from sonoshare_client.vault.rules import Rules
from sonoshare_shared.protocol.canonical import canonical_bytes, sha256_hex

RULES: Final = 1
"""Version 1 is the first that is written down; images of before have none."""


def rules_of(policy: IntakeRules) -> Rules:
    """Today's rules of a node. Where pictures come from changes nothing of what is kept of them."""
    said = policy.model_dump(mode="json", exclude={"sources"})
    return Rules(RULES, sha256_hex(canonical_bytes(said)))
