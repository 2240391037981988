"""Whether a base gives its public pictures back: drawn pictures against those that it was trained on.

As many pictures as asked for are drawn from noise, each under the class and box of a picture of the training sets, in
turn: what a network has learned by heart it gives back most readily when it is asked for it. The product's own copy
detector (``sonoshare_privacy.audits.copies``), calibrated on phantoms for this very set of drawn pictures, then looks
for the most alike drawn picture of every public one.

Public pictures only: nothing here is private or charged, and true figures are shown. Held-out public pictures, where
there are any, say how often the detector flags pictures that cannot have been learned.

Promises: a share of flagged pictures with its exact 95 % interval (Clopper and Pearson); *gives back* is said when the
lower end exceeds the detector's false rate and, with held-out pictures, they are flagged less often (Fisher's exact
test, one-sided, 5 %). Does not promise: what the detector's recall table does not show; that more draws, or draws under
other conditions, would show nothing.
"""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import scipy
import torch
from numpy.typing import NDArray

from sonoshare_privacy.audits.copies import FALSE_RATE, calibrate, patient_nearest
from sonoshare_privacy.audits.nearest import BytePictures, looks_for
from sonoshare_privacy.audits.reference import reference_images
from sonoshare_shared.durable import write_atomically
from sonoshare_shared.errors import InputError
from sonoshare_shared.science.device import CPU
from sonoshare_shared.science.levels import eight_bits
from sonoshare_shared.science.model.base import base_origin, load_base, named_sources
from sonoshare_shared.science.model.base_batches import PUBLIC_SCALE
from sonoshare_shared.science.model.base_card import check_path, write_card
from sonoshare_shared.science.model.base_pictures import BasePictures, joined
from sonoshare_shared.science.model.public_images import read_public_images
from sonoshare_shared.science.model.sampler import SamplerSettings, sample

_BATCH: Final = 64
_ALPHA: Final = 0.05
_SHOWN: Final = 20
Images = NDArray[np.float32]


@dataclass(frozen=True)
class Flagged:
    """Public pictures that the detector takes for copied.

    Args:
        pictures: how many were compared.
        flagged: how many are flagged.
        interval: of their share, 95 %.
        median: of the pictures' best scores.
        highest: of the same.
    """

    pictures: int
    flagged: int
    interval: tuple[float, float]
    median: float
    highest: float

    @property
    def words(self) -> str:
        """The same for people."""
        low, high = self.interval
        return (
            f"{self.flagged} of {self.pictures} flagged (95 % interval of the share {low:.4f} to {high:.4f});"
            f" best scores: median {self.median:.3f}, highest {self.highest:.3f}"
        )

    @classmethod
    def of(cls, scores: NDArray[np.float64], threshold: float) -> "Flagged":
        """From the best score of every picture."""
        count = int((scores >= threshold).sum())
        ends = scipy.stats.binomtest(count, len(scores)).proportion_ci(method="exact")
        interval = float(ends.low), float(ends.high)
        return cls(len(scores), count, interval, float(np.median(scores)), float(scores.max()))


@dataclass(frozen=True)
class CopyCheck:
    """What a check found.

    Args:
        base: sha256 of the base file.
        images: drawn.
        threshold: of the detector.
        recall: share of planted copies that it finds, as declared.
        blind_spots: edits of which it finds fewer than 90 %.
        trained: pictures that the base was trained on.
        held_out: pictures that it was not, or None.
        nearest: the flagged pictures with the highest scores: number in the sets in order, drawn picture, score.
        gives_back: whether it gives its pictures back.
    """

    base: str
    images: int
    threshold: float
    recall: float
    blind_spots: tuple[str, ...]
    trained: Flagged
    held_out: Flagged | None
    nearest: tuple[tuple[int, int, float], ...]
    gives_back: bool

    @property
    def words(self) -> tuple[str, ...]:
        """The same for people, lines of Markdown."""
        answer = "Yes" if self.gives_back else "Not that the copy detector can see"
        control = "none were given" if self.held_out is None else self.held_out.words
        told = (
            f"**{answer}.** {self.images} pictures drawn from noise, each under the class and box of a public picture,"
            f" were compared with all of them. The detector flags scores from {self.threshold:.3f}, finds"
            f" {self.recall:.0%} of planted copies, and takes at most {FALSE_RATE:.1%} of others for copies."
        )
        return (told, "", f"- Trained on: {self.trained.words}.", f"- Held out: {control}.")


def check_base(
    base: Path,
    profile: str,
    data: Sequence[Path],
    held_out: Path | None,
    *,
    count: int,
    steps: int,
    seed: int,
    device: torch.device,
) -> CopyCheck:
    """Draw from a base and look for its public pictures.

    Args:
        base: the base file.
        profile: its profile.
        data: the sources of public pictures that its header names, all of them.
        held_out: public pictures that it was not trained on.
        count: pictures to draw.
        steps: of the sampler.
        seed: of the drawing.
        device: where to draw and compare.

    Raises:
        InputError: the base was trained on no public picture, or on others than ``data``; a held-out picture is one
            that it was trained on.
        ModelError: as `load_base`.
    """
    model, digest = load_base(profile, base)
    size = model.profile.size
    sources = [read_public_images(path, size) for path in data]
    _require_named(base_origin(base).get("data"), [each.source.sha256 for each in sources])
    public = joined([each.pictures for each in sources])
    rows = torch.arange(count) % len(public)
    settings = SamplerSettings(steps=steps, batch_size=_BATCH)
    drawn = sample(model.to(device), settings, public.conditions(rows), seed=seed).images
    control = None
    if held_out is not None:
        others = read_public_images(held_out, size).pictures
        _require_apart(public, others)
        control = _on_grid(others)
    return copies_among(digest, drawn, _on_grid(public), control, device)


def copies_among(
    digest: str, drawn: Images, trained: Images, held_out: Images | None, device: torch.device = CPU
) -> CopyCheck:
    """Look for public pictures among drawn ones.

    Args:
        digest: sha256 of the base file.
        drawn: float32 [n, S, S] in 0..1.
        trained: float32 [m, S, S], what the base was trained on.
        held_out: the same of pictures that it was not, or None.
        device: torch device.
    """
    candidates = BytePictures(eight_bits(drawn))
    looks = looks_for(len(candidates), len(trained) + (0 if held_out is None else len(held_out)))
    detector = calibrate(candidates, reference_images(drawn.shape[-1]), device, looks)
    found = patient_nearest(candidates, list(trained[:, None]), device, looks)
    of_trained = Flagged.of(found.scores, detector.threshold)
    of_held_out = None
    if held_out is not None:
        scores = patient_nearest(candidates, list(held_out[:, None]), device, looks).scores
        of_held_out = Flagged.of(scores, detector.threshold)
    first = [int(i) for i in np.argsort(-found.scores)[: min(_SHOWN, of_trained.flagged)]]
    return CopyCheck(
        base=digest,
        images=len(drawn),
        threshold=detector.threshold,
        recall=detector.rates.recall,
        blind_spots=detector.blind_spots,
        trained=of_trained,
        held_out=of_held_out,
        nearest=tuple((i, int(found.candidate[i]), float(found.scores[i])) for i in first),
        gives_back=_gives_back(of_trained, of_held_out),
    )


def keep_check(base: Path, found: CopyCheck) -> Path:
    """Write a result beside its base file, and the model card that tells it; returns the card."""
    write_atomically(check_path(base), json.dumps(asdict(found) | {"words": found.words}).encode())
    return write_card(base)


def _require_named(said: Any, given: Sequence[str]) -> None:
    named = [source["sha256"] for source in named_sources(said)]
    if not named:
        raise InputError("this base names no public pictures", remedy="there is nothing that it could give back")
    if sorted(named) != sorted(given):
        raise InputError(
            "these are not the public pictures that the base names", remedy="give every source of its card by --data"
        )


def _require_apart(trained: BasePictures, held_out: BasePictures) -> None:
    """A trained picture among the held-out ones is flagged on both sides, and hides what the base gives back."""
    known = {image.numpy().tobytes() for image in trained.images}
    shared = sum(image.numpy().tobytes() in known for image in held_out.images)
    if shared:
        raise InputError(
            f"{shared} of {len(held_out)} held-out pictures are among those that it was trained on",
            remedy="give others by --held-out, or none",
        )


def _on_grid(pictures: BasePictures) -> Images:
    """Public pictures at the side of the model's grid, float32 [n, S, S] in 0..1."""
    whole = pictures.images.float().div(255)[:, None]
    return np.asarray(torch.nn.functional.avg_pool2d(whole, PUBLIC_SCALE)[:, 0].numpy())


def _gives_back(trained: Flagged, held_out: Flagged | None) -> bool:
    if trained.interval[0] <= FALSE_RATE:
        return False
    if held_out is None:
        return True
    table = [[each.flagged, each.pictures - each.flagged] for each in (trained, held_out)]
    return bool(scipy.stats.fisher_exact(table, alternative="greater").pvalue < _ALPHA)
