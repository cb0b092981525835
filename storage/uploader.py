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
from storage.disk import Room, room
from storage.files import replace_file, try_lock
from storage.index import LONGEST_MS, Gap, Index
from storage.keeper import Keeper, Pauses, Waiting
from storage.retention import gap_object, retire
from storage.trouble import Trouble
from storage.view import CameraView, Stored

BATCH = 200
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
    name: Name
    view: CameraView
    known: dict[int, InSpool]  # by record_seq: has a row
    seen: tuple[object, ...] = ()
    gaps_seen: tuple[object, ...] = ()
    gap_no: int = 0  # the last whose object was given to the keepers


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
        synced = False
        while True:
            try:
                if not synced:
                    await self._catalogue.cameras.sync(self._config)
                    synced = True
                await self._look()
                if time.monotonic() - self._removed > self._pauses.remove_s:
                    self._removed = time.monotonic()
                    self._keep_gaps()
                    await self._remove()
                if time.monotonic() - self._retired > self._pauses.retire_s:
                    self._retired = time.monotonic()
                    await self._retire()
                self._trouble.end()
                failures = 0
            except Exception as error:  # a database has many ways to say no
                self._catalogue_refuses(error)
                failures += 1
            self._write_status()
            await asyncio.sleep(self._pause_s(failures) * random.uniform(0.8, 1.2))

    def _pause_s(self, failures: int) -> float:
        retry_s = self._pauses.retry_s
        return retry_s[min(failures, len(retry_s)) - 1] if failures else self._pauses.look_s

    def _catalogue_refuses(self, error: BaseException) -> None:
        self._trouble.begin(words(error)[:300])

    # -- finding -------------------------------------------------------------------------

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
            name = (self._config.election.id, station, directory.name)
            known = await self._catalogue.in_spool(name)
            view = CameraView(self._spool, station, directory.name)
            view.refresh()
            await self._repair(name, view, known)
            self._cameras[key] = _Camera(name, view, known)
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
            if stored.record_seq not in camera.known:
                index = view.read(stored)
                if index is not None and index.seal is not None and index.segments:
                    new.append((index, stored))
            elif not camera.seen:  # the first look: an uploader before this one wrote its row
                self._keep(stored, camera.known[stored.record_seq].archives)
        for n in range(0, len(new), BATCH):
            batch = new[n : n + BATCH]
            await self._catalogue.writer.put_recordings([index for index, _ in batch])
            for index, stored in batch:
                row = camera.known[stored.record_seq] = InSpool(index.start_ms, {})
                self._keep(stored, row.archives)
        view.trim()
        await self._put_gaps(camera, view.all_gaps())
        camera.seen = seen

    def _keep(self, stored: Stored, done: dict[str, tuple[str, str]]) -> None:
        try:
            length = stored.media.stat().st_size
        except OSError:
            length = 0  # the keeper says what is wrong with it
        for keeper in self.keepers:
            if keeper.name not in done:
                keeper.add(Waiting(stored, length, done))

    async def _repair(self, name: Name, view: CameraView, known: dict[int, InSpool]) -> None:
        """Put right what an uploader that died left: rows of what is no longer in the spool."""
        there = {stored.record_seq for stored in view.stored()}
        for seq in [seq for seq in known if seq not in there]:
            row = known.pop(seq)
            if self._may_go(row):
                await self._catalogue.writer.mark_removed(name, seq, row.start_ms, now_ms())
            else:
                log.error(
                    "A recording is gone from the spool and was not archived; `kuager fsck` "
                    "looks for it in the archives",
                    camera=f"{name[1]}/{name[2]}",
                    record_seq=seq,
                )

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
            if (row := camera.known.get(stored.record_seq)) and self._may_go(row)
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
            camera.view.forget(stored.record_seq)
            await self._catalogue.writer.mark_removed(
                camera.name, stored.record_seq, row.start_ms, now_ms()
            )
            del camera.known[stored.record_seq]
            self.status.removed_total += 1

    async def _is_kept(self, camera: _Camera, stored: Stored, row: InSpool) -> bool:
        """Look a last time whether the archives have a recording; what they lost goes again."""
        index = camera.view.read(stored)
        if index is None:  # the other half of its files is gone: an uploader died in between
            return True
        for keeper in self.keepers:
            if (there := row.archives.get(keeper.name)) is None:
                continue
            try:
                if await keeper.still_has(index, *there):
                    continue
            except ArchiveError:  # away: its own keeper says so
                return False
            del row.archives[keeper.name]
            name, seq = camera.name, stored.record_seq
            await self._catalogue.writer.forget_archived(name, seq, row.start_ms, keeper.name)
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
