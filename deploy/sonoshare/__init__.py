"""A release in one line of Python: fetched where it must be, verified, and then a data set.

    import sonoshare

    pictures = sonoshare.load("https://CATALOGUE/releases/r1")     # or a folder, or "r1" after `sonoshare login`
    loader = torch.utils.data.DataLoader(pictures, batch_size=32, shuffle=True)

What is not verified is not loaded: ``VerificationError`` says the cause, as ``sonoshare verify`` does.
"""

from sonoshare.loading import UnpinnedWarning, load
from sonoshare.pictures import Pictures, Sample
from sonoshare_shared.errors import InputError, RefusedError, SonoShareError, VerificationError

__all__ = [
    "InputError",
    "Pictures",
    "RefusedError",
    "Sample",
    "SonoShareError",
    "UnpinnedWarning",
    "VerificationError",
    "load",
]
