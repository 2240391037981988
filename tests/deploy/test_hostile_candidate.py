"""A candidate that would show the public something else than it shows the audit, or costs more than its plan said.

Each is refused by its public bytes: before any charge, with the vault closed.
"""

from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType

import numpy as np
import pytest
from tests.candidate_parts import stream_of
from tests.deploy.hostile import Hostile, reply_of
from tests.deploy.in_process import World, copied
from tests.shared.animated_png import animated

from sonoshare_server.release import png
from sonoshare_shared.protocol.canonical import sha256_hex
from sonoshare_shared.protocol.release.candidate import Candidate

NORTH = "north"
SHOWN_AS_MASK = np.arange(1024, dtype=np.uint32).reshape(32, 32).astype(np.uint8)


def another_image(folder: Path) -> str:
    (folder / "images/000003.png").write_bytes(animated())
    return "something besides a picture"


def a_picture_as_mask(folder: Path) -> str:
    (folder / "masks/000003.png").write_bytes(png.encode(SHOWN_AS_MASK))
    return "a mask of the candidate holds other values"


def trailing_bytes(folder: Path) -> str:
    with (folder / "masks/000003.png").open("ab") as file:
        file.write(b"anything at all")
    return "damaged, or followed by something"


def listed_again(folder: Path, named: Mapping[str, str], **changes: int) -> bytes:
    """The listing of a changed folder, as its coordinator would sign it; the last picture with other names."""
    candidate = Candidate.from_bytes((folder / "candidate.json").read_bytes())
    images = tuple(
        image.model_copy(
            update={
                "image": sha256_hex((folder / f"images/{image.index:06d}.png").read_bytes()),
                "mask": sha256_hex((folder / f"masks/{image.index:06d}.png").read_bytes()),
            }
        )
        for image in candidate.images
    )
    renamed = (*images[:-1], images[-1].model_copy(update=dict(named)))
    return candidate.model_copy(update={"images": renamed, **changes}).canonical()


def refused(
    world: World,
    folder: Path,
    change: Callable[[Path], str] | None,
    named: Mapping[str, str] = MappingProxyType({}),
    **changes: int,
) -> tuple[str, str]:
    """What is expected, and how the hospital refuses; nothing may have been charged."""
    hostile, plan, adapter = Hostile(world, NORTH), world.study.plan, world.study.adapter()
    hostile.candidate(plan, folder, adapter)
    expected = "other or more pictures than the plan" if change is None else change(folder)
    listing = listed_again(folder, named, **changes)
    stream = stream_of(listing, adapter, lambda path: (folder / path).read_bytes())
    answer = reply_of(hostile.agent.answer(hostile.audit(plan, stream, sha256_hex(listing))))
    assert [signed.charge.kind for signed in world.nodes[NORTH].ledger.entries()] == ["opened"]
    assert answer.refusal is not None
    return expected, answer.refusal.message


@pytest.mark.parametrize("change", [another_image, a_picture_as_mask, trailing_bytes])
def test_what_the_audit_would_not_see_is_refused_before_the_charge(
    pristine: World, tmp_path: Path, change: Callable[[Path], str]
) -> None:
    expected, message = refused(copied(pristine, tmp_path / "world"), tmp_path / "candidate", change)
    assert expected in message


def test_a_candidate_of_another_size_than_the_plans_is_refused_before_the_charge(
    pristine: World, tmp_path: Path
) -> None:
    """At 8192 px the patients would fill the memory, and whether they do depends on how many they are."""
    expected, message = refused(copied(pristine, tmp_path / "world"), tmp_path / "candidate", None, size=8192)
    assert expected in message


@pytest.mark.parametrize("named", [{"label": "Ann Example, born 1960"}, {"scanner": "Ann Example, born 1960"}])
def test_a_candidate_with_free_text_for_a_name_is_refused_before_the_charge(
    pristine: World, tmp_path: Path, named: dict[str, str]
) -> None:
    _, message = refused(copied(pristine, tmp_path / "world"), tmp_path / "candidate", None, named)
    assert "names classes or scanners that its task has not" in message
