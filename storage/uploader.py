"""Finds in the spool what is sealed, writes its rows, has archives keep it, clears the spool.

The order of truth of a recording, after the recorder sealed and flushed it, top to bottom: its
row in the catalogue (`_look_at`), its object and `.json` in each archive, verified, and the row
that says so (`Keeper._keep`); and only when as many archives as configured have it, and it is
older than the rewind window, it is removed from the spool (`_remove`).
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

import orjson
import structlog

from base.clock import now_ms
from config.model import Config
from storage.archive import Archive, ArchiveError
from storage.cameras import Name
from storage.catalogue import Catalogue, InSpool
from storage.database import words
from storage.disk import Room, room, spool_id
from storage.files import replace_file, try_lock
from storage.gaps import EARLIER_GAPS, read_gaps
from storage.index import LONGEST_MS, OTHERS, OTHERS_FORMAT, Gap, Index
from storage.keeper import Keeper, Pauses, Waiting
from storage.retention import gap_object, retire
from storage.trouble import Trouble
from storage.view import CameraView, Key, Stored

BATCH = 200
NOTE, NOTE_FORMAT = "catalogue.json", "catalogue/1"
OTHERS_S = 600.0  # between two looks for what other spools have of a camera
PRESSED = 2  # times the reserve: what is archived goes early, so that recording need not pause
GAP_AGE_MS = 180_000  # after its end: the recording that follows, if one does, carries it

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
    archives: dict[str, dict[str, Any]] = field(default_factory=dict)


@dataclass(slots=True)
class _Camera:
    name: Name  # of its journal of gaps; a recording's election is in its header
    view: CameraView
    known: dict[Key, InSpool]  # has a row
    seen: tuple[object, ...] = ()
    gaps_seen: tuple[object, ...] = ()
    gap_no: int = 0  # the last whose object was given to the keepers
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
        room: Callable[[Path], Room] = room,
    ):
        """`archives` are those of the configuration, in its order; `room` measures a disk."""
        self._config, self._catalogue = config, catalogue
        self._pauses, self._room = pauses, room
        self._spool = config.spool
        self._cameras: dict[tuple[str, str], _Camera] = {}
        self._trouble = Trouble(
            "The catalogue refuses; recordings wait in the spool", "The catalogue works again"
        )
        self._pressure = Trouble(
            "The spool's disk is nearly full: archived recordings leave it early",
            "The spool's disk has room again",
        )
        self.keepers = [
            Keeper(settings, archive, catalogue, self._catalogue_refuses, self._spool, pauses)
            for settings, archive in zip(config.archives, archives, strict=True)
        ]
        self._removed = self._retired = float("-inf")  # when it was last looked for
        self._spool_id = self._catalogue_id = ""  # of those to which `_cameras` belongs
        self.status = UploaderStatus(pid=os.getpid())

    async def run(self) -> None:
        """Work until cancelled; what goes wrong is told once and tried again."""
        with await self._alone():
            log.info("Uploader started")
            async with asyncio.TaskGroup() as tasks:
                for keeper in self.keepers:
                    tasks.create_task(keeper.run())
                tasks.create_task(self._find())

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

    async def _find(self) -> None:
        failures = 0
        while True:
            try:
                if await self._recognise():  # else the spool's disk is away, which recorders say
                    await self._work()
                self._trouble.end()
                failures = 0
            except Exception as error:  # a database has many ways to say no
                self._catalogue_refuses(error)
                failures += 1
            self._write_status()
            await asyncio.sleep(self._pause_s(failures) * random.uniform(0.8, 1.2))

    async def _work(self) -> None:
        """Do once what is due."""
        await self._look()
        if time.monotonic() - self._removed > self._pauses.remove_s:
            self._removed = time.monotonic()
            self._keep_gaps()
            await self._remove()
        if time.monotonic() - self._retired > self._pauses.retire_s:
            self._retired = time.monotonic()
            await self._retire()

    def _pause_s(self, failures: int) -> float:
        retry_s = self._pauses.retry_s
        return retry_s[min(failures, len(retry_s)) - 1] if failures else self._pauses.look_s

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
        found = await self._catalogue.prepared()
        if (found, spool) == (self._catalogue_id, self._spool_id):
            return True
        note = self._spool / "_status" / NOTE
        with contextlib.suppress(OSError, ValueError, KeyError):
            if orjson.loads(note.read_bytes())["id"] != found:
                log.warning(
                    "Another database is in the place of the catalogue: all that is in the spool "
                    "is entered again; `kuager fsck --repair` enters what only archives have"
                )
        self._cameras.clear()
        await self._catalogue.cameras.sync(self._config)
        replace_file(note, orjson.dumps({"kuager": NOTE_FORMAT, "id": found}), durable=True)
        self._catalogue_id, self._spool_id = found, spool
        return True

    async def _look(self) -> None:
        """Find what was sealed since the last look, and what happened to gaps."""
        for station in sorted(_directories(self._spool)):
            if station.name.startswith("_"):
                continue
            for directory in sorted(_directories(station)):
                await self._look_at(station.name, directory)

    async def _look_at(self, station: str, directory: Path) -> None:
        key = (station, directory.name)
        if key not in self._cameras:
            view = CameraView(self._spool, station, directory.name)
            view.refresh()
            known = await self._catalogue.in_spool(station, directory.name, self._spool_id)
            await self._repair(view, known)
            election = view.election() or self._config.election.id
            self._cameras[key] = _Camera((election, station, directory.name), view, known)
        camera = self._cameras[key]
        view = camera.view
        view.refresh()
        newest = view.newest()
        seen = (
            *(_stamp(directory / f) for f in ("camera.json", "gaps.jsonl")),
            *((newest.header.record_seq, newest.size) if newest else ()),
        )
        if seen == camera.seen:
            return
        new: list[tuple[Index, Stored]] = []
        for stored in view.stored():
            if stored.key not in camera.known:
                index = view.read(stored)
                if index is not None and index.seal is not None and index.segments:
                    new.append((index, stored))
            elif not camera.seen:  # the first look: an uploader before this one wrote its row
                self._keep(stored, camera.known[stored.key].archives)
        for n in range(0, len(new), BATCH):
            await self._put(camera, new[n : n + BATCH])
        view.trim()
        await self._put_earlier_gaps(camera)
        camera.name = (view.election() or camera.name[0], *camera.name[1:])
        await self._put_gaps(camera, view.all_gaps())
        if newest and time.monotonic() - camera.others_s > OTHERS_S:
            camera.others_s = time.monotonic()
            await self._look_for_others(camera, newest)
        camera.seen = seen

    async def _put(self, camera: _Camera, batch: list[tuple[Index, Stored]]) -> None:
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
        for index, stored in batch:
            if index.name[0] != self._config.election.id:
                text = "The spool has recordings of another election; they are kept under its name"
                self._say(camera, text, election=index.name[0])
            row = InSpool(index.name, index.identity, self._spool_id, {})
            camera.known[stored.key] = row
            self._keep(stored, row.archives)

    async def _look_for_others(self, camera: _Camera, newest: Index) -> None:
        """Tell the recorder of this spool which numbers others used, and who owns the camera."""
        numbers = await self._catalogue.numbers_elsewhere(newest.name, self._spool_id)
        if numbers is None or numbers["epoch"] < newest.header.epoch:
            return
        self._say(
            camera,
            "Another spool has recordings of this camera under an epoch that is not lower: from "
            "its next run on the recorder here goes on above its numbers. Where both record now, "
            "stop one",
            epoch=newest.header.epoch,
            other_epoch=numbers["epoch"],
        )
        told = orjson.dumps({"kuager": OTHERS_FORMAT} | numbers)
        replace_file(camera.view.directory / OTHERS, told, durable=True)

    def _say(self, camera: _Camera, text: str, **facts: object) -> None:
        """Say something of a camera once."""
        if text not in camera.told:
            camera.told.add(text)
            log.warning(text, camera="/".join(camera.name[1:]), **facts)

    def _keep(self, stored: Stored, done: dict[str, tuple[str, str]]) -> None:
        try:
            length = stored.media.stat().st_size
        except OSError:
            length = 0  # the keeper says what is wrong with it
        for keeper in self.keepers:
            if keeper.name not in done:
                keeper.add(Waiting(stored, length, done))

    async def _repair(self, view: CameraView, known: dict[Key, InSpool]) -> None:
        """Put right what an uploader that died left: rows of what is no longer in this spool.

        A row that does not say which spool has it is of this one where the file is here.
        """
        there = {stored.key for stored in view.stored()}
        for key, row in list(known.items()):
            if key in there and row.spool is None:
                await self._catalogue.writer.claim(row.name, [row.identity], self._spool_id)
            if key in there or known.pop(key).spool is None:
                continue
            if self._may_go(row):
                await self._catalogue.writer.mark_removed(row.name, row.identity, now_ms())
            else:
                log.error(
                    "A recording is gone from the spool and was not archived; `kuager fsck` "
                    "looks for it in the archives",
                    camera="/".join(row.name[1:]),
                    record_seq=row.identity.record_seq,
                )

    async def _put_earlier_gaps(self, camera: _Camera) -> None:
        """Enter and keep the gaps of earlier elections, which stand under their names."""
        for path in camera.view.directory.glob(EARLIER_GAPS.format("*")):
            election = path.stem.removeprefix(EARLIER_GAPS.format("").removesuffix(".jsonl"))
            if election in camera.earlier:
                continue
            name, gaps = (election, *camera.name[1:]), read_gaps(path)
            await self._catalogue.writer.put_gaps(name, gaps)
            for gap in gaps:
                if gap.end_ms is not None and gap.start_ms < gap.end_ms:
                    for keeper in self.keepers:
                        keeper.add_document(*gap_object(name, gap))
            camera.earlier.add(election)

    async def _put_gaps(self, camera: _Camera, gaps: list[Gap]) -> None:
        if (state := tuple(gaps[-50:])) != camera.gaps_seen:
            begin = 0 if not camera.gaps_seen else max(0, len(gaps) - 50)
            await self._catalogue.writer.put_gaps(camera.name, gaps[begin:])
            camera.gaps_seen = state

    def _keep_gaps(self) -> None:
        """Have archives keep gaps that ended and that no recording carries to them."""
        before_ms = now_ms() - GAP_AGE_MS
        for camera in self._cameras.values():
            carried = camera.view.carried_gap_no
            for gap in camera.view.all_gaps():
                ended = gap.end_ms is not None and gap.start_ms < gap.end_ms < before_ms
                if ended and gap.gap_no > max(carried, camera.gap_no):
                    camera.gap_no = gap.gap_no
                    for keeper in self.keepers:
                        keeper.add_document(*gap_object(camera.name, gap))

    # -- removing ------------------------------------------------------------------------

    def _may_go(self, row: InSpool) -> bool:
        ours = {keeper.name for keeper in self.keepers}
        return len(row.archives.keys() & ours) >= self._config.archives_needed

    async def _remove(self) -> None:
        """Take off the spool what is archived and older than the rewind window.

        How old is told by its name, so that nothing is read: some minutes more are kept. Where
        the disk is nearly full, archived recordings go before that, the oldest first: their
        segments then come from the archive.
        """
        before_ms = now_ms() - self._config.rewind_s * 1000 - LONGEST_MS
        pressed = self._is_pressed()
        found = [
            (stored, row, camera)
            for camera in self._cameras.values()
            for stored in camera.view.stored()[:-1]  # not the newest: recorders go on there
            if (row := camera.known.get(stored.key)) and self._may_go(row)
            if pressed or stored.start_ms < before_ms
        ]
        for stored, row, camera in sorted(found, key=lambda one: one[0].start_ms):
            if stored.start_ms >= before_ms and not self._is_pressed():
                break
            if not await self._is_kept(camera, stored, row):
                continue
            stored.media.unlink(missing_ok=True)
            stored.lines.unlink(missing_ok=True)
            with contextlib.suppress(OSError):
                stored.base.parent.rmdir()  # the day's last
            camera.view.forget(stored.key)
            await self._catalogue.writer.mark_removed(row.name, row.identity, now_ms())
            del camera.known[stored.key]
            self.status.removed_total += 1

    async def _is_kept(self, camera: _Camera, stored: Stored, row: InSpool) -> bool:
        """Look a last time whether the archives have a recording; what they lost goes again."""
        index = camera.view.read(stored)
        if index is None:  # the other half of its files is gone: an uploader died in between
            return True
        if index.seal is None or index.identity != row.identity:
            text = "A recording in the spool is not the one that the catalogue knows: it stays"
            self._say(camera, text, file=str(stored.media))
            return False
        for keeper in self.keepers:
            if (there := row.archives.get(keeper.name)) is None:
                continue
            try:
                if await keeper.still_has(index, *there):
                    continue
            except ArchiveError:  # away: its own keeper says so
                return False
            del row.archives[keeper.name]
            await self._catalogue.writer.forget_archived(row.name, row.identity, keeper.name)
            self._keep(stored, row.archives)
        return self._may_go(row)

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

    async def _retire(self) -> None:
        """Remove from archives what is older than they keep it."""
        for keeper in self.keepers:
            if keeper.settings.keep is not None:
                for name in await self._catalogue.cameras.names(self._config.election.id):
                    self.status.retired_total += await retire(
                        self._catalogue, keeper.archive, name, keeper.settings.keep
                    )

    # -- telling -------------------------------------------------------------------------

    def _write_status(self) -> None:
        status = self.status
        status.written_ms = now_ms()
        status.catalogue_ok = self._trouble.why is None
        status.catalogue_error = self._trouble.why
        status.archives = {keeper.name: asdict(keeper.status) for keeper in self.keepers}
        with contextlib.suppress(OSError):  # of a disk that went, which recorders tell
            replace_file(self._spool / "_status" / "uploader.json", orjson.dumps(asdict(status)))


def _directories(path: Path) -> list[Path]:
    try:
        return [p for p in path.iterdir() if p.is_dir()]
    except OSError:
        return []


def _stamp(path: Path) -> int:
    try:
        return path.stat().st_mtime_ns
    except OSError:
        return 0
