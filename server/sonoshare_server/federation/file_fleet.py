"""Hospitals without a line out: requests wait in the coordinator's folder until somebody carries them, and back.

    outbox/<hospital>/<study>-round-1-3f2a9c1d.bundle      what is to be carried there
    outbox/<hospital>/<study>-round-1-3f2a9c1d.taken       the same, once its reply was taken in
    inbox/<hospital>/<digest of the request>.frame         replies that ``coordinator take`` has taken in

``FileFleet`` asks by these files and is a ``Fleet`` like the one over Flower; ``MixedFleet`` joins both. An action that
was stopped finds its bundles and replies again: the same question is not carried twice, whatever the log shows since.
A refusal is asked anew, because what was refused has to change.
"""

import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from sonoshare_server.changing import changing
from sonoshare_server.federation.fleet import Arrived, Fleet, Frames
from sonoshare_server.paths import CoordinatorPaths
from sonoshare_shared.durable import move, write_atomically, write_parts_atomically
from sonoshare_shared.errors import IntegrityError
from sonoshare_shared.protocol.bundle import (
    SUFFIX,
    BundleHeader,
    asks_for,
    read_bundle_file,
    request_bundle,
    same_question,
)
from sonoshare_shared.protocol.canonical import sha256_hex
from sonoshare_shared.protocol.documents import Roster
from sonoshare_shared.protocol.documents.exchange import Refusal, answer_in

POLL_SECONDS: Final = 1.0
TAKEN_SUFFIX: Final = ".taken"

Ahead = Callable[[], Iterable[bytes]]
"""Gives the frames that go ahead of a request, the same each time."""


def nothing_ahead(_frame: bytes) -> Ahead:
    """A request goes alone."""
    return tuple


@dataclass(frozen=True)
class Boxes:
    """The coordinator's outbox and inbox.

    An action asks here, and a command takes replies in at the same moment: whatever belongs to one request is looked at
    and changed under the folder's lock.
    """

    home: CoordinatorPaths

    def waiting(self, hospital: str) -> dict[str, tuple[Path, BundleHeader, bytes]]:
        """Requests that wait for a hospital, or whose reply was taken, by the digest of their frame."""
        found = {}
        folder = self.home.outbox_path / hospital
        for path in sorted([*folder.glob(f"*{SUFFIX}"), *folder.glob(f"*{TAKEN_SUFFIX}")]):
            header, frame = read_bundle_file(path)
            found[header.request] = (path, header, frame)
        return found

    def put(self, roster: Roster, hospital: str, study: str, frame: bytes, ahead: Ahead = tuple) -> tuple[Path, str]:
        """Lay a request out, unless the same question lies there; returns its file and the digest of its frame.

        Older questions of the study to this hospital are cleared away: nobody waits for them any more.
        """
        question = same_question(frame)
        with changing(self.home):
            for digest, (path, header, waiting) in self.waiting(hospital).items():
                if header.study == study and same_question(waiting) == question:
                    return path, digest
                if header.study == study:
                    self._clear(hospital, digest)
        digest = sha256_hex(frame)
        header = BundleHeader(
            kind="request",
            consortium=roster.consortium,
            hospital=hospital,
            study=study,
            what=asks_for(frame),
            roster=roster.version,
            request=digest,
            frame=digest,
        )
        path = self.home.outbox_path / hospital / header.file_name
        path.parent.mkdir(parents=True, exist_ok=True)
        write_parts_atomically(path, request_bundle(header, ahead, frame)[1])
        return path, digest

    def request(self, hospital: str, request: str) -> bytes | None:
        """The frame of a request that waits, or whose reply was taken; None if nobody waits for it."""
        with changing(self.home):
            found = self.waiting(hospital).get(request)
        return None if found is None else found[2]

    def take(self, hospital: str, request: str, frame: bytes) -> bool:
        """Store a reply to a request that waits, after its check; returns whether it still waits."""
        path = self._reply(hospital, request)
        with changing(self.home):
            if (found := self.waiting(hospital).get(request)) is None:
                return False
            path.parent.mkdir(parents=True, exist_ok=True)
            write_atomically(path, frame)
            move(found[0], found[0].with_suffix(TAKEN_SUFFIX))  # nobody need carry it again
        return True

    def answered(self, hospital: str, request: str) -> bool:
        """Whether the reply to a request lies here; it is not taken away by this."""
        return self._reply(hospital, request).exists()

    def reply(self, hospital: str, request: str) -> bytes | None:
        """The reply to a request, once it was taken; a refusal is given once."""
        path = self._reply(hospital, request)
        if not path.exists():
            return None
        with changing(self.home):
            frame = path.read_bytes()
            try:
                again = isinstance(answer_in(frame, hospital), Refusal)
            except IntegrityError:
                again = True
            if again:
                self._clear(hospital, request)
        return frame

    def clear(self, hospital: str, request: str) -> None:
        """Take a request and its reply away."""
        with changing(self.home):
            self._clear(hospital, request)

    def _clear(self, hospital: str, request: str) -> None:
        if (found := self.waiting(hospital).get(request)) is not None:
            found[0].unlink(missing_ok=True)
        self._reply(hospital, request).unlink(missing_ok=True)

    def _reply(self, hospital: str, request: str) -> Path:
        return self.home.inbox_path / hospital / f"{request}.frame"


class FileFleet:
    """Hospitals that are asked by bundles.

    Args:
        boxes: where bundles lie.
        roster: the consortium.
        study: the study that is asked about.
        patience_seconds: how long a reply is waited for at least: sticks travel in hours or days.
        tell: the study's event log.
        look: called at every look for answers; what it raises ends the wait.
        ahead: what goes ahead of a request in its bundle.
    """

    def __init__(
        self,
        boxes: Boxes,
        roster: Roster,
        study: str,
        *,
        patience_seconds: float,
        tell: Callable[..., None],
        look: Callable[[], None] = lambda: None,
        ahead: Callable[[bytes], Ahead] = nothing_ahead,
    ) -> None:
        self._boxes, self._roster, self._study = boxes, roster, study
        self._patience, self._tell, self._look, self._ahead = patience_seconds, tell, look, ahead

    def ask(self, requests: Mapping[str, bytes], deadline_seconds: float) -> Iterator[Arrived]:
        """Lay the requests out, and give replies as they are taken in."""
        end = time.monotonic() + max(deadline_seconds, self._patience)
        waiting = {}
        for hospital, frame in requests.items():
            path, waiting[hospital] = self._boxes.put(self._roster, hospital, self._study, frame, self._ahead(frame))
            if not self._boxes.answered(hospital, waiting[hospital]):
                self._tell("carry", hospital=hospital, bundle=str(path), words=words_for(hospital, path))
        return self._looks(waiting, end)

    def _looks(self, waiting: dict[str, str], end: float) -> Iterator[Arrived]:
        while True:
            self._look()
            replies = {hospital: self._boxes.reply(hospital, request) for hospital, request in waiting.items()}
            arrived = {hospital: frame for hospital, frame in replies.items() if frame is not None}
            for hospital in arrived:
                del waiting[hospital]
            yield arrived
            if not waiting or time.monotonic() >= end:
                return
            time.sleep(POLL_SECONDS)


class MixedFleet:
    """Some hospitals over the network, the others by files.

    Args:
        line: reaches those with a line.
        files: reaches the others.
        by_files: who they are.
    """

    def __init__(self, line: Fleet, files: Fleet, by_files: frozenset[str]) -> None:
        self._line, self._files, self._by_files = line, files, by_files

    def ask(self, requests: Mapping[str, bytes], deadline_seconds: float) -> Iterator[Arrived]:
        """Ask both; every look gives what has arrived at either."""
        parts = [
            (self._line, _only(requests, [one for one in requests if one not in self._by_files])),
            (self._files, _only(requests, [one for one in requests if one in self._by_files])),
        ]
        return _joined([fleet.ask(frames, deadline_seconds) for fleet, frames in parts if frames])


def _only(requests: Mapping[str, bytes], hospitals: list[str]) -> Mapping[str, bytes]:
    """Frames of some of the hospitals."""
    return requests.of(hospitals) if isinstance(requests, Frames) else {one: requests[one] for one in hospitals}


def _joined(looks: list[Iterator[Arrived]]) -> Iterator[Arrived]:
    while looks:
        for look in tuple(looks):
            arrived = next(look, None)
            if arrived is None:
                looks.remove(look)
            else:
                yield arrived


def words_for(hospital: str, path: Path) -> str:
    """What somebody has to do, in a line."""
    return f"waiting for {path.name} of {hospital} to be carried"
