"""Per-patient gradients in one forward and one backward, clipped and summed over integers."""

from sonoshare_privacy.patient_gradients.per_patient import PatientGradients
from sonoshare_privacy.patient_gradients.selfcheck import check_engine

__all__ = ["PatientGradients", "check_engine"]
