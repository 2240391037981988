"""What the release is worth to a classifier, and the floor under it; only the demonstration may compute this.

A small CNN is trained on the release (or on the candidate that was refused) and tested on the held-out patients of all
hospitals, who were never trained on. Beside it stands the floor: the same classifier trained on the raw phantoms behind
the release, which no patient has touched. In a federation both figures would be charges.
"""

from collections.abc import Iterable
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray

from sonoshare_client.node.home import NodeHome
from sonoshare_client.vault.cohort import Cohort
from sonoshare_client.vault.dataset import grid
from sonoshare_client.vault.store import Vault
from sonoshare_deploy.demo.workers import worker_pool
from sonoshare_server.release.draw import phantoms_of
from sonoshare_shared.protocol.documents import StudyPlan, Task
from sonoshare_shared.science.device import CPU
from sonoshare_shared.science.evaluation.auc import patient_bootstrap
from sonoshare_shared.science.evaluation.classifier import fit
from sonoshare_shared.science.evaluation.labelled import load_labelled
from sonoshare_shared.science.label_table import LabelTable
from sonoshare_shared.science.model.profiles import profile_named

SEED: Final = 0
STEPS: Final = 250  # of the classifier: enough for one figure in a demonstration


def utility_of(
    synthetic: LabelTable, plan: StudyPlan, nodes: Iterable[NodeHome], device: torch.device = CPU
) -> dict[str, Any]:
    """AUC on held-out patients of a classifier trained on synthetic images, and of one trained on raw phantoms.

    Args:
        synthetic: images of the release or of the candidate.
        plan: the study plan.
        nodes: every hospital.
        device: where the classifiers are trained.

    Returns:
        ``synthetic`` and ``phantoms``, each ``{auc, interval}``, and ``patients`` tested on.
    """
    size = profile_named(plan.profile).size
    held_out = [patient for node in nodes for patient in _held_out(node, plan.task, size)]
    images = np.concatenate([patient.images for patient in held_out])
    labels = np.concatenate([patient.labels for patient in held_out])
    patients = np.concatenate([np.full(len(patient), i) for i, patient in enumerate(held_out)])
    release = load_labelled(synthetic, size, plan.task.classes, synthetic=True)
    phantoms = phantoms_of(plan, 0, plan.release.images)

    jobs = [(release.images, release.labels, images, device), (phantoms.images, phantoms.labels, images, device)]
    with worker_pool(len(jobs)) as pool:
        scores = pool.starmap(_scores, jobs)
    drawn, floor = (patient_bootstrap(labels, each, patients).as_json() for each in scores)
    return {"synthetic": drawn, "phantoms": floor, "patients": len(held_out)}


def _scores(
    train: NDArray[np.floating], classes: NDArray[np.integer], test: NDArray[np.floating], device: torch.device
) -> NDArray[np.float64]:
    """Scores of the test images by a classifier, which on a processor is trained on one thread."""
    torch.set_num_threads(1)
    return fit(train, classes, steps=STEPS, seed=SEED, device=device).predict(test)


def _held_out(node: NodeHome, task: Task, size: int) -> Cohort:
    with Vault(node) as vault:
        return grid(vault, vault.patients(), task, size).held_out
