"""Trainings of the made-up cohort, in one process or in two that share its patients."""

import os
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

from tests.privacy.conftest import Cohort
from torch import distributed

from sonoshare_privacy import PatientDP
from sonoshare_privacy.patient_dp import Outcome
from sonoshare_shared.protocol.documents.plan import Mechanism

Act = Callable[[int], None]


def training(cohort: Cohort, ledger: Any, mechanism: Mechanism, **settings: Any) -> PatientDP:
    """A training of all 40 patients' model."""
    settings = {"divisor": mechanism.rate * 40, "probe": cohort.probe(), **settings}
    return PatientDP(
        model=cohort.model,
        parameters=dict(cohort.model.named_parameters()),
        mechanism=mechanism,
        ledger=ledger,
        study="study-a",
        **settings,
    )


def run(dp: PatientDP, cohort: Cohort, steps: int = 4, patients: int = 40, **settings: Any) -> Outcome:
    """Some steps of it."""
    settings = {"loss": cohort.loss, **settings}
    return dp.train(patients=patients, draw=cohort.draw, steps=steps, purpose="round 0", **settings)


def both(folder: Path, act: Act, seconds: float = 60.0) -> list[int]:
    """Exit status of two forked ranks: 0 where the act came to its end, 1 where not."""
    children = []
    for rank in range(2):
        child = os.fork()
        if child == 0:
            status = 1
            try:
                distributed.init_process_group(
                    "gloo",
                    init_method=f"file://{folder}/store",
                    rank=rank,
                    world_size=2,
                    timeout=timedelta(seconds=seconds),
                )
                act(rank)
                status = 0
            finally:
                os._exit(status)
        children.append(child)
    return [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]
