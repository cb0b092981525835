"""Compares spool, catalogue and archives, camera by camera, and puts right what can be.

Nothing is ever removed from an archive here but what was to be removed: what a row names, with
the bytes that the row names, that no hold keeps, and with its trace. Where a row and the `.json`
beside whole bytes differ, the archive is right. What may just be on its way is left alone: the
catalogue is read before and after the archive is listed, and an object that is younger than
IN_FLIGHT_MS is not missed in the catalogue.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import re
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import orjson

from base.clock import Clock, now_ms
from config.model import Config
from config.schedule import Window, clip, windows
from storage.archival.replicator import (
    PermanentUploadError,
    Replicator,
    archive_key,
    digest_of,
    read_sealed,
)
from storage.archival.retention import gap_object, remove_exactly, versions
from storage.archival.spool_check import UNREAD, UNSEALED, Local, SpoolCheck, seal_abandoned
from storage.archive.port import Archive, ArchiveError, Entry
from storage.catalogue.cameras import Name
from storage.catalogue.catalogue import Catalogue
from storage.catalogue.recordings import Archived, recording_row
from storage.records import (
    LONGEST_MS,
    FormatError,
    Gap,
    Identity,
    Index,
    parse_archive_document,
)
from storage.spool.disk import spool_id
from storage.spool.reader import Key, SpoolReader, SpoolRecording
from storage.spool.recording import recording_name, start_of

Position = tuple[str, str, int, Key]  # station, camera, number of the archive, recording

IN_FLIGHT_MS = 600_000
WAITS_MS = 3_600_000  # what another spool has not archived after so long is told of
PARALLEL = 8
OTHER_LENGTH = "recording of another length"
BATCH = 200
GIVE_WAY = 10  # objects in a row that cannot be read: it is the archive
GONE = "gone since it was listed"

_OBJECT = re.compile(
    r"(?P<day>\d{4}-\d\d-\d\d)/(?P<clock>\d{9})Z-(?P<gap>gap-)?(?P<no>\d+)"
    r"\.(?P<kind>mp4|json|removed\.json)",
    re.ASCII,
)


@dataclass(frozen=True, slots=True)
class Finding:
    """Something that is not as it should be; `done` says how it was put right, if it was."""

    camera: str
    where: str  # spool, catalogue, schedule, or the name of an archive
    kind: str  # missing, extra or different
    what: str
    which: str = ""  # record_seq or key, for one to look at
    done: str = ""


@dataclass(slots=True)
class _Object:
    """What an archive has under the name of a recording."""

    entries: dict[str, Entry] = field(default_factory=dict)  # by kind: mp4, json, removed.json

    @property
    def whole(self) -> bool:
        return "mp4" in self.entries and "json" in self.entries

    @property
    def newest_ms(self) -> int:
        return max(e.stored_ms for e in self.entries.values())


@dataclass(slots=True)
class _There:
    """What one archive has of one camera."""

    archive: Archive
    objects: dict[Key, _Object] = field(default_factory=dict)
    gaps: dict[Key, Entry] = field(default_factory=dict)
    unknown: list[str] = field(default_factory=list)


class Unread(Exception):
    """An object of an archive that gives others cannot be read."""


class Fsck:
    """One look at everything; `repair` puts right, `deep` reads and hashes every byte."""

    def __init__(
        self,
        config: Config,
        catalogue: Catalogue,
        archives: Sequence[Archive],
        *,
        repair: bool = False,
        deep: bool = False,
        after: Position | None = None,
        clock: Clock = now_ms,
    ):
        """`after` is the `position` of a deep look that was interrupted."""
        self._clock = clock
        self._config, self._catalogue, self._archives = config, catalogue, archives
        self._repair, self._deep = repair, deep
        self._keepers = {
            archive.name: Replicator(settings, archive, catalogue, lambda _: None, config.spool)
            for settings, archive in zip(config.archives, archives, strict=True)
        }
        self.spool_id: str | None = None
        with contextlib.suppress(OSError):  # there is no spool here
            self.spool_id = spool_id(config.spool)
        self.recordings = self.bytes_read = 0
        self.spool = SpoolCheck([a.name for a in archives], deep, clock)
        self.position, self._after = after, after
        self._gate = asyncio.Semaphore(PARALLEL)
        self._unread = 0  # objects, in a row

    async def cameras(self) -> list[Name]:
        """Return all cameras that configuration, catalogue, spool or an archive know, sorted."""
        election = self._config.election.id
        found = set(await self._catalogue.cameras.names(election))
        found |= {(election, s.id, c.id) for s in self._config.stations for c in s.cameras}
        for path in self._config.spool.glob("[a-z0-9]*/*/camera.json"):
            found.add((election, path.parent.parent.name, path.parent.name))
        for archive in self._archives:
            for station in await archive.below(f"{election}/"):
                for camera in await archive.below(f"{election}/{station}/"):
                    found.add((election, station, camera))
        return sorted(found)

    async def check(self, name: Name) -> list[Finding]:
        """Look at one camera; raises ArchiveError and what a database raises."""
        return [finding async for finding in _Camera(self, name).look()]

    async def read(self, there: _There, entry: Entry) -> bytes:
        """Return the bytes of an object. Raises KeyError where it is gone since it was listed,
        Unread where it cannot be read, and ArchiveError where several in a row cannot."""
        try:
            async with self._gate:
                data = await there.archive.get(entry.key, bucket=entry.bucket)
        except ArchiveError as error:
            self._unread += 1
            if self._unread >= GIVE_WAY:
                raise
            raise Unread(str(error)) from None
        self._unread = 0
        return data


class _Camera:
    def __init__(self, fsck: Fsck, name: Name):
        self._fsck, self._name = fsck, name
        self._config, self._repair = fsck._config, fsck._repair
        self._catalogue, self._writer = fsck._catalogue, fsck._catalogue.writer
        self._now_ms = fsck._clock()
        self._view = SpoolReader(self._config.spool, name[1], name[2])
        self._put: set[tuple[str, Key]] = set()  # archive and name of what was put there

    def _finding(
        self, where: str, kind: str, what: str, which: object = "", done: str = ""
    ) -> Finding:
        return Finding("/".join(self._name[1:]), where, kind, what, str(which), done)

    async def look(self) -> AsyncIterator[Finding]:
        before = await self._rows()
        self._there = [await self._list(archive) for archive in self._fsck._archives]
        self._rows_now = await self._rows()
        self._view.refresh()
        self._spool = {stored.key: stored for stored in self._view.stored()}
        for there in self._there:
            async for finding in self._unknown(there):
                yield finding
        self._rows_now = await self._rows() if self._repair else self._rows_now
        async for local in self._fsck.spool.look(self._view, self._name, self._rows_now):
            yield await self._local(local)
        self._rows_now = await self._rows() if self._repair else self._rows_now
        for identity, row in self._rows_now.items():
            self._fsck.recordings += 1
            for there in self._there:
                if (there.archive.name, _key(row)) not in self._put:  # since it was listed
                    async for finding in self._compare(row, there, identity in before):
                        yield finding
            async for finding in self._in_spool(row):
                yield finding
        if self._fsck._deep:
            for number, there in enumerate(self._there):
                async for finding in self._read_all(number, there):
                    yield finding
        for stray in self._fsck.spool.strays(self._view):
            yield self._finding("spool", "extra", "bytes without an index", stray)
        for path in sorted(self._view.directory.glob("*/*.aside")):
            yield self._finding(
                "spool", "extra", "set aside: index or bytes are damaged", path.name
            )
        async for finding in self._schedule():
            yield finding

    async def _rows(self) -> dict[Identity, dict[str, Any]]:
        return {Identity.of(r): r for r in await self._catalogue.recordings_of(self._name)}

    async def _list(self, archive: Archive) -> _There:
        there, prefix = _There(archive), "/".join(self._name) + "/"
        async for entry in archive.entries(prefix):
            try:
                m = _OBJECT.fullmatch(entry.key[len(prefix) :])
                key = (int(m["no"]), start_of(m["day"], m["clock"])) if m else None
            except ValueError:  # of no day or time that there is
                key = None
            if m is None or key is None:
                there.unknown.append(entry.key)
            elif m["gap"]:
                there.gaps[key] = entry
            else:
                there.objects.setdefault(key, _Object()).entries[m["kind"]] = entry
        return there

    async def _local(self, local: Local) -> Finding:
        """Return what is wrong with the spool as a finding, put right where that is asked for."""
        done, key = "", local.stored.key
        if self._repair and local.what in (UNSEALED, UNREAD):
            done = await asyncio.to_thread(seal_abandoned, self._view, self._name)
        elif self._repair and local.index is not None and local.where == "catalogue":
            await self._writer.put_recordings([local.index], self._fsck.spool_id)
            done = "row written"
        elif self._repair and local.kind == "missing" and local.index is not None:
            there = next(t for t in self._there if t.archive.name == local.where)
            if row := (await self._rows()).get(local.index.identity):
                done = await self._restore(row, there)
                self._put |= {(local.where, key)}
        return self._finding(local.where, local.kind, local.what, key[0], done)

    # -- what the catalogue does not know ------------------------------------------------

    async def _unknown(self, there: _There) -> AsyncIterator[Finding]:
        archive, known = there.archive.name, {identity[:2] for identity in self._rows_now}
        for stranger in there.unknown:
            yield self._finding(archive, "extra", "not an object of ours", stranger)
        async for finding in self._unknown_gaps(there):
            yield finding
        async for finding in self._gaps_in_spool(there):
            yield finding
        unknown = [
            (key, found)
            for key, found in sorted(there.objects.items())
            if key not in known and found.newest_ms < self._now_ms - IN_FLIGHT_MS
        ]
        what = "recording that the catalogue does not know"
        for n in range(0, len(unknown), BATCH):
            batch = unknown[n : n + BATCH]
            whole = [(key, found) for key, found in batch if found.whole]
            indexes = await asyncio.gather(*(self._document(there, f) for _, f in whole))
            good = [
                (index, await self._archived(there, found, index))
                for (_, found), index in zip(whole, indexes, strict=True)
                if isinstance(index, Index)
            ]
            if self._repair and good:
                here = [index for index, _ in good if index.identity[:2] in self._spool]
                away = [index for index, _ in good if index.identity[:2] not in self._spool]
                await self._writer.put_recordings(here, self._fsck.spool_id)
                await self._writer.put_recordings(away, now_ms=self._now_ms)
                await self._writer.put_archived(good)
            for ((seq, _), _), index in zip(whole, indexes, strict=True):
                if index == GONE:
                    continue
                if isinstance(index, str):
                    yield self._finding(archive, "different", index, seq)
                else:
                    done = "row written" if self._repair else ""
                    yield self._finding("catalogue", "missing", what, seq, done)
            for key, found in batch:
                seq = key[0]
                if found.whole:
                    continue
                if trace := found.entries.get("removed.json"):
                    yield await self._unknown_trace(there, trace, seq)
                elif key not in self._spool:
                    half = (
                        "bytes without a description"
                        if "mp4" in found.entries
                        else "a description without bytes"
                    )
                    yield self._finding(archive, "extra", half, seq)

    async def _unknown_trace(self, there: _There, trace: Entry, seq: int) -> Finding:
        archive, done = there.archive.name, ""
        try:
            facts = orjson.loads(await self._fsck.read(there, trace))
            if self._repair:
                await self._writer.put_removed(self._name, archive, trace.bucket, facts)
                done = "row written"
        except (KeyError, TypeError, ValueError, Unread):
            return self._finding(archive, "different", "trace that cannot be read", seq)
        what = "recording that was removed"
        return self._finding("catalogue", "missing", what, seq, done)

    async def _unknown_gaps(self, there: _There) -> AsyncIterator[Finding]:
        rows = await self._catalogue.gaps_between(self._name, 0, 1 << 60)
        known = {(row["gap_no"], row["start_ms"]) for row in rows}
        for key, entry in sorted(there.gaps.items()):
            if key in known or entry.stored_ms > self._now_ms - IN_FLIGHT_MS:
                continue
            try:
                told = dict(orjson.loads(await self._fsck.read(there, entry)))
                gap, done = Gap.from_dict(told), ""
            except (KeyError, TypeError, ValueError, Unread):
                yield self._finding(
                    there.archive.name, "different", "gap that cannot be read", key[0]
                )
                continue
            if gap.end_ms is not None and gap.end_ms <= gap.start_ms:
                continue  # it was taken back: a clock had been ahead
            if self._repair:
                await self._writer.put_gaps(self._name, [gap])
                done = "row written"
            yield self._finding("catalogue", "missing", "gap that an archive has", key[0], done)

    async def _gaps_in_spool(self, there: _There) -> AsyncIterator[Finding]:
        """Find gaps that ended long ago, that no recording carries, and that are not archived."""
        newest = self._view.newest()
        if newest is not None and newest.name != self._name:
            return  # an earlier election's
        carried = {gap.gap_no for gap in newest.header.gaps} if newest else set()
        for gap in self._view.all_gaps():
            old = gap.end_ms is not None and gap.end_ms < self._now_ms - IN_FLIGHT_MS - LONGEST_MS
            is_carried = gap.gap_no <= self._view.carried_gap_no or gap.gap_no in carried
            if not old or is_carried or gap.start_ms == gap.end_ms:
                continue
            if (gap.gap_no, gap.start_ms) not in there.gaps:
                done, (key, data) = "", gap_object(self._name, gap)
                if self._repair:
                    await there.archive.put(key, data, digest_of(data))
                    done = "put"
                what = "gap that only the spool has"
                yield self._finding(there.archive.name, "missing", what, gap.gap_no, done)

    async def _document(self, there: _There, found: _Object) -> Index | str:
        """Return the description of a recording, or what is wrong with it."""
        entry = found.entries["json"]
        try:
            data = await self._fsck.read(there, entry)
        except KeyError:
            return GONE
        except Unread:
            return "description that cannot be read"
        try:
            index = parse_archive_document(data)
        except (FormatError, KeyError, TypeError, ValueError):
            return "description that cannot be read"
        seal = index.seal
        if not index.segments or entry.key != archive_key(index) + ".json":
            return "description of another recording"
        if seal is None or found.entries["mp4"].size != seal.length:
            return "other length than its description says"
        return index

    async def _archived(self, there: _There, found: _Object, index: Index) -> Archived:
        settings = self._fsck._keepers[there.archive.name].settings
        locked_until_ms = None
        if settings.lock and settings.keep:
            locked_until_ms = index.end_ms + settings.keep * 1000
        media, stored_ms = found.entries["mp4"], found.entries["json"].stored_ms
        async with self._fsck._gate:
            version = await there.archive.version_id(media.key, bucket=media.bucket)
        return Archived(
            there.archive.name,
            media.bucket,
            stored_ms,
            "listed",
            version_id=version,
            locked_until_ms=locked_until_ms,
        )

    # -- what the catalogue says ---------------------------------------------------------

    async def _compare(
        self, row: dict[str, Any], there: _There, was_there: bool
    ) -> AsyncIterator[Finding]:
        archive, seq, key = there.archive.name, row["record_seq"], _key(row)
        found = there.objects.get(key, _Object())
        said = next((a for a in row["archives"] if a["archive"] == archive), None)
        if said is not None and said["removed_ms"] is not None:
            if found.entries.keys() - {"removed.json"}:
                done = await self._finish_removal(row, there) if self._repair else ""
                yield self._finding(archive, "extra", "bytes of what was removed", seq, done)
        elif said is not None and found.whole:
            other = found.entries["mp4"].size != row["bytes"]
            if other and (finding := await self._judge(row, there, OTHER_LENGTH)):
                yield finding
            trace = await self._trace(row, there)
            if trace and trace.stored_ms < self._now_ms - IN_FLIGHT_MS:
                done, what = "", "trace of a removal that did not happen"
                if self._repair and await self._is_there(row, archive):  # not removed meanwhile
                    await there.archive.remove(trace.key, bucket=trace.bucket)
                    done = "removed"
                yield self._finding(archive, "extra", what, seq, done)
        elif said is None and found.whole:
            if found.newest_ms < self._now_ms - IN_FLIGHT_MS:
                index, done = await self._document(there, found), ""
                if self._repair and isinstance(index, Index):
                    told = await self._archived(there, found, index)
                    done = "row written" * await self._writer.mark_archived(index, told)
                what = "that an archive has a recording"
                yield self._finding("catalogue", "missing", what, seq, done)
        elif was_there and (said is not None or not (self._is_here(row) or self._comes(row))):
            if other := await self._catalogue.camera_of_same_bytes(self._name, Identity.of(row)):
                done = ""
                if self._repair:
                    await self._writer.forget_recording(self._name, Identity.of(row))
                    done = "row removed"
                what = f"row of a recording of {other[1]}/{other[2]}"
                yield self._finding("catalogue", "extra", what, seq, done)
                return
            done = await self._restore(row, there)
            yield self._finding(archive, "missing", self._lost(row, done), seq, done)

    async def _is_there(self, row: dict[str, Any], archive: str) -> bool:
        """Say whether the catalogue still says that an archive has a recording."""
        told = (await self._rows()).get(Identity.of(row), {"archives": []})["archives"]
        return any(a["archive"] == archive and a["removed_ms"] is None for a in told)

    async def _trace(self, row: dict[str, Any], there: _There) -> Entry | None:
        """Return the trace that tells of the removal of exactly this recording."""
        trace = there.objects[_key(row)].entries.get("removed.json")
        with contextlib.suppress(KeyError, TypeError, ValueError, Unread):
            if trace:
                told = orjson.loads(await self._fsck.read(there, trace))
                return trace if told["sha256"] == row["sha256"] else None
        return None

    async def _finish_removal(self, row: dict[str, Any], there: _There) -> str:
        """Remove the bytes of what was removed, if its trace is there and no hold keeps it; else
        have the row say that the archive has it, if it is whole. Returns what was done: nothing
        where the bytes under its name are not the row's."""
        found, name, archive = there.objects[_key(row)], self._name, there.archive
        bucket = next(iter(found.entries.values())).bucket
        try:
            exactly = await versions(archive, name, row, bucket)
        except ArchiveError:
            return ""
        trace, whole = await self._trace(row, there), found.whole
        held = await self._catalogue.holds.keep(name, row["start_ms"], row["end_ms"], self._now_ms)
        if trace and not (whole and held):
            await remove_exactly(archive, name, row, exactly, bucket)
            return "removed"
        index, identity = await self._document(there, found) if whole else "", Identity.of(row)
        if not isinstance(index, Index) or index.identity != identity:
            return ""
        await self._writer.forget_archived(name, identity, archive.name, removed=True)
        if not await self._writer.mark_archived(index, await self._archived(there, found, index)):
            return ""
        if trace:
            await archive.remove(trace.key, bucket=trace.bucket)
        return "kept, row written: " + (
            "a hold keeps it" if held else "nothing told of its removal"
        )

    def _waits(self, row: dict[str, Any]) -> bool:
        """Say whether another spool has a recording, as far as its row knows."""
        return row["removed_ms"] is None and row["spool"] not in (None, self._fsck.spool_id)

    def _comes(self, row: dict[str, Any]) -> bool:
        """Say whether an archive may still get a recording from another spool. That one may be
        gone: after a while it is missed where another archive has it."""
        there = any(one["removed_ms"] is None for one in row["archives"])
        return self._waits(row) and not (there and row["end_ms"] < self._now_ms - WAITS_MS)

    def _is_here(self, row: dict[str, Any]) -> bool:
        """Say whether this spool has a recording, or what may be it."""
        stored = self._spool.get(_key(row))
        index = stored and self._view.read(stored)
        return bool(stored) and (not index or not index.seal or index.identity == Identity.of(row))

    def _lost(self, row: dict[str, Any], done: str) -> str:
        key = _key(row)
        others = self._is_here(row) or self._waits(row)
        others = others or any(key in t.objects and t.objects[key].whole for t in self._there)
        return "recording" if done or others else "recording that nobody has: lost"

    async def _restore(self, row: dict[str, Any], there: _There) -> str:
        """Put a recording into an archive from wherever its bytes are; return from where."""
        if not self._repair:
            return ""
        keeper = self._fsck._keepers[there.archive.name]
        key, identity = _key(row), Identity.of(row)
        for source in (self._spool.get(key), *(t for t in self._there if t is not there)):
            try:
                index, media = await self._bytes(key, source)
                if index.identity != identity:
                    continue
                await self._writer.forget_archived(self._name, identity, there.archive.name)
                await keeper.keep(index, media)
            except (PermanentUploadError, ArchiveError, KeyError, FormatError):
                continue
            where = "the spool" if isinstance(source, SpoolRecording) else "another archive"
            return f"put again from {where}"
        return ""

    async def _bytes(
        self, key: Key, source: SpoolRecording | _There | None
    ) -> tuple[Index, bytes | Path]:
        """Return a recording, compared with its own hash; raises KeyError where it is not."""
        if isinstance(source, SpoolRecording):
            return await asyncio.to_thread(read_sealed, source)
        if source is None or key not in source.objects or not source.objects[key].whole:
            raise KeyError(key)
        found = source.objects[key]
        index = await self._document(source, found)
        entry = found.entries["mp4"]
        media = await source.archive.get(entry.key, bucket=entry.bucket)
        if isinstance(index, str) or not _is_whole(media, index):
            raise KeyError(key)
        return index, media

    async def _in_spool(self, row: dict[str, Any]) -> AsyncIterator[Finding]:
        """Find what this spool should have and has not; of others' spools it knows nothing."""
        key, seq = _key(row), row["record_seq"]
        if row["removed_ms"] is not None or self._is_here(row):
            return
        if self._waits(row):
            if not row["archives"] and row["end_ms"] < self._now_ms - WAITS_MS:
                what = f"recording in no archive yet: only the spool {row['spool']} has it"
                yield self._finding("spool", "missing", what, seq)
            return
        done = ""
        if self._repair and any(t.objects[key].whole for t in self._there if key in t.objects):
            await self._writer.mark_removed(self._name, Identity.of(row), self._now_ms)
            done = "row written"
        yield self._finding("spool", "missing", "recording that was not removed", seq, done)

    # -- every byte ----------------------------------------------------------------------

    async def _read_all(self, number: int, there: _There) -> AsyncIterator[Finding]:
        rows, fsck = dict[Key, list[dict[str, Any]]](), self._fsck
        for row in (await self._rows()).values():
            rows.setdefault(_key(row), []).append(row)
        for key, found in sorted(there.objects.items()):
            position = (self._name[1], self._name[2], number, key)
            if not found.whole or key not in rows or (fsck._after and position <= fsck._after):
                continue
            for row in rows[key]:
                if (finding := await self._judge(row, there)) is not None:
                    yield finding
            fsck.position = position

    async def _judge(self, row: dict[str, Any], there: _There, seen: str = "") -> Finding | None:
        """Read a recording in an archive: are its bytes those of its description, and its row?

        `seen` is what a look from outside found, for bytes that are not.
        """
        index, wrong = await self._read(there, there.objects[_key(row)])
        seq = row["record_seq"]
        if wrong == GONE:
            return None  # it was removed meanwhile
        if wrong or index is None:
            done = await self._restore(row, there)
            return self._finding(there.archive.name, "different", seen or wrong, seq, done)
        if told := _differs(row, index):
            done = await self._believe(row, index, there)
            what = f"row with another {told} than its recording"
            return self._finding("catalogue", "different", what, seq, done)
        return None

    async def _read(self, there: _There, found: _Object) -> tuple[Index | None, str]:
        """Return what describes a recording, and what is wrong with it or its bytes."""
        index = await self._document(there, found)
        if isinstance(index, str):
            return None, index
        try:
            media = await self._fsck.read(there, found.entries["mp4"])
        except KeyError:
            return None, GONE
        except Unread:
            return None, "bytes that cannot be read"
        self._fsck.bytes_read += len(media)
        whole = await asyncio.to_thread(_is_whole, media, index)
        return index, "" if whole else "other bytes than were recorded"

    async def _believe(self, row: dict[str, Any], index: Index, there: _There) -> str:
        """Have a row say what the archive does; what the row said before may be elsewhere."""
        if not self._repair:
            return ""
        if index.identity != Identity.of(row) and (done := await self._restore(row, there)):
            return done
        told = await self._archived(there, there.objects[_key(row)], index)
        await self._writer.forget_recording(self._name, Identity.of(row))
        spool = self._fsck.spool_id if _key(row) in self._spool else None
        await self._writer.put_recordings([index], spool, now_ms=self._now_ms)
        return "row written" * await self._writer.mark_archived(index, told)

    # -- the schedule --------------------------------------------------------------------

    async def _schedule(self) -> AsyncIterator[Finding]:
        """Find scheduled time that neither a recording nor a gap accounts for."""
        for station in self._config.stations:
            for camera in station.cameras:
                if (station.id, camera.id) == self._name[1:]:
                    scheduled = windows(self._config.election, station, camera)
                    break
            else:
                continue
            break
        else:
            return
        until_ms = self._now_ms - LONGEST_MS
        spans = [(r["start_ms"], r["end_ms"]) for r in (await self._rows()).values()]
        spans += [(i.start_ms, i.end_ms) for _, i in self._view.recordings() if i.segments]
        gaps = await self._catalogue.gaps_between(self._name, 0, 1 << 60)
        spans += [(g["start_ms"], g["end_ms"] or until_ms) for g in gaps]
        spans += [(g.start_ms, g.end_ms or until_ms) for g in self._view.all_gaps()]
        if not spans:
            return  # it was never recorded, here or anywhere
        for start_ms, end_ms in _holes(scheduled, spans, until_ms):
            length = f"{(end_ms - start_ms) / 1000:.3f} s from {recording_name(start_ms, 0)[:-3]}Z"
            what = "scheduled time without a recording or a gap"
            yield self._finding("schedule", "missing", what, length)


def _key(row: dict[str, Any]) -> Key:
    return row["record_seq"], row["start_ms"]


def _differs(row: dict[str, Any], index: Index) -> str:
    """Return what a row says otherwise than the description beside the bytes; "" for nothing."""
    right = recording_row(index)
    if row["sha256"] != right["sha256"]:
        return "sha256"
    return ", ".join(column for column, value in right.items() if row[column] != value)


def _holes(
    scheduled: Sequence[Window], spans: Sequence[tuple[int, int]], until_ms: int
) -> list[tuple[int, int]]:
    """Return the scheduled stretches before `until_ms` that no span covers."""
    holes: list[tuple[int, int]] = []
    merged = sorted(spans)
    for window in clip(scheduled, 0, until_ms):
        at = window.start_ms
        for start_ms, end_ms in merged:
            if end_ms <= at or start_ms >= window.end_ms:
                continue
            if start_ms > at:
                holes.append((at, start_ms))
            at = max(at, end_ms)
        if at < window.end_ms:
            holes.append((at, window.end_ms))
    return holes


def _is_whole(media: bytes, index: Index) -> bool:
    """Say whether every byte of a recording has the hashes that its description gives."""
    parts = [(0, index.header.init_length, index.header.init_sha256)]
    parts += [(s.offset, s.length, s.sha256) for s in index.segments]
    view, at = memoryview(media), 0
    for offset, length, sha256 in parts:
        if offset != at or hashlib.sha256(view[at : at + length]).hexdigest() != sha256:
            return False
        at += length
    assert index.seal is not None
    return at == len(media) and hashlib.sha256(media).hexdigest() == index.seal.sha256
