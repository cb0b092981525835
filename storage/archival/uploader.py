"""Finds in the spool what is sealed, writes its rows, has archives keep it, clears the spool.

The order of truth of a recording, after the recorder sealed and flushed it, top to bottom: its
row in the catalogue (`_look_at`), its object and `.json` in each archive, verified, and the row
that says so (`Replicator._keep`); and only when as many archives as configured have it, and it is
older than the rewind window, it is removed from the spool (`_remove`).
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import time
from collections.abc import Awaitable, Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, BinaryIO

import orjson
import structlog

from base.backoff import Backoff
from base.clock import Clock, now_ms
from base.durable import replace_file, try_lock
from base.hostclock import HEARD_MS, ClockWatch
from base.outage import Outage
from config.model import Config
from storage.archival.backlog import Blocked
from storage.archival.replicator import (
    Pauses,
    PendingUpload,
    PermanentUploadError,
    Replicator,
    waiting,
)
from storage.archival.retention import gap_object, retire
from storage.archive.port import Archive, ArchiveError
from storage.catalogue.cameras import Name
from storage.catalogue.catalogue import Catalogue, InSpool
from storage.catalogue.database import words
from storage.catalogue.recordings import END_UNKNOWN
from storage.records import LONGEST_MS, OTHERS, OTHERS_FORMAT, FormatError, Gap, Index
from storage.spool.disk import DiskSpace, room, spool_id
from storage.spool.gaps import EARLIER_GAPS, read_gaps
from storage.spool.reader import Key, SpoolReader, SpoolRecording, stored_at

BATCH = 200
NOTE, NOTE_FORMAT = "catalogue.json", "catalogue/1"
OTHERS_S = 600.0  # between two looks for what other spools have of a camera
PRESSED = 2  # times the reserve: what is archived goes early, so that recording need not pause
GAP_AGE_MS = 180_000  # after its end: the recording that follows, if one does, carries it
AGAIN_S = 600.0  # until what is not removed now is tried again
LATE_MS = 180_000  # after the last line of an index without a seal: nobody will seal it
GIVE_WAY = 3  # cameras in a row whose rows are refused: it is the catalogue
MISSING = 500  # of each camera, off the spool and not in every archive: so many wait at a time

HELD = {
    Blocked.NO_ROW: "the catalogue has no row of it yet",
    Blocked.UNREADABLE: "its index cannot be read",
    Blocked.UNSEALED: "its recorder ended without sealing it: the next recorder of the camera, or "
    "`kuager fsck --repair`, seals it",
}

log = structlog.get_logger()


@dataclass(slots=True)
class UploaderStatus:
    """What `_status/uploader.json` says (docs/formats.md)."""

    kuager: str = "status/2"
    pid: int = 0
    written_ms: int = 0
    removed_total: int = 0
    retired_total: int = 0
    catalogue_ok: bool = True
    catalogue_error: str | None = None
    clock_synchronized: bool = True
    clock_doubt: str | None = None
    archives: dict[str, dict[str, Any]] = field(default_factory=dict)


@dataclass(slots=True)
class _Camera:
    name: Name  # of its journal of gaps; a recording's election is in its header
    view: SpoolReader
    trouble: Outage
    known: dict[Key, InSpool] | None = None  # has a row; None: not asked yet
    unknown: set[Key] = field(default_factory=set)  # whose row is to be written again
    held: dict[Key, PendingUpload] = field(
        default_factory=dict
    )  # what waits to be sealed or for a row
    missing: list[PendingUpload] | None = (
        None  # off the spool, not in every archive; None: not asked
    )
    seen: tuple[object, ...] = ()
    gaps_seen: tuple[object, ...] = ()
    ended: dict[tuple[int, int], float] = field(default_factory=dict)  # gaps: since when
    told_gaps: dict[int, int] = field(default_factory=dict)  # given to the keepers, with their ends
    earlier: set[str] = field(default_factory=set)  # elections whose gaps were taken over
    others_s: float = float("-inf")  # when other spools were last asked for
    told: set[str] = field(default_factory=set)  # what was said of it once


class Uploader:
    """Takes every sealed recording of a spool to the archives, for ever."""

    def __init__(
        self,
        config: Config,
        catalogue: Catalogue,
        archives: Sequence[Archive],
        *,
        pauses: Pauses = Pauses(),
        room: Callable[[Path], DiskSpace] = room,
        clock: Clock = now_ms,
        watch: ClockWatch | None = None,
    ):
        """`archives` are those of the configuration, in its order; `room` measures a disk,
        `watch` judges `clock`."""
        self._clock, self._watch = clock, watch or ClockWatch(clock)
        self._doubt = Outage(
            "The clock of this machine is not believed: nothing is removed on its word",
            "The clock of this machine is believed again",
        )
        self._retiring = Outage(
            "Recordings whose time has come are not removed from archives now",
            "Recordings whose time has come are removed from archives again",
        )
        self._config, self._catalogue = config, catalogue
        self._pauses, self._room = pauses, room
        self._spool = config.spool
        self._cameras: dict[tuple[str, str], _Camera] = {}
        self._trouble = Outage(
            "The catalogue refuses; recordings wait in the spool", "The catalogue works again"
        )
        self._pressure = Outage(
            "The spool's disk is nearly full: archived recordings leave it early",
            "The spool's disk has room again",
        )
        self._staying = Outage(
            "Archived recordings cannot be taken off the spool; they are tried again",
            "All that is to leave the spool leaves it again",
        )
        self.keepers = [
            Replicator(
                settings, archive, catalogue, self._catalogue_refuses, self._spool, pauses, self
            )
            for settings, archive in zip(config.archives, archives, strict=True)
        ]
        self._retire_at_ms = float("-inf")  # in `elapsed_ms`: when it is next looked for
        self._failing: set[str] = set()  # what of its work the catalogue refused last
        self._spool_id = self._catalogue_id = ""  # of those to which `_cameras` belongs
        self._begin = 0  # the camera with which the next look begins
        self.looked = 0  # how often
        self.status = UploaderStatus(pid=os.getpid())

    async def run(self) -> None:
        """Work until cancelled; what goes wrong is told once and tried again.

        When it is cancelled, what waits is archived first, for as long as `Pauses.drain_s`.
        """
        with await self._alone():
            log.info("Uploader started")
            async with asyncio.TaskGroup() as tasks:
                for keeper in self.keepers:
                    tasks.create_task(keeper.run())
                tasks.create_task(self._ask_time())
                look_s = self._pauses.look_s
                tasks.create_task(self._every(self._pauses.remove_s, self._clear))
                tasks.create_task(self._every(look_s, self._retire_when_due))
                try:
                    await self._every(look_s, self._find)
                except asyncio.CancelledError:
                    await self._drain()
                    raise

    async def _drain(self) -> None:
        """Archive what waits, also what recorders that stop now still seal; say what is left."""
        loop = asyncio.get_running_loop()
        begun_s = loop.time()
        with contextlib.suppress(TimeoutError, Exception):  # what refuses was said before
            async with asyncio.timeout(self._pauses.drain_s):
                while True:
                    await self._find()
                    sealing = loop.time() - begun_s < self._pauses.seal_s and self._is_recording()
                    if not sealing and self.is_idle:
                        break
                    await asyncio.sleep(self._pauses.look_s / 4)
        self._write_status()
        for keeper in self.keepers:
            status = keeper.status
            say = log.warning if status.backlog_recordings else log.info
            say(
                "Uploader stopped; so many recordings wait on this disk for the archive",
                archive=keeper.name,
                recordings=status.backlog_recordings,
                bytes=status.backlog_bytes,
            )

    @property
    def is_idle(self) -> bool:
        """Whether all that waits was tried and failed, or the archive takes nothing."""
        return all(keeper.is_idle for keeper in self.keepers)

    @property
    def is_done(self) -> bool:
        """Whether every archive has all that was found at the last look."""
        return self.looked > 0 and all(keeper.is_done for keeper in self.keepers)

    def _is_recording(self) -> bool:
        newest = (camera.view.newest() for camera in self._cameras.values())
        return any(index is not None and index.seal is None for index in newest)

    @property
    def blocked(self) -> Iterator[tuple[str, PendingUpload]]:
        """The recordings that cannot be archived now, each with the archive's name."""
        return ((keeper.name, one) for keeper in self.keepers for one in keeper.blocked())

    async def _alone(self) -> BinaryIO:
        """Return the lock of the spool's uploader: of two, one could spoil what the other has
        verified. Waits until another has ended, and until there is a spool."""
        told = False
        while True:
            try:
                if lock := try_lock(self._spool / "_status" / "uploader.lock"):
                    return lock
            except OSError:  # no recorder has made the spool yet, or its disk is away
                await asyncio.sleep(self._pauses.look_s)
                continue
            if not told:
                told = True
                log.warning("Another uploader works on this spool; waiting until it has ended")
            await asyncio.sleep(self._pauses.look_s)

    async def _every(self, pause_s: float, work: Callable[[], Awaitable[None]]) -> None:
        """Do something again and again; none of the three that do so waits for another."""
        again = Backoff(self._pauses.retry_s)
        while True:
            try:
                await work()
            except Exception as error:  # a database has many ways to say no
                self._failing.add(work.__name__)
                self._catalogue_refuses(error)
                wait_s = again.failed()
            else:
                self._failing.discard(work.__name__)
                again.succeeded()
                wait_s = pause_s
                if not self._failing:
                    self._trouble.end()
            await asyncio.sleep(wait_s * random.uniform(0.8, 1.2))

    async def _find(self) -> None:
        """Find what was sealed, and say how it stands."""
        try:
            self._judge_clock()
            if await self._recognise():  # else the spool's disk is away, which recorders say
                await self._look()
        finally:
            self._write_status()

    async def _clear(self) -> None:
        """Have the spool rid of what need not be there, and archived what else is to be."""
        await self._remove()
        self._keep_gaps()
        self._enter_what_has_no_row()
        await self._find_missing()

    def _catalogue_refuses(self, error: BaseException) -> None:
        self._trouble.begin(words(error)[:300])

    # -- finding -------------------------------------------------------------------------

    async def _recognise(self) -> bool:
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
        except Exception:
            self._count_all()
            raise
        if (found, spool) == (self._catalogue_id, self._spool_id):
            return True
        note, known = self._spool / "_status" / NOTE, None
        with contextlib.suppress(OSError, ValueError, TypeError, KeyError):
            known = orjson.loads(note.read_bytes())["id"]
        if known not in (None, found):
            log.warning(
                "Another database is in the place of the catalogue: all that is in the spool "
                "is entered again; `kuager fsck --repair` enters what only archives have. Holds "
                "and orders of the one before are in its copy alone"
            )
        self._cameras.clear()
        for keeper in self.keepers:
            keeper.archive.expected_id = None  # this database may know another
        await self._catalogue.cameras.sync(self._config)
        if known != found:
            told = orjson.dumps({"kuager": NOTE_FORMAT, "id": found})
            with contextlib.suppress(OSError):  # who makes room on a full disk needs none
                replace_file(note, told, durable=True)
        self._catalogue_id, self._spool_id = found, spool
        return True

    def _count_all(self) -> None:
        """Count what is in the spool while the catalogue cannot be asked of it."""
        for station, directory in self._directories():
            camera = self._camera(station, directory)
            if camera.known is None:
                camera.view.refresh()
                self._hold_all(camera)

    def _directories(self) -> list[tuple[str, Path]]:
        return [
            (station.name, directory)
            for station in sorted(_directories(self._spool))
            if not station.name.startswith("_")
            for directory in sorted(_directories(station))
        ]

    async def _look(self) -> None:
        """Find what was sealed since the last look, and what happened to gaps.

        What the catalogue refuses of one camera holds up no other; only where it refuses several
        in a row the look ends, with what it refused, and the next begins with others.
        """
        found = self._directories()
        begin = self._begin % max(1, len(found))
        in_a_row = 0
        for n, (station, directory) in enumerate(found[begin:] + found[:begin]):
            camera = self._camera(station, directory)
            try:
                await self._look_at(camera, directory)
            except Exception as error:  # a database has many ways to say no
                camera.seen = ()
                in_a_row += 1
                if in_a_row >= min(GIVE_WAY, len(found)):
                    self._begin = begin + n
                    raise
                camera.trouble.begin(words(error)[:300])
            else:
                in_a_row = 0
                camera.trouble.end()
        self.looked += 1

    def _camera(self, station: str, directory: Path) -> _Camera:
        key = (station, directory.name)
        if key not in self._cameras:
            trouble = Outage(
                "The catalogue refuses rows of a camera; its recordings wait in the spool",
                "The catalogue takes rows of this camera again",
                camera="/".join(key),
            )
            name = (self._config.election.id, *key)
            view = SpoolReader(self._spool, *key)
            self._cameras[key] = _Camera(name, view, trouble)
        return self._cameras[key]

    async def _look_at(self, camera: _Camera, directory: Path) -> None:
        view = camera.view
        view.refresh()
        if camera.known is None:
            self._hold_all(camera)
            known = await self._catalogue.in_spool(*camera.name[1:], self._spool_id)
            await self._repair(camera, known)
            while camera.unknown:
                known.pop(camera.unknown.pop(), None)
            camera.known, camera.seen = known, ()
        newest = view.newest()
        if newest and newest.segments:
            self._watch.past(newest.end_ms, f"a recording of {'/'.join(camera.name[1:])}")
        late = newest is not None and newest.seal is None and self._is_late(view.stored()[-1])
        seen = (
            late,
            *(_stamp(directory / f) for f in ("camera.json", "gaps.jsonl")),
            *((newest.header.record_seq, newest.size) if newest else ()),
        )
        if seen == camera.seen:
            return
        new: list[tuple[Index, PendingUpload]] = []
        for stored in view.stored():
            row = camera.known.get(stored.key)
            if row is None:
                index = view.read(stored)
                if index is not None and index.seal is not None and index.segments:
                    new.append((index, self._hold(camera, stored, Blocked.NO_ROW)))
                elif self._is_late(stored):
                    unread = index is None or stored.broken
                    why = Blocked.UNREADABLE if unread else Blocked.UNSEALED
                    self._hold(camera, stored, why)
            elif not camera.seen:  # the first look: an uploader before this one wrote its row
                self._keep(row.name, stored, row.archives, row.retired)
        self._forget(camera)
        for n in range(0, len(new), BATCH):
            await self._put(camera, camera.known, new[n : n + BATCH])
        view.trim()
        await self._put_earlier_gaps(camera)
        camera.name = (view.election() or camera.name[0], *camera.name[1:])
        await self._put_gaps(camera, view.all_gaps())
        if time.monotonic() - camera.others_s > OTHERS_S:
            camera.others_s = time.monotonic()
            await self._end_lost_gaps(camera)
            if newest:
                await self._look_for_others(camera, newest)
        camera.seen = seen

    async def _put(
        self, camera: _Camera, known: dict[Key, InSpool], batch: list[tuple[Index, PendingUpload]]
    ) -> None:
        """Write the rows of sealed recordings, and have archives keep them."""
        indexes = [index for index, _ in batch]
        for index in await self._catalogue.writer.put_recordings(indexes, self._spool_id):
            camera.others_s = float("-inf")
            self._say(
                camera,
                "Another recording has the number of one of this spool; both are kept: "
                "only one recorder may have a camera",
                record_seq=index.header.record_seq,
                epoch=index.header.epoch,
            )
        for index, one in batch:
            if index.name[0] != self._config.election.id:
                text = "The spool has recordings of another election; they are kept under its name"
                self._say(camera, text, election=index.name[0])
            key = one.stored.key
            known[key] = InSpool(index.name, index.identity, self._spool_id, one.done)
            camera.held.pop(key, None)
            if one.camera != index.name:  # it may belong to another bucket
                for keeper in self.keepers:
                    keeper.forget(one)
            self._keep(index.name, one.stored, one.done)

    async def _look_for_others(self, camera: _Camera, newest: Index) -> None:
        """Tell the recorder of this spool which numbers others used, and who owns the camera."""
        epoch = newest.header.epoch
        numbers = await self._catalogue.numbers_elsewhere(newest.name, self._spool_id, epoch)
        if numbers is None or numbers["epoch"] < epoch:
            return
        self._say(
            camera,
            "Another spool has recordings of this camera under an epoch that is not lower: from "
            "its next run on the recorder here goes on above its numbers. Where both record now, "
            "stop one",
            epoch=epoch,
            other_epoch=numbers["epoch"],
        )
        told = orjson.dumps({"kuager": OTHERS_FORMAT} | numbers)
        with contextlib.suppress(OSError):  # tried again; what waits to be archived does not wait
            replace_file(camera.view.directory / OTHERS, told, durable=True)

    def _say(self, camera: _Camera, text: str, **facts: object) -> None:
        """Say something of a camera once."""
        if text not in camera.told:
            camera.told.add(text)
            log.warning(text, camera="/".join(camera.name[1:]), **facts)

    def _hold_all(self, camera: _Camera) -> None:
        """Count all recordings of a camera of which the catalogue was not asked yet."""
        for stored in camera.view.stored()[:-1]:
            self._hold(camera, stored, Blocked.NO_ROW)

    def _hold(self, camera: _Camera, stored: SpoolRecording, blocked: Blocked) -> PendingUpload:
        """Count a recording that cannot be archived before something else has happened."""
        one = camera.held.get(stored.key)
        if one is None or one.blocked is not blocked:
            one = camera.held[stored.key] = waiting(camera.name, stored, _length(stored), {})
        for keeper in self.keepers:
            keeper.hold(one, blocked, HELD[blocked])
        return one

    def _forget(self, camera: _Camera) -> None:
        """Count no longer what is held and is gone, set aside, or archived already."""
        there = {stored.key for stored in camera.view.stored()}
        for key, one in list(camera.held.items()):
            if key not in there or (camera.known and key in camera.known):
                del camera.held[key]
                for keeper in self.keepers:
                    keeper.forget(one)

    def _is_late(self, stored: SpoolRecording) -> bool:
        """Say whether nobody writes a recording any longer."""
        return self._clock() - _stamp(stored.lines) // 1_000_000 > LATE_MS

    def _keep(
        self,
        name: Name,
        stored: SpoolRecording,
        done: dict[str, tuple[str, str]],
        retired: Collection[str] = (),
        length: int | None = None,
    ) -> None:
        length = _length(stored) if length is None else length
        for keeper in self.keepers:
            if keeper.name not in done and keeper.name not in retired:
                keeper.add(waiting(name, stored, length, done))

    async def _repair(self, camera: _Camera, known: dict[Key, InSpool]) -> None:
        """Put right what an uploader that died left: rows of what is no longer in this spool.

        A row that does not say which spool has it is of this one where the file is here.
        """
        there = {stored.key for stored in camera.view.stored()}
        for key, row in list(known.items()):
            if key in there and row.spool is None:
                await self._catalogue.writer.claim(row.name, [row.identity], self._spool_id)
            if key in there or known.pop(key).spool is None:
                continue
            seq, start_ms, _ = row.identity
            if self._may_go(row):
                await self._catalogue.writer.mark_removed(row.name, row.identity, self._clock())
                continue
            log.error(
                "A recording is gone from the spool and was not archived everywhere; it is looked "
                "for in the other archives",
                camera="/".join(row.name[1:]),
                record_seq=seq,
                archived=sorted(row.archives),
            )
            stored = stored_at(camera.view.directory, start_ms, seq)
            self._keep(row.name, stored, row.archives, row.retired)

    async def _find_missing(self) -> None:
        """Have each archive get what it missed and the spool no longer has."""
        if len(self.keepers) < 2:
            return
        wanted = {keeper.name: keeper.settings.keep for keeper in self.keepers}
        for camera in list(self._cameras.values()):
            waiting_for = any(
                k.waits_for(one) for k in self.keepers for one in camera.missing or ()
            )
            all_known = camera.missing is not None and len(camera.missing) < MISSING
            if camera.known is None or waiting_for or all_known:
                continue
            camera.missing = []
            for row in await self._catalogue.missing(camera.name, wanted, self._clock(), MISSING):
                stored = stored_at(camera.view.directory, row["start_ms"], row["record_seq"])
                one = waiting(camera.name, stored, row["bytes"], row["archives"])
                camera.missing.append(one)
                self._keep(camera.name, stored, one.done, length=one.length)

    async def fetch(self, waiting: PendingUpload, to: Path) -> Index:
        """Write a recording that the spool no longer has to a file, from an archive that has it.

        Raises Unkeepable where none has it, ArchiveError where one that should cannot be asked.
        """
        away: ArchiveError | None = None
        for keeper in self.keepers:
            if keeper.name in waiting.done:
                try:
                    return await keeper.fetch(waiting, to)
                except (KeyError, FormatError) as error:
                    log.error(
                        "A recording cannot be had from an archive",
                        archive=keeper.name,
                        recording=waiting.key,
                        why=str(error),
                    )
                except ArchiveError as error:
                    away = error
        text = f"{waiting.stored.media} is gone from the spool, and no other archive has it now"
        raise PermanentUploadError(Blocked.GONE, f"{text}: {away}" if away else text)

    async def _put_earlier_gaps(self, camera: _Camera) -> None:
        """Enter and keep the gaps of earlier elections, which stand under their names."""
        for path in camera.view.directory.glob(EARLIER_GAPS.format("*")):
            election = path.stem.removeprefix(EARLIER_GAPS.format("").removesuffix(".jsonl"))
            if election in camera.earlier:
                continue
            name = election, *camera.name[1:]
            begun = [gap.start_ms for gap in camera.view.all_gaps()]
            begun += [stored.start_ms for stored in camera.view.stored()]
            gaps = [_ended(gap, begun) for gap in read_gaps(path)]
            await self._catalogue.writer.put_gaps(name, gaps)
            for gap in gaps:
                if gap.end_ms is not None and gap.start_ms < gap.end_ms:
                    for keeper in self.keepers:
                        keeper.add_document(name, gap.start_ms, *gap_object(name, gap))
            if all(gap.end_ms is not None for gap in gaps):
                camera.earlier.add(election)

    async def _put_gaps(self, camera: _Camera, gaps: list[Gap]) -> None:
        if (state := tuple(gaps[-50:])) != camera.gaps_seen:
            begin = 0 if not camera.gaps_seen else max(0, len(gaps) - 50)
            await self._catalogue.writer.put_gaps(camera.name, gaps[begin:])
            camera.gaps_seen = state

    async def _end_lost_gaps(self, camera: _Camera) -> None:
        """End what lasted in another spool whose recorder cannot tell the end any more."""
        known = {(gap.gap_no, gap.start_ms) for gap in camera.view.all_gaps()}
        writer, name = self._catalogue.writer, camera.name
        for gap in await writer.end_lost_gaps(name, known, self._clock()):
            log.warning(
                "A gap that another spool had lasts no longer: its end was never told",
                camera="/".join(name[1:]),
                start_ms=gap.start_ms,
                end_ms=gap.end_ms,
            )
            for keeper in self.keepers:
                keeper.add_document(name, gap.start_ms, *gap_object(name, gap))

    def _keep_gaps(self) -> None:
        """Have archives keep gaps that ended and that no recording carries to them."""
        now = self._watch.elapsed()
        for camera in self._cameras.values():
            if camera.held:  # what held them up may have gone meanwhile
                camera.seen = ()
            ended = camera.ended
            camera.ended, waits = {}, False
            for gap in camera.view.all_gaps():
                if gap.gap_no <= camera.view.carried_gap_no or gap.end_ms is None:
                    continue
                if camera.told_gaps.get(gap.gap_no, gap.start_ms) == gap.end_ms:
                    continue  # also one that is none; but one that was told may be none now
                # whatever the clocks say: it may end earlier when a recording follows
                seen = (gap.gap_no, gap.end_ms)
                camera.ended[seen] = ended.get(seen, now)
                waits = waits or now - camera.ended[seen] < GAP_AGE_MS
                if waits:
                    continue
                camera.told_gaps[gap.gap_no] = gap.end_ms
                for keeper in self.keepers:
                    keeper.add_document(camera.name, gap.start_ms, *gap_object(camera.name, gap))

    # -- removing ------------------------------------------------------------------------

    def _may_go(self, row: InSpool) -> bool:
        """Say whether enough archives have a recording; of those that had it until its time came
        one is enough only where no other is to keep it."""
        ours = {keeper.name for keeper in self.keepers}
        there = row.archives.keys() & ours
        if len(there | (row.retired & ours)) < self._config.archives_needed:
            return False
        return bool(there) or row.retired >= ours

    async def _remove(self) -> None:
        """Take off the spool what is archived and older than the rewind window.

        How old is told by its name, so that nothing is read: some minutes more are kept. Where
        the disk is nearly full, archived recordings go before that, the oldest first: their
        segments then come from the archive.
        """
        before_ms = self._clock() - self._config.rewind_s * 1000 - LONGEST_MS
        if self._watch.unlikely():
            before_ms = 0
        pressed = self._is_pressed()
        found = [
            (stored, row, camera)
            for camera in self._cameras.values()
            for stored in camera.view.stored()[:-1]  # not the newest: recorders go on there
            if (row := (camera.known or {}).get(stored.key)) and self._may_go(row)
            if pressed or stored.start_ms < before_ms
        ]
        if not os.access(self._spool, os.W_OK):
            return  # a disk that is read-only, which recorders say
        refused: dict[str, str] = {}  # by name, and why
        in_a_row = set[tuple[str, str]]()  # cameras of which the catalogue refused something
        for stored, row, camera in sorted(found, key=lambda one: one[0].start_ms):
            if stored.start_ms >= before_ms and not self._is_pressed():
                break
            try:
                if await self._is_kept(camera, stored, row):
                    await self._take_off(camera, stored, row)
                in_a_row.clear()
            except OSError as error:
                refused[str(stored.base)] = error.strerror or str(error)
            except Exception as error:  # a database has many ways to say no
                refused[str(stored.base)] = words(error)[:300]
                in_a_row.add(stored.camera)
                if len(in_a_row) >= min(GIVE_WAY, len(self._cameras)):
                    raise
        if refused:
            name, why = next(iter(refused.items()))
            self._staying.begin(f"{name}: {why}")
        else:
            self._staying.end()

    async def _take_off(self, camera: _Camera, stored: SpoolRecording, row: InSpool) -> None:
        stored.media.unlink(missing_ok=True)
        stored.lines.unlink(missing_ok=True)
        with contextlib.suppress(OSError):
            stored.base.parent.rmdir()  # the day's last
        camera.view.forget(stored.key)
        self.status.removed_total += 1
        await self._catalogue.writer.mark_removed(row.name, row.identity, self._clock())
        (camera.known or {}).pop(stored.key, None)

    async def _is_kept(self, camera: _Camera, stored: SpoolRecording, row: InSpool) -> bool:
        """Look a last time whether the archives have a recording; what they lost goes again."""
        index = camera.view.read(stored)
        if index is None:
            return not stored.lines.exists()  # else it cannot be read now
        found = await self._catalogue.in_spool(*camera.name[1:], self._spool_id, stored.record_seq)
        told = found.get(stored.key)
        if index.seal is None or not told or not index.identity == row.identity == told.identity:
            self._enter_again(camera, stored)
            return False
        row.retired.update(told.retired)
        for keeper in self.keepers:
            if keeper.name in row.retired:
                row.archives.pop(keeper.name, None)
            if (there := row.archives.get(keeper.name)) is None:
                continue
            if keeper.is_away:  # it would only be waited for
                return False
            try:
                if keeper.name in told.archives and await keeper.still_has(index, *there):
                    continue
            except ArchiveError:  # away: its own keeper says so
                return False
            del row.archives[keeper.name]
            await self._catalogue.writer.forget_archived(row.name, row.identity, keeper.name)
            self._keep(row.name, stored, row.archives, row.retired)
        return self._may_go(row)

    def _enter_again(self, camera: _Camera, stored: SpoolRecording) -> None:
        """Write the row of a recording again that the catalogue had, and has no longer."""
        if camera.known and stored.key in camera.known:
            camera.known = None  # asked again: more of them may be gone
            camera.unknown.add(stored.key)
            self._say(
                camera,
                "The catalogue no longer knows recordings of this spool that it knew: they are "
                "entered again. If it came back from a copy, `kuager fsck --repair` enters what "
                "only archives have",
                file=str(stored.media),
            )

    def _enter_what_has_no_row(self) -> None:
        for _, one in list(self.blocked):
            camera = self._cameras.get(one.stored.camera)
            if camera is not None and one.blocked is Blocked.NO_ROW:
                self._enter_again(camera, one.stored)

    def _is_pressed(self) -> bool:
        """Say whether recording will soon have to pause for want of room."""
        try:
            found = self._room(self._spool)
        except OSError:
            return False
        pressed = found.free_bytes < PRESSED * self._config.spool_limits.reserve.of(
            found.total_bytes
        )
        if pressed:
            self._pressure.begin("less than twice the reserve is free")
        else:
            self._pressure.end()
        return pressed

    def _judge_clock(self) -> None:
        """Notice that the clock was set, hear what the archives' servers say, and tell it."""
        self._watch.look()
        for keeper in self.keepers:
            if told := keeper.archive.told:
                self._watch.heard(keeper.name, *told)
        if (why := self._watch.unlikely()) is None:
            self._doubt.end()
        elif self._doubt.why is None:
            self._doubt.begin(why)

    async def _ask_time(self) -> None:
        """Have every server tell the time that has not done so for half an hour, for ever."""
        asked_ms = dict.fromkeys(self.keepers, float("-inf"))
        while True:
            for keeper in self.keepers:
                told, at_ms = keeper.archive.told, self._watch.elapsed()
                last_ms = max(asked_ms[keeper], told[1] if told else float("-inf"))
                if at_ms - last_ms > HEARD_MS / 2:
                    asked_ms[keeper] = at_ms
                    with contextlib.suppress(ArchiveError):  # also who refuses tells the time
                        await keeper.archive.etag("_kuager/clock")
            await asyncio.sleep(self._pauses.look_s)

    async def _retire_when_due(self) -> None:
        """Retire a day after the start, and after a clock that was set."""
        at_ms = self._watch.elapsed()
        if self._watch.steady_s() >= self._pauses.retire_s and at_ms >= self._retire_at_ms:
            self._retire_at_ms = at_ms + await self._retire() * 1000

    async def _retire(self) -> float:
        """Remove from archives what is older than they keep it, unless the clock is in doubt;
        return in how many seconds to do so again."""
        keepers = [(k, k.settings.keep) for k in self.keepers if k.settings.keep is not None]
        names = await self._catalogue.cameras.names(self._config.election.id) if keepers else []
        for name in names:
            if newest_ms := await self._catalogue.newest_ms(name):
                self._watch.past(newest_ms, f"a recording of {name[1]}/{name[2]}")
        away = ""
        for keeper, keep_s in keepers:
            try:
                await keeper.identify()
            except ArchiveError as error:
                away = str(error)
                continue
            in_a_row = 0
            for name in names:
                self._judge_clock()
                why = self._watch.doubt()
                if why or self._watch.steady_s() < self._pauses.retire_s:
                    self._retiring.begin(why or "the clock was set")
                    return min(self._pauses.retire_s, AGAIN_S)
                try:
                    self.status.retired_total += await retire(
                        self._catalogue, keeper.archive, name, keep_s, clock=self._clock
                    )
                    in_a_row = 0
                except Exception as error:  # a database has many ways to say no
                    away, in_a_row = f"{'/'.join(name[1:])}: {words(error)[:300]}", in_a_row + 1
                    if in_a_row >= min(GIVE_WAY, len(names)):
                        raise
        if away:
            self._retiring.begin(away)
            return min(self._pauses.retire_s, AGAIN_S)
        self._retiring.end()
        return self._pauses.retire_s

    # -- telling -------------------------------------------------------------------------

    def _write_status(self) -> None:
        status = self.status
        status.written_ms = self._clock()
        status.catalogue_ok = self._trouble.why is None
        status.catalogue_error = self._trouble.why
        status.clock_synchronized = self._watch.synchronized
        removes = any(keeper.settings.keep is not None for keeper in self.keepers)
        status.clock_doubt = self._watch.doubt() if removes else self._watch.wrong()
        status.archives = {
            keeper.name: asdict(keeper.status)
            | {"clock_offset_ms": self._watch.offset_ms(keeper.name)}
            for keeper in self.keepers
        }
        with contextlib.suppress(OSError):  # of a disk that went, which recorders tell
            replace_file(self._spool / "_status" / "uploader.json", orjson.dumps(asdict(status)))


def _ended(gap: Gap, begun: Iterable[int]) -> Gap:
    """Return a gap that nobody will end, ended where the next of these moments is."""
    later = [at_ms for at_ms in begun if at_ms > gap.start_ms]
    if gap.end_ms is not None or not later:
        return gap
    return replace(gap, end_ms=min(later), detail=f"{gap.detail}; {END_UNKNOWN}")


def _directories(path: Path) -> list[Path]:
    try:
        return [p for p in path.iterdir() if p.is_dir()]
    except OSError:
        return []


def _length(stored: SpoolRecording) -> int:
    try:
        return stored.media.stat().st_size
    except OSError:
        return 0  # the keeper says what is wrong with it


def _stamp(path: Path) -> int:
    try:
        return path.stat().st_mtime_ns
    except OSError:
        return 0
