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
from storage.files import replace_file
from storage.index import FormatError, Index, parse_index
from storage.view import LONGEST_MS, CameraView, Stored

LOOK_S = 1.0
REMOVE_S = 10.0
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
    done: dict[str, int | None]  # name of a recording -> archived_ms, of what the catalogue knows
    seen: tuple[object, ...] = ()
    gaps_seen: tuple[object, ...] = ()


@dataclass(frozen=True, slots=True)
class _Waiting:
    """A sealed recording that has a row and is not in the archive; its index is read again then."""

    camera: _Camera
    stored: Stored
    length: int


class Uploader:
    """Takes every sealed recording of a spool to the archive, oldest first, for ever."""

    def __init__(self, config: Config, catalogue: Catalogue, archive: Archive):
        self._config, self._catalogue, self._archive = config, catalogue, archive
        self._spool = config.spool
        self._rewind_ms = config.rewind_s * 1000
        self._cameras: dict[tuple[str, str], _Camera] = {}
        self._waiting: dict[Path, _Waiting] = {}
        self._refused: set[Path] = set()  # told once, left where it is
        self._removed = float("-inf")  # when it was last looked for what may be removed
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
            done = {"/".join(k.split("/")[-2:]): archived for k, archived in known.items()}
            view = CameraView(self._spool, station, directory.name)
            self._cameras[key] = _Camera(name, view, done)
        camera = self._cameras[key]
        current = camera.view
        current.refresh()
        newest = current.newest()
        seen = (
            *(_stamp(directory / f) for f in ("camera.json", "gaps.jsonl")),
            *((newest.header.record_seq, newest.size) if newest else ()),
        )
        if seen == camera.seen:
            return
        new: list[tuple[Index, Stored]] = []
        for stored in current.stored():
            if camera.done.get(stored.name) is not None or stored.base in self._refused:
                continue
            if stored.base not in self._waiting:
                index = current.read(stored)
                if index is not None and index.seal is not None and index.segments:
                    new.append((index, stored))
        for n in range(0, len(new), BATCH):
            batch = new[n : n + BATCH]
            await self._catalogue.put_recordings([(i, archive_key(i, st)) for i, st in batch])
            for index, stored in batch:
                assert index.seal is not None
                self._waiting[stored.base] = _Waiting(camera, stored, index.seal.length)
        current.trim()
        gaps = current.all_gaps()
        if (state := tuple(gaps[-50:])) != camera.gaps_seen:
            begin = 0 if not camera.gaps_seen else max(0, len(gaps) - 50)
            await self._catalogue.put_gaps(camera.name, gaps[begin:])
            camera.gaps_seen = state
        camera.seen = seen

    # -- uploading -----------------------------------------------------------------------

    async def _upload(self) -> bool:
        """Archive what waits, oldest first, a few at a time; True when something failed."""
        order = sorted(self._waiting.items(), key=lambda item: item[1].stored.start_ms)[:BATCH]
        failed = False
        for n in range(0, len(order), PARALLEL):
            part = order[n : n + PARALLEL]
            results = await asyncio.gather(
                *(self._archive_one(waiting) for _, waiting in part), return_exceptions=True
            )
            others = [r for r in results if isinstance(r, BaseException)]
            for (base, _), result in zip(part, results, strict=True):
                if result is None:
                    del self._waiting[base]
                    self._recovered("archive")
                elif isinstance(result, ArchiveConflict):
                    self._refuse(base, str(result))
                    others.remove(result)
                elif isinstance(result, ArchiveError):
                    failed = True
                    self._failed("archive", str(result))
                    others.remove(result)
            self._write_status()
            if others:
                raise others[0]
            if failed and None not in results:
                break  # ask again after a pause, again from the oldest
        return failed

    async def _archive_one(self, waiting: _Waiting) -> None:
        stored = waiting.stored
        try:
            index = parse_index(await asyncio.to_thread(stored.lines.read_bytes))
            media = await asyncio.to_thread(stored.media.read_bytes)
        except FileNotFoundError:
            raise ArchiveConflict(
                f"{stored.media} is missing although it was never archived"
            ) from None
        except (OSError, FormatError) as error:
            raise ArchiveConflict(f"{stored.media} cannot be read: {error}") from None
        digest = await asyncio.to_thread(_digest, media)
        if index.seal is None or digest != index.seal.sha256:
            raise ArchiveConflict(f"{stored.media} does not have the bytes that were sealed")
        key, document = archive_key(index, stored), index.archive_document()
        await self._archive.put(key + ".mp4", media)
        await self._archive.put(key + ".json", document)
        for ending, wanted in ((".mp4", digest), (".json", _digest(document))):
            if (found := await self._archive.sha256(key + ending)) != wanted:
                what = "is not there" if found is None else "has other bytes"
                raise ArchiveError(f"{key}{ending} {what} when it is read back")
        now_ms, seq = _now_ms(), index.header.record_seq
        if not await self._catalogue.mark_archived(
            _name(index), seq, key, now_ms, "read back, SHA-256"
        ):
            raise ArchiveConflict(f"the catalogue has no row, or another recording's, for {key}")
        waiting.camera.done[stored.name] = now_ms
        self.status.archived_total += 1

    # -- removing ------------------------------------------------------------------------

    async def _remove(self) -> None:
        """Take off the spool what is archived and older than the rewind window.

        How old is told by its name, so that nothing is read: some minutes more are kept.
        """
        if time.monotonic() - self._removed < REMOVE_S:
            return
        self._removed = time.monotonic()
        before_ms = _now_ms() - self._rewind_ms - LONGEST_MS
        for camera in self._cameras.values():
            for stored in camera.view.stored()[:-1]:  # not the newest: recorders go on there
                if stored.start_ms >= before_ms or camera.done.get(stored.name) is None:
                    continue
                index = camera.view.read(stored)
                stored.media.unlink(missing_ok=True)
                stored.lines.unlink(missing_ok=True)
                with contextlib.suppress(OSError):
                    stored.base.parent.rmdir()  # the day's last
                camera.view.forget(stored.record_seq)
                if index is not None:
                    seq = index.header.record_seq
                    await self._catalogue.mark_removed(_name(index), seq, _now_ms())
                del camera.done[stored.name]
                self.status.removed_total += 1

    # -- telling -------------------------------------------------------------------------

    def _refuse(self, base: Path, why: str) -> None:
        self._refused.add(base)
        del self._waiting[base]
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
        waiting = self._waiting.values()
        status.backlog_bytes = sum(w.length for w in waiting)
        status.oldest_unarchived_ms = min((w.stored.start_ms for w in waiting), default=None)
        path = self._spool / "_status" / "uploader.json"
        with contextlib.suppress(OSError):
            path.parent.mkdir(parents=True, exist_ok=True)
            replace_file(path, orjson.dumps(asdict(status)))


def archive_key(index: Index, stored: Stored) -> str:
    """Return the key of a recording in the archive, without ending (docs/formats.md)."""
    return "/".join((*_name(index), stored.name))


def _name(index: Index) -> Name:
    return index.header.election, index.header.station, index.header.camera


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


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
