"""Pictures of an audit for the hospital's own eyes: nearest pairs, true scores, ROC. NOT private, and never sent.

Written into a folder that the hospital names, readable by its owner only, complete or not at all:

    pairs.png     the most alike pairs: the patient's image beside the synthetic one
    scores.png    every patient's best score, trained and held out, and the copy threshold
    roc.png       how well the scores tell trained from held-out patients
    report.html   all of them in one page that loads nothing from elsewhere; if it was asked for, also how well a
                  classifier tells the images apart

Nothing here is part of a statement or a figure of an audit. Whoever decides about a release after looking at these
pictures makes a release without privacy: verdicts come from the private figures alone.
"""

import base64
import html
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np
from numpy.typing import NDArray

from sonoshare_client.node.private_folder import private_folder
from sonoshare_shared.durable import put
from sonoshare_shared.science.evaluation.auc import auc_of_groups

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from sonoshare_shared.science.evaluation.shortcut import ShortcutReport

MOST_PAIRS: Final = 12
WARNING: Final = "Not private: patient data in the clear. Look, then delete. Never send it, and never decide by it."

_COLUMNS: Final = 3
_DOTS_PER_INCH: Final = 110
_BLUE, _ORANGE, _GREY = "#1f5a99", "#d9822b", "#888888"
_STYLE: Final = (
    "body{font:16px/1.5 system-ui,sans-serif;max-width:64rem;margin:2rem auto;padding:0 1rem;color:#1c2733}"
    "h1{font-size:1.4rem}h2{font-size:1.1rem;margin-top:2rem}img{max-width:100%}"
    "p.warning{background:#fbe9e7;border-left:4px solid #c0392b;padding:.6rem 1rem;font-weight:600}"
)


@dataclass(frozen=True, eq=False)
class ShownPair:
    """One pair to look at: two grey pictures of any size, their names and their score."""

    score: float
    own_name: str
    synthetic_name: str
    own: NDArray[np.generic]
    synthetic: NDArray[np.generic]


@dataclass(frozen=True, eq=False)
class TrueView:
    """What the page shows.

    Attributes:
        title: what was audited, in words.
        pairs: the most alike first.
        trained: best score of each trained patient.
        held_out: best score of each held-out patient.
        threshold: scores from here on are copies.
        told_apart: how well synthetic images are told from the hospital's; None where that was not asked for.
    """

    title: str
    pairs: tuple[ShownPair, ...]
    trained: NDArray[np.float64]
    held_out: NDArray[np.float64]
    threshold: float
    told_apart: "ShortcutReport | None" = None


def write_view(out: Path, view: TrueView) -> None:
    """Write the pictures and the page.

    Args:
        out: a folder that does not exist or is empty.
        view: what to show.

    Raises:
        InputError: the folder is in use, or cannot be written.
    """
    with private_folder(out) as folder:
        for name, png in drawn(view).items():
            put(folder, name, png)
        put(folder, "report.html", _page(view, folder).encode())


def drawn(view: TrueView) -> dict[str, bytes]:
    """The three pictures as PNGs, by their names."""
    figures = {"pairs.png": _pairs(view), "scores.png": _scores(view), "roc.png": _roc(view)}
    return {name: _png_of(figure) for name, figure in figures.items()}


def _png_of(figure: "Figure") -> bytes:
    buffer = BytesIO()
    figure.savefig(buffer, format="png", dpi=_DOTS_PER_INCH)
    return buffer.getvalue()


def reached(view: TrueView) -> str:
    """How many patients the nearest picture comes as near to as a copy, in words."""
    flagged, control = (int((group >= view.threshold).sum()) for group in (view.trained, view.held_out))
    return (
        f"{flagged} of {len(view.trained)} trained patients and {control} of {len(view.held_out)} held-out patients "
        f"reach the copy threshold {view.threshold:.2f}."
    )


def _figure(width: float, height: float) -> "Figure":
    from matplotlib.figure import Figure  # noqa: PLC0415 - slow to import, and only for pictures

    return Figure(figsize=(width, height), layout="constrained")


def _pairs(view: TrueView) -> "Figure":
    rows = max(1, -(-len(view.pairs) // _COLUMNS))
    figure = _figure(4.2 * _COLUMNS, 2.5 * rows)
    cells = figure.subplots(rows, 2 * _COLUMNS, squeeze=False).ravel()
    for cell in cells:
        cell.set_axis_off()
    for place, pair in enumerate(view.pairs):
        copied = pair.score >= view.threshold
        for cell, picture, words in (
            (cells[2 * place], pair.own, pair.own_name),
            (cells[2 * place + 1], pair.synthetic, f"{pair.synthetic_name}\n{pair.score:.2f}{' copy' * copied}"),
        ):
            cell.imshow(picture, cmap="gray", aspect="auto")
            cell.set_title(words, fontsize=8, color="#c0392b" if copied else "#1c2733", parse_math=False)
    return figure


def _scores(view: TrueView) -> "Figure":
    figure = _figure(8, 3.4)
    axes = figure.subplots()
    everybody = np.concatenate([view.trained, view.held_out, [view.threshold]])
    edges = np.linspace(float(everybody.min()), max(1.0, float(everybody.max())), 41).tolist()
    for scores, colour, name in ((view.trained, _BLUE, "trained"), (view.held_out, _ORANGE, "held out")):
        if len(scores):
            weights = np.full(len(scores), 1 / len(scores))
            axes.hist(scores, edges, weights=weights, color=colour, alpha=0.6, label=f"{name} ({len(scores)})")
    axes.axvline(view.threshold, color=_GREY, linestyle="--", label="copy threshold")
    axes.set(xlabel="best score of a patient with any synthetic image", ylabel="share of patients")
    axes.legend(frameon=False)
    return figure


def _roc(view: TrueView) -> "Figure":
    figure = _figure(4.2, 4.2)
    axes = figure.subplots()
    axes.plot([0, 1], [0, 1], color=_GREY, linestyle="--")
    if len(view.trained) and len(view.held_out):
        limits = np.sort(np.concatenate([view.trained, view.held_out, [np.inf]]))[::-1]
        shares = [[float((group >= limit).mean()) for limit in limits] for group in (view.held_out, view.trained)]
        area = auc_of_groups(view.trained, view.held_out)
        axes.step(*shares, where="post", color=_BLUE, label=f"copy score, AUC {area:.2f}")
        axes.legend(frameon=False, loc="lower right")
    axes.set(xlabel="held-out patients flagged", ylabel="trained patients flagged", xlim=(0, 1), ylim=(0, 1))
    return figure


def _page(view: TrueView, folder: Path) -> str:
    sections = (
        ("Nearest pairs", "pairs.png", "The patient's image, and the synthetic image most like it; red: a copy."),
        ("Scores", "scores.png", reached(view)),
        ("ROC", "roc.png", "Trained against held-out patients by the same score; the diagonal is guessing."),
    )
    parts = [
        f"<h2>{html.escape(name)}</h2><p>{html.escape(words)}</p>"
        f'<img alt="{html.escape(name)}" src="data:image/png;base64,{_encoded(folder / file)}">'
        for name, file, words in sections
    ]
    if view.told_apart is not None:
        parts.append(f"<h2>Told apart</h2><p>{html.escape(_told_apart(view.told_apart))}</p>")
    title = html.escape(view.title)
    return (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{title}</title><style>{_STYLE}</style>'
        f'<h1>{title}</h1><p class="warning">{html.escape(WARNING)}</p>{"".join(parts)}</html>\n'
    )


def _told_apart(report: "ShortcutReport") -> str:
    low, high = report.area.interval
    return (
        f"A small classifier tells synthetic images from this hospital's with an AUC of {report.area.value:.2f} "
        f"({low:.2f} to {high:.2f}; {report.images} images on each side, {report.patients} patients in {report.folds} "
        "parts). 0.5 is guessing; towards 1, whoever mixes them should have both kinds in every class."
    )


def _encoded(path: Path) -> str:
    return base64.b64encode(path.read_bytes()).decode("ascii")
