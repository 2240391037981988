"""A process that trains beside the agent: ``python -P -m sonoshare_client.agent.rank_main FD``.

It computes clipped integer sums of the patients that the agent draws, on a device of its own, and changes its copy of
the model by the noised sums that come back. It has no ledger, no key, no vault; patients reach it after the charge, as
memory. It lives for one training and ends with its agent. What goes wrong is said by kind and place alone: texts of
errors that are not ours may tell of a patient.
"""

import logging
import socket
import sys
import traceback
from pathlib import Path

import torch

from sonoshare_client.agent.private_training import private_training
from sonoshare_client.agent.rank_channel import Job, end_with, receive_cohort, receive_job, send_facts
from sonoshare_client.agent.rank_group import joined_group
from sonoshare_client.vault.cohort import Cohort
from sonoshare_privacy.budget import Reservation
from sonoshare_shared.errors import SonoShareError
from sonoshare_shared.protocol.documents import StudyPlan
from sonoshare_shared.science.model.adapter import adapter_from_bytes, load_adapter
from sonoshare_shared.science.model.base import load_pinned_base

_log = logging.getLogger(__name__)


def main() -> int:
    """Take part in one training; exit status 0 if it came to its end."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    channel = socket.socket(fileno=int(sys.argv[1]))
    end_with(channel)
    job, plan, adapter = receive_job(channel)
    try:
        take_part(channel, job, StudyPlan.from_bytes(plan), adapter)
    except Exception as error:  # noqa: BLE001 - the edge of the process: kind and text may tell of a patient
        place = traceback.extract_tb(error.__traceback__)[-1]
        said = error.message if isinstance(error, SonoShareError) else ""
        _log.error("rank %d failed: %s at %s:%s %s", job.rank, type(error).__name__, place.name, place.lineno, said)
        return 1
    return 0


def take_part(channel: socket.socket, job: Job, plan: StudyPlan, adapter: bytes) -> None:
    """Join the group and train."""
    torch.set_num_threads(job.threads)
    device = torch.device(job.device)
    if device.type == "cuda":
        torch.cuda.set_device(device)
    model = load_pinned_base(plan.profile, plan.base_digest, Path(job.imported))
    load_adapter(model, adapter_from_bytes(adapter), plan.trained)
    model.to(device)
    send_facts(channel, device)

    def open_cohort(_: Reservation | None) -> Cohort:
        return receive_cohort(channel)

    with joined_group(job.store, job.rank, job.size, job.seconds) as group:
        private_training(model, plan, hospital=job.hospital, number=job.round, open_cohort=open_cohort, group=group)


if __name__ == "__main__":
    sys.exit(main())
