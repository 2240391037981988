"""An endless series of phantoms for base training, where it trains: no phantom need ever be seen twice.

Promises: phantom ``i`` is a function of the seed and ``i``, whatever the batch it comes in; classes and scanners go
round as in `phantom_cache.simulate_set`, whose phantoms these are.
"""

from dataclasses import dataclass

import torch

from sonoshare_shared.science.model.base_pictures import BasePictures
from sonoshare_shared.science.model.phantom_cache import simulate_set


@dataclass(frozen=True)
class PhantomStream:
    """A series of phantoms on a device.

    Args:
        seed: of the series, at least 0.
        size: side of the pictures in pixels.
        device: where the pictures are wanted.
    """

    seed: int
    size: int
    device: torch.device

    def batch(self, start: int, count: int) -> BasePictures:
        """Phantoms ``start`` to ``start + count - 1``, on the device.

        Raises:
            InputError: the size is not understood, or a number is negative.
        """
        made = simulate_set(count, seed=self.seed, size=self.size, start_index=start)
        return BasePictures(**{name: tensor.to(self.device) for name, tensor in vars(made).items()})
