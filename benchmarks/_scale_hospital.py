"""What grows at a hospital, measured at several sizes: vault, twins, a training step, the copy search, the ledger.

Each function gives points (sizes, value), the smallest first. Values are processor seconds of one thread, or bytes.
Pictures have 64 px.
"""

import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from typing import Final

import numpy as np
import torch

from benchmarks._scale_laws import Sizes
from benchmarks._step_profiles import Work, our_step
from benchmarks.audit_scale import unrelated
from benchmarks.vault_memory import TASK, fill
from sonoshare_client.vault.dataset import grid
from sonoshare_client.vault.store import Vault
from sonoshare_privacy import Budget, Budgets, Ledger
from sonoshare_privacy.accounting import SampledGaussian
from sonoshare_privacy.audits import copies
from sonoshare_privacy.audits.twins import find_twins
from sonoshare_privacy.budget import ChargeRequest
from sonoshare_shared.protocol.keys import SigningKey
from sonoshare_shared.science.device import CPU
from sonoshare_shared.science.model.profiles import profile_named
from sonoshare_shared.science.phantom import simulate
from sonoshare_shared.science.precision import FLOAT32

SIDE: Final = 64
REPEATS: Final = 3
Points = list[tuple[Sizes, float]]


@contextmanager
def timed(into: list[float]) -> Iterator[None]:
    """Add the processor seconds of a block."""
    start = time.process_time()
    yield
    into.append(time.process_time() - start)


def vault(images: Sequence[int]) -> tuple[Points, Points]:
    """Opening the patients of a training, by images: seconds, and bytes that all of them take afterwards."""
    seconds: Points = []
    held: Points = []
    with tempfile.TemporaryDirectory() as folder, Vault(fill(Path(folder), max(images), SIDE)) as opened:
        everybody = opened.patients()
        grid(opened, everybody[:1], TASK, SIDE)  # code and buffers that are loaded once
        for count in images:
            spent: list[float] = []
            for _ in range(REPEATS):
                with timed(spent):
                    found = grid(opened, everybody[: count // 2], TASK, SIDE)
            fields = [value for cohort in (found.trained, found.held_out) for value in vars(cohort).values()]
            seconds.append(({"images": count}, median(spent)))
            held.append(({"images": count}, float(sum(v.nbytes for v in fields if isinstance(v, torch.Tensor)))))
    return seconds, held


def twins(images: Sequence[int]) -> Points:
    """Comparing a first intake with itself, by images."""
    made = simulate(200, seed=5, size=SIDE).images
    pictures = unrelated(made, max(images), seed=6)
    points: Points = []
    for count in images:
        spent: list[float] = []
        owners = np.arange(count, dtype=np.int64) // 2
        with timed(spent):
            find_twins(pictures[:count], owners, np.ones(count, np.bool_))
        points.append(({"images": count}, spent[0]))
    return points


def training(sizes: Sequence[tuple[int, int]]) -> Points:
    """A private step of the shipped network, by patients expected and draws of each."""
    points: Points = []
    for patients, draws in sizes:
        with our_step(Work(profile_named("small"), "affine", patients, draws, CPU, FLOAT32)) as (step, _):
            step()
            spent: list[float] = []
            for _ in range(REPEATS):
                with timed(spent):
                    step()
        points.append(({"patients": patients, "draws": draws}, median(spent)))
    return points


def copy_search(sizes: Sequence[tuple[int, int]]) -> Points:
    """The search for copies, by synthetic images and images of patients."""
    made = simulate(200, seed=3, size=SIDE).images
    synthetic = unrelated(made, max(each for each, _ in sizes), seed=4)
    people = [image[None] for image in unrelated(made, max(own for _, own in sizes), seed=8)[:]]
    points: Points = []
    for drawn, own in sizes:
        spent: list[float] = []
        for _ in range(REPEATS):
            with timed(spent):
                copies.patient_nearest(type(synthetic)(synthetic.pixels[:drawn]), people[:own])
        points.append(({"synthetic": drawn, "images": own}, median(spent)))
    return points


def ledger(charges: Sequence[int]) -> tuple[Points, Points]:
    """Opening a ledger, which checks every entry, and one more charge, by charges so far (two entries each)."""
    opening: Points = []
    one_more: Points = []
    limit, key = Budget(1e6, 1e-5), SigningKey.generate()

    def opened(path: Path) -> Ledger:
        budgets = Budgets(study=limit, lifetime=limit)
        return Ledger(path, key=key, hospital="north", clock=lambda: datetime.now(UTC), budgets=lambda: budgets)

    def charge(book: Ledger) -> None:
        event = SampledGaussian(0.25, 8.0, 1)
        book.commit(book.reserve(ChargeRequest("study", "round", (event,), 1e-5, 1000)))

    with tempfile.TemporaryDirectory() as folder:
        path, made = Path(folder) / "ledger.db", 1
        book = opened(path)
        charge(book)  # the first of a process composes what the others find composed
        book.close()
        for count in charges:
            book = opened(path)
            for _ in range(count - made):
                charge(book)
            book.close()
            made = count
            spent: list[float] = []
            for _ in range(REPEATS):
                with timed(spent):
                    book = opened(path)
                book.close()
            book = opened(path)
            more: list[float] = []
            for _ in range(9):
                with timed(more):
                    charge(book)
                made += 1
            book.close()
            opening.append(({"charges": count}, median(spent)))
            one_more.append(({"charges": count}, median(more)))
    return opening, one_more


def one_thread() -> None:
    """So that seconds are of one processor."""
    torch.set_num_threads(1)
