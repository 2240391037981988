"""Comparisons of candidates with the own patients, worked out one at a time behind the pages, kept in memory.

They take minutes in a large vault. One of a candidate that is not the newest of its study any more is forgotten.
"""

import logging
import threading
from dataclasses import dataclass, field
from pathlib import Path

import torch

from sonoshare_client.node.home import NodeHome
from sonoshare_client.own_eyes.kept_pictures import kept_pictures
from sonoshare_client.own_eyes.vault_view import vault_view
from sonoshare_client.own_eyes.view import drawn, reached
from sonoshare_client.vault.store import Vault
from sonoshare_shared.errors import InputError, SonoShareError

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Compared:
    """What came of a comparison.

    Attributes:
        candidate: digest of the candidate.
        pictures: PNGs by name: nearest pairs, scores, ROC; none where it failed.
        words: how many patients reach the copy threshold, or why it failed.
    """

    candidate: str
    pictures: dict[str, bytes] = field(repr=False)
    words: str


class Comparisons:
    """Comparisons of one node.

    Args:
        home: its folder.
        device: where pictures are compared.
    """

    def __init__(self, home: NodeHome, device: torch.device) -> None:
        self._home, self._device = home, device
        self._lock = threading.Lock()
        self._done: dict[str, Compared] = {}
        self.running = ""
        """Study of the comparison at work; empty for none."""

    def studies(self) -> list[str]:
        """Studies of which the node keeps a candidate."""
        root = self._home.state.pictures_path
        found = sorted(place.name for place in root.iterdir() if place.is_dir()) if root.is_dir() else []
        return [study for study in found if self._newest(study) is not None]

    def of(self, study: str) -> Compared | None:
        """The comparison of a study's newest candidate, if there is one; an older one is forgotten."""
        done, newest = self._done.get(study), self._newest(study)
        if done is None or (newest is not None and done.candidate == newest.name):
            return done
        self._done.pop(study, None)
        return None

    def start(self, study: str) -> None:
        """Begin one; it goes on behind the pages.

        Raises:
            InputError: no candidate of the study is kept, or another comparison is at work.
        """
        folder = kept_pictures(self._home, study)
        with self._lock:
            if self.running:
                raise InputError(
                    f"study {self.running} is being compared", remedy="wait until it has ended, then start this one"
                )
            self.running = study
        threading.Thread(target=self._work, args=(study, folder), name="comparison", daemon=True).start()

    def _work(self, study: str, folder: Path) -> None:
        try:
            with Vault(self._home) as vault:
                view = vault_view(vault, folder, f"Candidate {folder.name[:12]} of study {study}", self._device)
            self._done[study] = Compared(folder.name, drawn(view), reached(view))
        except SonoShareError as error:
            self._done[study] = Compared(folder.name, {}, f"It failed: {error}")
        except Exception as error:  # noqa: BLE001 - its words may be of a patient: they stay here
            _log.error("a comparison failed: %s", type(error).__name__)
            self._done[study] = Compared(folder.name, {}, f"It failed: {type(error).__name__}")
        finally:
            self.running = ""

    def _newest(self, study: str) -> Path | None:
        try:
            return kept_pictures(self._home, study)
        except (InputError, OSError):
            return None
