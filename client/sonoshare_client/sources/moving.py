"""Asking an archive by C-FIND what it has, and by C-MOVE to send it to the node's receiver.

The archive opens associations of its own for what it sends, perhaps under another title and from another address than
it answers on: the receiver's ``callers`` must know those. Answers to questions hold names of patients; all but UIDs of
studies and series are dropped where they are read.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from pydicom.dataset import Dataset
from pynetdicom import AE
from pynetdicom.association import Association

from sonoshare_client.node.source_rules import Peer
from sonoshare_client.sources.query import MOST_STUDIES, Match
from sonoshare_shared.errors import FederationError, InputError

_FIND: Final = "1.2.840.10008.5.1.4.1.2.2.1"
_MOVE: Final = "1.2.840.10008.5.1.4.1.2.2.2"
_PENDING: Final = (0xFF00, 0xFF01)
_SUCCESS: Final = 0x0000
_SOME_FAILED: Final = 0xB000
_UID: Final = re.compile(r"[0-9.]{1,64}")
_MOST_SERIES: Final = 10_000
_CONNECT_SECONDS: Final = 10.0
_SILENCE_SECONDS: Final = 300.0


@dataclass(frozen=True)
class Moved:
    """What the archive says that it sent.

    Attributes:
        studies: that were found.
        objects: that the receiver has confirmed to it.
        failed: that it could not send.
    """

    studies: int
    objects: int
    failed: int


def move(peer: Peer, title: str, matches: Sequence[Match]) -> Moved:
    """Have an archive send the ultrasound series of all studies that fit.

    Args:
        peer: the archive.
        title: our own, which the archive must know with the receiver's address and port.
        matches: one after the other.

    Raises:
        FederationError: the archive is not there, refuses, or does not know our title.
        InputError: too many studies fit.
    """
    entity = AE(ae_title=title)
    entity.connection_timeout = entity.acse_timeout = _CONNECT_SECONDS
    entity.network_timeout = entity.dimse_timeout = _SILENCE_SECONDS
    entity.add_requested_context(_FIND)
    entity.add_requested_context(_MOVE)
    association = entity.associate(peer.address, peer.port, ae_title=peer.title)
    if not association.is_established:
        raise FederationError(
            f"{peer.title} at {peer.address}:{peer.port} takes no association",
            remedy=f"check that it runs, and that it knows {title}",
        )
    try:
        studies = sorted({uid for match in matches for uid in _studies(association, match)})
        sent = [
            _moved(association, title, study, series) for study in studies for series in _series(association, study)
        ]
    finally:
        association.release()
    return Moved(len(studies), sum(done for done, _ in sent), sum(failed for _, failed in sent))


def _studies(association: Association, match: Match) -> list[str]:
    found = list(_found(association, "STUDY", "StudyInstanceUID", match.keys, MOST_STUDIES + 1))
    if len(found) > MOST_STUDIES:
        raise InputError(f"a match finds more than {MOST_STUDIES} studies", remedy="ask for less at a time")
    return found


def _series(association: Association, study: str) -> list[str]:
    keys = {"StudyInstanceUID": study, "Modality": "US"}
    return list(_found(association, "SERIES", "SeriesInstanceUID", keys, _MOST_SERIES))


def _found(association: Association, level: str, wanted: str, keys: dict[str, str], most: int) -> Iterator[str]:
    question = _identifier(level, {wanted: "", **keys})
    uids: dict[str, None] = {}
    for status, answer in association.send_c_find(question, _FIND):
        code = status.get("Status")
        if code not in {*_PENDING, _SUCCESS}:
            raise FederationError("the archive does not answer C-FIND", remedy="see its log, and whether it knows us")
        uid = str(answer.get(wanted, "")) if answer is not None else ""
        if uid and not _UID.fullmatch(uid):
            raise FederationError("the archive names something by what is no UID")
        if uid and len(uids) < most:
            uids[uid] = None
    yield from uids


def _moved(association: Association, title: str, study: str, series: str) -> tuple[int, int]:
    """How many objects of a series were sent, and how many not."""
    question = _identifier("SERIES", {"StudyInstanceUID": study, "SeriesInstanceUID": series})
    last = Dataset()
    for status, _ in association.send_c_move(question, title, _MOVE):
        last = status
    if last.get("Status") not in {_SUCCESS, _SOME_FAILED}:
        raise FederationError(
            f"the archive does not send to {title}",
            remedy="it must know this title with the receiver's address and port; see its log",
        )
    return int(last.get("NumberOfCompletedSuboperations") or 0), int(last.get("NumberOfFailedSuboperations") or 0)


def _identifier(level: str, keys: dict[str, str]) -> Dataset:
    identifier = Dataset()
    identifier.QueryRetrieveLevel = level
    for name, value in keys.items():
        setattr(identifier, name, value)
    return identifier
