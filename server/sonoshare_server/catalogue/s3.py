"""Releases in an object store that speaks S3: several servers serve them, and none has a disk of its own.

    SONOSHARE_BLOBS=s3://bucket/folder?endpoint=https://store.example.org      keys as boto3 finds them (environment, …)

A release is kept below ``releases/R/MANIFEST-DIGEST/``: another manifest never overwrites it, and the same one again
changes nothing. Each file is compared with its sha256, sent with it, so that the store can refuse what did not arrive
whole, and asked for afterwards. A release is shown only when ``keep`` has come back, so nobody sees half of one. Places
that are none of the store's are left to the folder.

A store that does not answer, or gives nothing out (``AccessDenied``, ``SlowDown``), is said to do that: a file is
`missing` only where the store itself says that it has none of that name. One call waits ``_CONNECT_SECONDS`` for a
connection and ``_READ_SECONDS`` for the next bytes, ``_ATTEMPTS`` times at most.
"""

import base64
from collections.abc import Mapping
from io import FileIO
from pathlib import Path
from typing import Any, Final
from urllib.parse import parse_qs, urlsplit

from sonoshare_server.catalogue.blobs import Blobs
from sonoshare_server.catalogue.store import StoredFile
from sonoshare_shared.errors import FederationError, InputError, StorageError, VerificationError
from sonoshare_shared.protocol.canonical import sha256_hex
from sonoshare_shared.protocol.release import layout
from sonoshare_shared.protocol.release.paths import read_regular

_PLACE: Final = "s3:"
_GONE: Final = frozenset({"NoSuchKey", "404"})
_BEYOND: Final = frozenset({"InvalidRange", "416"})
_CONNECTIONS: Final = 50
_CONNECT_SECONDS: Final = 3
_READ_SECONDS: Final = 20
_ATTEMPTS: Final = 2


class S3Blobs:
    """Releases in a bucket.

    Args:
        url: bucket, folder and endpoint, see above.
        folder: serves the places that are not in the bucket.

    Raises:
        InputError: the URL names no bucket.
    """

    def __init__(self, url: str, folder: Blobs) -> None:
        parts = urlsplit(url)
        if parts.scheme != "s3" or not parts.netloc:
            raise InputError(
                "SONOSHARE_BLOBS names no bucket", remedy="write s3://bucket/folder?endpoint=https://store.example.org"
            )
        import boto3  # noqa: PLC0415 - takes a while to load, and most catalogues have a folder
        import botocore.exceptions as refusals  # noqa: PLC0415
        from botocore.config import Config  # noqa: PLC0415

        endpoint = parse_qs(parts.query).get("endpoint", [None])[0]
        self._refused: type[Exception] = refusals.ClientError
        self._unreachable: type[Exception] = refusals.BotoCoreError
        self._bucket, self._prefix, self._folder = parts.netloc, parts.path.strip("/"), folder
        patience = Config(
            max_pool_connections=_CONNECTIONS,
            connect_timeout=_CONNECT_SECONDS,
            read_timeout=_READ_SECONDS,
            retries={"total_max_attempts": _ATTEMPTS, "mode": "standard"},
        )
        self._client: Any = boto3.client("s3", endpoint_url=endpoint, config=patience)

    def keep(self, bundle: Path, files: Mapping[str, StoredFile]) -> str:
        """Send every file of a verified release folder, and return its place."""
        place = f"{_PLACE}releases/{bundle.name}/{files[layout.MANIFEST].sha256}"
        for file in files.values():
            key, digest = self._key(place, file.path), base64.b64encode(bytes.fromhex(file.sha256)).decode()
            data = read_regular(bundle, file.path, file.size)
            if sha256_hex(data) != file.sha256:
                raise VerificationError("file-digest", f"{file.path} has changed since it was verified")
            try:
                self._client.put_object(Bucket=self._bucket, Key=key, Body=data, ChecksumSHA256=digest)
                kept = self._client.head_object(Bucket=self._bucket, Key=key, ChecksumMode="ENABLED")
            except (self._refused, self._unreachable) as error:
                raise FederationError(
                    f"the object store does not take {file.path}: {_code(error)}", remedy="check SONOSHARE_BLOBS"
                ) from error
            if (kept["ContentLength"], kept.get("ChecksumSHA256", digest)) != (file.size, digest):
                raise VerificationError("file-size", f"{file.path} is not whole in the object store")
        return place

    def read(self, place: str, path: str, start: int, end: int) -> bytes:
        """A part of a file."""
        if not place.startswith(_PLACE):
            return self._folder.read(place, path, start, end)
        asked = {"Bucket": self._bucket, "Key": self._key(place, path)}
        try:
            if start >= end:
                self._client.head_object(**asked)
                return b""
            answer = self._client.get_object(**asked, Range=f"bytes={start}-{end - 1}")
            return bytes(answer["Body"].read())
        except self._refused as error:
            if _code(error) in _BEYOND:
                return b""
            if _code(error) in _GONE:
                raise VerificationError("file-missing", f"{path} is missing") from error
            raise _silent(error) from error
        except self._unreachable as error:
            raise _silent(error) from error

    def opened(self, place: str, path: str) -> FileIO | None:
        """A file that lies in the folder."""
        return None if place.startswith(_PLACE) else self._folder.opened(place, path)

    def require_reachable(self) -> None:
        """Ask for the bucket."""
        try:
            self._client.head_bucket(Bucket=self._bucket)
        except (self._refused, self._unreachable) as error:
            raise _silent(error) from error

    def _key(self, place: str, path: str) -> str:
        return "/".join(part for part in (self._prefix, place.removeprefix(_PLACE), path) if part)


def _silent(error: Exception) -> StorageError:
    return StorageError(f"the object store does not give files out: {_code(error)}", remedy="check SONOSHARE_BLOBS")


def _code(error: Exception) -> str:
    answer = getattr(error, "response", {})
    return str(answer.get("Error", {}).get("Code", type(error).__name__))
