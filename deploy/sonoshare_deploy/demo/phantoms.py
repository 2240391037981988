"""The patients of a demonstration without data: simulated DICOM studies, one archive a hospital."""

from collections.abc import Sequence
from pathlib import Path
from typing import Final

from sonoshare_deploy.demo.cohorts import Cohort, cohort_of
from sonoshare_deploy.demo.workers import worker_pool
from sonoshare_shared.science.labels import read_labels
from sonoshare_shared.science.phantom.dicom_study import write_studies

PATIENTS_EACH: Final = 220
SEED: Final = 7
# Weights of the four scanner styles: each hospital has a favourite, as real ones have.
SCANNER_MIX: Final = ((6, 2, 1, 1), (1, 6, 2, 1), (1, 1, 6, 2), (2, 1, 1, 6))


def simulated_cohorts(folder: Path, hospitals: int) -> tuple[Cohort, ...]:
    """Simulate every hospital's archive, as many at once as there are cores, and read its labels.

    Args:
        folder: archives are made in folders of their own here.
        hospitals: how many.
    """
    names = [f"hospital-{number}" for number in range(1, hospitals + 1)]
    jobs = [
        (folder / name, name, SEED + number, SCANNER_MIX[number % len(SCANNER_MIX)])
        for number, name in enumerate(names)
    ]
    with worker_pool(len(jobs)) as pool:
        tables = pool.starmap(_write, jobs)
    return tuple(cohort_of(name, read_labels(table)) for name, table in zip(names, tables, strict=True))


def _write(folder: Path, name: str, seed: int, mix: Sequence[float]) -> Path:
    return write_studies(folder, patients=PATIENTS_EACH, seed=seed, hospitals=[name], scanner_mix=[mix])
