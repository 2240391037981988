"""What a round starts from."""

from dataclasses import dataclass

from sonoshare_privacy.optimiser import Optimiser


@dataclass(frozen=True)
class RoundStart:
    """What every hospital of a round starts from; a reply that names anything else is refused.

    Attributes:
        study: the study.
        number: the round, from 1.
        adapter: the global adapter (safetensors).
        digest: its digest.
        optimiser: the plan's, in this round.
        steps: local steps of the round.
    """

    study: str
    number: int
    adapter: bytes
    digest: str
    optimiser: Optimiser
    steps: int
