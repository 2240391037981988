"""The finished shards of a drawing, one safetensors each, until a candidate is made of them.

Promises: a shard is there whole or not at all and carries the sha256 of its tensors; one that does not hold what it
says is removed and counts as missing. A place belongs to one drawing (plan, adapter, versions, kind of device): another
is refused. ``FolderShards`` keeps them in a folder, ``drawing_database`` in a database.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Final, Protocol

import numpy as np
import torch

from sonoshare_server.release.build import Samples, to_uint8
from sonoshare_shared.durable import create, write_atomically
from sonoshare_shared.errors import InputError, ModelError
from sonoshare_shared.protocol.canonical import sha256_hex
from sonoshare_shared.science.model.tensors import State, tensor_bytes, tensors_from

PINNED: Final = "drawing.json"
DIGEST: Final = "sha256"
DEVICE: Final = "device"
_FIELDS: Final = ("images", "masks", "labels", "scanners", "boxes", "cases", "mm_per_pixel")


class Shards(Protocol):
    """Where the shards of one drawing are, as one worker sees it."""

    def missing(self) -> list[int]:
        """Shards that still have to be drawn, in order."""

    def holds(self, shard: int) -> bool:
        """Whether a shard is in its place, by whomever."""

    def write(self, shard: int, samples: Samples) -> None:
        """Put a shard in place.

        Raises:
            InputError: an image holds NaN or infinity.
        """

    def read(self, shard: int) -> Samples:
        """A finished shard.

        Raises:
            ModelError: it is missing or damaged.
        """

    def others(self) -> dict[int, str]:
        """Shards that somebody else put there, who need not be trusted, and who that was."""

    def discard(self, writer: str) -> None:
        """Take away all that somebody put there."""


class FolderShards:
    """A folder of shards.

    Args:
        folder: made if absent.
        count: of shards in the whole drawing.
        size: images of a shard; the last may have fewer.
        pinned: what the images depend on (`pinned_text`).
        writer: name of this worker, usable in a file name, no other worker's.

    Raises:
        InputError: the folder belongs to another drawing.
        OSError: the folder cannot be written.
    """

    def __init__(self, folder: Path, *, count: int, size: int, pinned: str, writer: str) -> None:
        self._folder, self._count, self._size, self._writer = folder, count, size, writer
        self._sound: set[int] = set()
        folder.mkdir(parents=True, exist_ok=True)
        self._require(pinned)

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
        # Under a name of this worker's own: another may be writing the very same shard.
        write_atomically(self._path(shard), shard_bytes(samples), writer=self._writer)
        self._sound.add(shard)

    def read(self, shard: int) -> Samples:
        """A finished shard.

        Raises:
            ModelError: it is missing or damaged.
        """
        path = self._path(shard)
        try:
            data = path.read_bytes()
        except OSError as error:
            raise ModelError(f"cannot read {path.name}: {error.strerror}", remedy="check the path") from error
        samples = samples_of(data, shard, self._size)
        self._sound.add(shard)
        return samples

    def others(self) -> dict[int, str]:
        """None: whoever can write here can write all of the coordinator's folder."""
        return {}

    def discard(self, writer: str) -> None:
        """Nothing is known by its writer here."""

    def _path(self, shard: int) -> Path:
        return self._folder / f"shard-{shard:06d}.safetensors"

    def _require(self, pinned: str) -> None:
        path = self._folder / PINNED
        try:
            create(path, pinned.encode(), writer=self._writer)
        except FileExistsError:
            if path.read_text() != pinned:
                raise another_drawing(path.read_text(), pinned, f"remove the folder {self._folder.name}") from None


def pinned_text(pinned: Mapping[str, str], size: int) -> str:
    """What the images of a drawing depend on, as it is kept beside them and compared."""
    return json.dumps({**pinned, "size": size}, sort_keys=True)


def another_drawing(begun: str, asked: str, otherwise: str) -> InputError:
    """Why a drawing cannot be gone on with; where it is the device alone, which kind it takes.

    Args:
        begun: what is pinned there.
        asked: what would be.
        otherwise: what else can be done than to go on as it was begun.
    """
    there, here = json.loads(begun), json.loads(asked)
    if {**there, DEVICE: ""} == {**here, DEVICE: ""}:
        kinds = f"{there.get(DEVICE, 'unknown')}; here {here[DEVICE]}"
        return InputError(
            f"this drawing was begun on another kind of device ({kinds})",
            remedy=f"draw on that kind (--device, or another machine), or {otherwise}",
        )
    return InputError(
        "a drawing of this name was begun with another plan, adapter or version",
        remedy=f"finish it as it was begun, or {otherwise}",
    )


def shard_bytes(samples: Samples) -> bytes:
    """A shard as it is kept: safetensors with the sha256 of its tensors in the header.

    Raises:
        InputError: an image holds NaN or infinity.
    """
    state = _state(samples)
    return tensor_bytes(state, {DIGEST: _digest(state)})


def samples_of(data: bytes, shard: int, size: int) -> Samples:
    """What a kept shard holds.

    Raises:
        ModelError: it is damaged, or no shard.
    """
    state = tensors_from(data)
    if set(state) != set(_FIELDS) or tensor_bytes(state, {DIGEST: _digest(state)}) != data:
        raise ModelError(f"shard {shard} is damaged", remedy="run the same command again: it is drawn anew")
    fields = {name: tensor.numpy() for name, tensor in state.items()}
    return Samples(**fields, start_index=shard * size)


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
