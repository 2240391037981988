"""What a hospital knows of a study with pooled noise by the sums that it was shown: is the coordinator's step right?

    state/pooled/<plan digest>.npz   round, optimiser's state before its step, and what the sums showed of their noise

With each request to train comes the sum of the round before. Here it is held against the log, which names its digest,
and the step is taken again: the model of the request must be the one that the plan's optimiser makes of it, bit by bit
(``sonoshare_privacy.pooled_optimiser``). Then the sum's small numbers are counted (``sonoshare_privacy.sum_check``).
All of it is public, so a refusal names its reason, and it comes before a charge.

A hospital that was not there in some round has not seen its sum: it says so in its events, counts on, and takes no step
again. The sum of the last round is shown to nobody.
"""

import io
from dataclasses import dataclass, replace
from pathlib import Path
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray

from sonoshare_privacy.optimiser import Optimiser
from sonoshare_privacy.pooled_optimiser import PooledState, first_state, stepped
from sonoshare_privacy.pooled_release import PooledSum
from sonoshare_privacy.pooled_state_file import state_bytes, state_from
from sonoshare_privacy.sum_check import Counted
from sonoshare_shared.durable import write_atomically
from sonoshare_shared.errors import IntegrityError
from sonoshare_shared.protocol.documents import StudyPlan

Tensors = dict[str, NDArray[np.float32]]


@dataclass(frozen=True)
class Seen:
    """What was seen before the step of a round.

    Attributes:
        number: the round.
        state: the optimiser's; None where a sum was missed.
        counted: of the sums so far.
    """

    number: int
    state: PooledState | None
    counted: Counted


class PooledView:
    """What the sums of one study have shown.

    Args:
        folder: for all studies.
        plan: the study.
    """

    def __init__(self, folder: Path, plan: StudyPlan) -> None:
        self._path, self._plan = folder / f"{plan.digest()}.npz", plan

    def advanced(self, number: int, adapter: Tensors, added_up: PooledSum | None, *, shown: bool) -> Seen:
        """What is seen once a round's model is; nothing is written.

        Args:
            number: of the round that starts.
            adapter: its model.
            added_up: the sum of the round before; None where it had none.
            shown: whether this hospital has been shown what the round before ended with.

        Raises:
            IntegrityError: the model is not the one that the plan's step makes of the sum, or the file is damaged.
        """
        seen, settings = self.read(), Optimiser(learning_rate=self._plan.learning_rate)
        if number == 1:
            return Seen(1, first_state(adapter, settings), _nothing(adapter))
        if seen is not None and seen.number == number:
            return seen
        counted = _nothing(adapter) if seen is None else seen.counted
        if added_up is not None:
            counted = counted.after(added_up)
        if seen is None or seen.number != number - 1 or seen.state is None or not shown:
            return Seen(number, None, counted)
        state = seen.state
        if added_up is not None:
            state = stepped(state, added_up.mean_gradient(), settings, total=self._plan.rounds)
        _require_same(state.tensors(), adapter, number)
        return Seen(number, state, counted)

    def keep(self, seen: Seen) -> None:
        """Make it durable."""
        self._path.parent.mkdir(parents=True, exist_ok=True)
        content = io.BytesIO()
        state = b"" if seen.state is None else state_bytes(seen.state)
        np.savez(
            content,
            number=seen.number,
            state=np.frombuffer(state, np.uint8),
            earlier=seen.counted.earlier,
            small=seen.counted.small,
            numbers=seen.counted.numbers,
        )
        write_atomically(self._path, content.getvalue())

    def read(self) -> Seen | None:
        """What was kept; None if nothing was.

        Raises:
            IntegrityError: the file is damaged.
        """
        if not self._path.exists():
            return None
        try:
            with np.load(io.BytesIO(self._path.read_bytes()), allow_pickle=False) as kept:
                state = kept["state"].tobytes()
                counted = Counted(kept["earlier"], int(kept["small"]), int(kept["numbers"]))
                seen = Seen(int(kept["number"]), None, counted)
        except (OSError, ValueError, KeyError, BadZipFile) as error:
            raise IntegrityError(
                "what this study's sums showed is damaged", remedy=f"remove {self._path.name} in state/pooled"
            ) from error
        return replace(seen, state=state_from(state)) if state else seen


def _nothing(adapter: Tensors) -> Counted:
    return Counted.nothing(sum(tensor.size for tensor in adapter.values()))


def _require_same(due: Tensors, adapter: Tensors, number: int) -> None:
    same = due.keys() == adapter.keys() and all(
        np.array_equal(due[name].view(np.uint32), adapter[name].view(np.uint32)) for name in due
    )
    if not same:
        raise IntegrityError(
            f"the model of round {number} is not what the plan's step makes of the sum of round {number - 1}",
            remedy="tell the other hospitals: the coordinator took another step",
        )
