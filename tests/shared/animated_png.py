"""A PNG that holds two pictures."""

import io

import numpy as np
from PIL import Image

PIXELS = np.arange(1024, dtype=np.uint32).reshape(32, 32).astype(np.uint8)


def animated() -> bytes:
    """Opens as one picture in a program without animation, as two in a browser."""
    file = io.BytesIO()
    Image.fromarray(PIXELS * np.uint8(0)).save(file, "PNG", save_all=True, append_images=[Image.fromarray(PIXELS)])
    return file.getvalue()
