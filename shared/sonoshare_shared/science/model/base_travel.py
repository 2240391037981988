"""How base files travel: whole, or as a folder of parts with their index and the model card.

Example: ``sonoshare base export base-medium.safetensors --out parts/`` on the machine that trained it,
``sonoshare base import parts/ --profile medium --home HOME`` at a hospital. The file that comes out is the one that
went in, so its digest is the one that a plan pins.

Nothing is downloaded here: a folder of parts is brought by whatever brings files, and what the consortium agrees on is
the digest.
"""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sonoshare_shared.durable import appearing, put, write_atomically
from sonoshare_shared.science.model.base import load_base
from sonoshare_shared.science.model.base_card import CARD_SUFFIX, card_text
from sonoshare_shared.science.model.profiles import Profile
from sonoshare_shared.science.model.weight_parts import INDEX, PART_BYTES, PartsIndex, joined_parts, put_parts


def export_base(base: Path, profile: str | Profile, folder: Path, most: int = PART_BYTES) -> PartsIndex:
    """Write a base file as parts, with its card.

    Args:
        base: the file.
        profile: profile or its name; what does not fit it is not written.
        folder: to make; absent or empty.
        most: bytes of a part.

    Raises:
        InputError: there is something in the folder.
        ModelError: as `load_base`.
    """
    load_base(profile, base)
    with appearing(folder, durable=True) as building:
        put(building, Path(base.name).with_suffix(CARD_SUFFIX).name, card_text(base).encode())
        return put_parts(building, base.name, base.read_bytes(), most=most)


@contextmanager
def whole_base(source: Path) -> Iterator[Path]:
    """A base file for the time of the block: the file itself, or one joined from parts.

    Args:
        source: a base file, a folder of parts, or the index in it.

    Raises:
        InputError: a part or the index is missing.
        IntegrityError: a part is not the one that is listed.
    """
    folder = source.parent if source.name == INDEX else source
    if not folder.is_dir():
        yield source
        return
    index, data = joined_parts(folder)
    with tempfile.TemporaryDirectory() as place:
        path = Path(place) / index.name
        write_atomically(path, data)
        yield path
