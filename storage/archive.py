"""The port to where recordings are kept for good, with a directory and S3 behind it.

An object is never replaced by another: the key holds the recording's number, so a second object
under the same key is either the same bytes (a crash before the commit) or an error.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any, Protocol, TypeVar

import boto3
from botocore.client import BaseClient
from botocore.config import Config as BotoConfig
from botocore.exceptions import BotoCoreError, ClientError

from config.model import Archive as ArchiveSettings

T = TypeVar("T")
THREADS = 8
CONNECT_S, READ_S = 5, 30
CHUNK = 1 << 20


class ArchiveError(RuntimeError):
    """The archive refuses or cannot be reached; the text says what to do, without secrets."""


class ArchiveConflict(ArchiveError):
    """The key holds other bytes than the ones to be put there."""


class Archive(Protocol):
    """Objects by key. All methods raise ArchiveError; a missing object is None or an error."""

    async def put(self, key: str, data: bytes) -> None:
        """Store a file or bytes whole; raises ArchiveConflict rather than replace others."""

    async def get(self, key: str, offset: int = 0, length: int | None = None) -> bytes:
        """Return a range of an object; raises KeyError when there is none."""
        ...

    async def sha256(self, key: str) -> str | None:
        """Read an object back and return its hash; None when there is none."""
        ...

    async def size(self, key: str) -> int | None:
        """Return an object's length in bytes; None when there is none."""
        ...

    async def keys(self, prefix: str) -> list[str]:
        """Return the keys that begin with a prefix, sorted."""
        ...

    async def close(self) -> None:
        """Release threads and connections."""


def open_archive(settings: ArchiveSettings) -> Archive:
    """Return the archive that the configuration names."""
    if settings.directory is not None:
        return DirectoryArchive(settings.directory)
    return S3Archive(settings)


class _Threads:
    def __init__(self) -> None:
        self._pool = ThreadPoolExecutor(THREADS, thread_name_prefix="archive")

    async def _run(self, work: Any, *args: Any) -> Any:
        return await asyncio.get_running_loop().run_in_executor(self._pool, partial(work, *args))

    async def close(self) -> None:
        """Release the threads."""
        self._pool.shutdown(wait=False, cancel_futures=True)


class DirectoryArchive(_Threads):
    """A directory: written beside, flushed, linked into place; what is there is not replaced."""

    def __init__(self, root: Path):
        super().__init__()
        self._root = root

    async def put(self, key: str, data: bytes) -> None:
        """See Archive."""
        await self._run(self._put, key, data)

    def _put(self, key: str, data: bytes) -> None:
        path = self._root / key
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            beside = path.with_name(path.name + f".{os.getpid()}.new")
            with beside.open("wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            try:
                os.link(beside, path)
            except FileExistsError:
                if path.read_bytes() != data:
                    raise ArchiveConflict(f"{path} exists and holds other bytes") from None
            finally:
                beside.unlink()
            directory = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
            try:
                os.fsync(directory)
            finally:
                os.close(directory)
        except OSError as error:
            raise ArchiveError(f"{self._root}: {error.strerror}") from None

    async def get(self, key: str, offset: int = 0, length: int | None = None) -> bytes:
        """See Archive."""

        def read() -> bytes:
            try:
                with (self._root / key).open("rb") as file:
                    file.seek(offset)
                    return file.read() if length is None else file.read(length)
            except FileNotFoundError:
                raise KeyError(key) from None
            except OSError as error:
                raise ArchiveError(f"{self._root}: {error.strerror}") from None

        return bytes(await self._run(read))

    async def sha256(self, key: str) -> str | None:
        """See Archive."""

        def read() -> str | None:
            try:
                with (self._root / key).open("rb") as file:
                    return hashlib.file_digest(file, "sha256").hexdigest()
            except FileNotFoundError:
                return None
            except OSError as error:
                raise ArchiveError(f"{self._root}: {error.strerror}") from None

        found: str | None = await self._run(read)
        return found

    async def size(self, key: str) -> int | None:
        """See Archive."""
        path = self._root / key
        return path.stat().st_size if path.exists() else None

    async def keys(self, prefix: str) -> list[str]:
        """See Archive."""

        def walk() -> list[str]:
            found = (
                p.relative_to(self._root).as_posix() for p in self._root.rglob("*") if p.is_file()
            )
            return sorted(k for k in found if k.startswith(prefix) and not k.endswith(".new"))

        return list(await self._run(walk))


class S3Archive(_Threads):
    """A bucket, or a prefix in it, on anything that speaks S3."""

    def __init__(self, settings: ArchiveSettings):
        super().__init__()
        self._bucket, self._prefix = settings.bucket, settings.prefix
        self._where = settings.url + (f" at {settings.endpoint}" if settings.endpoint else "")
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
                # not every server knows the newer checksums; what is stored is read back anyway
                request_checksum_calculation="when_required",
                response_checksum_validation="when_required",
            ),
        )

    def _key(self, key: str) -> str:
        return f"{self._prefix}/{key}" if self._prefix else key

    def _call(self, name: str, **arguments: Any) -> Any:
        try:
            return getattr(self._client, name)(Bucket=self._bucket, **arguments)
        except ClientError as error:
            code = error.response.get("Error", {}).get("Code", "")
            status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
            if code in ("NoSuchKey", "404") or (status == 404 and code != "NoSuchBucket"):
                raise KeyError(arguments.get("Key")) from None
            raise ArchiveError(f"{self._where}: {_advice(code, status)}") from None
        except (BotoCoreError, OSError) as error:
            raise ArchiveError(
                f"{self._where}: {type(error).__name__}: cannot be reached"
            ) from None

    async def put(self, key: str, data: bytes) -> None:
        """See Archive."""
        await self._run(self._put, key, data)

    def _put(self, key: str, data: bytes) -> None:
        digest = hashlib.sha256(data).hexdigest()
        if (there := self._sha256(key)) is not None:
            if there != digest:
                raise ArchiveConflict(f"{self._where}: {key} exists and holds other bytes")
            return
        self._call("put_object", Key=self._key(key), Body=data)

    async def get(self, key: str, offset: int = 0, length: int | None = None) -> bytes:
        """See Archive."""

        def read() -> bytes:
            end = "" if length is None else str(offset + length - 1)
            answer = self._call("get_object", Key=self._key(key), Range=f"bytes={offset}-{end}")
            return self._body(answer)

        return bytes(await self._run(read))

    def _body(self, answer: Any) -> bytes:
        try:
            return bytes(answer["Body"].read())
        except (BotoCoreError, OSError) as error:
            raise ArchiveError(f"{self._where}: {type(error).__name__} while reading") from None

    async def sha256(self, key: str) -> str | None:
        """See Archive."""
        found: str | None = await self._run(self._sha256, key)
        return found

    def _sha256(self, key: str) -> str | None:
        try:
            body = self._call("get_object", Key=self._key(key))["Body"]
        except KeyError:
            return None
        digest = hashlib.sha256()
        try:
            while chunk := body.read(CHUNK):
                digest.update(chunk)
        except (BotoCoreError, OSError) as error:
            raise ArchiveError(
                f"{self._where}: {type(error).__name__} while reading back"
            ) from None
        return digest.hexdigest()

    async def size(self, key: str) -> int | None:
        """See Archive."""

        def head() -> int | None:
            try:
                return int(self._call("head_object", Key=self._key(key))["ContentLength"])
            except KeyError:
                return None

        found: int | None = await self._run(head)
        return found

    async def keys(self, prefix: str) -> list[str]:
        """See Archive."""

        def walk() -> list[str]:
            found: list[str] = []
            more: dict[str, Any] = {}
            while True:
                page = self._call("list_objects_v2", Prefix=self._key(prefix), **more)
                found += [o["Key"] for o in page.get("Contents", [])]
                if not page.get("IsTruncated"):
                    break
                more = {"ContinuationToken": page["NextContinuationToken"]}
            cut = len(self._prefix) + 1 if self._prefix else 0
            return sorted(k[cut:] for k in found)

        return list(await self._run(walk))


def _advice(code: str, status: int) -> str:
    for codes, text in (
        (
            ("InvalidAccessKeyId", "SignatureDoesNotMatch"),
            "the key is refused: check the credentials",
        ),
        (("AccessDenied", "403"), "access is denied: the key may not write here"),
        (("NoSuchBucket",), "there is no such bucket: create it or correct the name"),
        (("RequestTimeTooSkewed",), "this machine's clock is too far off: set it by NTP"),
    ):
        if code in codes:
            return f"{text} ({code})"
    return f"answers {status} {code}"
