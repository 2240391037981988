"""What is drawn: one candidate of a study, by any worker that has this and nothing else of the coordinator's.

A drawing holds the signed plan's content, the trained adapter, and where patients have voted what came of it: all of it
was paid for by the hospitals' ledgers, or is public. No key, no roster and no log is needed to draw.
"""

from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Final

import torch

from sonoshare_server.release.build import Samples
from sonoshare_server.release.draw import SHARD_IMAGES, Outcome, draw_shard, shards_of, study_model
from sonoshare_server.release.shards import DEVICE, pinned_text
from sonoshare_shared.protocol.documents import StudyPlan
from sonoshare_shared.science.device import device_kind
from sonoshare_shared.science.model.network import ConditionedUNet

_PINNED_PACKAGES: Final = ("sonoshare", "torch", "numpy")


@dataclass(frozen=True)
class Drawing:
    """A candidate that is to be drawn.

    Attributes:
        plan: the study plan.
        adapter: the trained adapter, safetensors.
        adapter_digest: its digest.
        release: identifier of the release.
        number: place among the candidates of the study, which decides the seed.
        outcome: of the votes on phantoms, where the plan has a calibration.
    """

    plan: StudyPlan
    adapter: bytes
    adapter_digest: str
    release: str
    number: int = 1
    outcome: Outcome | None = None

    @property
    def shards(self) -> int:
        """How many there are."""
        return shards_of(self.plan)

    def pinned(self, device: torch.device) -> dict[str, str]:
        """What the images depend on, where this device draws them."""
        pinned = {"plan": self.plan.digest(), "adapter": self.adapter_digest, "release": self.release}
        pinned |= {"number": str(self.number)} if self.number > 1 else {}
        pinned |= {"votes": self.outcome.digest()} if self.outcome else {}
        pinned |= {package: version(package) for package in _PINNED_PACKAGES}
        return pinned | {DEVICE: device_kind(device)}

    def pinned_text(self, device: torch.device) -> str:
        """The same as it is kept beside the shards."""
        return pinned_text(self.pinned(device), SHARD_IMAGES)

    def model(self, bases: Path, device: torch.device) -> ConditionedUNet:
        """The network that draws.

        Args:
            bases: folder of imported bases.
            device: where it draws.

        Raises:
            ModelError: as `study_model`.
        """
        return study_model(self.plan, self.adapter, bases, device)

    def draw(self, model: ConditionedUNet, shard: int) -> Samples:
        """One shard, on the model's device."""
        return draw_shard(model, self.plan, shard, self.outcome, self.number)
