"""From a sealed recording in the spool to a verified object in the archive, and off the spool.

The order of truth for one recording, top to bottom: catalogue row, `.mp4`, `.json` as the
commit, both read back and compared, row 'archived', and only then, after the rewind window,
removed from the spool. Every step may be repeated; a crash between two repeats the first.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import os
import random
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import orjson
import structlog

from config.model import Config
from storage.archive import Archive, ArchiveConflict, ArchiveError
from storage.catalogue import Catalogue, Name
from storage.index import Index
from storage.spool import replace_file
from storage.view import CameraView, Stored

LOOK_S = 1.0
PARALLEL = 4
BATCH = 200
PAUSE_S = (1.0, 2.0, 5.0, 10.0, 15.0)  # after failures in a row

log = structlog.get_logger()


@dataclass(slots=True)
class UploaderStatus:
    """What `_status/uploader.json` says (docs/formats.md)."""

    kuager: str = "status/1"
    pid: int = 0
    written_ms: int = 0
    backlog_recordings: int = 0
    backlog_bytes: int = 0
    oldest_unarchived_ms: int | None = None
    archived_total: int = 0
    removed_total: int = 0
    failures_total: int = 0
    archive_ok: bool = True
    catalogue_ok: bool = True
    last_error: str | None = None


@dataclass(slots=True)
class _Camera:
    name: Name
    view: CameraView
    done: dict[int, int | None]  # record_seq -> archived_ms of what the catalogue knows
    seen: tuple[int, ...] = ()
    gaps_seen: tuple[object, ...] = ()


class Uploader:
    """Takes every sealed recording of a spool to the archive, oldest first, for ever."""

    def __init__(self, config: Config, catalogue: Catalogue, archive: Archive):
        self._config, self._catalogue, self._archive = config, catalogue, archive
        self._spool = config.spool
        self._rewind_ms = config.rewind_s * 1000
        self._cameras: dict[tuple[str, str], _Camera] = {}
        self._waiting: dict[tuple[Name, int], tuple[_Camera, Stored, Index]] = {}
        self._refused: set[tuple[Name, int]] = set()  # told once, left where it is
        self.status = UploaderStatus(pid=os.getpid())

    async def run(self) -> None:
        """Work until cancelled; what goes wrong is told once and tried again."""
        log.info("Uploader started")
        failures = 0
        synced = False
        while True:
            try:
                if not synced:
                    await self._catalogue.sync_stations(self._config)
                    synced = True
                await self._look()
                self._recovered("catalogue")
                failed = await self._upload()
                await self._remove()
            except ArchiveError as error:  # of reading what was archived before
                failed = True
                self._failed("archive", str(error))
            except Exception as error:  # a database has many ways to say no
                failed = True
                self._failed("catalogue", " ".join(str(error).split())[:300])
            self._write_status()
            failures = failures + 1 if failed else 0
            pause_s = PAUSE_S[min(failures, len(PAUSE_S)) - 1] if failures else LOOK_S
            await asyncio.sleep(pause_s * random.uniform(0.8, 1.2))

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
            known = await self._catalogue.archived(name)
            done = {seq: archived for seq, (archived, _) in known.items()}
            view = CameraView(self._spool, station, directory.name)
            self._cameras[key] = _Camera(name, view, done)
        camera = self._cameras[key]
        seen = tuple(_stamp(directory / f) for f in ("camera.json", "gaps.jsonl"))
        current = camera.view
        current.refresh()
        live = current.live(1)
        seen += (live[-1][1].segment_no if live else 0,)
        if seen == camera.seen:
            return
        new: list[tuple[Index, str]] = []
        for stored, index in current.recordings():
            seq = index.header.record_seq
            if index.seal is None or not index.segments or (camera.name, seq) in self._waiting:
                continue
            if camera.done.get(seq) is not None or (camera.name, seq) in self._refused:
                continue
            new.append((index, archive_key(index, stored)))
            self._waiting[camera.name, seq] = (camera, stored, index)
            camera.done.setdefault(seq, None)
        for n in range(0, len(new), BATCH):
            await self._catalogue.put_recordings(new[n : n + BATCH])
        gaps = current.all_gaps()
        if (state := tuple(gaps[-50:])) != camera.gaps_seen:
            begin = 0 if not camera.gaps_seen else max(0, len(gaps) - 50)
            await self._catalogue.put_gaps(camera.name, gaps[begin:])
            camera.gaps_seen = state
        camera.seen = seen

    # -- uploading -----------------------------------------------------------------------

    async def _upload(self) -> bool:
        """Archive what waits, oldest first, a few at a time; True when something failed."""
        order = sorted(self._waiting.items(), key=lambda item: item[1][2].start_ms)
        failed = False
        for n in range(0, len(order), PARALLEL):
            part = order[n : n + PARALLEL]
            results = await asyncio.gather(
                *(self._archive_one(*value) for _, value in part), return_exceptions=True
            )
            for (key, _), result in zip(part, results, strict=True):
                if result is None:
                    del self._waiting[key]
                    self._recovered("archive")
                elif isinstance(result, ArchiveConflict):
                    self._refuse(key, str(result))
                elif isinstance(result, ArchiveError):
                    failed = True
                    self._failed("archive", str(result))
                else:
                    raise result
            self._write_status()
            if failed:
                break  # ask again after a pause, again from the oldest
        return failed

    async def _archive_one(self, camera: _Camera, stored: Stored, index: Index) -> None:
        key = archive_key(index, stored)
        assert index.seal is not None
        try:
            digest = await asyncio.to_thread(_digest, stored.media)
        except FileNotFoundError:
            raise ArchiveConflict(
                f"{stored.media} is missing although it was never archived"
            ) from None
        if digest != index.seal.sha256:
            raise ArchiveConflict(f"{stored.media} does not have the bytes that were sealed")
        document = index.archive_document()
        await self._archive.put(key + ".mp4", stored.media)
        await self._archive.put(key + ".json", document)
        for ending, wanted in ((".mp4", digest), (".json", hashlib.sha256(document).hexdigest())):
            if (found := await self._archive.sha256(key + ending)) != wanted:
                what = "is not there" if found is None else "has other bytes"
                raise ArchiveError(f"{key}{ending} {what} when it is read back")
        now_ms = _now_ms()
        seq = index.header.record_seq
        await self._catalogue.mark_archived(camera.name, seq, now_ms, "read back, SHA-256")
        camera.done[seq] = now_ms
        self.status.archived_total += 1

    # -- removing ------------------------------------------------------------------------

    async def _remove(self) -> None:
        """Take off the spool what is archived and older than the rewind window."""
        before_ms = _now_ms() - self._rewind_ms
        for camera in self._cameras.values():
            found = list(camera.view.recordings())
            for stored, index in found[:-1]:  # the newest is where the next recorder goes on
                if index.end_ms >= before_ms:
                    break
                seq = index.header.record_seq
                if camera.done.get(seq) is None:
                    continue
                stored.media.unlink(missing_ok=True)
                stored.base.with_name(stored.base.name + ".jsonl").unlink(missing_ok=True)
                with contextlib.suppress(OSError):
                    stored.base.parent.rmdir()  # the day's last
                camera.view.forget(stored.record_seq)
                await self._catalogue.mark_removed(camera.name, seq, _now_ms())
                self.status.removed_total += 1

    # -- telling -------------------------------------------------------------------------

    def _refuse(self, key: tuple[Name, int], why: str) -> None:
        self._refused.add(key)
        del self._waiting[key]
        self.status.failures_total += 1
        self.status.last_error = why
        log.error("A recording cannot be archived and stays in the spool", why=why)

    def _failed(self, part: str, why: str) -> None:
        status = self.status
        status.failures_total += 1
        if getattr(status, f"{part}_ok") or status.last_error != why:
            log.error(f"The {part} refuses; recordings wait in the spool", why=why)
        setattr(status, f"{part}_ok", False)
        status.last_error = why

    def _recovered(self, part: str) -> None:
        if not getattr(self.status, f"{part}_ok"):
            log.info(f"The {part} works again", waiting=len(self._waiting))
            setattr(self.status, f"{part}_ok", True)
            self.status.last_error = None

    def _write_status(self) -> None:
        status = self.status
        status.written_ms = _now_ms()
        status.backlog_recordings = len(self._waiting)
        waiting = [index for _, _, index in self._waiting.values()]
        status.backlog_bytes = sum(i.seal.length for i in waiting if i.seal)
        status.oldest_unarchived_ms = min((i.start_ms for i in waiting), default=None)
        path = self._spool / "_status" / "uploader.json"
        with contextlib.suppress(OSError):
            path.parent.mkdir(parents=True, exist_ok=True)
            replace_file(path, orjson.dumps(asdict(status)))


def archive_key(index: Index, stored: Stored) -> str:
    """Return the key of a recording in the archive, without ending (docs/formats.md)."""
    header = index.header
    day = stored.base.parent.name
    return f"{header.election}/{header.station}/{header.camera}/{day}/{stored.base.name}"


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


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


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
