"""Archives every sealed recording of a spool, and clears the spool.

The commit order of a recording, after the recorder sealed and flushed it, top to bottom: its row in
the catalogue (discovery.py), its object and `.json` in each archive, verified, and the row that
says so (replicator.py); and only when as many archives as configured have it, and it is older than
the rewind window, it is removed from the spool (spool_cleaner.py).
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import structlog

from base.backoff import Backoff
from base.clock import Clock, now_ms
from base.durable import replace_file
from base.hostclock import ClockWatch
from base.lock import wait_for_lock
from base.outage import Outage
from config.model import Config
from storage.archival.archive_clocks import ArchiveClocks
from storage.archival.archived_holds import ArchivedHolds
from storage.archival.discovery import Discovery
from storage.archival.gap_upload import GapUpload
from storage.archival.replicator import Pauses
from storage.archival.replicators import Replicators
from storage.archival.retention_schedule import RetentionSchedule
from storage.archival.spool_cameras import SpoolCameras
from storage.archival.spool_cleaner import SpoolCleaner
from storage.archive.port import Archive
from storage.catalogue.catalogue import Catalogue
from storage.catalogue.database import CatalogueError
from storage.catalogue.faults import fault_of
from storage.records import FormatError, Marker
from storage.spool.disk import DiskSpace, disk_space, spool_id
from storage.spool.status_records import UPLOADER, UploaderStatus

NOTE, NOTE_FORMAT = "catalogue.json", "catalogue/1"

log = structlog.get_logger()


class Uploader:
    """Takes every sealed recording of a spool to the archives, for ever."""

    def __init__(
        self,
        config: Config,
        catalogue: Catalogue,
        archives: Sequence[Archive],
        *,
        pauses: Pauses = Pauses(),
        disk_space: Callable[[Path], DiskSpace] = disk_space,
        clock: Clock = now_ms,
        watch: ClockWatch | None = None,
    ):
        """`archives` are those of the configuration, in its order; `disk_space` measures a disk,
        `watch` judges `clock`."""
        self._config, self._catalogue, self._pauses = config, catalogue, pauses
        self._spool = config.spool
        watch = watch or ClockWatch(clock)
        self._clock, self._watch = clock, watch
        self._outage = Outage(
            "The catalogue refuses; recordings wait in the spool", "The catalogue works again"
        )
        self._failing: set[str] = set()  # what of its work the catalogue refused last
        self._catalogue_id = ""  # of the database to which `cameras` belongs
        self.cameras = cameras = SpoolCameras(config)
        self.replicators = replicators = Replicators(
            config, catalogue, archives, pauses, self._catalogue_refuses
        )
        self.clocks = ArchiveClocks(replicators, watch)
        self.gaps = gaps = GapUpload(catalogue, cameras, replicators, clock, watch)
        self.discovery = Discovery(config, catalogue, cameras, replicators, gaps, clock, watch)
        self.cleaner = SpoolCleaner(
            config, catalogue, cameras, replicators, clock, watch, disk_space
        )
        self.holds = holds = ArchivedHolds(config.election.id, catalogue, replicators)
        self.retention = RetentionSchedule(
            *(config, catalogue, replicators, holds, self.clocks, clock, watch, pauses.retire_s)
        )
        self.status = UploaderStatus(pid=os.getpid(), written_ms=0)

    async def run(self) -> None:
        """Work until cancelled; what goes wrong is told once and tried again.

        When it is cancelled, what waits is archived first, for as long as `Pauses.drain_s`.
        """
        # of two uploaders, one could spoil what the other has verified
        path = self._spool / "_status" / "uploader.lock"
        text = "Another uploader works on this spool; waiting until it has ended"
        with await wait_for_lock(path, self._pauses.look_s, partial(log.warning, text)):
            log.info("Uploader started")
            async with asyncio.TaskGroup() as tasks:
                for replicator in self.replicators.all:
                    tasks.create_task(replicator.run())
                look_s = self._pauses.look_s
                tasks.create_task(self.clocks.ask(look_s))
                tasks.create_task(self._every(self._pauses.remove_s, self.clear))
                tasks.create_task(self._every(self._pauses.holds_s, self.holds.look))
                tasks.create_task(self._every(look_s, self.retention.retire_when_due))
                try:
                    await self._every(look_s, self.find)
                except asyncio.CancelledError:
                    # in a task of its own: in one that was cancelled, Python before 3.11.4 ends all
                    # of it where its time is over
                    await asyncio.create_task(self._drain())
                    raise

    async def _drain(self) -> None:
        """Archive what waits, also what recorders that stop now still seal; say what is left."""
        loop = asyncio.get_running_loop()
        begun_s = loop.time()
        # what the catalogue refuses was said before
        with contextlib.suppress(TimeoutError, CatalogueError, OSError):
            async with asyncio.timeout(self._pauses.drain_s):
                while True:
                    await self.find()
                    sealing = loop.time() - begun_s < self._pauses.seal_s and self._is_recording()
                    if not sealing and self.replicators.is_idle:
                        break
                    await asyncio.sleep(self._pauses.look_s / 4)
        self._write_status()
        for replicator in self.replicators.all:
            status = replicator.status
            say = log.warning if status.backlog_recordings else log.info
            say(
                "Uploader stopped; so many recordings wait on this disk for the archive",
                archive=replicator.name,
                recordings=status.backlog_recordings,
                bytes=status.backlog_bytes,
            )

    def _is_recording(self) -> bool:
        newest = (camera.reader.newest() for camera in self.cameras)
        return any(index is not None and index.seal is None for index in newest)

    async def _every(self, pause_s: float, work: Callable[[], Awaitable[None]]) -> None:
        """Do something again and again; none of the four that do so waits for another."""
        again = Backoff(self._pauses.retry_s)
        while True:
            try:
                await work()
            except (CatalogueError, OSError) as error:
                self._failing.add(work.__name__)
                self._catalogue_refuses(error)
                wait_s = again.failed()
            except Exception:  # a fault of Kuager ends no other work
                if work.__name__ not in self._failing:
                    log.exception("A fault of Kuager", work=work.__name__)
                self._failing.add(work.__name__)
                wait_s = again.failed()
            else:
                self._failing.discard(work.__name__)
                again.succeeded()
                wait_s = pause_s
                if not self._failing:
                    self._outage.end()
            await asyncio.sleep(wait_s * random.uniform(0.8, 1.2))

    async def find(self) -> None:
        """Find what was sealed, and say how it stands."""
        try:
            self.clocks.judge()
            if await self.recognise():  # else the spool's disk is away, which recorders say
                await self.discovery.look()
        finally:
            self._write_status()

    async def clear(self) -> None:
        """Have the spool rid of what need not be there, and archived what else is to be."""
        self.clocks.judge()  # it may have been set since the last look
        await self.cleaner.remove()
        self.gaps.archive_ended()
        self.discovery.enter_what_has_no_row()
        await self.discovery.find_missing()

    def _catalogue_refuses(self, error: Exception) -> None:
        self._outage.begin(str(error)[:300])
        self.status.catalogue_fault = fault_of(error)

    async def recognise(self) -> bool:
        """Begin anew where another database or another spool has taken the place of the last.

        What was known of rows is true in one database only, and which files are missing in one
        spool only. Returns False while there is no spool.
        """
        try:
            spool = spool_id(self._spool)
        except OSError:
            return False
        try:
            found = await self._catalogue.prepared()
        except CatalogueError:
            self.discovery.count_all()
            raise
        if (found, spool) == (self._catalogue_id, self.cameras.spool_id):
            return True
        note, known = self._spool / "_status" / NOTE, None
        with contextlib.suppress(OSError, FormatError):
            known = Marker.parse(note.read_bytes()).id
        if known not in (None, found):
            log.warning(
                "Another database is in the place of the catalogue: all that is in the spool "
                "is entered again, and holds that archives know; `kuager fsck --repair` enters "
                "what else only archives have. Orders of the one before are in its copy alone"
            )
        self.cameras.clear()
        for replicator in self.replicators.all:
            replicator.archive.archive.expected_id = None  # this database may know another
        await self._catalogue.cameras.sync(self._config)
        if known != found:
            mark = Marker(NOTE_FORMAT, found)
            with contextlib.suppress(OSError):  # who makes room on a full disk needs none
                replace_file(note, mark.to_json(), durable=True)
        self._catalogue_id, self.cameras.spool_id = found, spool
        return True

    def _write_status(self) -> None:
        status = self.status
        status.written_ms = self._clock()
        status.catalogue_ok = self._outage.why is None
        status.catalogue_error = self._outage.why
        if status.catalogue_ok:
            status.catalogue_fault = None
        status.clock_synchronized = self._watch.synchronized
        status.removed_total = self.cleaner.removed_total
        status.retired_total = self.retention.retired_total
        removes = any(replicator.settings.keep is not None for replicator in self.replicators.all)
        status.clock_doubt = self._watch.doubt() if removes else self._watch.wrong()
        status.archives = {
            replicator.name: replace(
                replicator.status,
                clock_offset_ms=self._watch.offset_ms(replicator.name),
                overdue_recordings=self.retention.overdue.get(replicator.name),
            )
            for replicator in self.replicators.all
        }
        with contextlib.suppress(OSError):  # of a disk that went, which recorders tell
            replace_file(self._spool / "_status" / UPLOADER, status.to_json())
