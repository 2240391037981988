"""What a masked sum is read as: the mean of updates, or one noised step (``pooled_rounds``)."""

from dataclasses import dataclass
from typing import Protocol

from sonoshare_privacy.masking.fixed_point import Words
from sonoshare_privacy.masking.layout import Layout
from sonoshare_server.federation.aggregate import moved_by, read_tensors
from sonoshare_server.federation.starting import RoundStart
from sonoshare_shared.protocol.documents import StudyPlan
from sonoshare_shared.protocol.masked_set import MaskedSet


@dataclass(frozen=True)
class Stepped:
    """What a round with a sum ends with.

    Attributes:
        adapter: the new model's (safetensors).
        losses: mean noisy losses of the round's steps.
        sum_digest: of the sum, where the hospitals are shown it; else None.
    """

    adapter: bytes
    losses: tuple[float, ...]
    sum_digest: str | None = None


class SumReader(Protocol):
    """Reads the sums of one round."""

    @property
    def words(self) -> int:
        """How many numbers a hospital sends."""

    def digest(self) -> str:
        """Of which numbers stand where; every hospital signs it."""

    def shown(self) -> bytes:
        """What hospitals are shown of the round before, after the model; empty for nothing."""

    def stepped(self, members: MaskedSet, words: Words) -> Stepped:
        """What a sum makes of the round's model.

        Raises:
            IntegrityError: no hospitals that do as the plan says have this sum.
        """

    def void(self) -> bytes:
        """The model that a round without a sum ends with."""


@dataclass(frozen=True)
class MeanReader:
    """Updates with noise of their own: the sum is their weighted mean."""

    plan: StudyPlan
    start: RoundStart
    layout: Layout

    @classmethod
    def of(cls, plan: StudyPlan, start: RoundStart) -> "MeanReader":
        """The reader of a round."""
        return cls(plan, start, Layout.of(read_tensors(start.adapter), start.optimiser, start.steps))

    @property
    def words(self) -> int:
        """As `SumReader.words`."""
        return self.layout.words

    def digest(self) -> str:
        """As `SumReader.digest`."""
        return self.layout.digest()

    def shown(self) -> bytes:
        """Nothing: each hospital's own update is private by itself, and is its own to check."""
        return b""

    def stepped(self, members: MaskedSet, words: Words) -> Stepped:
        """As `SumReader.stepped`."""
        mean = self.layout.decoded(words, sum(self.plan.cohorts[hospital] for hospital in members.ready))
        return Stepped(moved_by(read_tensors(self.start.adapter), mean.tensors), mean.losses)

    def void(self) -> bytes:
        """The model that the round started from."""
        return self.start.adapter
