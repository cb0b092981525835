"""Takes whatever is sealed to one archive, oldest first, for ever.

How one recording is stored is storage/archival/verified_archive.py. What waits, and what is tried
next, is storage/archival/backlog.py: one backlog for each bucket.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import structlog

from base.outage import Outage
from storage.archival.backlog import ARCHIVE_S, RECORDING_S, Backlog, Blocked, Job
from storage.archival.pending import (
    PendingDocument,
    PendingUpload,
    PermanentUploadError,
    read_sealed,
)
from storage.archival.verified_archive import VerifiedArchive
from storage.archive.port import ArchiveError, Fault
from storage.catalogue.cameras import Name
from storage.catalogue.database import CatalogueError
from storage.catalogue.rows import Archived
from storage.records import Index
from storage.spool.disk import MARKER_FILE
from storage.spool.status_records import ArchiveStatus

PARALLEL = 4  # of each bucket

# Writes a recording that the spool no longer has to a file, from another archive; raises
# PermanentUploadError, ArchiveError.
Fetch = Callable[[PendingUpload, Path], Awaitable[Index]]

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Pauses:
    """How long the uploader and its replicators wait, in seconds."""

    look_s: float = 1.0  # between two looks for something to do
    retry_s: tuple[float, ...] = ARCHIVE_S  # after failures in a row
    one_s: tuple[float, ...] = RECORDING_S  # after failures in a row of one recording
    well_s: float = 15.0  # without a failure: an archive works again
    remove_s: float = 10.0  # between two looks for what may leave the spool
    holds_s: float = 10.0  # between two looks for holds that archives or catalogue lack
    retire_s: float = 86_400.0  # between two looks for what archives need not keep any longer
    drain_s: float = 20.0  # for what waits, when the uploader is to stop
    seal_s: float = 5.0  # of it, for recorders that stop at the same time


class _SpoolAway(Exception):
    """The spool's disk went, and may come back."""


class Replicator:
    """Takes what is given to `add` to one archive, verified, and notes it in the catalogue."""

    def __init__(
        self,
        archive: VerifiedArchive,
        spool: Path,
        pauses: Pauses,
        on_catalogue_error: Callable[[Exception], None],
        fetch: Fetch | None = None,
    ):
        """`on_catalogue_error` is told what the database refused; `fetch` gets from other archives
        what the spool no longer has."""
        self.archive, self.settings = archive, archive.settings
        self.name = archive.settings.name
        self._spool, self._pauses = spool, pauses
        self._on_catalogue_error, self._fetch = on_catalogue_error, fetch
        self._backlogs = {
            bucket: Backlog(pauses.one_s, pauses.retry_s) for bucket in archive.archive.buckets
        }
        self._failed_s = float("-inf")  # the last failure
        self._fetching = asyncio.Lock()
        self._outage = Outage(
            "The archive refuses; recordings wait in the spool",
            "The archive works again",
            archive=self.name,
        )
        self._fault = Fault.OTHER  # of the last failure
        self._status = ArchiveStatus()

    def _backlog(self, job: Job) -> Backlog:
        return self._backlogs[self.archive.archive.bucket_of("/".join((*job.camera, "")))]

    def add(self, pending: PendingUpload) -> None:
        """Have a recording kept; where it waits already, it is noted where `pending` says."""
        backlog = self._backlog(pending)
        if isinstance(there := backlog.get(pending.key), PendingUpload):
            there.done = pending.done
        backlog.add(pending)

    def defer(self, pending: PendingUpload, blocked: Blocked, why: str) -> None:
        """Count a recording that cannot be kept until it is given to `add`."""
        self._backlog(pending).defer(pending, blocked, why)

    def forget(self, pending: PendingUpload) -> None:
        """Count a recording that is deferred no longer."""
        self._backlog(pending).forget(pending.key)

    def has_untried(self, pending: PendingUpload) -> bool:
        """Say whether a recording waits, and did not fail."""
        job = self._backlog(pending).get(pending.key)
        return job is not None and not job.why

    def add_document(self, name: Name, start_ms: int, key: str, data: bytes) -> None:
        """Have a small object of a camera kept that is its own commit."""
        job = PendingDocument(key, name, start_ms, len(data), data)
        backlog = self._backlog(job)
        if isinstance(there := backlog.get(key), PendingDocument):
            there.data = data
        backlog.add(job)

    @property
    def status(self) -> ArchiveStatus:
        """How it stands now."""
        status, waiting = self._status, list(self._waiting())
        status.ok, status.last_error = self._outage.why is None, self._outage.why
        status.fault = None if status.ok else self._fault
        status.archive_id = self.archive.archive.expected_id
        status.verification_failures_total = self.archive.verification_failures
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
        return self._outage.why is not None

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
            await self.archive.identify()
            await self._do(job)
        except _SpoolAway:
            backlog.put_back(job)
            return False
        except PermanentUploadError as error:
            return self._unfit(backlog, job, error)
        except ArchiveError as error:
            self._status.failures_total += 1
            self._failed(backlog, job, error)
        except asyncio.CancelledError:
            backlog.put_back(job)
            raise
        except CatalogueError as error:
            backlog.failed(job, str(error))
            self._failed_s = time.monotonic()
            self._on_catalogue_error(error)
        except Exception as error:  # a fault of Kuager holds up no other recording
            if not job.why:
                log.exception("A fault of Kuager", archive=self.name, recording=job.key)
            text = f"a fault of Kuager: {error!r}"
            return self._unfit(backlog, job, PermanentUploadError(Blocked.REFUSED, text))
        else:
            backlog.succeeded(job)
            if not backlog or time.monotonic() - self._failed_s > self._pauses.well_s:
                self._outage.end(waiting=sum(map(len, self._backlogs.values())))
        return True

    async def _do(self, job: Job) -> None:
        if isinstance(job, PendingDocument):
            await self.archive.put_document(job.key, job.data)
        elif isinstance(job, PendingUpload):
            there = await self._store(job)
            job.done[self.name] = there.bucket, there.etags
            self._status.archived_total += 1
            self._status.archived_bytes_total += job.length

    def _unfit(self, backlog: Backlog, job: Job, error: PermanentUploadError) -> bool:
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
            self._outage.begin(why)
        elif first:
            log.error(
                "The archive does not take a recording; it is tried again",
                archive=self.name,
                recording=job.key,
                why=why,
            )

    async def _store(self, pending: PendingUpload) -> Archived:
        """Store a recording of the spool or, where that no longer has it, of another archive."""
        try:
            return await self._store_sealed(pending)
        except PermanentUploadError as error:
            if error.blocked in (Blocked.REFUSED, Blocked.NO_ROW):  # no word of the spool
                raise
        # Its disk may have gone, and have come back since: only a look while it is there tells.
        self._check_spool()
        try:
            return await self._store_sealed(pending)
        except PermanentUploadError as error:
            self._check_spool()
            if self._fetch is None or error.blocked is not Blocked.GONE:
                raise
            return await self._store_fetched(pending, self._fetch)

    def _check_spool(self) -> None:
        if not (self._spool / MARKER_FILE).exists():
            raise _SpoolAway

    async def _store_sealed(self, pending: PendingUpload) -> Archived:
        """Store a recording of the spool whose bytes are those that were sealed."""
        index, media = await asyncio.to_thread(read_sealed, pending.stored)
        if index.name != pending.camera:  # since its row was written
            text = f"{pending.stored.lines} is spoilt: it is of another camera than it was"
            raise PermanentUploadError(Blocked.UNREADABLE, text)
        return await self.archive.store(index, media)

    async def _store_fetched(self, pending: PendingUpload, fetch: Fetch) -> Archived:
        """Store what another archive has, by a file beside the spool: one at a time, as it may be
        large."""
        async with self._fetching:
            to = self._spool / "_status" / f"{self.name}.fetched"
            try:
                return await self.archive.store(await fetch(pending, to), to)
            finally:
                to.unlink(missing_ok=True)
