"""One archive: whatever is sealed goes there, oldest first, for ever.

The order of truth of one recording in one archive stands in `Replicator.keep`, top to bottom. Every
step may be repeated; a crash between two repeats the first. What waits, and what is tried next, is
storage/archival/backlog.py: one backlog for each bucket.
"""

from __future__ import annotations

import asyncio
import hashlib
import random
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import structlog

from base.clock import now_ms
from base.outage import Outage
from config.model import Archive as Settings
from storage.archival.backlog import ARCHIVE_S, RECORDING_S, Backlog, Blocked, Job
from storage.archive.port import Archive, ArchiveConflict, ArchiveError, Fault, Put
from storage.catalogue.archive_ids import identify
from storage.catalogue.cameras import Name
from storage.catalogue.catalogue import Catalogue
from storage.catalogue.recordings import Archived
from storage.catalogue.schema import DAY_MS
from storage.records import FormatError, Index, parse_archive_document, parse_index
from storage.spool.disk import MARKER
from storage.spool.reader import SpoolRecording
from storage.spool.recording import recording_name

PARALLEL = 4  # of each bucket
PIECE = 1 << 22  # bytes of a recording that are in memory while it is had from another archive

log = structlog.get_logger()


class PermanentUploadError(Exception):
    """Something about this one recording, whatever the archive; the text says what."""

    def __init__(self, blocked: Blocked, text: str):
        super().__init__(text)
        self.blocked = blocked


@dataclass(frozen=True, slots=True)
class Pauses:
    """How long the uploader and its keepers wait, in seconds."""

    look_s: float = 1.0  # between two looks for something to do
    retry_s: tuple[float, ...] = ARCHIVE_S  # after failures in a row
    one_s: tuple[float, ...] = RECORDING_S  # after failures in a row of one recording
    well_s: float = 15.0  # without a failure: an archive works again
    remove_s: float = 10.0  # between two looks for what may leave the spool
    retire_s: float = 86_400.0  # between two looks for what archives need not keep any longer
    drain_s: float = 20.0  # for what waits, when the uploader is to stop
    seal_s: float = 5.0  # of it, for recorders that stop at the same time


@dataclass(slots=True, eq=False)
class PendingUpload(Job):
    """A recording that an archive does not have; its index is read again when it is its turn."""

    stored: SpoolRecording
    done: dict[str, tuple[str, str]]  # the archives that have it, with bucket and ETags


@dataclass(slots=True, eq=False)
class Document(Job):
    """A small object without a row, that is its own commit: an ended gap."""

    data: bytes


def waiting(
    name: Name, stored: SpoolRecording, length: int, done: dict[str, tuple[str, str]]
) -> PendingUpload:
    """Return what is to be done to archive a recording of a camera."""
    return PendingUpload(str(stored.base), name, stored.start_ms, length, stored, done)


class Peers(Protocol):
    """The other archives of the configuration."""

    async def fetch(self, waiting: PendingUpload, to: Path) -> Index:
        """Write a recording that the spool no longer has to a file; raises Unkeepable,
        ArchiveError."""
        ...


@dataclass(slots=True)
class KeeperStatus:
    """What `_status/uploader.json` says of one archive (docs/formats.md)."""

    ok: bool = True
    last_error: str | None = None
    fault: Fault | None = None  # of it
    archive_id: str | None = None
    backlog_recordings: int = 0
    backlog_bytes: int = 0
    blocked: dict[str, int] = field(default_factory=lambda: {reason.value: 0 for reason in Blocked})
    oldest_unarchived_ms: int | None = None
    archived_total: int = 0
    archived_bytes_total: int = 0
    failures_total: int = 0
    verification_failures_total: int = 0


class Replicator:
    """Takes what is given to `add` to one archive, verified, and notes it in the catalogue."""

    def __init__(
        self,
        settings: Settings,
        archive: Archive,
        catalogue: Catalogue,
        catalogue_trouble: Callable[[BaseException], None],
        spool: Path,
        pauses: Pauses = Pauses(),
        peers: Peers | None = None,
    ):
        """`catalogue_trouble` is told what the database refused."""
        self._pauses, self._peers = pauses, peers
        self.name, self.archive = settings.name, archive
        self.settings, self._spool = settings, spool
        self._catalogue, self._catalogue_trouble = catalogue, catalogue_trouble
        self._backlogs = {
            bucket: Backlog(pauses.one_s, pauses.retry_s) for bucket in archive.buckets
        }
        self._failed_s = float("-inf")  # the last failure
        self._identifying, self._fetching = asyncio.Lock(), asyncio.Lock()
        self._days: dict[Name, int] = {}  # the newest of which something was read back
        self._trouble = Outage(
            "The archive refuses; recordings wait in the spool",
            "The archive works again",
            archive=self.name,
        )
        self._fault = Fault.OTHER  # of the last failure
        self._status = KeeperStatus()

    def _backlog(self, job: Job) -> Backlog:
        return self._backlogs[self.archive.bucket_of("/".join((*job.camera, "")))]

    def add(self, waiting: PendingUpload) -> None:
        """Have a recording kept; where it waits already, it is noted where `waiting` says."""
        backlog = self._backlog(waiting)
        if isinstance(there := backlog.get(waiting.key), PendingUpload):
            there.done = waiting.done
        backlog.add(waiting)

    def hold(self, waiting: PendingUpload, blocked: Blocked, why: str) -> None:
        """Count a recording that cannot be kept until it is given to `add`."""
        self._backlog(waiting).hold(waiting, blocked, why)

    def forget(self, waiting: PendingUpload) -> None:
        """Count a recording that is held no longer."""
        self._backlog(waiting).forget(waiting.key)

    def waits_for(self, waiting: PendingUpload) -> bool:
        """Say whether a recording waits."""
        return waiting.key in self._backlog(waiting)

    def add_document(self, name: Name, start_ms: int, key: str, data: bytes) -> None:
        """Have a small object of a camera kept that is its own commit."""
        job = Document(key, name, start_ms, len(data), data)
        backlog = self._backlog(job)
        if isinstance(there := backlog.get(key), Document):
            there.data = data
        backlog.add(job)

    @property
    def status(self) -> KeeperStatus:
        """How it stands now."""
        status, waiting = self._status, list(self._waiting())
        status.ok, status.last_error = self._trouble.why is None, self._trouble.why
        status.fault = None if status.ok else self._fault
        status.archive_id = self.archive.expected_id
        status.backlog_recordings = len(waiting)
        status.backlog_bytes = sum(w.length for w in waiting)
        blocked = Counter(w.blocked for w in waiting)
        status.blocked = {reason.value: blocked[reason] for reason in Blocked}
        status.oldest_unarchived_ms = min((w.start_ms for w in waiting), default=None)
        return status

    def _waiting(self) -> Iterator[PendingUpload]:
        for backlog in self._backlogs.values():
            yield from (job for job in backlog if isinstance(job, PendingUpload))

    @property
    def is_away(self) -> bool:
        """Whether it is known to take nothing now."""
        return self._trouble.why is not None

    @property
    def is_done(self) -> bool:
        """Whether nothing waits."""
        return not any(map(len, self._backlogs.values()))

    @property
    def is_idle(self) -> bool:
        """Whether all that waits was tried and failed, or the archive takes nothing."""
        return all(backlog.is_idle for backlog in self._backlogs.values())

    def blocked(self) -> Iterable[PendingUpload]:
        """Return the recordings that wait and have failed, each with why."""
        return (w for w in self._waiting() if w.why)

    async def run(self) -> None:
        """Work until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            for backlog in self._backlogs.values():
                for _ in range(PARALLEL):
                    tasks.create_task(self._work(backlog))

    async def _work(self, backlog: Backlog) -> None:
        """Take what is next in a backlog, for ever."""
        while True:
            if not await self._take(backlog):
                await asyncio.sleep(self._pauses.look_s * random.uniform(0.8, 1.2))

    async def _take(self, backlog: Backlog) -> bool:
        """Do one job; False where nothing is to be done now."""
        if (job := backlog.take()) is None:
            return False
        try:
            await self.identify()
            await self._do(job)
        except PermanentUploadError as error:
            return self._unfit(backlog, job, error)
        except ArchiveError as error:
            self._status.failures_total += 1
            self._failed(backlog, job, error)
        except asyncio.CancelledError:
            backlog.put_back(job)
            raise
        except Exception as error:  # a database has many ways to say no
            backlog.failed(job, str(error))
            self._failed_s = time.monotonic()
            self._catalogue_trouble(error)
        else:
            backlog.succeeded(job)
            if not backlog or time.monotonic() - self._failed_s > self._pauses.well_s:
                self._trouble.end(waiting=sum(map(len, self._backlogs.values())))
        return True

    async def identify(self) -> None:
        """Compare the archive's id, unless that was done; raises as archive_id.identify."""
        async with self._identifying:
            if self.archive.expected_id is None:
                await identify(self.archive, self._catalogue.archive_ids)

    async def _do(self, job: Job) -> None:
        if isinstance(job, Document):
            await self._put_verified(job.key, job.data, digest_of(job.data), None, read_back=True)
        elif isinstance(job, PendingUpload):
            there = await self._keep(job)
            job.done[self.name] = there.bucket, there.etags
            self._status.archived_total += 1
            self._status.archived_bytes_total += job.length

    def _unfit(self, backlog: Backlog, job: Job, error: PermanentUploadError) -> bool:
        if isinstance(job, PendingUpload) and not (self._spool / MARKER).exists():
            backlog.put_back(job)  # its disk went, and may come back
            return False
        self._status.failures_total += 1
        if backlog.unfit(job, error.blocked, str(error)):
            log.error(
                "A recording cannot be archived now; it is tried again",
                archive=self.name,
                recording=job.key,
                reason=error.blocked,
                why=str(error),
            )
        return True

    def _failed(self, backlog: Backlog, job: Job, error: ArchiveError) -> None:
        """Say that the archive failed: of a single recording, or of all once it looks away."""
        why, self._fault = str(error), error.fault
        first = backlog.failed(job, why)
        self._failed_s = time.monotonic()
        if backlog.is_away:
            self._trouble.begin(why)
        elif first:
            log.error(
                "The archive does not take a recording; it is tried again",
                archive=self.name,
                recording=job.key,
                why=why,
            )

    async def _keep(self, waiting: PendingUpload) -> Archived:
        # 1. its bytes, and that they are those that were sealed
        try:
            index, media = await asyncio.to_thread(read_sealed, waiting.stored)
        except (
            PermanentUploadError
        ):  # or its disk went and has just come back: only a second look tells
            try:
                index, media = await asyncio.to_thread(read_sealed, waiting.stored)
            except PermanentUploadError as error:
                if self._peers is None or error.blocked is not Blocked.GONE:
                    raise
                if not (self._spool / MARKER).exists():
                    raise
                return await self._keep_of_peers(waiting, self._peers)
        return await self.keep(index, media)

    async def _keep_of_peers(self, waiting: PendingUpload, peers: Peers) -> Archived:
        """Keep what another archive has, by a file beside the spool: one at a time, as it may be
        large."""
        async with self._fetching:
            to = self._spool / "_status" / f"{self.name}.fetched"
            try:
                return await self.keep(await peers.fetch(waiting, to), to)
            finally:
                to.unlink(missing_ok=True)

    async def keep(self, index: Index, media: bytes | Path) -> Archived:
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
        parts: tuple[tuple[str, bytes | Path, str], ...] = (
            (".mp4", media, index.seal.sha256),
            (".json", document, digest_of(document)),
        )
        for ending, data, sha256 in parts:
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
            text = f"the catalogue has no row for {key}"
            raise PermanentUploadError(Blocked.NO_ROW, text)
        return there

    async def still_has(self, index: Index, bucket: str, etags: str) -> bool:
        """Say whether the archive has a recording as it was verified: a last look before the
        spool's copy goes. What was replaced since, by a write that was long on its way, is read.

        Raises ArchiveError where it cannot be asked, or is another archive.
        """
        assert index.seal is not None
        await self.identify()
        key = archive_key(index)
        media, description = [
            await self.archive.etag(key + ending, bucket=bucket) for ending in (".mp4", ".json")
        ]
        if f"{media} {description}" == etags:
            return True
        await self.archive.examine()  # of a disk that is not mounted nothing is there
        wanted = (index.seal.sha256, digest_of(index.archive_document()))
        for ending, sha256 in zip((".mp4", ".json"), wanted, strict=True):
            found = await self.archive.sha256(key + ending, bucket=bucket)
            if found != sha256:
                what = "is no longer there" if found is None else "was altered later"
                log.error(f"An archived recording {what}", archive=self.name, key=key + ending)
                self._status.verification_failures_total += 1
                return False
        return True

    async def fetch(self, waiting: PendingUpload, to: Path) -> Index:
        """Write a recording that this archive has to a file, compared with its hashes; raises
        KeyError where it has not, FormatError where it is spoilt, and ArchiveError."""
        key = "/".join((*waiting.camera, waiting.stored.name))
        bucket, digest = waiting.done[self.name][0], hashlib.sha256()
        index = parse_archive_document(await self.archive.get(key + ".json", bucket=bucket))
        length = index.seal.length if index.seal else 0

        def take(piece: bytes) -> None:
            digest.update(piece)
            file.write(piece)

        try:
            with to.open("wb") as file:
                for at in range(0, length, PIECE):
                    count = min(PIECE, length - at)
                    piece = await self.archive.get(key + ".mp4", at, count, bucket=bucket)
                    await asyncio.to_thread(take, piece)
        except OSError as error:
            raise ArchiveError(f"{to} cannot be written: {error.strerror}") from None
        if archive_key(index) != key or not index.seal or index.seal.sha256 != digest.hexdigest():
            raise FormatError(f"{key} has other bytes than its description says")
        return index

    async def _put_verified(
        self,
        key: str,
        data: bytes | Path,
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
                raise PermanentUploadError(Blocked.REFUSED, str(conflict)) from None
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
            raise ArchiveError(f"{key} {what} when it is read back", Fault.ALTERED)
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


def read_sealed(stored: SpoolRecording) -> tuple[Index, Path]:
    """Return the index of a recording in the spool and its file, whose bytes were compared;
    raises Unkeepable."""
    try:
        index = parse_index(stored.lines.read_bytes())
        with stored.media.open("rb") as file:
            sha256 = hashlib.file_digest(file, "sha256").hexdigest()
    except FileNotFoundError:
        text = f"{stored.media} is gone from the spool"
        raise PermanentUploadError(Blocked.GONE, text) from None
    except (OSError, FormatError) as error:
        text = f"{stored.media} cannot be read: {error}"
        raise PermanentUploadError(Blocked.UNREADABLE, text) from None
    if index.seal is None or sha256 != index.seal.sha256:
        text = f"{stored.media} does not have the bytes that were sealed"
        raise PermanentUploadError(Blocked.ALTERED, text)
    return index, stored.media


def digest_of(data: bytes) -> str:
    """Return the SHA-256 in hex."""
    return hashlib.sha256(data).hexdigest()
