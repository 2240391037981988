"""How far two sets of images are apart, in whatever features are handed in.

Fréchet distance (Heusel et al. 2017), kernel distance (Binkowski et al. 2018: unbiased squared MMD with the cubic
polynomial kernel), precision and recall (Kynkäänniemi et al. 2019), density and coverage (Naeem et al. 2020).

Promises: symmetric inputs are checked for shape and finiteness only. All are biased by the number of images in their
own way: compare at equal n. None says anything about privacy, and a low distance is no utility: see ``tstr``.
"""

from dataclasses import asdict, dataclass

import numpy as np
import scipy.linalg
from numpy.typing import NDArray

from sonoshare_shared.errors import InputError

Features = NDArray[np.floating]
NEIGHBOURS = 5
"""k of the nearest-neighbour balls, the value of Naeem et al."""


@dataclass(frozen=True)
class Distances:
    """Distances of a synthetic set from a real one; field names as the command line prints them."""

    frechet: float
    kernel_distance: float
    precision: float
    recall: float
    density: float
    coverage: float

    def as_json(self) -> dict[str, float]:
        """The fields by name."""
        return asdict(self)


def _checked(real: Features, synthetic: Features) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    one, two = np.asarray(real, dtype=np.float64), np.asarray(synthetic, dtype=np.float64)
    if one.ndim != 2 or two.ndim != 2 or one.shape[1] != two.shape[1]:
        raise InputError("features of different kinds cannot be compared", remedy="compute both the same way")
    if min(len(one), len(two)) <= NEIGHBOURS:
        raise InputError(f"a distance needs more than {NEIGHBOURS} images on each side", remedy="add images")
    if not (np.isfinite(one).all() and np.isfinite(two).all()):
        raise InputError("a feature is not finite", remedy="look for broken images")
    return one, two


def _triangle(x: NDArray[np.float64]) -> NDArray[np.float64]:
    """R of the QR factorisation of [n, d]: at most d rows, and R^T R = X^T X."""
    return np.asarray(scipy.linalg.qr(x, mode="economic")[1], dtype=np.float64)


def frechet(real: Features, synthetic: Features) -> float:
    """Fréchet distance of the two Gaussians with the sets' means and covariances.

    Args:
        real: [n, d].
        synthetic: [m, d].

    Returns:
        Distance, at least 0; depends on n and m.
    """
    one, two = _checked(real, synthetic)
    centred_one = (one - one.mean(axis=0)) / np.sqrt(len(one) - 1)
    centred_two = (two - two.mean(axis=0)) / np.sqrt(len(two) - 1)
    # tr sqrt(C1 C2) is the sum of the singular values of X1 X2^T for C = X^T X, and orthogonal factors do not change
    # them: no matrix square root, and never more than d by d.
    cross = np.linalg.svd(_triangle(centred_one) @ _triangle(centred_two).T, compute_uv=False).sum()
    spread = (centred_one**2).sum() + (centred_two**2).sum() - 2.0 * cross
    return float(max(((one.mean(axis=0) - two.mean(axis=0)) ** 2).sum() + spread, 0.0))


def kernel_distance(real: Features, synthetic: Features) -> float:
    """Unbiased squared MMD with the kernel (x.y / d + 1)^3; may be slightly negative.

    Args:
        real: [n, d].
        synthetic: [m, d].

    Returns:
        Estimate whose expectation does not depend on n and m.
    """
    one, two = _checked(real, synthetic)

    def kernel(a: NDArray[np.float64], b: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.asarray((a @ b.T / a.shape[1] + 1.0) ** 3)

    def within(x: NDArray[np.float64]) -> float:
        table = kernel(x, x)
        return float((table.sum() - np.trace(table)) / (len(x) * (len(x) - 1)))

    return within(one) + within(two) - 2.0 * float(kernel(one, two).mean())


def _squared_distances(a: NDArray[np.float64], b: NDArray[np.float64]) -> NDArray[np.float64]:
    squared = (a**2).sum(axis=1)[:, None] + (b**2).sum(axis=1)[None, :] - 2.0 * (a @ b.T)
    return np.asarray(np.maximum(squared, 0.0))


def _radii(x: NDArray[np.float64], k: int) -> NDArray[np.float64]:
    """Squared distance of each point from its k-th neighbour in the same set."""
    apart = _squared_distances(x, x)
    np.fill_diagonal(apart, np.inf)
    return np.asarray(np.partition(apart, k - 1, axis=1)[:, k - 1])


def compare(real: Features, synthetic: Features, k: int = NEIGHBOURS) -> Distances:
    """All distances of a synthetic set from a real one.

    Args:
        real: [n, d].
        synthetic: [m, d].
        k: neighbours that set the radius of a point's ball.

    Returns:
        Fréchet and kernel distance; precision (share of synthetic points in a real ball), recall (share of real points
        in a synthetic ball), density (mean number of real balls that hold a synthetic point, over k) and coverage
        (share of real balls that hold a synthetic point).
    """
    one, two = _checked(real, synthetic)
    apart = _squared_distances(one, two)
    in_real = apart <= _radii(one, k)[:, None]
    in_synthetic = apart <= _radii(two, k)[None, :]
    return Distances(
        frechet=frechet(one, two),
        kernel_distance=kernel_distance(one, two),
        precision=float(in_real.any(axis=0).mean()),
        recall=float(in_synthetic.any(axis=1).mean()),
        density=float(in_real.sum(axis=0).mean() / k),
        coverage=float(in_real.any(axis=1).mean()),
    )
