"""One file over HTTP: strong ETag, 304, one range (206), If-Range, 416, and its digest in a header.

A request for several ranges, or a malformed one, is answered with the whole file, as RFC 9110 section 14.2 allows:
so no request makes the answer larger than the file. The ETag is the sha256 of the whole file; ``Repr-Digest``
(RFC 9530) repeats it.
"""

import base64
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Final

from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from sonoshare_server.catalogue.blobs import Blobs
from sonoshare_server.catalogue.sending import blocks_of
from sonoshare_server.catalogue.store import StoredFile
from sonoshare_shared.errors import StorageError, VerificationError
from sonoshare_shared.protocol.release import layout

_WHOLE_BYTES: Final = 512 << 10
_BLOCK_BYTES: Final = 1 << 20
_RANGE: Final = re.compile(r"bytes=(\d{0,18})-(\d{0,18})\Z", re.ASCII)
_TYPES: Final = {
    ".png": "image/png",
    ".csv": "text/csv; charset=utf-8",
    ".json": "application/json",
    ".html": "text/html; charset=utf-8",
    ".md": "text/markdown; charset=utf-8",
    ".txt": "text/plain; charset=utf-8",
}
# A report is a document of its own, with its own style and nothing else.
_REPORT_POLICY: Final = (
    "default-src 'none'; style-src 'unsafe-inline'; sandbox; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)


def file_response(request: Request, blobs: Blobs, place: str, file: StoredFile) -> Response:
    """Answer GET or HEAD for a file.

    Raises:
        VerificationError: the file is gone from the disk, or is no plain file.
        StorageError: where files are kept does not answer.
    """
    etag = f'"{file.sha256}"'
    headers = {
        "ETag": etag,
        "Accept-Ranges": "bytes",
        "Repr-Digest": f"sha-256=:{base64.b64encode(bytes.fromhex(file.sha256)).decode()}:",
        "Cache-Control": "public, no-cache" if layout.is_public(file.path) else "private, no-cache",
        "Vary": "Authorization",
    }
    suffix = PurePosixPath(file.path).suffix
    if suffix == ".html":
        headers["Content-Security-Policy"] = _REPORT_POLICY
    if _matches(request.headers.get("if-none-match", ""), etag):
        return Response(status_code=304, headers=headers)
    headers["Content-Type"] = media_type(file.path)
    wanted = requested_range(request.headers.get("range"), file.size)
    if request.headers.get("if-range", etag) != etag:
        wanted = None
    if wanted is None:
        headers["Content-Length"] = str(file.size)
        return _answer(request, Part(blobs, place, file.path, 0, file.size), headers, status=200)
    start, end = wanted
    if start >= end:
        return Response(status_code=416, headers=headers | {"Content-Range": f"bytes */{file.size}"})
    headers["Content-Range"] = f"bytes {start}-{end - 1}/{file.size}"
    headers["Content-Length"] = str(end - start)
    return _answer(request, Part(blobs, place, file.path, start, end), headers, status=206)


def media_type(path: str) -> str:
    """What kind of file it is, by its name."""
    return _TYPES.get(PurePosixPath(path).suffix, "application/octet-stream")


def requested_range(header: str | None, size: int) -> tuple[int, int] | None:
    """Start and end (exclusive) of the one range asked for, empty when it lies outside the file.

    None asks for the whole: no header, a malformed or reversed one, or several ranges.
    """
    match = _RANGE.match(header.strip()) if header else None
    if match is None or match.groups() == ("", ""):
        return None
    first, last = match.groups()
    if not first:
        return max(0, size - int(last)), size
    if last and int(last) < int(first):
        return None
    return min(int(first), size), min(int(last) + 1, size) if last else size


def _matches(header: str, etag: str) -> bool:
    tags = [tag.strip().removeprefix("W/") for tag in header.split(",")]
    return etag in tags or header.strip() == "*"


@dataclass(frozen=True)
class Part:
    """Bytes ``start`` to ``end`` of a file of a release."""

    blobs: Blobs
    place: str
    path: str
    start: int
    end: int

    def first(self, count: int) -> bytes:
        """The first bytes."""
        return self.blobs.read(self.place, self.path, self.start, min(self.start + count, self.end))

    def blocks(self, begun: bytes) -> Iterator[bytes]:
        """All bytes, in blocks; they end early where the file is shorter than it was, or its store is silent now.

        Args:
            begun: the first of them.
        """
        start, block = self.start, begun
        while block:
            yield block
            start += len(block)
            if start >= self.end:
                return
            try:
                block = self.blobs.read(self.place, self.path, start, min(start + _BLOCK_BYTES, self.end))
            except (StorageError, VerificationError):
                return  # status and length were said: the reader sees that it is not whole, and asks for the rest


def _answer(request: Request, part: Part, headers: dict[str, str], *, status: int) -> Response:
    if request.method == "HEAD":
        return Response(status_code=status, headers=headers)
    if part.end - part.start <= _WHOLE_BYTES:
        return Response(part.first(_WHOLE_BYTES), status, headers)
    file = part.blobs.opened(part.place, part.path)
    if file is not None:
        return StreamingResponse(blocks_of(file, part.start, part.end), status, headers)
    data = part.first(_BLOCK_BYTES)
    return StreamingResponse(part.blocks(data), status, headers)
