"""The noising process, and the public constants that images are normalised with.

Variance-preserving diffusion with the squared-cosine schedule (Nichol and Dhariwal 2021) over 1000 times:
x_t = alpha_t x_0 + sigma_t noise. The network predicts v = alpha_t noise - sigma_t x_0 (Salimans and Ho 2022).
"""

from functools import lru_cache

import torch
from diffusers.schedulers.scheduling_ddpm import DDPMScheduler
from torch import Tensor

from sonoshare_shared.protocol.documents.plan import LAST_TIME

TIMES = LAST_TIME + 1
BETA_SCHEDULE = "squaredcos_cap_v2"
# About the mean and standard deviation of grey values in simulated phantoms. Never fitted to patients.
IMAGE_MEAN = 0.30
IMAGE_STD = 0.20


def normalise(images: Tensor) -> Tensor:
    """Grey values 0..1 to about zero mean and unit variance."""
    return (images - IMAGE_MEAN) / IMAGE_STD


def denormalise(images: Tensor) -> Tensor:
    """Back to grey values, clipped to 0..1."""
    return (images * IMAGE_STD + IMAGE_MEAN).clamp(0, 1)


@lru_cache(maxsize=1)
def _tables() -> tuple[Tensor, Tensor]:
    cumulative = DDPMScheduler(TIMES, beta_schedule=BETA_SCHEDULE).alphas_cumprod
    return cumulative.sqrt(), (1 - cumulative).sqrt()


def scales(t: Tensor) -> tuple[Tensor, Tensor]:
    """alpha_t and sigma_t, float32, of shape [B, 1, 1, 1] for int64 [B] times."""
    alpha, sigma = (table.to(t.device)[t][:, None, None, None] for table in _tables())
    return alpha, sigma


def add_noise(x0: Tensor, noise: Tensor, t: Tensor) -> Tensor:
    """x_t of normalised images; all [B, 1, S, S], times [B]."""
    alpha, sigma = scales(t)
    return alpha * x0 + sigma * noise


def velocity(x0: Tensor, noise: Tensor, t: Tensor) -> Tensor:
    """The network's target; shapes as in `add_noise`."""
    alpha, sigma = scales(t)
    return alpha * noise - sigma * x0


def times_at(shares: Tensor, latest: int = LAST_TIME) -> Tensor:
    """The times that shares of the trained range stand for, int64 of the same shape.

    The one rule by which training draws get their times: a share uniform on [0, 1) gives a time uniform on 0..latest.

    Args:
        shares: float64, in [0, 1).
        latest: last time that is trained, a public constant; the sampler visits its own range evenly too.
    """
    # Rounding may carry the largest shares over the end.
    return (shares * (latest + 1)).long().clamp_max(latest)


def stratified_times(draws: int, generator: torch.Generator, latest: int = LAST_TIME) -> Tensor:
    """int64 [draws], each uniform on 0..latest, one from each of ``draws`` equal intervals, in random order.

    Each time is marginally uniform, so the loss is unbiased and less noisy than with independent times.
    """
    device = generator.device
    jitter = torch.rand(draws, generator=generator, dtype=torch.float64, device=device)
    times = times_at((torch.arange(draws, device=device) + jitter) / draws, latest)
    return times[torch.randperm(draws, generator=generator, device=device)]
