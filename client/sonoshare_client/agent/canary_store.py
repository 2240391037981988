"""What the canaries of a study saw, round by round: secret, in the hospital's state folder, durable.

    state/canaries/<plan digest>/secret        fixes directions and coins over all rounds
    state/canaries/<plan digest>/<round>.npz   scores, energies and coins of the training that was answered with

The secret is on the disk before the first round, a round's record before its reply. A round that is trained again
(a crash between record and reply: the first training stays charged) replaces its record: what counts is the training
whose update leaves. Whoever reads these files can tell which canaries took part, and nothing of any patient.
"""

import io
import secrets
from pathlib import Path
from typing import Final
from zipfile import BadZipFile

import numpy as np

from sonoshare_privacy.canaries import SECRET_BYTES, CanaryRecord
from sonoshare_shared.durable import write_atomically
from sonoshare_shared.errors import IntegrityError
from sonoshare_shared.protocol.documents import StudyPlan

_PRIVATE: Final = 0o600
_SECRET: Final = "secret"  # noqa: S105 - the name of a file


class CanaryStore:
    """Canaries of one study at this hospital.

    Args:
        folder: for all studies.
        plan: the study.
    """

    def __init__(self, folder: Path, plan: StudyPlan) -> None:
        self._folder, self._plan = folder / plan.digest(), plan

    def secret(self) -> bytes:
        """The study's secret; drawn and made durable the first time.

        Raises:
            IntegrityError: its file is damaged.
        """
        path = self._folder / _SECRET
        if not path.exists():
            self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            write_atomically(path, secrets.token_bytes(SECRET_BYTES), mode=_PRIVATE)
        secret = path.read_bytes()
        if len(secret) != SECRET_BYTES:
            raise IntegrityError(
                "the canaries' secret is damaged", remedy="remove the study's folder in state/canaries"
            )
        return secret

    def keep(self, number: int, record: CanaryRecord) -> None:
        """Make the record of round ``number`` durable."""
        self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        content = io.BytesIO()
        np.savez(content, scores=record.scores, energy=record.energy, coins=record.coins)
        write_atomically(self._folder / f"{number:05d}.npz", content.getvalue(), mode=_PRIVATE)

    def records(self) -> list[CanaryRecord]:
        """Records of all rounds so far, in order.

        Raises:
            IntegrityError: a file is damaged.
        """
        return [self._read(path) for path in sorted(self._folder.glob("*.npz"))]

    def _read(self, path: Path) -> CanaryRecord:
        try:
            with np.load(path, allow_pickle=False) as kept:
                return CanaryRecord(kept["scores"], kept["energy"], kept["coins"], self._plan.mechanism)
        except (OSError, ValueError, KeyError, BadZipFile) as error:
            raise IntegrityError(
                "a record of the canaries is damaged", remedy="remove it; the audit then rests on the other rounds"
            ) from error
