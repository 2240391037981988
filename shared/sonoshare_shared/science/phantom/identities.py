"""Invented people and hospitals for simulated studies, so that de-identification has something to remove.

No name belongs to anybody: first and last names are common ones combined at random, numbers are random, addresses do
not exist. The same generator state gives the same identity.
"""

from dataclasses import dataclass
from datetime import date, timedelta

import numpy as np

FIRST_NAMES = (
    "Amara", "Beatriz", "Chiara", "Dilara", "Emiko", "Fatima", "Greta", "Helena", "Ines", "Jana", "Katarzyna",
    "Leila", "Mariana", "Noor", "Olga", "Priya", "Rosa", "Svetlana", "Teresa", "Yasmin",
)  # fmt: skip
LAST_NAMES = (
    "Almeida", "Bergstrom", "Castellano", "Demir", "Eriksen", "Fontaine", "Gonzaga", "Hoffmann", "Ivanova", "Jensen",
    "Kowalski", "Lindqvist", "Moreira", "Nakamura", "Okonkwo", "Petrov", "Quintero", "Rossetti", "Santos", "Tanaka",
)  # fmt: skip
STREETS = ("Rua das Acacias", "Harbour Lane", "Lindenweg", "Via dei Tigli", "Calle Olmo", "Birch Avenue")
TOWNS = ("Porto Verde", "Nordhavn", "Altburg", "Monteserra", "Villaluz", "Eastmere")


@dataclass(frozen=True)
class Identity:
    """What an archive knows of an invented patient; every field identifies and must not survive intake."""

    patient_id: str
    first_name: str
    last_name: str
    birth: date
    address: str
    phone: str
    physician: str
    operator: str

    @property
    def person_name(self) -> str:
        """Name in DICOM's PN form."""
        return f"{self.last_name}^{self.first_name}"


def invent_identity(rng: np.random.Generator, number: int) -> Identity:
    """Invent one patient.

    Args:
        rng: source of randomness.
        number: position of the patient; keeps identifiers distinct.

    Returns:
        The identity, of an adult born between 1935 and 2000.
    """

    def pick(words: tuple[str, ...]) -> str:
        return words[int(rng.integers(len(words)))]

    return Identity(
        patient_id=f"MRN{int(rng.integers(100, 1000))}{number:05d}",
        first_name=pick(FIRST_NAMES),
        last_name=pick(LAST_NAMES),
        birth=date(1935, 1, 1) + timedelta(days=int(rng.integers(0, 65 * 365))),
        address=f"{int(rng.integers(1, 200))} {pick(STREETS)}, {pick(TOWNS)}",
        phone=f"+00 555 {int(rng.integers(100000, 1000000))}",
        physician=f"{pick(LAST_NAMES)}^{pick(FIRST_NAMES)}^^Dr.",
        operator=f"{pick(LAST_NAMES)}^{pick(FIRST_NAMES)}",
    )
