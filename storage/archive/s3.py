"""Buckets behind the archive port, on anything that speaks S3.

What a server can do is found out by asking it, once, before the first object is put: whether it
refuses to replace an object (If-None-Match: *, RFC 9110 section 13.1.2) and whether it compares
the SHA-256 that goes with an upload (x-amz-checksum-sha256). A server that cannot is asked
before each put what it has, and everything is read back.
"""

from __future__ import annotations

import contextlib
import hashlib
import threading
import time
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

import structlog
from botocore.exceptions import BotoCoreError

from config.model import Archive as Settings
from storage.archive.blocking import CHUNK, THREADS, Threads, opened
from storage.archive.port import (
    MARKER_KEY,
    ArchiveConflict,
    ArchiveError,
    Entry,
    Fault,
    ObjectExists,
    ObjectNotFound,
    Put,
    compare_ids,
    parse_marker,
)
from storage.archive.s3_client import (
    READ_S,
    Patience,
    S3Client,
    Unsupported,
    UploadTimeout,
    describe_error,
)
from storage.records import sha256_of

OWN = "_kuager/"  # what is ours alone: no election has such an id
PROBE = OWN + "probe"
EXAMINE_S = 60.0  # between two looks at the marker before something is put

log = structlog.get_logger()


class S3Archive(Threads):
    """A bucket, or several that share the cameras, or a prefix in them."""

    def __init__(self, settings: Settings, patience: Patience = Patience()):
        self.buckets = settings.buckets
        super().__init__(THREADS * len(self.buckets))  # one that hangs leaves the others theirs
        self._patience = patience
        self.name, self._settings = settings.name, settings
        self.expected_id: str | None = None
        self._examined_s = float("-inf")
        self._server = S3Client(settings)
        self._probing = threading.Lock()
        self._refuses_to_replace: bool | None = None  # not asked yet
        self._compares_sha256 = False
        # grow where the link is so slow that nothing arrives in time
        self._factors = {"put": 1.0, "get": 1.0}

    @property
    def refuses_to_replace(self) -> bool:
        """See Archive."""
        return self._refuses_to_replace is True

    @property
    def server_time(self) -> tuple[int, float] | None:
        """See Archive."""
        return self._server.server_time

    # -- putting -------------------------------------------------------------------------

    async def put(
        self,
        key: str,
        data: bytes | Path,
        sha256: str,
        locked_until_ms: int | None = None,
        *,
        replace: bool = False,
    ) -> Put:
        """See Archive."""
        return await self._run(self._put, key, data, sha256, locked_until_ms, replace)

    def _put(
        self, key: str, data: bytes | Path, sha256: str, locked_until_ms: int | None, replace: bool
    ) -> Put:
        with self._probing:
            if self._refuses_to_replace is None:
                self._probe()
            if time.monotonic() - self._examined_s > EXAMINE_S:
                self._check_id()
        bucket, extra = self.bucket_of(key), dict[str, Any]()
        if self._refuses_to_replace and not replace:
            extra["IfNoneMatch"] = "*"
        elif not replace and (found := self._there(bucket, key, sha256)):
            return found
        settings = self._settings
        if settings.storage_class:
            extra["StorageClass"] = settings.storage_class
        if settings.lock and locked_until_ms is not None:
            until = datetime.fromtimestamp(locked_until_ms / 1000, UTC)
            extra |= {"ObjectLockMode": settings.lock.upper(), "ObjectLockRetainUntilDate": until}
        with opened(data) as file:
            seconds = self._seconds("put", file.length)
            try:
                answer = self._server.call(
                    "put_object", bucket, key, seconds, file, sha256, **extra
                )
            except UploadTimeout:
                raise self._late("put", file.length, seconds) from None
            except ObjectExists:
                if (found := self._there(bucket, key, sha256)) is None:
                    text = f"{self._server.where}: {key} is said to exist and is not there"
                    raise ArchiveError(text, Fault.ALTERED) from None
                return found
        self._factors["put"] = 1.0
        verified: Literal["", "by the server"] = "by the server" if self._compares_sha256 else ""
        return Put(bucket, verified, answer.get("ETag", ""), answer.get("VersionId"))

    def _there(self, bucket: str, key: str, sha256: str) -> Put | None:
        """Return an object that is there with these bytes; raises ArchiveConflict with others."""
        found, answer = self._digest(key, bucket)
        if found is None:
            return None
        if found != sha256:
            raise ArchiveConflict(f"{self._server.where}: {key} exists and holds other bytes")
        return Put(bucket, "read back", answer.get("ETag", ""), answer.get("VersionId"))

    def _seconds(self, way: str, length: int) -> float:
        return self._patience.seconds(length) * self._factors[way]

    def _late(self, way: str, length: int, seconds: float) -> ArchiveError:
        """Be more patient the next time; return what to say now."""
        self._factors[way] = min(self._factors[way] * 2, 64)
        return ArchiveError(
            f"{self._server.where}: {length:,} bytes did not arrive in {seconds:.0f} s: "
            "the bucket or the way to it is too slow",
            Fault.SLOW,
        )

    def _probe(self) -> None:
        """Find out what the server can do, with two small objects outside every election."""
        self._check_lock()
        bucket, data = self._settings.buckets[0], b"kuager\n"
        right, wrong = (sha256_of(d) for d in (data, b"other"))
        self._server.sends_sha256 = True  # whatever a probe found out that was broken off
        self._server.sends_sha256 = self._takes(bucket, PROBE, data, right)
        if not self._server.sends_sha256:
            self._takes(bucket, PROBE, data, right)  # there has to be something to replace
        compares = self._server.sends_sha256 and not self._takes(
            bucket, PROBE + "-sha256", data, wrong
        )
        try:
            self._takes(bucket, PROBE, data, right, IfNoneMatch="*")
            refuses = False
        except ObjectExists:
            refuses = True
        self._refuses_to_replace, self._compares_sha256 = refuses, compares
        log.info(
            "What the archive can do",
            archive=self.name,
            refuses_to_replace=refuses,
            compares_sha256=compares,
        )

    async def check_lock(self) -> None:
        """See Archive."""
        await self._run(self._check_lock)

    def _check_lock(self) -> None:
        """Raise ArchiveError where a bucket takes retention dates and does not keep to them."""
        for bucket in self._settings.buckets if self._settings.lock else ():
            found: dict[str, Any] = {}
            with contextlib.suppress(ObjectNotFound):  # 404: the bucket has no such configuration
                found = self._server.call("get_object_lock_configuration", bucket)
            if found.get("ObjectLockConfiguration", {}).get("ObjectLockEnabled") != "Enabled":
                raise ArchiveError(
                    f"{self._server.where}: object lock is not on in {bucket}: create the bucket "
                    "with object lock, or remove 'lock'",
                    Fault.BUCKET,
                )

    def _takes(self, bucket: str, key: str, data: bytes, sha256: str, **extra: Any) -> bool:
        """Say whether the server takes such a put; raises ArchiveError where it takes none."""
        try:
            with opened(data) as file:
                self._server.call("put_object", bucket, key, READ_S, file, sha256, **extra)
        except Unsupported:
            return False
        except UploadTimeout:
            raise self._late("put", len(data), READ_S) from None
        return True

    def bucket_of(self, key: str) -> str:
        """Return the bucket of a camera: the highest random weight (Thaler and Ravishankar 1998).

        A bucket that is added later takes its share from all and moves nothing else. What is ours
        alone is in the first.
        """
        if key.startswith(OWN):
            return self.buckets[0]
        camera = "/".join(key.split("/")[:3])
        return max(
            self._settings.buckets,
            key=lambda bucket: hashlib.sha256(f"{bucket}\n{camera}".encode()).digest(),
        )

    async def check_id(self) -> None:
        """See Archive."""
        await self._run(self._check_id)

    def _check_id(self) -> None:
        if self.expected_id is not None:
            parts: list[bytes] = []
            try:
                self._read(MARKER_KEY, "", parts.append)
            except ObjectNotFound:
                compare_ids(None, self.expected_id, self._server.where)
            found = parse_marker(b"".join(parts), self._server.where)
            compare_ids(found, self.expected_id, self._server.where)
            self._examined_s = time.monotonic()

    # -- getting -------------------------------------------------------------------------

    async def get(
        self, key: str, offset: int = 0, length: int | None = None, *, bucket: str = ""
    ) -> bytes:
        """See Archive."""

        def read() -> bytes:
            end = "" if length is None else str(offset + length - 1)
            extra = {"Range": f"bytes={offset}-{end}"} if offset or end else {}
            parts: list[bytes] = []
            answer = self._read(key, bucket, parts.append, **extra)
            data = b"".join(parts)
            if extra and "ContentRange" not in answer:
                # all of it: a server, or a proxy before it, may ignore a Range (RFC 9110, 14.2)
                return data[offset:] if length is None else data[offset : offset + length]
            return data

        return await self._run(read)

    async def etag(self, key: str, *, bucket: str = "") -> str | None:
        """See Archive."""
        found = await self._run(self._head, key, bucket)
        return None if found is None else str(found.get("ETag", ""))

    async def version_id(self, key: str, *, bucket: str = "") -> str | None:
        """See Archive."""
        found = await self._run(self._head, key, bucket)
        return None if found is None else found.get("VersionId")

    def _head(self, key: str, bucket: str) -> dict[str, Any] | None:
        try:
            found = self._server.call("head_object", bucket or self.bucket_of(key), key)
        except ObjectNotFound:
            return None
        return dict(found)

    async def sha256(self, key: str, *, bucket: str = "") -> str | None:
        """See Archive."""
        return (await self._run(self._digest, key, bucket))[0]

    def _digest(self, key: str, bucket: str) -> tuple[str | None, Any]:
        """Return an object's SHA-256, None without one, and the head of the answer."""
        digest = hashlib.sha256()
        try:
            answer = self._read(key, bucket, digest.update)
        except ObjectNotFound:
            return None, None
        return digest.hexdigest(), answer

    def _read(
        self, key: str, bucket: str, take: Callable[[bytes], object], **arguments: Any
    ) -> Any:
        """Read an object, or a range of it, whole; return the head of the answer."""
        answer = self._server.call("get_object", bucket or self.bucket_of(key), key, **arguments)
        length = answer.get("ContentLength", 0)
        seconds = self._seconds("get", length)
        until = time.monotonic() + seconds
        with contextlib.closing(answer["Body"]) as body:
            try:
                while chunk := body.read(CHUNK):
                    take(chunk)
                    if time.monotonic() > until:
                        raise self._late("get", length, seconds)
            except (BotoCoreError, OSError) as error:
                fault, text = describe_error(error)
                raise ArchiveError(
                    f"{self._server.where}: {key} could not be read to its end: {text}", fault
                ) from None
        self._factors["get"] = 1.0
        return answer

    async def entries(self, prefix: str) -> AsyncIterator[Entry]:
        """See Archive."""
        async for bucket, page in self._pages(prefix):
            for found in page.get("Contents", []):
                stored_ms = int(found["LastModified"].timestamp() * 1000)
                yield Entry(
                    found["Key"][len(self._server.prefix) :], bucket, found["Size"], stored_ms
                )

    async def below(self, prefix: str) -> list[str]:
        """See Archive."""
        found: set[str] = set()
        async for _, page in self._pages(prefix, Delimiter="/"):
            found |= {p["Prefix"].split("/")[-2] for p in page.get("CommonPrefixes", [])}
        return sorted(found)

    async def _pages(self, prefix: str, **more: Any) -> AsyncIterator[tuple[str, Any]]:
        for bucket in self._settings.buckets:
            at: dict[str, Any] = {"Prefix": self._server.prefix + prefix} | more
            while True:
                page = await self._run(self._server.call, "list_objects_v2", bucket, **at)
                yield bucket, page
                if not page.get("IsTruncated"):
                    break
                token = page.get("NextContinuationToken")
                if token in (None, at.get("ContinuationToken")):
                    text = "its list says that it goes on, and not where"
                    raise ArchiveError(f"{self._server.where}: {text}")
                at["ContinuationToken"] = token

    async def remove(self, key: str, *, bucket: str = "", version_id: str | None = None) -> None:
        """See Archive."""
        extra: dict[str, Any] = {"VersionId": version_id} if version_id else {}

        def delete() -> None:
            with contextlib.suppress(ObjectNotFound):
                self._server.call("delete_object", bucket or self.bucket_of(key), key, **extra)

        await self._run(delete)
