"""The finished shards of a drawing, one safetensors file each, until a candidate is made of them.

Promises: a shard is there whole or not at all and carries the sha256 of its tensors; one that does not hold what it
says is removed and counts as missing. A folder belongs to one drawing (plan, adapter, versions, kind of device):
another is refused.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import numpy as np
import torch

from sonoshare_server.release.build import Samples, to_uint8
from sonoshare_shared.durable import create, write_atomically
from sonoshare_shared.errors import InputError, ModelError
from sonoshare_shared.protocol.canonical import sha256_hex
from sonoshare_shared.science.model.tensors import State, read_metadata, read_tensors, tensor_bytes

PINNED: Final = "drawing.json"
DIGEST: Final = "sha256"
DEVICE: Final = "device"
_FIELDS: Final = ("images", "masks", "labels", "scanners", "boxes", "cases", "mm_per_pixel")


class Shards:
    """A folder of shards.

    Args:
        folder: made if absent.
        count: of shards in the whole drawing.
        size: images of a shard; the last may have fewer.
        pinned: what the images depend on.
        writer: name of this worker, usable in a file name, no other worker's.

    Raises:
        InputError: the folder belongs to another drawing.
        OSError: the folder cannot be written.
    """

    def __init__(self, folder: Path, *, count: int, size: int, pinned: Mapping[str, str], writer: str) -> None:
        self._folder, self._count, self._size, self._writer = folder, count, size, writer
        self._sound: set[int] = set()
        folder.mkdir(parents=True, exist_ok=True)
        self._require(json.dumps({**pinned, "size": size}, sort_keys=True))

    def missing(self) -> list[int]:
        """Shards that still have to be drawn; each file is looked through once by each worker."""
        for shard in range(self._count):
            if shard in self._sound or not self.holds(shard):
                continue
            try:
                self.read(shard)
            except ModelError:
                self._path(shard).unlink(missing_ok=True)
        return [shard for shard in range(self._count) if shard not in self._sound]

    def holds(self, shard: int) -> bool:
        """Whether a shard is in its place, by whomever."""
        return self._path(shard).exists()

    def write(self, shard: int, samples: Samples) -> None:
        """Put a shard in place.

        Raises:
            InputError: an image holds NaN or infinity.
            OSError: it could not be written; nothing is in its place.
        """
        state = _state(samples)
        # Under a name of this worker's own: another may be writing the very same shard.
        write_atomically(self._path(shard), tensor_bytes(state, {DIGEST: _digest(state)}), writer=self._writer)
        self._sound.add(shard)

    def read(self, shard: int) -> Samples:
        """A finished shard.

        Raises:
            ModelError: it is missing or damaged.
        """
        path = self._path(shard)
        state = read_tensors(path)
        if set(state) != set(_FIELDS) or read_metadata(path).get(DIGEST) != _digest(state):
            raise ModelError(f"{path.name} is damaged", remedy="run the same command again: it is drawn anew")
        self._sound.add(shard)
        fields = {name: tensor.numpy() for name, tensor in state.items()}
        return Samples(**fields, start_index=shard * self._size)

    def _path(self, shard: int) -> Path:
        return self._folder / f"shard-{shard:06d}.safetensors"

    def _require(self, pinned: str) -> None:
        path = self._folder / PINNED
        try:
            create(path, pinned.encode(), writer=self._writer)
        except FileExistsError:
            if path.read_text() != pinned:
                raise self._another(json.loads(path.read_text()), json.loads(pinned)) from None

    def _another(self, begun: Mapping[str, object], asked: Mapping[str, object]) -> InputError:
        """Why a drawing cannot be gone on with; where it is the device alone, which kind it takes."""
        remedy = f"or remove the folder {self._folder.name}"
        if {**begun, DEVICE: ""} == {**asked, DEVICE: ""}:
            there, here = begun.get(DEVICE, "unknown"), asked[DEVICE]
            return InputError(
                f"this drawing was begun on another kind of device ({there}; here {here})",
                remedy=f"draw on that kind (--device, or another machine), {remedy}",
            )
        return InputError(
            "a drawing of this name was begun with another plan, adapter or version",
            remedy=f"finish it as it was begun, {remedy}",
        )


def _state(samples: Samples) -> State:
    return {
        "images": torch.from_numpy(to_uint8(samples.images)),
        "masks": torch.from_numpy(np.asarray(samples.masks, np.bool_)),
        "labels": torch.from_numpy(np.asarray(samples.labels, np.int64)),
        "scanners": torch.from_numpy(np.asarray(samples.scanners, np.int64)),
        "boxes": torch.from_numpy(np.asarray(samples.boxes, np.float32)),
        "cases": torch.from_numpy(np.asarray(samples.cases, np.int64)),
        "mm_per_pixel": torch.from_numpy(np.asarray(samples.mm_per_pixel, np.float64)),
    }


def _digest(state: State) -> str:
    return sha256_hex(tensor_bytes(state))
