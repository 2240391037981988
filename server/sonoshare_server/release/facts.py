"""What a release says of itself besides its images: values handed in by whoever builds it."""

from dataclasses import dataclass, field
from datetime import datetime

DATA_LICENCE = "LicenseRef-SonoShare-Data-1.0"
HEALTH_RESEARCH = "DUO:0000006"  # Data Use Ontology: health, medical or biomedical research


@dataclass(frozen=True)
class Measurement:
    """One figure of what a release is worth.

    Attributes:
        name: e.g. ``train on synthetic, test on real: AUC``.
        value: the figure.
        interval: 95 % interval, or None.
        reference: the same figure of a yardstick, or None.
        reference_name: what the yardstick is.
        note: on what, with what, how many; and what it cost, if it was charged.
    """

    name: str
    value: float
    interval: tuple[float, float] | None = None
    reference: float | None = None
    reference_name: str = ""
    note: str = ""


@dataclass(frozen=True)
class Facts:
    """What a builder knows and the images do not show.

    Attributes:
        created: when, aware.
        consortium: name shown to people.
        title: one line for people.
        sequence: number of the release among all of the consortium, from 1; 0 until it is taken (``sequence``).
        utility: figures; empty means *not measured*, and the report says so.
        utility_note: how they were measured, by whom, on whose patients.
        licence: SPDX identifier or LicenseRef of the data licence.
        duo: Data Use Ontology codes.
    """

    created: datetime
    consortium: str
    title: str
    sequence: int = 0
    utility: tuple[Measurement, ...] = ()
    utility_note: str = ""
    licence: str = DATA_LICENCE
    duo: tuple[str, ...] = field(default=(HEALTH_RESEARCH,))
