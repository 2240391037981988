"""An endless series of phantoms for base training, painted where it trains: no phantom need ever be seen twice.

    stream = PhantomStream(seed=0, size=128, device=torch.device("cuda"), threads=8)
    pictures = stream.batch(start=step * 64, count=64)

Promises: phantom ``i`` is a function of the seed and ``i``, whatever the batch it comes in. It is phantom ``i`` of
`phantom_cache.simulate_set`, to the tolerance of `sonoshare_shared.science.phantom.on_device`. For training only.
"""

from dataclasses import dataclass

import torch

from sonoshare_shared.errors import InputError
from sonoshare_shared.science.model.base_pictures import BasePictures
from sonoshare_shared.science.model.phantom_cache import base_recipes
from sonoshare_shared.science.phantom.on_device import simulate_on


@dataclass(frozen=True)
class PhantomStream:
    """A series of phantoms on a device.

    Args:
        seed: of the series, at least 0.
        size: side of the pictures in pixels.
        device: where the pictures are painted and stay.
        threads: of the host, that draw random numbers.

    Raises:
        InputError: the seed is negative, or there is no thread.
    """

    seed: int
    size: int
    device: torch.device
    threads: int = 1

    def __post_init__(self) -> None:
        if self.seed < 0 or self.threads < 1:
            raise InputError("a stream of phantoms needs a seed of 0 or more and a thread", remedy="give both")

    def batch(self, start: int, count: int) -> BasePictures:
        """Phantoms ``start`` to ``start + count - 1``, on the device.

        Raises:
            InputError: the size is not understood, or a number is negative.
        """
        recipes, labels = base_recipes(start, count)
        made = simulate_on(self.device, recipes, labels, seed=self.seed, size=self.size, threads=self.threads)
        return BasePictures(**vars(made), has_mask=torch.ones_like(made.labels, dtype=torch.bool))
