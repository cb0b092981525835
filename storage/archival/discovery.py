"""Finds in the spool what is sealed, writes its rows, and gives it to the replicators.

The first step of the commit order that the uploader takes: the row in the catalogue, then the
archives.
"""

from __future__ import annotations

import contextlib
import time
from pathlib import Path

import orjson
import structlog

from base.clock import Clock
from base.durable import replace_file
from base.hostclock import ClockWatch
from config.model import Config
from storage.archival.backlog import Blocked
from storage.archival.gap_upload import GapUpload
from storage.archival.pending import PendingUpload
from storage.archival.replicators import Replicators, length_of
from storage.archival.spool_cameras import GIVE_WAY, SpoolCamera, SpoolCameras
from storage.catalogue.catalogue import Catalogue, InSpool
from storage.catalogue.database import CatalogueError
from storage.records import OTHERS, OTHERS_FORMAT, Index
from storage.spool.lease_file import Holdings
from storage.spool.reader import Key, SpoolRecording, stored_at

BATCH = 200
OTHERS_S = 600.0  # between two looks for what other spools have of a camera
LATE_MS = 180_000  # after the last line of an index without a seal: nobody will seal it
MISSING = 500  # of each camera, off the spool and not in every archive: so many wait at a time

log = structlog.get_logger()

WHY_DEFERRED = {
    Blocked.NO_ROW: "the catalogue has no row of it yet",
    Blocked.UNREADABLE: "its index cannot be read",
    Blocked.UNSEALED: "its recorder ended without sealing it: the next recorder of the camera, or "
    "`kuager fsck --repair`, seals it",
}


class Discovery:
    """Looks at the cameras of a spool, again and again."""

    def __init__(
        self,
        config: Config,
        catalogue: Catalogue,
        cameras: SpoolCameras,
        replicators: Replicators,
        gaps: GapUpload,
        clock: Clock,
        watch: ClockWatch,
    ):
        self._config, self._catalogue, self._clock, self._watch = config, catalogue, clock, watch
        self._cameras, self._replicators, self._gaps = cameras, replicators, gaps
        self._holdings = Holdings(config.spool, config.node is not None)
        self._begin = 0  # the camera with which the next look begins
        self.looked = 0  # how often

    def count_all(self) -> None:
        """Count what is in the spool while the catalogue cannot be asked of it."""
        for station, directory in self._cameras.directories():
            camera = self._cameras.at(station, directory)
            if camera.known is None:
                camera.reader.refresh()
                self._defer_all(camera)

    async def look(self) -> None:
        """Find what was sealed since the last look, and what happened to gaps.

        What the catalogue refuses of one camera holds up no other; only where it refuses several
        in a row the look ends, with what it refused, and the next begins with others.
        """
        found = self._cameras.directories()
        begin = self._begin % max(1, len(found))
        in_a_row = 0
        for n, (station, directory) in enumerate(found[begin:] + found[:begin]):
            camera = self._cameras.at(station, directory)
            try:
                await self._look_at(camera, directory)
            except (CatalogueError, OSError) as error:
                camera.seen = ()
                in_a_row += 1
                if in_a_row >= min(GIVE_WAY, len(found)):
                    self._begin = begin + n
                    raise
                camera.outage.begin(str(error)[:300])
            else:
                in_a_row = 0
                camera.outage.end()
        self.looked += 1

    async def _look_at(self, camera: SpoolCamera, directory: Path) -> None:
        reader = camera.reader
        reader.refresh()
        if camera.unsure and not reader.unlisted:
            camera.known = None  # its rows are compared with what is there
        camera.unsure = bool(reader.unlisted)
        if camera.known is None:
            await self._ask_catalogue(camera)
        newest = reader.newest()
        if newest and newest.segments:
            self._watch.past(newest.end_ms, f"a recording of {'/'.join(camera.name[1:])}")
        late = newest is not None and newest.seal is None and self._is_late(reader.stored()[-1])
        seen = (
            late,
            *(_stamp(directory / f) for f in ("camera.json", "gaps.jsonl")),
            *((newest.header.record_seq, newest.size) if newest else ()),
        )
        if seen == camera.seen:
            return
        await self._put_all(camera)
        if camera.archived:
            await self._put_gaps(camera, newest)
        camera.seen = seen

    async def _put_gaps(self, camera: SpoolCamera, newest: Index | None) -> None:
        """Write the rows of gaps, and look now and then for what other spools have."""
        reader = camera.reader
        await self._gaps.put_earlier(camera)
        camera.name = (reader.election() or camera.name[0], *camera.name[1:])
        await self._gaps.put(camera)
        if time.monotonic() - camera.others_s > OTHERS_S:
            camera.others_s = time.monotonic()
            if self._holdings.has("/".join(camera.name[1:])):  # of several machines one does it
                await self._gaps.end_lost(camera)
            if newest and self._config.node is None:  # leases tell owners apart
                await self._look_for_others(camera, newest)

    # -- rows ----------------------------------------------------------------------------

    async def _ask_catalogue(self, camera: SpoolCamera) -> None:
        """Learn which recordings of a camera have rows."""
        self._defer_all(camera)
        known = await self._catalogue.in_spool(*camera.name[1:], self._cameras.spool_id)
        await self._repair(camera, known)
        while camera.unknown:
            known.pop(camera.unknown.pop(), None)
        camera.known, camera.seen = known, ()

    async def _put_all(self, camera: SpoolCamera) -> None:
        """Write the rows of what was sealed since, and have it archived. Of what is not to be
        archived only what has a row goes on: once it was to be."""
        reader = camera.reader
        known = camera.known = camera.known or {}
        new: list[tuple[Index, PendingUpload]] = []
        for stored in reader.stored():
            row = known.get(stored.key)
            if row is None and not camera.archived:
                continue
            if row is None:
                index = reader.read(stored)
                if index is not None and index.seal is not None and index.segments:
                    new.append((index, self._defer(camera, stored, Blocked.NO_ROW)))
                elif self._is_late(stored):
                    unread = index is None or stored.broken
                    why = Blocked.UNREADABLE if unread else Blocked.UNSEALED
                    self._defer(camera, stored, why)
            elif not camera.seen:  # the first look: an uploader before this one wrote its row
                self._replicators.add(row.name, stored, row.archives, row.retired)
        self._forget(camera)
        for n in range(0, len(new), BATCH):
            await self._put(camera, known, new[n : n + BATCH])
        reader.trim()

    async def _put(
        self,
        camera: SpoolCamera,
        known: dict[Key, InSpool],
        batch: list[tuple[Index, PendingUpload]],
    ) -> None:
        """Write the rows of sealed recordings, and have them archived."""
        indexes, spool_id = [index for index, _ in batch], self._cameras.spool_id
        for index in await self._catalogue.writer.put_recordings(indexes, spool_id):
            camera.others_s = float("-inf")
            camera.tell_once(
                "Another recording has the number of one of this spool; both are kept: "
                "only one recorder may have a camera",
                record_seq=index.header.record_seq,
                epoch=index.header.epoch,
            )
        for index, pending in batch:
            if index.name[0] != self._config.election.id:
                text = "The spool has recordings of another election; they are kept under its name"
                camera.tell_once(text, election=index.name[0])
            key = pending.stored.key
            known[key] = InSpool(index.name, index.identity, spool_id, pending.done)
            camera.deferred.pop(key, None)
            if pending.camera != index.name:  # it may belong to another bucket
                self._replicators.forget(pending)
            self._replicators.add(index.name, pending.stored, pending.done)

    async def _repair(self, camera: SpoolCamera, known: dict[Key, InSpool]) -> None:
        """Put right what an uploader that died left: rows of what is no longer in this spool.

        A row that does not say which spool has it is of this one where the file is here.
        """
        if camera.reader.unlisted:
            return  # nobody knows what is no longer there
        writer = self._catalogue.writer
        there = {stored.key for stored in camera.reader.stored()}
        for key, row in list(known.items()):
            if key in there and row.spool is None:
                await writer.set_spool(row.name, [row.identity], self._cameras.spool_id)
            if key in there or known.pop(key).spool is None:
                continue
            seq, start_ms, _ = row.identity
            if self._replicators.are_enough(row):
                await writer.mark_removed(row.name, row.identity, self._clock())
                continue
            log.error(
                "A recording is gone from the spool and was not archived everywhere; it is looked "
                "for in the other archives",
                camera="/".join(row.name[1:]),
                record_seq=seq,
                archived=sorted(row.archives),
            )
            stored = stored_at(camera.reader.directory, start_ms, seq)
            self._replicators.add(row.name, stored, row.archives, row.retired)

    # -- what cannot be archived yet -----------------------------------------------------

    def _defer_all(self, camera: SpoolCamera) -> None:
        """Count all recordings of a camera of which the catalogue was not asked yet."""
        for stored in camera.reader.stored()[:-1] if camera.archived else ():
            self._defer(camera, stored, Blocked.NO_ROW)

    def _defer(
        self, camera: SpoolCamera, stored: SpoolRecording, blocked: Blocked
    ) -> PendingUpload:
        """Count a recording that cannot be archived before something else has happened."""
        pending = camera.deferred.get(stored.key)
        if pending is None or pending.blocked is not blocked:
            pending = PendingUpload.of(camera.name, stored, length_of(stored), {})
            camera.deferred[stored.key] = pending
        self._replicators.defer(pending, blocked, WHY_DEFERRED[blocked])
        return pending

    def _forget(self, camera: SpoolCamera) -> None:
        """Count no longer what is deferred and is gone, set aside, or archived already."""
        there = {stored.key for stored in camera.reader.stored()}
        for key, pending in list(camera.deferred.items()):
            if key not in there or (camera.known and key in camera.known):
                del camera.deferred[key]
                self._replicators.forget(pending)

    def _is_late(self, stored: SpoolRecording) -> bool:
        """Say whether nobody writes a recording any longer."""
        return self._clock() - _stamp(stored.lines) // 1_000_000 > LATE_MS

    def enter_what_has_no_row(self) -> None:
        """Have the rows written again that an archive found missing."""
        for _, pending in list(self._replicators.blocked):
            camera = self._cameras.get(pending.stored.camera)
            if camera is not None and pending.blocked is Blocked.NO_ROW:
                camera.enter_again(pending.stored)

    # -- what is elsewhere ---------------------------------------------------------------

    async def find_missing(self) -> None:
        """Have each archive get what it missed and the spool no longer has."""
        if len(self._replicators.all) < 2:
            return
        wanted = {r.name: r.settings.keep for r in self._replicators.all}
        for camera in self._cameras:
            untried = self._replicators.have_untried(camera.missing or ())
            all_known = camera.missing is not None and len(camera.missing) < MISSING
            if camera.known is None or untried or all_known:
                continue
            # of those before, what nobody has any more waits, and holds up none of these
            asked = camera.name, wanted, self._clock(), (camera.missing_from, MISSING)
            camera.missing = []
            for row in await self._catalogue.missing(*asked):
                stored = stored_at(camera.reader.directory, row.start_ms, row.record_seq)
                done = {a.archive: (a.bucket, a.etags) for a in row.there}
                pending = PendingUpload.of(camera.name, stored, row.bytes, done)
                camera.missing.append(pending)
                camera.missing_from = row.record_seq
                self._replicators.add(camera.name, stored, pending.done, length=pending.length)

    async def _look_for_others(self, camera: SpoolCamera, newest: Index) -> None:
        """Tell the recorder of this spool which numbers others used, and who owns the camera."""
        epoch, spool_id = newest.header.epoch, self._cameras.spool_id
        numbers = await self._catalogue.numbers_elsewhere(newest.name, spool_id, epoch)
        if numbers is None or numbers["epoch"] < epoch:
            return
        camera.tell_once(
            "Another spool has recordings of this camera under an epoch that is not lower: from "
            "its next run on the recorder here goes on above its numbers. Where both record now, "
            "stop one",
            epoch=epoch,
            other_epoch=numbers["epoch"],
        )
        told = orjson.dumps({"kuager": OTHERS_FORMAT} | numbers)
        with contextlib.suppress(OSError):  # tried again; what waits to be archived does not wait
            replace_file(camera.reader.directory / OTHERS, told, durable=True)


def _stamp(path: Path) -> int:
    try:
        return path.stat().st_mtime_ns
    except OSError:
        return 0
