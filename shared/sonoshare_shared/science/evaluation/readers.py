"""Multi-reader multi-case comparison: do readers do better with one kind of picture than with another?

Obuchowski and Rockette's model (Commun. Stat. Simul. 1995) with Hillis' degrees of freedom (Stat. Med. 2007), readers
and cases random, for a fully crossed design: every reader rates every case under every treatment. The error covariances
come from DeLong's covariance of the AUCs (``auc.delong_covariance``), averaged over the pairs each concerns.

Promises: the F test of equal treatments and, for two treatments, the difference with its t interval; intervals of the
treatments by their own readers. Not promised: split-plot designs, several ratings of a patient as independent cases.
"""

import csv
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import scipy
from numpy.typing import NDArray

from sonoshare_shared.errors import InputError
from sonoshare_shared.science.evaluation.auc import CONFIDENCE, delong_covariance

COLUMNS = ("reader", "treatment", "case", "truth", "rating")
Array = NDArray[np.float64]


@dataclass(frozen=True)
class Ratings:
    """A fully crossed reading.

    Attributes:
        treatments: names, sorted.
        readers: names, sorted.
        truth: bool [cases], True for the positive class.
        ratings: float64 [treatments, readers, cases], larger for the positive class.
    """

    treatments: tuple[str, ...]
    readers: tuple[str, ...]
    truth: NDArray[np.bool_]
    ratings: Array


@dataclass(frozen=True)
class Treatment:
    """Mean AUC of one treatment over readers, its standard error and 95 % interval."""

    auc: float
    se: float
    interval: tuple[float, float]


@dataclass(frozen=True)
class Difference:
    """Second minus first treatment: estimate, standard error, degrees of freedom, 95 % interval, p of no difference."""

    estimate: float
    se: float
    df: float
    interval: tuple[float, float]
    p: float


@dataclass(frozen=True)
class ReaderStudy:
    """Result of the comparison; ``components`` are the variance components of the model."""

    treatments: dict[str, Treatment]
    difference: Difference | None
    f: float
    df1: int
    df2: float
    p: float
    components: dict[str, float]

    def as_json(self) -> dict[str, object]:
        """Fields as ``sonoshare evaluate readers --json`` prints them."""
        return {
            "treatments": {
                name: {"auc": one.auc, "se": one.se, "interval": list(one.interval)}
                for name, one in self.treatments.items()
            },
            "difference": None
            if self.difference is None
            else {
                **vars(self.difference),
                "df": _finite(self.difference.df),
                "interval": list(self.difference.interval),
            },
            "F": _finite(self.f),
            "df1": self.df1,
            "df2": _finite(self.df2),
            "p": self.p,
            "components": self.components,
        }


def _finite(value: float) -> float | None:
    """JSON knows no infinity: None stands for infinite degrees of freedom, or an effect without error."""
    return value if np.isfinite(value) else None


def read_ratings(path: Path) -> Ratings:
    """Read a CSV with the columns reader, treatment, case, truth (0 or 1), rating.

    Raises:
        InputError: for a missing column, a value that is not a number, or a design that is not fully crossed.
    """
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            rows = list(csv.DictReader(file))
    except OSError as error:
        raise InputError(f"{path.name} cannot be read: {error.strerror}", remedy="check the path") from error
    except (UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{path.name} cannot be read as CSV", remedy="save it as UTF-8 CSV") from error
    missing = [column for column in COLUMNS if not rows or column not in rows[0]]
    if missing:
        raise InputError(f"{path.name} has no column {', '.join(missing)}", remedy=f"columns: {','.join(COLUMNS)}")
    cells: dict[tuple[str, str, str], float] = {}
    truths: dict[str, bool] = {}
    for number, row in enumerate(rows, start=2):
        treatment, reader, case = row["treatment"], row["reader"], row["case"]
        if None in row.values():
            raise InputError(f"{path.name} line {number} is short of a column", remedy="correct the line")
        try:
            truth, rating = {"0": False, "1": True}[row["truth"].strip()], float(row["rating"])
        except (KeyError, ValueError, AttributeError, TypeError) as error:
            raise InputError(
                f"{path.name} line {number}: truth is not 0 or 1, or rating not a number", remedy="correct the line"
            ) from error
        if truths.setdefault(case, truth) != truth or (treatment, reader, case) in cells:
            raise InputError(f"{path.name} line {number}: contradicts an earlier line", remedy="keep one")
        cells[treatment, reader, case] = rating
    return _crossed(cells, truths)


def _crossed(cells: dict[tuple[str, str, str], float], truths: dict[str, bool]) -> Ratings:
    treatments, readers, cases = (tuple(sorted({key[axis] for key in cells})) for axis in range(3))
    if len(cells) != len(treatments) * len(readers) * len(cases):
        raise InputError(
            "the design is not fully crossed", remedy="every reader must rate every case under every treatment once"
        )
    table = [[[cells[t, r, c] for c in cases] for r in readers] for t in treatments]
    return Ratings(treatments, readers, np.array([truths[c] for c in cases]), np.array(table, dtype=np.float64))


def _error_covariances(covariance: Array, treatments: int, readers: int) -> dict[str, float]:
    """Average the covariance [t*r, t*r] of the AUCs over the kinds of pairs of the model."""
    table = covariance.reshape(treatments, readers, treatments, readers)
    same_treatment = np.eye(treatments, dtype=bool)[:, None, :, None]
    same_reader = np.eye(readers, dtype=bool)[None, :, None, :]

    def mean(chosen: NDArray[np.bool_]) -> float:
        where = np.broadcast_to(chosen, table.shape)
        return float(table[where].mean()) if where.any() else 0.0

    return {
        "error": mean(same_treatment & same_reader),
        "cov1": mean(~same_treatment & same_reader),
        "cov2": mean(same_treatment & ~same_reader),
        "cov3": mean(~same_treatment & ~same_reader),
    }


def _ratio(effect: float, error: float) -> float:
    """Effect over its error; without any error infinite, or zero where there is no effect either."""
    if error > 0.0:
        return effect / error
    return np.inf if effect > 0.0 else 0.0


def _half_width(se: float, df: float) -> float:
    return float(scipy.stats.t.ppf(0.5 + CONFIDENCE / 2.0, df)) * se


def _treatment(areas: Array, covariance: Array) -> Treatment:
    """One treatment by its own readers (Hillis 2007, single-treatment interval)."""
    readers = len(areas)
    cov2 = max(float(covariance[~np.eye(readers, dtype=bool)].mean()), 0.0)
    spread = float(areas.var(ddof=1))
    total = spread + readers * cov2
    se = (total / readers) ** 0.5
    df = (readers - 1) * (total / spread) ** 2 if spread > 0.0 else np.inf
    half, mean = _half_width(se, df), float(areas.mean())
    return Treatment(mean, se, (max(mean - half, 0.0), min(mean + half, 1.0)))


def compare_readers(ratings: Ratings) -> ReaderStudy:
    """Compare treatments over readers and cases.

    Args:
        ratings: a fully crossed reading of at least two treatments by at least two readers.

    Returns:
        AUCs, the F test, the difference of two treatments and the variance components.

    Raises:
        InputError: with fewer than two treatments or readers, or a class missing.
    """
    t, r = len(ratings.treatments), len(ratings.readers)
    if t < 2 or r < 2:
        raise InputError("a comparison needs two treatments and two readers", remedy="add ratings")
    flat, covariance = delong_covariance(ratings.truth, ratings.ratings.reshape(t * r, -1))
    areas = flat.reshape(t, r)
    errors = _error_covariances(covariance, t, r)
    by_treatment, by_reader = areas.mean(axis=1), areas.mean(axis=0)
    ms_treatment = r * float(by_treatment.var(ddof=1))
    residual = areas - by_treatment[:, None] - by_reader[None, :] + areas.mean()
    ms_interaction = float((residual**2).sum()) / ((t - 1) * (r - 1))
    ms_reader = t * float(by_reader.var(ddof=1))
    denominator = ms_interaction + r * max(errors["cov2"] - errors["cov3"], 0.0)
    df2 = denominator**2 * (t - 1) * (r - 1) / ms_interaction**2 if ms_interaction > 0.0 else np.inf
    f = _ratio(ms_treatment, denominator)
    # Expected mean squares of the model, solved for the two variance components (Hillis 2007, table 1).
    interaction = ms_interaction - errors["error"] + errors["cov1"] + errors["cov2"] - errors["cov3"]
    components = {
        "reader": (ms_reader - ms_interaction) / t - errors["cov1"] + errors["cov3"],
        "treatment_reader": interaction,
        **errors,
    }
    blocks = covariance.reshape(t, r, t, r)
    return ReaderStudy(
        treatments={name: _treatment(areas[i], blocks[i, :, i, :]) for i, name in enumerate(ratings.treatments)},
        difference=_difference(by_treatment, denominator, df2, r) if t == 2 else None,
        f=f,
        df1=t - 1,
        df2=float(df2),
        # SciPy's F knows no infinitely many degrees of freedom: there F times df1 is chi-squared.
        p=float(scipy.stats.f.sf(f, t - 1, df2) if np.isfinite(df2) else scipy.stats.chi2.sf(f * (t - 1), t - 1)),
        components=components,
    )


def _difference(by_treatment: Array, denominator: float, df: float, readers: int) -> Difference:
    estimate = float(by_treatment[1] - by_treatment[0])
    se = (2.0 * denominator / readers) ** 0.5
    half = _half_width(se, df)
    p = 2.0 * float(scipy.stats.t.sf(_ratio(abs(estimate), se), df))
    return Difference(estimate, se, float(df), (estimate - half, estimate + half), p)
