"""Architectures by name.

A profile is a frozen value: two sides that name the same profile build the same network, tensor by tensor. Its
digest covers every number in it, so that a checkpoint can say which architecture it fits.

- ``tiny``: 32 px images, CPU seconds, for tests.
- ``small``: 64 px images, the embedded default; base weights ship with the package.
- ``medium``: 128 px images, for a hospital's GPU: 27.2 million numbers, a base from minutes of one large card.
- ``large``: 256 px images, for a large GPU: 43.1 million numbers.

The latent of every profile is the fixed, exactly invertible pixel-unshuffle: no autoencoder that would need
pre-training on patients. No weights of ``medium`` and ``large`` are in the package: they travel as files of their own.
"""

from dataclasses import asdict, dataclass

from sonoshare_shared.errors import ModelError
from sonoshare_shared.protocol.canonical import canonical_bytes, sha256_hex


@dataclass(frozen=True)
class Profile:
    """Numbers that fix an architecture.

    Args:
        name: what plans and commands call it.
        size: side of the square image, px.
        patch: side of the square patch that becomes one token, px.
        channels: width of each resolution level, finest first; each level halves the token grid.
        attention: for each level, whether it has self-attention.
        layers: residual blocks per level.
        head_channels: channels of one attention head.
        norm_groups: groups of every GroupNorm.
        class_slots: how many classes the class embedding can tell apart, absent not counted.
        scanner_slots: the same for scanners.
    """

    name: str
    size: int
    patch: int
    channels: tuple[int, ...]
    attention: tuple[bool, ...]
    layers: int = 1
    head_channels: int = 32
    norm_groups: int = 16
    class_slots: int = 8
    scanner_slots: int = 8

    @property
    def grid(self) -> int:
        """Side of the token grid."""
        return self.size // self.patch

    @property
    def digest(self) -> str:
        """sha256 over the canonical form of every number of the architecture."""
        return sha256_hex(canonical_bytes(asdict(self)))


PROFILES: dict[str, Profile] = {
    profile.name: profile
    for profile in (
        Profile("tiny", size=32, patch=4, channels=(32, 64), attention=(True, True)),
        Profile("small", size=64, patch=4, channels=(64, 96), attention=(True, True)),
        Profile(
            "medium",
            size=128,
            patch=4,
            channels=(128, 256, 256),
            attention=(False, True, True),
            layers=2,
            norm_groups=32,
        ),
        Profile(
            "large",
            size=256,
            patch=8,
            channels=(128, 256, 384),
            attention=(False, True, True),
            layers=2,
            norm_groups=32,
        ),
    )
}


def profile_named(name: str) -> Profile:
    """Look a profile up.

    Raises:
        ModelError: there is no profile of that name.
    """
    try:
        return PROFILES[name]
    except KeyError:
        known = ", ".join(PROFILES)
        raise ModelError(f"unknown model profile {name[:40]!r}", remedy=f"use one of: {known}") from None
