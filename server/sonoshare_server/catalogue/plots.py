"""The drawings of a release's page: those of its reports, from the same figures.

The privacy report is read from the release's files, held against its signed digest and drawn once; the utility figures
stand in the summary. Where the report cannot be read the page says so and shows the rest.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final

from markupsafe import Markup

from sonoshare_server.catalogue.blobs import Blobs
from sonoshare_server.catalogue.store import StoredFile, StoredRelease
from sonoshare_server.release.pages import privacy_plots
from sonoshare_server.release.pages.utility_plots import Part, utility_parts
from sonoshare_shared.errors import SonoShareError, VerificationError
from sonoshare_shared.protocol.canonical import sha256_hex
from sonoshare_shared.protocol.documents.reports import PrivacyReport, UtilityFigure
from sonoshare_shared.protocol.release import layout

_MOST_KEPT: Final = 64


@dataclass(frozen=True)
class Plot:
    """A drawing, its name, and what is to be said of it."""

    drawing: Markup
    name: str
    words: str


class Plots:
    """Drawings of releases; those of the last releases that were looked at are kept.

    Args:
        blobs: files of the catalogue.
    """

    def __init__(self, blobs: Blobs) -> None:
        self._blobs = blobs
        self._drawn = lru_cache(_MOST_KEPT)(self._draw)

    def privacy(self, stored: StoredRelease) -> tuple[Plot, ...] | None:
        """Drawings of the privacy report; None where it cannot be read now."""
        try:
            return self._drawn(stored.place, stored.files[layout.PRIVACY_JSON])
        except (SonoShareError, KeyError):
            return None

    def _draw(self, place: str, file: StoredFile) -> tuple[Plot, ...]:
        data = self._blobs.read(place, file.path, 0, file.size)
        if sha256_hex(data) != file.sha256:
            raise VerificationError("file-digest", f"{file.path} is not the one that was signed")
        report = PrivacyReport.from_bytes(data)
        drawn = (
            (privacy_plots.budget_plot, "What patients paid, hospital by hospital", _BUDGET),
            (privacy_plots.membership_plot, "Can an attack tell who was trained on?", _MEMBERSHIP),
            (privacy_plots.copies_plot, "Are patients' pictures copied?", _COPIES),
            (privacy_plots.canaries_plot, "Does the training break its promise?", _CANARIES),
            (privacy_plots.noise_plot, "Is the noise there?", _NOISE),
        )
        plots = ((plot(report), name, words) for plot, name, words in drawn)
        return tuple(Plot(drawing, name, words) for drawing, name, words in plots if drawing is not None)


def utility(summary: Mapping[str, Any]) -> tuple[Part, ...]:
    """Drawings of the utility figures, by what they were measured on."""
    return utility_parts([UtilityFigure.model_validate(figure) for figure in summary["utility"]["figures"]])


_BUDGET: Final = "The privacy loss ε of everything this study did with a hospital's patients: smaller is safer."
_MEMBERSHIP: Final = (
    "Of a patient the model learned from and one it never saw, how often the attack that decides picks the right one "
    "(AUC). A coin picks right half the time."
)
_COPIES: Final = (
    "Estimated part of the trained patients one of whose pictures lies nearer to a synthetic one than pictures of "
    "different people do."
)
_CANARIES: Final = "What planted pseudo-patients prove must not exceed what is claimed."
_NOISE: Final = "Noise measured along the directions of the pseudo-patients, as a part of what was stated."
