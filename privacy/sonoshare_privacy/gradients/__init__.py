"""Per-patient gradients in one forward and one backward, clipped and summed over integers."""

from sonoshare_privacy.gradients.engine import PatientGradients
from sonoshare_privacy.gradients.selfcheck import check_against_patient_loop

__all__ = ["PatientGradients", "check_against_patient_loop"]
