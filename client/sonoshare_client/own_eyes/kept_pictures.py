"""The pictures of the newest candidate of each study, for ``sonoshare hospital look`` while the candidate is audited.

    state/pictures/<study>/<candidate digest>/<index>.png

They are kept from the audit's checks on, until another candidate of the study takes their place or this hospital signs
the release. Synthetic images that no verdict covers yet: readable by the owner only, and never sent. Nothing rests on
them: a loss of power may cost them, and they are not part of any verdict.
"""

import shutil
from pathlib import Path

from sonoshare_client.node.home import NodeHome
from sonoshare_client.node.private_folder import private_folder
from sonoshare_shared.durable import put
from sonoshare_shared.errors import InputError
from sonoshare_shared.protocol.release.transfer import CandidateFiles


def keep_pictures(home: NodeHome, files: CandidateFiles) -> None:
    """Keep a candidate's pictures in place of those of the study's earlier candidates.

    Raises:
        InputError: the disk is full.
    """
    study = _of_study(home, files.candidate.study)
    study.mkdir(parents=True, exist_ok=True, mode=0o700)
    if not (study / files.digest).exists():
        with private_folder(study / files.digest) as folder:
            for listed, data in zip(files.candidate.images, files.images, strict=True):
                put(folder, f"{listed.index:06d}.png", data)
    for other in study.iterdir():
        if other.name != files.digest:
            shutil.rmtree(other, ignore_errors=True)


def kept_pictures(home: NodeHome, study: str) -> Path:
    """Folder with the pictures of a study's newest candidate.

    Raises:
        InputError: none is kept.
    """
    place = _of_study(home, study)
    found = [folder for folder in place.glob("*") if not folder.name.startswith(".")] if place.is_dir() else []
    if not found:
        raise InputError(
            f"this node keeps no candidate of study '{study}'",
            remedy="pictures are kept from the audit until the release is signed; then name the release's folder",
        )
    return max(found, key=lambda folder: folder.stat().st_mtime)


def drop_pictures(home: NodeHome, study: str) -> None:
    """Remove what is kept of a study: its release is signed."""
    shutil.rmtree(_of_study(home, study), ignore_errors=True)


def _of_study(home: NodeHome, study: str) -> Path:
    root = home.state.pictures_path
    place = root / study
    if place.parent != root or study in {"", ".", ".."}:  # a person's argument, not a plan's identifier
        raise InputError(f"'{study}' is no study's name", remedy="see 'sonoshare hospital status'")
    return place
