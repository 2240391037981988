"""Which rules an image was taken under, as the vault keeps it beside the image."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Rules:
    """Of an intake.

    Attributes:
        number: of the version of the rules; grows.
        policy: digest of those lines of ``policy.toml`` that decide what is kept of a picture.
    """

    number: int
    policy: str


@dataclass(frozen=True)
class RuleCounts:
    """What of a vault asks for a look; for the hospital's own eyes.

    Attributes:
        waiting: files and pictures in the quarantine that nobody has decided about.
        older: images that were taken under an older version of the rules, or before versions were written down.
        other_policy: images that were taken under other lines of ``policy.toml`` than today's.
    """

    waiting: int
    older: int
    other_policy: int
