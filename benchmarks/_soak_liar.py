"""A hospital that lies, for ``benchmarks.soak``: ``python -m benchmarks._soak_liar hospital start ...``.

It is the ordinary command with an agent whose updates are not what it trained. It signs what it sends, as whoever holds
a hospital's key can, and takes turns: numbers that no training reaches, numbers that are none, tensors of another
shape, and bytes that are no tensors. Its ledger is charged as for an honest round.
"""

from itertools import cycle

import numpy as np
from safetensors.numpy import load, save

from sonoshare_client.agent import service
from sonoshare_client.agent.node import Node
from sonoshare_client.agent.training import train_round
from sonoshare_deploy.cli.main import main
from sonoshare_shared.protocol.canonical import sha256_hex
from sonoshare_shared.protocol.documents import StudyPlan
from sonoshare_shared.protocol.documents.exchange import TRAIN_REPLY_PAYLOAD_TYPE, TrainReply, TrainRequest
from sonoshare_shared.protocol.envelope import Envelope


def far(update: bytes) -> bytes:
    """Numbers that no round reaches."""
    return bytes(save({name: np.full_like(tensor, 1e6) for name, tensor in load(update).items()}))


def none(update: bytes) -> bytes:
    """Numbers that are none."""
    return bytes(save({name: np.full_like(tensor, np.nan) for name, tensor in load(update).items()}))


def other_shape(update: bytes) -> bytes:
    """The right names, with one number more."""
    return bytes(save({name: np.append(tensor.ravel(), tensor.dtype.type(0)) for name, tensor in load(update).items()}))


def no_tensors(update: bytes) -> bytes:
    """As many bytes."""
    return b"\x00" * len(update)


LIES = (far, none, other_shape, no_tensors)
_turns = cycle(LIES)


def lying_round(node: Node, plan: StudyPlan, request: TrainRequest, adapter: bytes) -> tuple[Envelope, bytes]:
    """Train, and sign something else."""
    honest, update = train_round(node, plan, request, adapter)
    lie = next(_turns)(update)
    reply = TrainReply.from_bytes(honest.verify(node.key.public, TRAIN_REPLY_PAYLOAD_TYPE)).model_copy(
        update={"update_digest": sha256_hex(lie)}
    )
    return Envelope.sign(TRAIN_REPLY_PAYLOAD_TYPE, reply.canonical(), node.key), lie


if __name__ == "__main__":
    vars(service)["train_round"] = lying_round
    main()
