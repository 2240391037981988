"""Who goes to which hospital in the demonstration, and what each hospital declares.

Rows of a table go to the hospital that they name; without names, BUS-BRA and other tables with devices are split by
scanner (the largest two each make a hospital, the rest make the others), and tables without devices by patient in
turns. A patient is never in two hospitals.

The nominal cohort is a *declared* public number. In a federation a hospital declares what it publishes anyway (its
yearly report, say). The demonstration holds all data and declares, for each hospital, about three quarters of its
patients rounded down to one or two digits; it says so.
"""

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from sonoshare_shared.errors import InputError
from sonoshare_shared.science.label_table import LabelRow, LabelTable

HELD_OUT_FRACTION: Final = 0.25
FEWEST_PATIENTS: Final = 20
NAMES: Final = ("north", "south", "west", "east", "centre", "coast", "hill", "lake")


@dataclass(frozen=True)
class Cohort:
    """One hospital's share.

    Attributes:
        hospital: its id.
        table: its rows.
        patients: number of patients in the rows.
        nominal: trained patients it declares.
    """

    hospital: str
    table: LabelTable
    patients: int
    nominal: int


def cohorts_of(table: LabelTable, hospitals: int) -> tuple[Cohort, ...]:
    """Split a table into hospitals.

    Raises:
        InputError: a hospital would have too few patients, or a hospital's name cannot be an id.
    """
    assigned = _assignment(table, hospitals)
    shares: dict[str, list[LabelRow]] = defaultdict(list)
    for row in table:
        shares[assigned[row.patient]].append(row)
    return tuple(
        cohort_of(hospital, LabelTable(table.folder, tuple(rows))) for hospital, rows in sorted(shares.items())
    )


def cohort_of(hospital: str, table: LabelTable) -> Cohort:
    """A hospital's share and what it declares.

    Raises:
        InputError: too few patients.
    """
    patients = len({row.patient for row in table})
    if patients < FEWEST_PATIENTS:
        raise InputError(
            f"hospital {hospital} would have {patients} patients; {FEWEST_PATIENTS} are the least",
            remedy="use fewer hospitals, or more data",
        )
    return Cohort(hospital, table, patients, nominal_cohort(patients))


def scanners_of(cohorts: Sequence[Cohort], slots: int) -> tuple[str, ...]:
    """The most frequent devices, as many as the model has slots, in the order of their names."""
    counted = Counter(row.device for cohort in cohorts for row in cohort.table if row.device)
    return tuple(sorted(device for device, _ in counted.most_common(slots)))


def nominal_cohort(patients: int) -> int:
    """About the trained share of the patients, rounded down to a round number."""
    trained = int(patients * (1 - HELD_OUT_FRACTION))
    step = 50 if trained >= 300 else 10  # coarser where it costs little
    return max(1, trained // step * step)


def _assignment(table: LabelTable, hospitals: int) -> dict[str, str]:
    named = {row.patient: row.hospital for row in table if row.hospital}
    if named:
        if missing := sum(row.hospital is None for row in table):
            raise InputError(f"{missing} rows name no hospital", remedy="fill the hospital column, or leave it out")
        return {patient: _identifier(str(hospital)) for patient, hospital in named.items()}
    if hospitals > len(NAMES):
        raise InputError(f"at most {len(NAMES)} hospitals", remedy="use fewer, or a hospital column")
    devices = [device for device, _ in Counter(row.device for row in table if row.device).most_common()]
    patients = list(dict.fromkeys(row.patient for row in table))
    if len(devices) < hospitals:
        return {patient: NAMES[turn % hospitals] for turn, patient in enumerate(patients)}
    place = {device: NAMES[min(rank, hospitals - 1)] for rank, device in enumerate(devices)}
    first_device = {row.patient: row.device for row in reversed(table.rows)}
    return {patient: place.get(first_device[patient], NAMES[hospitals - 1]) for patient in patients}


def _identifier(name: str) -> str:
    identifier = "-".join("".join(c if c.isalnum() and c.isascii() else " " for c in name.lower()).split())
    if not identifier:
        raise InputError("a hospital's name has no letter or digit", remedy="correct the hospital column")
    return identifier
