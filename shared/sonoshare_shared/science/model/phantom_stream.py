"""An endless series of phantoms for base training, painted where it trains: no phantom need ever be seen twice.

    stream = PhantomStream(seed=0, size=128, device=chosen_device("auto"))
    pictures = stream.batch(start=step * 64, count=64)
    for pictures in stream.batches(start=step * 64, count=64, workers=8): ...

Promises: phantom ``i`` is a function of the seed and ``i``, whatever batch it comes in and whoever drew its numbers.
Class, scanner, mask and box are those of phantom ``i`` of `phantom_cache.simulate_set`; how the pictures differ says
`sonoshare_shared.science.phantom.on_device`. For training only.
"""

from collections import deque
from collections.abc import Generator, Sequence
from concurrent.futures import Executor, Future, ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context

import torch

from sonoshare_shared.errors import InputError
from sonoshare_shared.science.model.base_pictures import BasePictures
from sonoshare_shared.science.model.phantom_cache import base_recipes
from sonoshare_shared.science.phantom import Recipe
from sonoshare_shared.science.phantom.batch import draw_batch
from sonoshare_shared.science.phantom.on_device import Painted, in_chunks, joined, paint_batch, simulate_on
from sonoshare_shared.science.phantom.simulator import PhantomDraws, grid_side


@dataclass(frozen=True)
class PhantomStream:
    """A series of phantoms on a device.

    Args:
        seed: of the series, at least 0.
        size: side of the pictures in pixels.
        device: where the pictures are painted and stay.

    Raises:
        InputError: the seed is negative, or the size is not understood.
    """

    seed: int
    size: int
    device: torch.device

    def __post_init__(self) -> None:
        grid_side(self.size)
        if self.seed < 0:
            raise InputError("the seed of a series of phantoms is negative", remedy="use 0 or more")

    def batch(self, start: int, count: int) -> BasePictures:
        """Phantoms ``start`` to ``start + count - 1``, on the device.

        Raises:
            InputError: a number is negative.
        """
        recipes, _ = base_recipes(start, count)
        return self._pictures(start, simulate_on(self.device, recipes, seed=self.seed, size=self.size))

    def batches(self, start: int, count: int, *, workers: int) -> Generator[BasePictures, None, None]:
        """Batch after batch of ``count`` phantoms from ``start`` on, for ever, drawn ahead by other processes.

        Drawing is work for one processor core and holds Python's lock; painting leaves both free. The processes end
        when the iterator is closed.

        Args:
            start: place of the first phantom, at least 0.
            count: phantoms a batch, at least 1.
            workers: processes, at least 1.

        Raises:
            InputError: a number is too small.
        """
        if start < 0 or count < 1 or workers < 1:
            raise InputError("a stream goes from 0 or more, in batches of 1 or more", remedy="and has a worker or more")
        return self._drawn_ahead(start, count, workers)

    def _drawn_ahead(self, start: int, count: int, workers: int) -> Generator[BasePictures, None, None]:
        pool = ProcessPoolExecutor(workers, mp_context=get_context("spawn"))  # a fork would copy the device's threads
        try:
            ahead: deque[list[Future[PhantomDraws]]] = deque()
            wanted = start
            while True:
                while sum(map(len, ahead)) <= 2 * workers:
                    ahead.append(self._asked(pool, base_recipes(wanted, count)[0]))
                    wanted += count
                yield self._pictures(start, joined([self._painted(each.result()) for each in ahead.popleft()]))
                start += count
        finally:
            pool.shutdown(cancel_futures=True)

    def _asked(self, pool: Executor, recipes: Sequence[Recipe]) -> list[Future[PhantomDraws]]:
        side = grid_side(self.size)
        chunks = in_chunks(recipes, self.device, side)
        return [pool.submit(draw_batch, chunk, seed=self.seed, side=side) for chunk in chunks]

    def _painted(self, draws: PhantomDraws) -> Painted:
        return paint_batch(draws, self.device, side=grid_side(self.size), size=self.size)

    def _pictures(self, start: int, painted: Painted) -> BasePictures:
        recipes, labels = base_recipes(start, len(painted.boxes))
        scanners = torch.tensor([recipe.scanner for recipe in recipes], dtype=torch.int64, device=self.device)
        return BasePictures(
            **vars(painted),
            labels=torch.from_numpy(labels).to(self.device),
            scanners=scanners,
            has_mask=torch.ones_like(scanners, dtype=torch.bool),
        )
