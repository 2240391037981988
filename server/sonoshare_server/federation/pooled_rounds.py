"""Rounds of a plan with pooled noise: the sum of hospitals' shares is one noised step, and the coordinator takes it.

A round's masked numbers add up to the hospitals' clipped sums and their shares of the noise (``docs/pooled-noise.md``).
The coordinator divides by the public divisor and takes one step of the plan's optimiser; the model of the next round is
the iterate, the study ends with the average of iterates. The optimiser's state is public and stands beside the models:

    rounds/0001.sum           the sum, as it travelled; hospitals are shown it with the next round
    rounds/0001.pooled.npz    the optimiser's state after the round

Both are on the disk before the log closes the round, and its entry names the sum's digest, so that all hospitals hold
the coordinator to one sum and to the step that follows from it. A round without a sum changes neither model nor state.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import save

from sonoshare_privacy.masking.fixed_point import Words
from sonoshare_privacy.masking.pair_masks import to_bytes
from sonoshare_privacy.optimiser import Optimiser
from sonoshare_privacy.pooled_optimiser import PooledState, first_state, stepped
from sonoshare_privacy.pooled_release import PooledLayout, PooledSum
from sonoshare_privacy.pooled_state_file import state_bytes, state_from
from sonoshare_server.federation.aggregate import read_tensors
from sonoshare_server.federation.coordinator import Coordinator
from sonoshare_server.federation.starting import RoundStart
from sonoshare_server.federation.sum_reading import Stepped
from sonoshare_shared.durable import write_atomically
from sonoshare_shared.errors import FederationError, InputError, IntegrityError
from sonoshare_shared.protocol.canonical import sha256_hex
from sonoshare_shared.protocol.closed_rounds import closed_rounds
from sonoshare_shared.protocol.masked_set import MaskedSet


@dataclass(frozen=True)
class PooledReader:
    """Reads the sum of one round; the methods are those of ``sum_reading.SumReader``."""

    coordinator: Coordinator
    start: RoundStart
    state: PooledState
    layout: PooledLayout

    @classmethod
    def of(cls, coordinator: Coordinator, start: RoundStart) -> "PooledReader":
        """The reader of a round.

        Raises:
            FederationError: the optimiser's state after the round before is not in the study's folder.
            IntegrityError: it is damaged.
        """
        study, plan = coordinator.study, coordinator.study.plan
        if start.number == 1:
            # By name, as `trained_parameters` sorts them: in this order hospitals' sums hold the numbers.
            state = first_state(dict(sorted(read_tensors(start.adapter).items())), _settings(plan.learning_rate))
        else:
            path = study.pooled_state_path(start.number - 1)
            if not path.exists():
                raise FederationError(
                    f"the optimiser's state after round {start.number - 1} is missing",
                    remedy="bring back the newest copy of the study's folder",
                )
            state = state_from(path.read_bytes())
        counts = {name: int(np.prod(shape)) for name, shape in state.shapes.items()}
        return cls(coordinator, start, state, PooledLayout.of(plan.mechanism, counts))

    @property
    def words(self) -> int:
        """How many numbers a hospital sends."""
        return self.layout.words

    def digest(self) -> str:
        """Of which numbers stand where."""
        return self.layout.digest()

    def shown(self) -> bytes:
        """The sum of the round before, as the log names it; empty where it had none.

        Raises:
            FederationError: it is not in the study's folder.
        """
        study, before = self.coordinator.study, self.start.number - 1
        closed = closed_rounds(self.coordinator.log.index, study.plan.study).get(before)
        if closed is None or closed.sum is None:
            return b""
        path = study.sum_path(before)
        data = path.read_bytes() if path.exists() else b""
        if sha256_hex(data) != closed.sum:
            raise FederationError(
                f"the sum of round {before} is not the one in the log",
                remedy="bring back the newest copy of the study's folder",
            )
        return data

    def stepped(self, members: MaskedSet, words: Words) -> Stepped:
        """Take the step; sum and state are on the disk when this returns.

        Raises:
            IntegrityError: no shares have this sum.
        """
        study, plan = self.coordinator.study, self.coordinator.study.plan
        if plan.honest is None:
            raise IntegrityError("the plan does not pool noise")
        try:
            added_up = PooledSum.of(
                words,
                self.layout.grid,
                rate=plan.mechanism.rate,
                patients=sum(plan.cohorts[hospital] for hospital in members.ready),
                shares=len(members.ready),
                honest=plan.honest,
            )
        except InputError as error:
            raise IntegrityError(error.message, remedy=error.remedy) from error
        state = stepped(self.state, added_up.mean_gradient(), _settings(plan.learning_rate), total=plan.rounds)
        data = to_bytes(words)
        write_atomically(study.sum_path(self.start.number), data)
        write_atomically(study.pooled_state_path(self.start.number), state_bytes(state))
        return Stepped(self._model(state), (added_up.mean_loss(),), sha256_hex(data))

    def void(self) -> bytes:
        """The model that a round without a sum ends with; the state is carried on."""
        study = self.coordinator.study
        study.sum_path(self.start.number).unlink(missing_ok=True)
        write_atomically(study.pooled_state_path(self.start.number), state_bytes(self.state))
        return self._model(self.state)

    def _model(self, state: PooledState) -> bytes:
        """The model after this round: the iterate, and the average at the study's end."""
        last = self.start.number == self.coordinator.study.plan.rounds
        return _adapter(state.averaged() if last else state.tensors())


def _settings(learning_rate: float) -> Optimiser:
    return Optimiser(learning_rate=learning_rate)


def _adapter(tensors: Mapping[str, NDArray[np.float32]]) -> bytes:
    return bytes(save({name: np.ascontiguousarray(tensor) for name, tensor in sorted(tensors.items())}))
