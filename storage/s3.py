"""Buckets behind the archive port, on anything that speaks S3.

What a server can do is found out by asking it, once, before the first object is put: whether it
refuses to replace an object (If-None-Match: *, RFC 9110 section 13.1.2) and whether it compares
the SHA-256 that goes with an upload (x-amz-checksum-sha256). A server that cannot is asked
before each put what it has, and everything is read back.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import io
import threading
import time
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime
from typing import Any, Literal

import boto3
import structlog
from botocore.client import BaseClient
from botocore.config import Config as BotoConfig
from botocore.exceptions import BotoCoreError, ClientError, ReadTimeoutError

from config.model import Archive as Settings
from storage.archive import (
    CHUNK,
    THREADS,
    ArchiveConflict,
    ArchiveError,
    Entry,
    Put,
    Threads,
)

# The kernel takes megabytes for the server before we notice that it is slow: the answer may
# take as long as a slow link needs for those.
CONNECT_S, READ_S = 10, 120
PATIENCE_S, SLOWEST = 60.0, 50_000  # an object may take this long, and this many bytes a second
_UNSUPPORTED = (
    "BadDigest",
    "InvalidArgument",
    "InvalidDigest",
    "InvalidRequest",
    "NotImplemented",
    "XAmzContentChecksumMismatch",
    "XAmzContentSHA256Mismatch",
)
PROBE = "_kuager/probe"  # no election has such an id

log = structlog.get_logger()


class _Body(io.BytesIO):
    """Bytes to send that give up when their time is over: sockets only time out each write."""

    def __init__(self, data: bytes, seconds: float):
        super().__init__(data)
        self._until = time.monotonic() + seconds
        self.late = False

    def read(self, size: int | None = -1, /) -> bytes:
        self.late = time.monotonic() > self._until
        if self.late:
            raise TimeoutError
        return super().read(size)


class _Late(Exception):
    """Not all bytes arrived in time."""


class S3Archive(Threads):
    """A bucket, or several that share the cameras, or a prefix in them."""

    def __init__(self, settings: Settings):
        super().__init__()
        self.name, self._settings = settings.name, settings
        self._prefix = f"{settings.prefix}/" if settings.prefix else ""
        self._where = settings.url + (f" at {settings.endpoint}" if settings.endpoint else "")
        self._asking = threading.Lock()
        self._refuses_to_replace: bool | None = None  # not asked yet
        self._sends_sha256, self._compares_sha256 = True, False
        self._patience = 1.0  # grows where the link is so slow that nothing arrives in time
        secret = settings.secret_access_key
        session = boto3.Session(
            aws_access_key_id=settings.access_key_id,
            aws_secret_access_key=secret.get_secret_value() if secret else None,
            region_name=settings.region,
            profile_name=settings.profile,
        )
        self._client: BaseClient = session.client(
            "s3",
            endpoint_url=settings.endpoint,
            config=BotoConfig(
                signature_version="s3v4",
                s3={"addressing_style": "path" if settings.endpoint else "auto"},
                connect_timeout=CONNECT_S,
                read_timeout=READ_S,
                retries={"total_max_attempts": 1},  # the uploader retries, for ever
                max_pool_connections=THREADS,
                # SHA-256 is given with each put; other checksums not every server knows
                request_checksum_calculation="when_required",
                response_checksum_validation="when_required",
            ),
        )

    # -- putting -------------------------------------------------------------------------

    async def put(
        self,
        key: str,
        data: bytes,
        sha256: str,
        locked_until_ms: int | None = None,
        *,
        replace: bool = False,
    ) -> Put:
        """See Archive."""
        return await self._run(self._put, key, data, sha256, locked_until_ms, replace)

    def _put(
        self, key: str, data: bytes, sha256: str, locked_until_ms: int | None, replace: bool
    ) -> Put:
        with self._asking:
            if self._refuses_to_replace is None:
                self._ask()
        bucket, extra = self._bucket_of(key), dict[str, Any]()
        if self._refuses_to_replace and not replace:
            extra["IfNoneMatch"] = "*"
        elif not replace and self._is_there(bucket, key, sha256):
            return Put(bucket, "read back")
        settings = self._settings
        if settings.storage_class:
            extra["StorageClass"] = settings.storage_class
        if settings.encryption:
            extra["ServerSideEncryption"] = settings.encryption
        if settings.kms_key_id:
            extra["SSEKMSKeyId"] = settings.kms_key_id
        if settings.lock and locked_until_ms is not None:
            until = datetime.fromtimestamp(locked_until_ms / 1000, UTC)
            extra |= {
                "ObjectLockMode": settings.lock.upper(),
                "ObjectLockRetainUntilDate": until,
            }
        seconds = (PATIENCE_S + len(data) / SLOWEST) * self._patience
        try:
            answer = self._call("put_object", bucket, key, seconds, data, sha256, **extra)
        except _Late:
            self._patience = min(self._patience * 2, 64)
            raise ArchiveError(
                f"{self._where}: {len(data):,} bytes did not arrive in {seconds:.0f} s: "
                "the bucket or the way to it is too slow"
            ) from None
        except FileExistsError:
            if not self._is_there(bucket, key, sha256):
                raise ArchiveError(
                    f"{self._where}: {key} is said to exist and is not there"
                ) from None
            return Put(bucket, "read back")
        self._patience = 1.0
        verified: Literal["", "by the server"] = "by the server" if self._compares_sha256 else ""
        return Put(bucket, verified, answer.get("VersionId"))

    def _is_there(self, bucket: str, key: str, sha256: str) -> bool:
        """Say whether an object is there with these bytes; raises ArchiveConflict with others."""
        found = self._sha256(key, bucket)
        if found not in (None, sha256):
            raise ArchiveConflict(f"{self._where}: {key} exists and holds other bytes")
        return found is not None

    def _ask(self) -> None:
        """Find out what the server can do, with two small objects outside every election."""
        bucket, data = self._settings.buckets[0], b"kuager\n"
        right, wrong = (hashlib.sha256(d).hexdigest() for d in (data, b"other"))
        self._sends_sha256 = self._takes(bucket, PROBE, data, right)
        compares = self._sends_sha256 and not self._takes(bucket, PROBE + "-sha256", data, wrong)
        try:
            self._takes(bucket, PROBE, data, right, IfNoneMatch="*")
            refuses = False
        except FileExistsError:
            refuses = True
        self._refuses_to_replace, self._compares_sha256 = refuses, compares
        log.info(
            "What the archive can do",
            archive=self.name,
            refuses_to_replace=refuses,
            compares_sha256=compares,
        )

    def _takes(self, bucket: str, key: str, data: bytes, sha256: str, **extra: Any) -> bool:
        """Say whether the server takes such a put; raises ArchiveError where it takes none."""
        try:
            self._call("put_object", bucket, key, READ_S, data, sha256, **extra)
        except _Unsupported:
            return False
        return True

    def _bucket_of(self, key: str) -> str:
        """Return the bucket of a camera: the highest random weight (Thaler and Ravishankar 1998).

        A bucket that is added later takes its share from all and moves nothing else.
        """
        camera = "/".join(key.split("/")[:3])
        return max(
            self._settings.buckets,
            key=lambda bucket: hashlib.sha256(f"{bucket}\n{camera}".encode()).digest(),
        )

    # -- getting -------------------------------------------------------------------------

    async def get(
        self, key: str, offset: int = 0, length: int | None = None, *, bucket: str = ""
    ) -> bytes:
        """See Archive."""

        def read() -> bytes:
            end = "" if length is None else str(offset + length - 1)
            parts: list[bytes] = []
            self._read(key, bucket, parts.append, Range=f"bytes={offset}-{end}")
            return b"".join(parts)

        return await self._run(read)

    async def sha256(self, key: str, *, bucket: str = "") -> str | None:
        """See Archive."""
        return await self._run(self._sha256, key, bucket)

    def _sha256(self, key: str, bucket: str) -> str | None:
        digest = hashlib.sha256()
        try:
            self._read(key, bucket, digest.update)
        except KeyError:
            return None
        return digest.hexdigest()

    def _read(
        self, key: str, bucket: str, take: Callable[[bytes], object], **arguments: Any
    ) -> None:
        answer = self._call("get_object", bucket or self._bucket_of(key), key, **arguments)
        until = time.monotonic() + PATIENCE_S + answer["ContentLength"] / SLOWEST
        try:
            while chunk := answer["Body"].read(CHUNK):
                take(chunk)
                if time.monotonic() > until:
                    answer["Body"].close()
                    raise ArchiveError(f"{self._where}: too slow while reading {key}")
        except (BotoCoreError, OSError) as error:
            raise ArchiveError(f"{self._where}: {type(error).__name__} while reading") from None

    async def entries(self, prefix: str) -> AsyncIterator[Entry]:
        """See Archive."""
        async for bucket, page in self._pages(prefix):
            for found in page.get("Contents", []):
                stored_ms = int(found["LastModified"].timestamp() * 1000)
                yield Entry(found["Key"][len(self._prefix) :], bucket, found["Size"], stored_ms)

    async def below(self, prefix: str) -> list[str]:
        """See Archive."""
        found: set[str] = set()
        async for _, page in self._pages(prefix, Delimiter="/"):
            found |= {p["Prefix"].split("/")[-2] for p in page.get("CommonPrefixes", [])}
        return sorted(found)

    async def _pages(self, prefix: str, **more: Any) -> AsyncIterator[tuple[str, Any]]:
        for bucket in self._settings.buckets:
            at: dict[str, Any] = {"Prefix": self._prefix + prefix} | more
            while True:
                page = await self._run(self._call, "list_objects_v2", bucket, **at)
                yield bucket, page
                if not page.get("IsTruncated"):
                    break
                at["ContinuationToken"] = page["NextContinuationToken"]

    async def remove(self, key: str, *, bucket: str = "", version_id: str | None = None) -> None:
        """See Archive."""
        extra: dict[str, Any] = {"VersionId": version_id} if version_id else {}

        def delete() -> None:
            with contextlib.suppress(KeyError):
                self._call("delete_object", bucket or self._bucket_of(key), key, **extra)

        await self._run(delete)

    # -- asking --------------------------------------------------------------------------

    def _call(
        self,
        name: str,
        bucket: str,
        key: str | None = None,
        seconds: float = 0,
        data: bytes | None = None,
        sha256: str = "",
        **arguments: Any,
    ) -> Any:
        """Ask the server; raises KeyError, FileExistsError, _Late, ArchiveError."""
        if key is not None:
            arguments["Key"] = self._prefix + key
        body = None
        if data is not None:
            arguments["Body"] = body = _Body(data, seconds)
            if self._sends_sha256:
                arguments["ChecksumSHA256"] = base64.b64encode(bytes.fromhex(sha256)).decode()
        try:
            return getattr(self._client, name)(Bucket=bucket, **arguments)
        except ClientError as error:
            code = error.response.get("Error", {}).get("Code", "")
            status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
            if code in ("NoSuchKey", "404") or (status == 404 and code != "NoSuchBucket"):
                raise KeyError(key) from None
            if status == 412 and "IfNoneMatch" in arguments:
                raise FileExistsError(key) from None
            kind = _Unsupported if code in _UNSUPPORTED or status == 501 else ArchiveError
            raise kind(f"{self._where}: {_advice(code, status)}") from None
        except (BotoCoreError, OSError) as error:
            if body is not None and body.late:
                raise _Late from None
            late = isinstance(error, ReadTimeoutError)
            what = f"gave no answer in {READ_S} s: too slow" if late else "cannot be reached"
            raise ArchiveError(f"{self._where}: {type(error).__name__}: {what}") from None


class _Unsupported(ArchiveError):
    """The server understood the request and does not take it."""


def _advice(code: str, status: int) -> str:
    for codes, text in (
        (
            ("InvalidAccessKeyId", "SignatureDoesNotMatch"),
            "the key is refused: check the credentials",
        ),
        (("AccessDenied", "403"), "access is denied: the key may not write here"),
        (("NoSuchBucket",), "there is no such bucket: create it or correct the name"),
        (
            ("RequestTimeTooSkewed",),
            "its clock and this machine's differ too much: set both by NTP",
        ),
        (("BadDigest", "XAmzContentChecksumMismatch"), "other bytes arrived than were sent"),
        (("SlowDown", "ServiceUnavailable"), "is overloaded"),
    ):
        if code in codes:
            return f"{text} ({code})"
    return f"answers {status} {code}"
