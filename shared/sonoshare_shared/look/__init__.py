"""How every page of SonoShare looks: style sheets that the catalogue and the consoles serve as they are.

No sheet names anything of another host, and none needs a script.
"""

from pathlib import Path
from typing import Final

STATIC: Final = Path(__file__).parent / "static"
"""Folder of ``style.css`` and ``icon.svg``, for all pages, and ``console.css``, which the consoles load after it."""
