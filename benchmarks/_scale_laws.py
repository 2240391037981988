"""A law of growth, fitted to what was measured at all sizes but the largest and held against the largest.

A law names its terms: ``n h`` grows by the product of two sizes. Coefficients are the least squares of relative errors,
none below zero, so a small size counts as much as a large one.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.optimize import nnls

Sizes = Mapping[str, float]


@dataclass(frozen=True)
class Law:
    """How something grows, with its measured constants.

    Attributes:
        terms: products of sizes as ``1``, ``images``, ``images images`` or ``log2 entries``.
        constants: of each term.
    """

    terms: tuple[str, ...]
    constants: tuple[float, ...]

    def at(self, **sizes: float) -> float:
        """What the law says of a size."""
        return float(sum(each * term_at(term, sizes) for each, term in zip(self.constants, self.terms, strict=True)))

    def words(self) -> str:
        """The law, for people."""
        parts = [f"{each:.3g} {term}" for each, term in zip(self.constants, self.terms, strict=True) if each]
        return " + ".join(parts) or "0"


def term_at(term: str, sizes: Sizes) -> float:
    """A term at a size."""
    if term.startswith("log2 "):
        return math.log2(sizes[term.removeprefix("log2 ")])
    return math.prod(1.0 if factor == "1" else sizes[factor] for factor in term.split())


def fitted(terms: Sequence[str], measured: Sequence[tuple[Sizes, float]]) -> Law:
    """The law of some measured points."""
    values = np.array([value for _, value in measured])
    rows = np.array([[term_at(term, sizes) for term in terms] for sizes, _ in measured]) / values[:, None]
    scale = rows.max(axis=0)
    constants, _ = nnls(rows / scale, np.ones(len(values)))
    return Law(tuple(terms), tuple(float(each) for each in constants / scale))


def checked(terms: Sequence[str], measured: Sequence[tuple[Sizes, float]]) -> tuple[Law, dict[str, Any]]:
    """The law of all points, and how well that of all but the last foretells the last."""
    foretold = fitted(terms, measured[:-1]).at(**measured[-1][0])
    sizes, largest = measured[-1]
    law = fitted(terms, measured)
    return law, {
        "law": law.words(),
        "terms": dict(zip(law.terms, law.constants, strict=True)),
        "measured": [{**at, "value": round(value, 6)} for at, value in measured],
        "largest": dict(sizes),
        "predicted": round(foretold, 6),
        "at_largest": round(largest, 6),
        "predicted_over_measured": round(foretold / largest, 2),
    }
