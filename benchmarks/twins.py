"""Comparing the patients of a first intake: the product of rounded windows against the whole product, side by side.

    python -m benchmarks.twins [--images 1200 2400 4800 9600] [--busbra FOLDER] [--json]

One thread, processor seconds, each size once, the old way and the new one in turn in the same run. Both rank every pair
of pictures by the coarse view; the detector's look at the few that rank highest is the same for both and left out.
Pictures are blends of BUS-BRA's where it is found, else of phantoms; BUS-BRA itself is compared, too. The new way is
run once more without whole numbers, as where a processor has none that are fast. One JSON object as the last line; for
each size:

- ``whole_seconds``: the whole product in float32 over all pairs, in blocks, a maximum over the poses, and a look for
  what reaches the limit;
- ``seconds``, ``seconds_in_floats``: the ranking as intake makes it, by whole numbers and by floats;
- ``times_as_fast``: the first over the second; ``pictures_a_second``, ``seconds_a_pair``: of the second;
- ``same_pairs``: all ways rank the same pairs in the same order, up to the last bits of the old way's float32;
- ``extra_mib``: peak of resident memory over that with the pictures alone, of the new way.
"""

import argparse
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final
from unittest.mock import patch

import numpy as np
import torch
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from benchmarks._parts import print_figures
from benchmarks.audit_scale import BUSBRA, load_patients, peak_mib, unrelated
from sonoshare_privacy.audits import rounded, twins
from sonoshare_privacy.audits.correlation import COARSE, pair_scores, posed_windows
from sonoshare_shared.science.device import CPU

Images = NDArray[np.float32]
Ranked = tuple[list[tuple[int, int]], bool]
FLOAT32_OFF: Final = 2e-6
"""Of a score: 3e-7 was seen; the worst that 196 products in any order can be off is 1.2e-5."""

AT_ONCE: Final = 32, 8192
"""Posed pictures and windows in a block of the whole product."""


def whole_product(images: Images, owners: NDArray[np.int64]) -> Ranked:
    """The ranking by products in full, as intake made it before."""
    ranking = twins._Ranking(twins._RANKED_PER_LOOK * _most(images), owners, frozenset())  # noqa: SLF001
    windows, everybody, owner = twins._windows(images, CPU), np.arange(len(images)), torch.as_tensor(owners)  # noqa: SLF001
    for start in range(0, len(images), AT_ONCE[0]):
        part = everybody[start : start + AT_ONCE[0]]
        turned = posed_windows(images[part], CPU, COARSE)
        for first in range(0, len(images), AT_ONCE[1]):
            rows = everybody[first : first + AT_ONCE[1]]
            scores = pair_scores(windows[rows], turned)
            scores[owner[rows][:, None] == owner[part][None]] = -torch.inf
            row, column = torch.nonzero(scores >= twins._WORTH_A_LOOK, as_tuple=True)  # noqa: SLF001
            values, columns = scores[row, column].numpy(), column.numpy()
            for at in np.unique(columns):
                ranking.add(values[columns == at], rows[row.numpy()[columns == at]], int(part[at]))
    chosen = ranking.pairs()
    return chosen[: _most(images)], ranking.whole and len(chosen) <= _most(images)


def _most(images: Images) -> int:
    return max(twins._LEAST_MOST, twins._MOST_PER_IMAGE * len(images))  # noqa: SLF001


def compared(images: Images, owners: NDArray[np.int64]) -> dict[str, Any]:
    """One size, all ways."""

    def now() -> Ranked:
        return twins._likely(images, owners, np.ones(len(images), np.bool_), CPU, frozenset())  # noqa: SLF001

    def in_floats() -> Ranked:
        with patch.object(rounded, "whole_numbers_are_fast", lambda _: False):
            return now()

    before, old = _timed(lambda: whole_product(images, owners))
    after, new = _timed(now)
    floats, other = _timed(in_floats)
    with _kept_scores() as scores:
        now()
    return {
        "images": len(images),
        "whole_seconds": round(before, 2),
        "seconds": round(after, 2),
        "seconds_in_floats": round(floats, 2),
        "times_as_fast": round(before / after, 2),
        "pictures_a_second": round(len(images) / after, 1),
        "seconds_a_pair": float(f"{after / len(images) ** 2:.3g}"),
        "ranked": len(new[0]),
        "same_pairs": new == other and _same(old, new, scores),
        "extra_mib": peak_mib(now),
    }


def _same(old: Ranked, new: Ranked, scores: dict[tuple[int, int], float]) -> bool:
    """Whether the two say the same pairs, in an order that only the last bits of the old way's float32 can change.

    So the scores, as 64 bits give them, may nowhere rise along the old order by more than float32 can be off.
    """
    along = np.array([scores.get(pair, np.nan) for pair in old[0]])
    ordered = bool((along <= np.minimum.accumulate(along) + FLOAT32_OFF).all())
    return old[1] == new[1] and set(old[0]) == set(new[0]) and ordered


@contextmanager
def _kept_scores() -> Iterator[dict[tuple[int, int], float]]:
    """Scores of the pairs that are ranked meanwhile."""
    kept: dict[tuple[int, int], float] = {}
    make_room = twins._Ranking._make_room  # noqa: SLF001

    def keeping(ranking: Any) -> Any:
        parts = make_room(ranking)
        for scores, places in parts:
            kept.update({(int(a), int(b)): float(score) for score, (a, b) in zip(scores, places, strict=True)})
        return parts

    with patch.object(twins._Ranking, "_make_room", keeping):  # noqa: SLF001
        yield kept


def _timed(run: Callable[[], Ranked]) -> tuple[float, Ranked]:
    start = time.process_time()
    found = run()
    return time.process_time() - start, found


def main() -> None:
    """Compare and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="only the JSON line")
    parser.add_argument("--busbra", type=Path, default=BUSBRA)
    parser.add_argument("--images", type=int, nargs="+", default=[1200, 2400, 4800, 9600])
    options = parser.parse_args()
    torch.set_num_threads(1)
    threadpool_limits(1)  # NumPy's own
    patients = load_patients(options.busbra)
    real = np.concatenate(patients)
    blends = unrelated(real, max(options.images), seed=6)

    def itself() -> dict[str, Any]:
        owners = np.repeat(np.arange(len(patients)), [len(one) for one in patients])
        return {"itself": compared(real, owners)}

    def at_sizes() -> dict[str, Any]:
        return {"sizes": [compared(blends[:count], np.arange(count) // 2) for count in options.images]}

    known = {"pictures": "BUS-BRA" if len(patients) > 200 else "phantoms"}
    print_figures({"itself": itself, "sizes": at_sizes}, known, quiet=options.json)


if __name__ == "__main__":
    main()
