"""One round of private fine-tuning at this hospital: an adapter in, a private update and a charge out.

What leaves is the difference between the adapter before and after, and the noisy losses; both are functions of the
noised sums that the ledger was charged for (``sonoshare_privacy.PatientDP``), of the received adapter and of public
constants of the plan. The learning rate falls linearly over the study's rounds by the plan alone, so a round
needs no memory of the one before but the canaries' secret. What the canaries saw is kept here, and never sent.
"""

from collections.abc import Sequence
from typing import Final

import numpy as np
import torch
from torch import Tensor

from sonoshare_client.agent.node import Node
from sonoshare_client.vault.dataset import PatientArrays
from sonoshare_privacy.budget import Reservation
from sonoshare_privacy.canaries import Canaries
from sonoshare_privacy.patient_dp import PatientDP
from sonoshare_privacy.patient_gradients.chunk import Batch
from sonoshare_privacy.patient_gradients.per_patient import Loss
from sonoshare_privacy.schedule import round_optimiser
from sonoshare_shared.errors import LedgerError, PolicyError
from sonoshare_shared.protocol.canonical import sha256_hex
from sonoshare_shared.protocol.documents import StudyPlan
from sonoshare_shared.protocol.documents.exchange import TRAIN_REPLY_PAYLOAD_TYPE, TrainReply, TrainRequest
from sonoshare_shared.protocol.envelope import Envelope
from sonoshare_shared.science.model.adapter import adapter_bytes, adapter_state, trained_parameters
from sonoshare_shared.science.model.conditions import ABSENT, Condition
from sonoshare_shared.science.model.diffusion import stratified_times
from sonoshare_shared.science.model.loss import denoising_loss
from sonoshare_shared.science.model.network import ConditionedUNet
from sonoshare_shared.science.phantom import simulate

ROWS_AT_ONCE: Final = 32
"""Activations, not gradients, fill the memory when few parameters are trained."""
PROBE_SEED: Final = 20_261
PROBE_KINDS: Final = ("whole", "scanner", "class", "box", "mask", "no lesion", "all")
"""What is absent in each probe: nothing, one thing, the lesion itself, or everything."""


def train_round(node: Node, plan: StudyPlan, request: TrainRequest, adapter: bytes) -> tuple[Envelope, bytes]:
    """Train one round.

    Args:
        node: the hospital.
        plan: checked plan.
        request: checked request.
        adapter: the global adapter.

    Returns:
        The signed reply and the update (safetensors of differences, float32).

    Raises:
        BudgetError: the hospital's budget does not allow the round; nothing was read.
        PolicyError: the plan's canaries have no room.
        ModelError: the adapter does not fit, or the engine's self-check on made-up draws failed.
        Exception: whatever goes wrong after the charge; see ``sonoshare_client.agent.service``.
    """
    model = node.model(plan, adapter).to(_device())
    before = adapter_state(model, plan.trained)
    parameters = trained_parameters(model, plan.trained)
    dp = PatientDP(
        model=model,
        parameters=parameters,
        mechanism=plan.mechanism,
        divisor=plan.divisor(node.hospital),
        ledger=node.ledger,
        study=plan.study,
        optimiser=round_optimiser(plan.learning_rate, plan.rounds, request.round),
        probe=probe(model, plan.mechanism.draws),
        rows_at_once=ROWS_AT_ONCE,
    )
    canaries = _canaries(node, plan, dp.dimension)
    drawing = PatientDraws((), plan.mechanism.draws, _device())

    def open_patients(paid: Reservation | None) -> int:
        if paid is None:
            raise LedgerError("patients are trained on under a charge only", remedy="reserve first")
        return drawing.hold(node.patients(plan, model.profile.size, paid).trained)

    outcome = dp.train(
        patients=open_patients,
        draw=drawing.draw,
        loss=loss_of(model),
        steps=plan.local_steps,
        purpose=f"training round {request.round}",
        canaries=canaries,
    )
    if outcome.canaries is not None:
        node.canaries(plan).keep(request.round, outcome.canaries)
    after = adapter_state(model, plan.trained)
    update = adapter_bytes({name: after[name] - before[name] for name in before})
    reply = TrainReply(
        hospital=node.hospital,
        study=plan.study,
        round=request.round,
        adapter_digest=request.adapter_digest,
        update_digest=sha256_hex(update),
        ledger_head=node.ledger.head(),
        log_size=node.log.size,
        losses=outcome.losses,
    )
    node.record("trained", round=request.round, rounds=plan.rounds)
    return Envelope.sign(TRAIN_REPLY_PAYLOAD_TYPE, reply.canonical(), node.key), update


def _canaries(node: Node, plan: StudyPlan, dimension: int) -> Canaries | None:
    """The plan's canaries, the same in every round; refused before any charge where they have no room."""
    if plan.canaries == 0:
        return None
    if dimension < 2 * plan.canaries:
        raise PolicyError(
            f"{plan.canaries} canaries have no room in {dimension} trained numbers", remedy="ask for a plan with fewer"
        )
    return Canaries(count=plan.canaries, secret=node.canaries(plan).secret())


class PatientDraws:
    """Draws of one patient: which image, mirrored or not, at which time, with which noise.

    Args:
        patients: the trained patients.
        draws: K, rows of one patient.
        device: where the rows go.
    """

    def __init__(self, patients: Sequence[PatientArrays], draws: int, device: torch.device) -> None:
        self._patients, self._draws, self._device = patients, draws, device

    def hold(self, patients: Sequence[PatientArrays]) -> int:
        """Draw from these patients from now on; returns how many they are."""
        self._patients = patients
        return len(patients)

    def draw(self, index: int, generator: torch.Generator) -> Batch:
        """K rows of one patient; every random choice comes from the generator."""
        patient, draws = self._patients[index], self._draws
        chosen = torch.randint(len(patient), (draws,), generator=generator, device=generator.device).cpu()
        mirrored = torch.rand(draws, generator=generator, device=generator.device).cpu() < 0.5
        times = stratified_times(draws, generator)
        size = patient.images.shape[-1]
        noise = torch.randn(draws, 1, size, size, generator=generator, device=generator.device)
        rows = patient_rows(patient, chosen, mirrored) | {"t": times, "noise": noise}
        return {name: tensor.to(self._device) for name, tensor in rows.items()}


def patient_rows(patient: PatientArrays, chosen: Tensor, mirrored: Tensor) -> dict[str, Tensor]:
    """Images of a patient with their conditions, mirrored left to right where asked.

    Args:
        patient: the patient.
        chosen: int64 [K], which image.
        mirrored: bool [K].

    Returns:
        ``images`` and ``masks`` [K, 1, S, S] (masks NaN where unknown), ``labels``, ``scanners`` [K], ``boxes`` [K, 4].
    """
    rows = chosen.numpy()
    masks = torch.from_numpy(patient.masks[rows]).float()
    masks[~torch.from_numpy(patient.has_mask[rows])] = torch.nan
    condition = Condition.of(patient.labels[rows], patient.scanners[rows], patient.boxes[rows]).mirrored(mirrored)
    flip = mirrored[:, None, None]
    images = torch.from_numpy(patient.images[rows])
    return {
        "images": torch.where(flip, images.flip(-1), images)[:, None],
        "masks": torch.where(flip, masks.flip(-1), masks)[:, None],
        "labels": condition.labels,
        "scanners": condition.scanners,
        "boxes": condition.boxes,
    }


def loss_of(model: ConditionedUNet) -> Loss:
    """The training loss of a batch of rows, one value per row."""

    def loss(batch: Batch) -> Tensor:
        condition = Condition(batch["labels"], batch["scanners"], batch["boxes"])
        return denoising_loss(model, batch["images"], batch["masks"], condition, batch["t"], batch["noise"])

    return loss


def probe(model: ConditionedUNet, draws: int) -> list[Batch]:
    """Draws of phantoms for the engine's check before anything is charged, one for each of `PROBE_KINDS`.

    The first has everything and also fills the places of a chunk that no patient has.
    """
    kinds = len(PROBE_KINDS)
    phantoms = simulate(kinds, seed=PROBE_SEED, size=model.profile.size)
    generator = torch.Generator().manual_seed(PROBE_SEED)
    device = next(model.parameters()).device
    patients = []
    for i, absent in enumerate(PROBE_KINDS):

        def lacks(what: str, absent: str = absent) -> bool:
            return absent in {what, "all"}

        box = np.full((1, 4), np.nan) if lacks("box") else phantoms.boxes[[i]]
        patients.append(
            PatientArrays(
                pseudonym="",
                held_out=False,
                images=phantoms.images[[i]],
                masks=phantoms.masks[[i]],
                has_mask=np.full(1, not lacks("mask")),
                boxes=np.zeros((1, 4), np.float32) if absent == "no lesion" else box.astype(np.float32),
                labels=np.full(1, ABSENT) if lacks("class") else phantoms.labels[[i]],
                scanners=np.full(1, ABSENT if lacks("scanner") else i % model.profile.scanner_slots),
            )
        )
    drawing = PatientDraws(patients, draws, device)
    return [drawing.draw(i, generator) for i in range(kinds)]


def _device() -> torch.device:
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")
