"""The batches that a base model learns from: phantoms and public pictures, drawn and varied on the device.

Promises
- Which pictures a step shows, how they are varied, what is dropped and which times are drawn is a function of the
  settings' seed, the step and the sizes of the sets: drawn on the CPU, the same on every device and machine. The noise
  is drawn on the device: the same for the same kind of device and version of torch.
- Public pictures fill the same rows of every batch (``public_share``); sources take them in proportion to their
  weights, to within one row a step.
- What is known stays exact: mirroring and cropping move picture, mask and box together, and a crop leaves out no part
  of a known box (of a box that is wider than the crop it shows as much as fits, and the box is cut to it).

Public sets are small. Every picture is shown mirrored or not, cropped at a random place, with other grey values, so
that hardly any two of its showings are alike. Public pictures are held at twice the side of the model's grid
(``PUBLIC_SCALE``): a crop is then averaged down to the grid as a whole picture is, and never blown up.

Not promised: that public pictures cannot be learned by heart. ``sonoshare base check`` looks for that.
"""

import hashlib
from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor
from torch.nn import functional

from sonoshare_shared.science.device import CPU
from sonoshare_shared.science.model.base_pictures import BasePictures
from sonoshare_shared.science.model.conditions import Condition
from sonoshare_shared.science.model.diffusion import stratified_times
from sonoshare_shared.science.model.recipe import TrainSettings

PUBLIC_SCALE: Final = 2
"""Side of public pictures over that of the model's grid."""


@dataclass(frozen=True)
class PublicPart:
    """Public pictures of all sources.

    Args:
        pictures: at `PUBLIC_SCALE` times the side of the model's grid.
        chances: float64 [n], on the CPU: how often each is drawn, sum 1.
    """

    pictures: BasePictures
    chances: Tensor


@dataclass(frozen=True)
class TrainingSet:
    """What batches are drawn from, on one device.

    Args:
        phantoms: at the side of the model's grid.
        public: public pictures beside them, or None.
    """

    phantoms: BasePictures
    public: PublicPart | None = None

    def to(self, device: torch.device) -> "TrainingSet":
        """The same set on another device; chances stay on the CPU, where rows are drawn."""
        public = None if self.public is None else PublicPart(self.public.pictures.to(device), self.public.chances)
        return TrainingSet(self.phantoms.to(device), public)

    @property
    def device(self) -> torch.device:
        """Where the pictures are."""
        return self.phantoms.images.device


@dataclass(frozen=True)
class TrainingBatch:
    """Inputs of `denoising_loss` for one step."""

    images: Tensor
    masks: Tensor
    condition: Condition
    t: Tensor
    noise: Tensor


@dataclass(frozen=True)
class _Shown:
    """Pictures of a batch before they are mirrored: images and masks float32 [n, 1, S, S], and what is known."""

    images: Tensor
    masks: Tensor
    condition: Condition
    has_mask: Tensor

    def followed_by(self, other: "_Shown") -> "_Shown":
        return _Shown(
            torch.cat([self.images, other.images]),
            torch.cat([self.masks, other.masks]),
            Condition.concatenate([self.condition, other.condition]),
            torch.cat([self.has_mask, other.has_mask]),
        )


def training_batch(pictures: TrainingSet, settings: TrainSettings, step: int) -> TrainingBatch:
    """The batch of one step, on the set's device; see the module for what it is a function of."""
    stream = hashlib.sha256(f"sonoshare base {settings.seed} {step}".encode()).digest()
    seed = int.from_bytes(stream[:8]) >> 1
    generator, device = torch.Generator().manual_seed(seed), pictures.device
    count = settings.batch_size
    public = 0 if pictures.public is None else round(settings.public_share * count)
    rows = torch.randint(len(pictures.phantoms), (count - public,), generator=generator)
    mirror = (torch.rand(count, generator=generator) < 0.5).to(device)
    gamma = torch.exp(settings.gamma * torch.randn(count, 1, 1, 1, generator=generator)).to(device)
    gain = (1 + settings.gain * torch.randn(count, 1, 1, 1, generator=generator)).to(device)
    absent = (torch.rand(3, count, generator=generator) < settings.drop).to(device)
    times = stratified_times(count, generator).to(device)
    shown = _rows(pictures.phantoms, rows.to(device))
    if pictures.public is not None and public:
        shown = shown.followed_by(_public(pictures.public, settings, public, shown.images.shape[-1], generator))
    # On the CPU one generator serves all; a device has its own, so that the host draws no pixels for it.
    draws = generator if device == CPU else device_generator(device, seed)
    noise = torch.randn(shown.images.shape, generator=draws, device=device)
    images = _mirrored(shown.images, mirror)
    masks = _mirrored(shown.masks, mirror)
    return TrainingBatch(
        images=(gain * images.pow(gamma)).clamp(0, 1),
        masks=torch.where(shown.has_mask[:, None, None, None], masks, torch.nan),
        condition=shown.condition.mirrored(mirror).dropped(absent[0], absent[1], absent[2]),
        t=times,
        noise=noise,
    )


def device_generator(device: torch.device, seed: int) -> torch.Generator | None:
    """The generator of a step's noise on a device that is not the CPU."""
    return torch.Generator(device).manual_seed(seed)


def _rows(pictures: BasePictures, rows: Tensor) -> _Shown:
    return _Shown(
        pictures.images[rows].float().div(255)[:, None],
        pictures.masks[rows].float()[:, None],
        pictures.conditions(rows),
        pictures.has_mask[rows],
    )


def _public(part: PublicPart, settings: TrainSettings, count: int, size: int, generator: torch.Generator) -> _Shown:
    """Public pictures of a batch, each cropped; sources in proportion to their weights."""
    # One draw from each of ``count`` equal intervals of the summed chances.
    places = (torch.arange(count) + torch.rand(count, generator=generator, dtype=torch.float64)) / count
    rows = torch.searchsorted(part.chances.cumsum(0), places, right=True).clamp_max(len(part.pictures) - 1)
    device = part.pictures.images.device
    side, across, down = torch.rand(3, count, generator=generator).to(device).unbind(0)
    side = settings.crop + (1 - settings.crop) * side
    whole = _rows(part.pictures, rows.to(device))
    boxes = whole.condition.boxes
    left, top = crop_corner(boxes[:, 0], boxes[:, 2], side, across), crop_corner(boxes[:, 1], boxes[:, 3], side, down)
    cut = torch.stack((left, top, side), dim=1)
    condition = Condition(whole.condition.labels, whole.condition.scanners, cropped_boxes(boxes, cut))
    masks = (cropped(whole.masks, cut, size) > 0.5).float()
    return _Shown(cropped(whole.images, cut, size), masks, condition, whole.has_mask)


def crop_corner(start: Tensor, length: Tensor, side: Tensor, u: Tensor) -> Tensor:
    """Where crops begin along one axis, so that known boxes stay whole in them.

    Args:
        start: float32 [n], where each box begins; NaN where there is none.
        length: float32 [n], its length; 0 or NaN where there is none.
        side: float32 [n], of each crop.
        u: float32 [n], uniform in 0..1.

    Returns:
        float32 [n], uniform over the places that keep the box whole (or, where it is too long, cover nothing but it).
    """
    last = 1 - side
    first_kept, last_kept = start + length - side, start
    boxed = length > 0  # NaN compares false
    low = torch.where(boxed, torch.minimum(first_kept, last_kept), 0.0).clamp_min(0).minimum(last)
    high = torch.where(boxed, torch.maximum(first_kept, last_kept), last).clamp_min(0).minimum(last)
    return low + u * (high - low)


def cropped_boxes(boxes: Tensor, cut: Tensor) -> Tensor:
    """Boxes in fractions of the crops; unknown ones stay unknown and boxes of nothing stay boxes of nothing.

    Args:
        boxes: float32 [n, 4], x, y, w, h.
        cut: float32 [n, 3], left, top and side of the crops.
    """
    corner, side = cut[:, :2], cut[:, 2:]
    first = ((boxes[:, :2] - corner) / side).clamp(0, 1)
    last = ((boxes[:, :2] + boxes[:, 2:] - corner) / side).clamp(0, 1)
    moved = torch.cat((first, last - first), dim=1)
    return torch.where((boxes[:, 2:] > 0).all(dim=1)[:, None], moved, boxes)


def cropped(images: Tensor, cut: Tensor, size: int) -> Tensor:
    """Crops [n, 1, size, size] of pictures [n, 1, H, H] that are about twice as fine; bilinear.

    Args:
        images: float32 [n, 1, H, H].
        cut: float32 [n, 3], left, top and side in fractions of the picture.
        size: side of the crops, px.
    """
    side = cut[:, 2]
    theta = torch.zeros(len(cut), 2, 3, device=cut.device, dtype=cut.dtype)
    theta[:, 0, 0] = theta[:, 1, 1] = side
    theta[:, :, 2] = 2 * cut[:, :2] + side[:, None] - 1
    grid = functional.affine_grid(theta, [len(cut), 1, size, size], align_corners=False)
    return functional.grid_sample(images, grid, mode="bilinear", padding_mode="border", align_corners=False)


def _mirrored(images: Tensor, rows: Tensor) -> Tensor:
    return torch.where(rows[:, None, None, None], images.flip(-1), images)
