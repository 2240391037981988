"""The public reference set: phantoms that stand for patients who were not copied.

The set of 64 px ships as ``reference/phantoms-64px.safetensors`` (8 bits, as a release stores pictures), so that an
audit does not draw it anew; other sizes are drawn. ``python -m sonoshare_privacy.audits.reference`` writes the shipped
file again, which is due when the simulator changes: thresholds are calibrated on these very pictures.
"""

from functools import lru_cache
from pathlib import Path
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray

from sonoshare_shared.science.levels import eight_bits
from sonoshare_shared.science.model.tensors import read_tensors, write_tensors
from sonoshare_shared.science.phantom import simulate

REFERENCE_SEED: Final = 2**53 + 20_261_101
"""Beyond every seed a release plan can name, so that no candidate was refined from a reference phantom."""
REFERENCE_IMAGES: Final = 128

_FOLDER: Final = Path(__file__).parent / "reference"
_SHIPPED_SIZE: Final = 64


@lru_cache(maxsize=2)
def reference_images(size: int) -> NDArray[np.float32]:
    """The reference set, float32 [128, size, size] in 0..1."""
    path = shipped_file(size)
    pixels = read_tensors(path)["images"].numpy() if path.is_file() else drawn(size)
    return np.asarray(pixels, dtype=np.float32) / np.float32(255)


def drawn(size: int) -> NDArray[np.uint8]:
    """The reference set as the simulator draws it, uint8 [128, size, size]."""
    return eight_bits(simulate(REFERENCE_IMAGES, seed=REFERENCE_SEED, size=size).images)


def shipped_file(size: int) -> Path:
    """Where the set of a size lies if it ships."""
    return _FOLDER / f"phantoms-{size}px.safetensors"


if __name__ == "__main__":
    _FOLDER.mkdir(exist_ok=True)
    write_tensors(shipped_file(_SHIPPED_SIZE), {"images": torch.from_numpy(drawn(_SHIPPED_SIZE))})
