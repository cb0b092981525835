"""One archive: whatever is sealed goes there, oldest first, for ever.

The order of truth of one recording in one archive stands in `Keeper._keep`, top to bottom. Every
step may be repeated; a crash between two repeats the first.
"""

from __future__ import annotations

import asyncio
import hashlib
import heapq
import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import structlog

from base.clock import now_ms
from config.model import Archive as Settings
from storage.archive import Archive, ArchiveConflict, ArchiveError, Put
from storage.cameras import Name
from storage.catalogue import Catalogue
from storage.database import CatalogueError
from storage.disk import MARKER
from storage.index import FormatError, Index, parse_archive_document, parse_index
from storage.recording import recording_name
from storage.schema import DAY_MS
from storage.trouble import Trouble
from storage.view import Stored
from storage.writing import Archived

PARALLEL = 4

log = structlog.get_logger()


class Unkeepable(Exception):
    """Something about this one recording that no retry changes."""


@dataclass(frozen=True, slots=True)
class Pauses:
    """How long the uploader and its keepers wait, in seconds."""

    look_s: float = 1.0  # between two looks for something to do
    retry_s: tuple[float, ...] = (1.0, 2.0, 5.0, 10.0, 15.0)  # after failures in a row
    well_s: float = 15.0  # without a failure: an archive works again
    remove_s: float = 10.0  # between two looks for what may leave the spool
    retire_s: float = 86_400.0  # between two looks for what archives need not keep any longer


@dataclass(frozen=True, slots=True)
class Waiting:
    """A sealed recording that has a row; its index is read again when it is its turn."""

    stored: Stored
    length: int
    done: dict[str, tuple[str, str]]  # the archives that have it, with bucket and ETags


@dataclass(slots=True)
class KeeperStatus:
    """What `_status/uploader.json` says of one archive (docs/formats.md)."""

    ok: bool = True
    last_error: str | None = None
    backlog_recordings: int = 0
    backlog_bytes: int = 0
    oldest_unarchived_ms: int | None = None
    archived_total: int = 0
    archived_bytes_total: int = 0
    failures_total: int = 0
    verification_failures_total: int = 0


class Keeper:
    """Takes what is given to `add` to one archive, verified, and notes it in the catalogue."""

    def __init__(
        self,
        settings: Settings,
        archive: Archive,
        catalogue: Catalogue,
        catalogue_trouble: Callable[[BaseException], None],
        spool: Path,
        pauses: Pauses = Pauses(),
    ):
        """`catalogue_trouble` is told what the database refused."""
        self._pauses = pauses
        self.name, self.archive = settings.name, archive
        self.settings, self._spool = settings, spool
        self._catalogue, self._catalogue_trouble = catalogue, catalogue_trouble
        self._waiting: dict[str, Waiting] = {}  # by path, also while it is being kept
        self._oldest: list[tuple[int, str]] = []  # a heap of those that nobody has taken
        self._failures, self._failed_s = 0, float("-inf")  # in a row; the last
        self._documents: dict[str, bytes] = {}  # small objects without a row: ended gaps
        self._days: dict[Name, int] = {}  # the newest of which something was read back
        self._trouble = Trouble(
            "The archive refuses; recordings wait in the spool",
            "The archive works again",
            archive=self.name,
        )
        self._status = KeeperStatus()

    def add(self, waiting: Waiting) -> None:
        """Have a recording kept; once, also where it waits already."""
        base = str(waiting.stored.base)
        if base not in self._waiting:
            heapq.heappush(self._oldest, (waiting.stored.start_ms, base))
        self._waiting[base] = waiting

    def add_document(self, key: str, data: bytes) -> None:
        """Have a small object kept that is its own commit."""
        self._documents[key] = data

    @property
    def status(self) -> KeeperStatus:
        """How it stands now."""
        status, waiting = self._status, self._waiting.values()
        status.ok, status.last_error = self._trouble.why is None, self._trouble.why
        status.backlog_recordings = len(waiting)
        status.backlog_bytes = sum(w.length for w in waiting)
        status.oldest_unarchived_ms = min((w.stored.start_ms for w in waiting), default=None)
        return status

    async def run(self) -> None:
        """Work until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            for _ in range(PARALLEL):
                tasks.create_task(self._work())

    async def _work(self) -> None:
        """Take the oldest recording that nobody else has taken, for ever."""
        while True:
            pause_s = self._pauses.look_s
            if self._documents or self._oldest:
                pause_s = 0.0 if await self._take() else self._pause_s()
            if pause_s:
                await asyncio.sleep(pause_s * random.uniform(0.8, 1.2))

    async def _take(self) -> bool:
        """Keep one; False when that failed and is to be tried again."""
        at, base = None, ""
        try:
            if self._documents:
                base, data = self._documents.popitem()
                try:
                    await self._put_verified(base, data, digest_of(data), None, read_back=True)
                except BaseException:
                    self._documents[base] = data
                    raise
            else:
                at, base = heapq.heappop(self._oldest)
                waiting = self._waiting[base]
                there = await self._keep(waiting)
                self._status.archived_total += 1
                self._status.archived_bytes_total += waiting.length
                self._waiting.pop(base).done[self.name] = there.bucket, there.etags
        except Unkeepable as error:
            if at is not None and not (self._spool / MARKER).exists():
                heapq.heappush(self._oldest, (at, base))  # its disk went, and may come back
                return False
            self._waiting.pop(base, None)
            self._documents.pop(base, None)
            self._status.failures_total += 1
            log.error(
                "A recording cannot be archived and stays in the spool",
                archive=self.name,
                why=str(error),
            )
            return True
        except Exception as error:
            if at is not None:
                heapq.heappush(self._oldest, (at, base))
            self._failures += 1
            self._failed_s = time.monotonic()
            if isinstance(error, ArchiveError):
                self._status.failures_total += 1
                self._trouble.begin(str(error))
            else:  # a database has many ways to say no
                self._catalogue_trouble(error)
            return False
        self._failures = 0
        if not self._waiting or time.monotonic() - self._failed_s > self._pauses.well_s:
            self._trouble.end(waiting=len(self._waiting))
        return True

    def _pause_s(self) -> float:
        retry_s = self._pauses.retry_s
        return retry_s[min(self._failures // PARALLEL, len(retry_s) - 1)]

    async def _keep(self, waiting: Waiting) -> Archived:
        # 1. its bytes, and that they are those that were sealed
        try:
            index, media = await asyncio.to_thread(read_sealed, waiting.stored)
        except Unkeepable:  # or its disk went and has just come back: only a second look tells
            index, media = await asyncio.to_thread(read_sealed, waiting.stored)
        return await self.keep(index, media)

    async def keep(self, index: Index, media: bytes) -> Archived:
        """Take one recording, whose bytes were compared, to the archive; all steps after that.

        Raises ArchiveError, Unkeepable, and what a database raises.
        """
        assert index.seal is not None
        key, document = archive_key(index), index.archive_document()
        keep_s, locked_until_ms = self.settings.keep, None
        if self.settings.lock and keep_s is not None:
            locked_until_ms = index.end_ms + keep_s * 1000
        read_back = self._is_first_of_day(index) or (
            random.uniform(0, 100) < self.settings.read_back
        )
        # 2. the object, 3. its description as the commit, both verified
        how: list[tuple[Put, str]] = []
        for ending, data, sha256 in (
            (".mp4", media, index.seal.sha256),
            (".json", document, digest_of(document)),
        ):
            how.append(
                await self._put_verified(
                    key + ending,
                    data,
                    sha256,
                    locked_until_ms,
                    read_back=read_back,
                    media_sha256=index.seal.sha256,
                )
            )
        # 4. the row: from here on it may leave the spool
        (put, verified), (description, _) = how
        etags = f"{put.etag} {description.etag}"
        there = Archived(
            self.name, put.bucket, now_ms(), verified, etags, put.version_id, locked_until_ms
        )
        if not await self._catalogue.writer.mark_archived(index, there):
            raise CatalogueError(f"there is no row yet for {key}")
        return there

    async def still_has(self, index: Index, bucket: str, etags: str) -> bool:
        """Say whether the archive has a recording as it was verified: a last look before the
        spool's copy goes. What was replaced since, by a write that was long on its way, is read.
        """
        assert index.seal is not None
        key = archive_key(index)
        media, description = [
            await self.archive.etag(key + ending, bucket=bucket) for ending in (".mp4", ".json")
        ]
        if f"{media} {description}" == etags:
            return True
        wanted = (index.seal.sha256, digest_of(index.archive_document()))
        for ending, sha256 in zip((".mp4", ".json"), wanted, strict=True):
            if await self.archive.sha256(key + ending, bucket=bucket) != sha256:
                log.error("An archived recording was altered later", archive=self.name, key=key)
                self._status.verification_failures_total += 1
                return False
        return True

    async def _put_verified(
        self,
        key: str,
        data: bytes,
        sha256: str,
        locked_until_ms: int | None,
        *,
        read_back: bool,
        media_sha256: str | None = None,
    ) -> tuple[Put, str]:
        """Put an object; return where it is, and how that is known.

        `media_sha256` is that of the recording to which it belongs.
        """
        try:
            put = await self.archive.put(key, data, sha256, locked_until_ms)
        except ArchiveConflict as conflict:
            if await self._is_another(key, media_sha256):
                raise Unkeepable(str(conflict)) from None
            # Half an object, or altered: of an upload of ours that the server spoilt. Nothing
            # vouches for these bytes, and they would keep the right ones out.
            log.error("A damaged object in the archive is replaced", archive=self.name, key=key)
            self._status.verification_failures_total += 1
            put = await self.archive.put(key, data, sha256, locked_until_ms, replace=True)
        if put.verified == "read back" or (put.verified and not read_back):
            return put, put.verified
        found = await self.archive.sha256(key, bucket=put.bucket)
        if found != sha256:
            self._status.verification_failures_total += 1
            what = "is not there" if found is None else "has other bytes"
            raise ArchiveError(f"{key} {what} when it is read back")
        return put, ", ".join(filter(None, (put.verified, "read back")))

    async def _is_another(self, key: str, media_sha256: str | None) -> bool:
        """Say whether the archive has a whole recording under a key whose bytes are not ours.

        Where the bytes are ours, a `.json` that is another was spoilt, though it can be read.
        """
        base = key.rpartition(".")[0]
        try:
            index = parse_archive_document(await self.archive.get(base + ".json"))
        except (KeyError, TypeError, FormatError):
            return False
        found = await self.archive.sha256(base + ".mp4")
        return index.seal is not None and index.seal.sha256 == found != media_sha256

    def _is_first_of_day(self, index: Index) -> bool:
        name, day = index.name, index.start_ms // DAY_MS
        first = self._days.get(name) != day
        self._days[name] = day
        return first


def archive_key(index: Index) -> str:
    """Return the key of a recording in the archive, without ending (docs/formats.md)."""
    return "/".join((*index.name, recording_name(index.start_ms, index.header.record_seq)))


def read_sealed(stored: Stored) -> tuple[Index, bytes]:
    """Return a recording of the spool with its bytes, compared; raises Unkeepable."""
    try:
        index = parse_index(stored.lines.read_bytes())
        media = stored.media.read_bytes()
    except FileNotFoundError:
        raise Unkeepable(f"{stored.media} is gone from the spool") from None
    except (OSError, FormatError) as error:
        raise Unkeepable(f"{stored.media} cannot be read: {error}") from None
    if index.seal is None or digest_of(media) != index.seal.sha256:
        raise Unkeepable(f"{stored.media} does not have the bytes that were sealed")
    return index, media


def digest_of(data: bytes) -> str:
    """Return the SHA-256 in hex."""
    return hashlib.sha256(data).hexdigest()
