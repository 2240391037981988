"""The words that name a device: ``auto``, ``cpu``, ``cuda``, ``cuda:1``. Known without torch, which takes seconds."""

import re
from typing import Final

AUTO: Final = "auto"
WORDS: Final = "auto|cpu|cuda[:N]"
PATTERN: Final = re.compile(r"auto|cpu|cuda(?::(\d{1,3}))?")
"""A word; its group is the number of the GPU, where one is given."""


def is_device_word(text: str) -> bool:
    """Whether a text names a device at all, here or elsewhere."""
    return PATTERN.fullmatch(text) is not None
