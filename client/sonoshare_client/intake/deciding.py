"""Parent: what a person does with something that was set aside: look at it, let it in, or forget it.

    show(home, 7, Path("look.png"))     # decoded by a limited child; in the clear, for local eyes
    accept(home, 7, note="a cyst fills the picture")
    drop(home, 7)

A decision is about one file of exactly these bytes, one row, one patient and one reason of a closed list
(``accepting``). It is recorded first; then the row goes through the same intake as any other, which reads the file
without that reason. What else is wrong with it sets it aside again.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from sonoshare_client.intake.accepting import ACCEPTABLE, WITH_PLACE, cause_of
from sonoshare_client.intake.archive import unpacked
from sonoshare_client.intake.channel import Question, Taken
from sonoshare_client.intake.emptying import remove_taken
from sonoshare_client.intake.ingest import ingest_table
from sonoshare_client.intake.limits import DEFAULT_LIMITS
from sonoshare_client.intake.pool import FileTask, Pool
from sonoshare_client.intake.report import IngestReport
from sonoshare_client.intake.rules import rules_of
from sonoshare_client.intake.setting_aside import Origin, digest_of_file
from sonoshare_client.intake.twins import compare_new
from sonoshare_client.node.home import NodeHome
from sonoshare_client.vault.quarantine import Item
from sonoshare_client.vault.store import ImageRef, Vault
from sonoshare_client.vault.writer import Pseudonym, VaultWriter
from sonoshare_shared.durable import create
from sonoshare_shared.errors import InputError
from sonoshare_shared.science.box import Box
from sonoshare_shared.science.imaging import png_bytes
from sonoshare_shared.science.label_table import LabelRow, LabelTable

LONGEST_NOTE: Final = 200
_GAP_PX: Final = 8
_WHITE_LEVEL: Final = 255


@contextmanager
def opened_origin(home: NodeHome, item: Item) -> Iterator[Origin]:
    """Where an item's file lies, for as long as the block runs; an archive is unpacked again.

    Raises:
        InputError: its folder or archive is gone, or the archive is refused.
    """
    gone = InputError(
        f"the {'archive' if item.archive else 'folder'} of item {item.number} is gone",
        remedy="put it back where it was, or drop the item",
    )
    if not is_there(item):
        raise gone
    if not item.archive:
        yield Origin(Path(item.folder))
        return
    archive = Path(item.archive)
    with unpacked(archive, home.state.unpacked_path) as folder:
        yield Origin(folder / item.folder, archive, folder)


def is_there(item: Item) -> bool:
    """Whether its folder or archive is where it was."""
    return Path(item.archive).is_file() if item.archive else Path(item.folder).is_dir()


def row_of(item: Item, folder: Path) -> LabelRow:
    """The row that an item was; its pseudonym stands for the patient."""
    return LabelRow(
        image=folder / item.file,
        patient=Pseudonym(item.pseudonym),
        label=item.label,
        device=item.device,
        masks=tuple(folder / mask for mask in item.masks),
        boxes=item.boxes,
        line=item.line,
        frame=item.frame,
        region=item.region,
    )


def accept(
    home: NodeHome, number: int, *, note: str = "", region: Box | None = None, box: Box | None = None
) -> IngestReport | None:
    """Let something in that was set aside.

    Args:
        home: the node.
        number: of the item.
        note: why, for the record; stays in the hospital.
        region: where the ultrasound picture is on the screen, in pixels.
        box: where the lesion is, in pixels.

    Returns:
        What intake says; None for a picture that was in the vault and is there again.

    Raises:
        InputError: no such item, it does not wait, its reason is none that a person may decide about, or its file is
            gone or another than the one that was set aside.
    """
    if len(note) > LONGEST_NOTE or not note.isprintable():
        raise InputError("the note is too long or not plain text", remedy=f"give one line, {LONGEST_NOTE} characters")
    with Vault(home) as vault:
        item = vault.quarantine.item(number)
        decided = _decided(item, note, region, box)
        if item.image is not None:
            with vault.writing(rules_of(home.policy().intake)) as writer:
                vault.quarantine.move_back(decided)
                writer.passed([item.image.blob])
                compare_new(vault, writer)
            return None
    with opened_origin(home, item) as origin:
        require_same(item, origin)
        with Vault(home) as vault, vault.writing():
            vault.quarantine.keep([decided])
        report = ingest_table(home, LabelTable(origin.folder, (row_of(item, origin.folder),)), origin=origin)
    empty_inbox(home, item, report)
    return report


def _decided(item: Item, note: str, region: Box | None, box: Box | None) -> Item:
    """The item with the decision on it."""
    cause = cause_of(item.reason)
    if not item.waiting:
        raise InputError(f"item {item.number} does not wait: a person has let it in", remedy="there is nothing to do")
    if cause not in ACCEPTABLE:
        remedy = "see docs/intake-reasons.md" if cause is None else cause.remedy
        fact = "its reason is not known any more" if cause is None else cause.fact
        raise InputError(f"nobody may accept item {item.number}: {fact}", remedy=remedy)
    if cause in WITH_PLACE and region is None and box is None:
        raise InputError(
            f"item {item.number}: {cause.fact}", remedy="say where it is: --region X,Y,W,H or --box X,Y,W,H, in pixels"
        )
    if cause not in WITH_PLACE and (region is not None or box is not None):
        raise InputError(
            f"item {item.number} was not set aside for where its picture is", remedy="leave out --region and --box"
        )
    accepted = tuple(dict.fromkeys((*item.accepted, item.reason)))
    return replace(item, accepted=accepted, note=note or item.note, given_region=region, given_box=box)


def require_same(item: Item, origin: Origin) -> None:
    """Refuse where the file is not the one that was set aside.

    Raises:
        InputError: gone, or changed.
    """
    found = digest_of_file(str(origin.folder), item.file)
    if not found:
        raise InputError(f"the file of item {item.number} is gone", remedy="put it back where it was, or drop the item")
    if item.sha256 and found != item.sha256:
        raise InputError(
            f"the file of item {item.number} is another than the one that was set aside",
            remedy="ingest its folder again: it is judged anew",
        )


def drop(home: NodeHome, number: int) -> bool:
    """Forget that something was set aside; what came by network and lies in the node's inbox goes, too.

    Returns:
        Whether a file of the inbox is gone.

    Raises:
        InputError: no such item, or a person has let it in.
    """
    with Vault(home) as vault, vault.writing():
        item = vault.quarantine.item(number)
        if not item.waiting:
            raise InputError(
                f"a person has let item {number} in",
                remedy="to take it out, forget its patient: sonoshare hospital forget",
            )
        vault.quarantine.drop([number])
        return remove_from_inbox(home, item)


def remove_from_inbox(home: NodeHome, item: Item) -> bool:
    """Remove a file of the node's inbox; of any other folder nothing is ever touched."""
    if not item.file or item.archive or Path(item.folder) != home.inbox_path.resolve():
        return False
    path = home.inbox_path / item.file
    if path.parent != home.inbox_path or path.is_symlink() or not path.is_file():
        return False
    path.unlink()
    return True


def empty_inbox(home: NodeHome, item: Item, report: IngestReport) -> None:
    """What was let in with a class lies in the inbox no more."""
    if not item.archive and Path(item.folder) == home.inbox_path.resolve():
        table = LabelTable(home.inbox_path, (row_of(item, home.inbox_path),))
        remove_taken(home.inbox_path, table, (one.source for one in report.quarantined))


def show(home: NodeHome, number: int, out: Path) -> Item:
    """Write what was set aside as a PNG, for the eyes of the hospital (``picture_of``).

    Raises:
        InputError: as ``picture_of``, or the PNG exists.
    """
    item, png = picture_of(home, number)
    try:
        create(out, png, mode=0o600)
    except FileExistsError as error:
        raise InputError(f"{out.name} exists", remedy="give the name of a new file") from error
    except OSError as error:
        raise InputError(f"cannot write {out.name}: {error.strerror}", remedy="choose another folder") from error
    return item


def picture_of(home: NodeHome, number: int) -> tuple[Item, bytes]:
    """What was set aside, and a PNG of it: the whole screen, frames of a clip side by side. NOT de-identified.

    Raises:
        InputError: no such item, its file is gone or another, or it cannot be decoded.
    """
    with Vault(home) as vault:
        item = vault.quarantine.item(number)
        if item.image is not None:
            screens = [vault.load(ImageRef(item.image.blob, item.pseudonym)).pixels]
        else:
            with opened_origin(home, item) as origin:
                require_same(item, origin)
                screens = _decoded(item, origin)
    return item, png_bytes(_side_by_side(screens))


def _decoded(item: Item, origin: Origin) -> list[NDArray[np.uint8]]:
    question = Question(Path(item.file).suffix.lower(), None, item.frame, shown=True)
    with Pool(1, str(origin.folder), DEFAULT_LIMITS, ()) as pool:
        (answer,) = pool.answers([FileTask(item.file, (), question)])
    if not isinstance(answer, Taken):
        raise InputError(f"item {item.number} cannot be shown: {answer.fact}", remedy=answer.remedy)
    return [image.pixels for image in answer.images.values()]


def _side_by_side(screens: list[NDArray[np.uint8]]) -> NDArray[np.uint8]:
    height = max(screen.shape[0] for screen in screens)
    width = sum(screen.shape[1] for screen in screens) + _GAP_PX * (len(screens) - 1)
    sheet = np.full((height, width), _WHITE_LEVEL, np.uint8)
    left = 0
    for screen in screens:
        sheet[: screen.shape[0], left : left + screen.shape[1]] = screen
        left += screen.shape[1] + _GAP_PX
    return sheet


def forget_patient(home: NodeHome, vault: Vault, writer: VaultWriter, patient: str) -> tuple[int, int]:
    """Forget a patient, what was set aside of them, and such files of theirs as lie in the node's inbox.

    Args:
        home: the node.
        vault: its vault.
        writer: the vault's only writer.
        patient: as the table writes it.

    Returns:
        How many images and how many records there were.
    """
    pseudonym = writer.pseudonym(patient)
    items = vault.quarantine.of_patient(pseudonym)
    images = writer.forget(pseudonym)
    for item in items:
        remove_from_inbox(home, item)
    return images, len(items)
