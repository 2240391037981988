"""A study's pooled state as bytes, for a coordinator's or a hospital's disk: exact, and refused where damaged."""

import io
import json
from zipfile import BadZipFile

import numpy as np

from sonoshare_privacy.pooled_optimiser import PooledState
from sonoshare_shared.errors import IntegrityError

_ARRAYS = ("iterate", "average", "first", "second")


def state_bytes(state: PooledState) -> bytes:
    """The state as bytes."""
    content = io.BytesIO()
    shapes = json.dumps([[name, list(shape)] for name, shape in state.shapes.items()])
    np.savez(
        content,
        step=state.step,
        scales=np.array(state.scales, np.float64),
        shapes=np.array(shapes),
        **{name: getattr(state, name) for name in _ARRAYS},
    )
    return content.getvalue()


def state_from(data: bytes) -> PooledState:
    """The state that bytes hold.

    Raises:
        IntegrityError: they hold none.
    """
    try:
        with np.load(io.BytesIO(data), allow_pickle=False) as held:
            state = PooledState(
                step=int(held["step"]),
                scales=tuple(held["scales"].tolist()),
                shapes={name: tuple(shape) for name, shape in json.loads(str(held["shapes"]))},
                **{name: held[name] for name in _ARRAYS},
            )
    except (OSError, ValueError, KeyError, TypeError, BadZipFile) as error:
        raise IntegrityError("a state of a pooled study is damaged", remedy="bring back its newest copy") from error
    return state
