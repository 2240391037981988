"""What is doubtful about the patients that a table names: who is nobody, and who may be written in two ways.

Works on one table. The vault keeps no identifier, so that an identifier of an earlier intake cannot be compared; the
search for twins (twins.py) then is what is left.
"""

from collections.abc import Mapping
from typing import Final

from sonoshare_client.intake.reasons import Flag, SetAside
from sonoshare_shared.science.identifiers import filled_in, near_form
from sonoshare_shared.science.label_table import LabelTable

MANY_DEVICES: Final = 3
MANY_PICTURES: Final = 256
"""Of one patient: more are not used (vault/dataset.py)."""


def nobody(table: LabelTable) -> Mapping[str, SetAside]:
    """Patients whose pictures are set aside, and why."""
    return {patient: SetAside.NOBODY for patient in filled_in(table.patients) if patient}


def doubts(table: LabelTable) -> Mapping[int, str]:
    """What is doubtful, by the place in the table of the first row that shows it."""
    said: dict[int, str] = {}
    first_row = {row.patient: place for place, row in reversed(list(enumerate(table)))}
    written: dict[str, str] = {}
    for patient in table.patients:
        earlier = written.setdefault(near_form(patient), patient)
        if earlier != patient:
            said[first_row[patient]] = f"{Flag.NEAR_PATIENT.value} (compare {_named(table, first_row[earlier])})"
    pictures: dict[str, int] = {}
    devices: dict[str, set[str]] = {}
    for row in table:
        pictures[row.patient] = pictures.get(row.patient, 0) + 1
        devices.setdefault(row.patient, set()).update({row.device} - {""})
    for patient, place in first_row.items():
        if pictures[patient] > MANY_PICTURES or len(devices[patient]) >= MANY_DEVICES:
            said.setdefault(place, Flag.MUCH_OF_ONE.value)
    return said


def _named(table: LabelTable, place: int) -> str:
    row = table.rows[place]
    return row.image.name if row.line is None else f"line {row.line}"
