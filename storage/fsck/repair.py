"""Puts right what fsck found, from wherever the right bytes are."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

from storage.archival.pending import PermanentUploadError, read_sealed
from storage.archival.retention import remove_exactly, versions
from storage.archive.port import ArchiveError, Entry, ObjectNotFound
from storage.catalogue.rows import RecordingRow
from storage.fsck.camera import IN_FLIGHT_MS, CheckedCamera, Finding
from storage.fsck.listing import ArchiveListing, is_whole
from storage.records import FormatError, Index, Trace, recording_name, sha256_of
from storage.spool.reader import Key, SpoolRecording

REMOVED = "recording that was removed"


class Repair:
    """Puts right what is wrong with a camera; does nothing where that is not `wanted`.

    Its methods return what was done, "" for nothing.
    """

    def __init__(self, camera: CheckedCamera, wanted: bool):
        self._camera, self.wanted = camera, wanted
        self._writer = camera.catalogue.writer

    async def missing(self, row: RecordingRow, at: ArchiveListing) -> Finding:
        """Return what is wrong with a row of a recording that an archive did not list, put right
        where that is wanted. What is called missing or lost was asked for by its name, too."""
        camera, seq, identity, done = self._camera, row.record_seq, row.identity, ""
        if await at.is_there(row):
            what = "recording that is there, and not in its list"
            return camera.finding(at.name, "different", what, seq)
        await at.archive.check_id()  # of a disk that went meanwhile nothing is there
        if (written := await self._believe_trace(row, at)) is not None:
            return camera.finding("catalogue", "missing", REMOVED, seq, written)
        if other := await camera.catalogue.camera_of_same_bytes(camera.name, identity):
            if self.wanted:
                await self._writer.forget_recording(camera.name, identity)
                done = "row removed"
            what = f"row of a recording of {other[1]}/{other[2]}"
            return camera.finding("catalogue", "extra", what, seq, done)
        done = await self.restore(row, at)
        return camera.finding(at.name, "missing", camera.lost(row, done), seq, done)

    async def restore(self, row: RecordingRow, to: ArchiveListing) -> str:
        """Put a recording into an archive from wherever its bytes are; return from where."""
        if not self.wanted:
            return ""
        async for where, index, media in self._copies(row, to):
            try:
                there = await to.verified.store(index, media)
            except (PermanentUploadError, ArchiveError):
                continue  # it may be there all the same: what cannot be read now is not gone
            await self._writer.forget_archived(self._camera.name, row.identity, to.name)
            await self._writer.mark_archived(index, there)
            return f"put again from {where}"
        return ""

    async def is_elsewhere(self, row: RecordingRow, but: ArchiveListing) -> bool:
        """Say whether the spool, or another archive than this one, has exactly what a row names."""
        async for _ in self._copies(row, but):
            return True
        return False

    async def _copies(
        self, row: RecordingRow, but: ArchiveListing
    ) -> AsyncIterator[tuple[str, Index, bytes | Path]]:
        """Yield where else than in one archive exactly the recording of a row is, and its bytes."""
        others = (listing for listing in self._camera.listings if listing is not but)
        for source in (self._camera.stored.get(row.key), *others):
            with contextlib.suppress(PermanentUploadError, ArchiveError, FormatError):
                index, media = await self._bytes(row.key, source)
                if index.identity == row.identity:
                    is_spool = isinstance(source, SpoolRecording)
                    yield "the spool" if is_spool else "another archive", index, media

    async def _bytes(
        self, key: Key, source: SpoolRecording | ArchiveListing | None
    ) -> tuple[Index, bytes | Path]:
        """Return a recording, compared with its own hash; raises ObjectNotFound, FormatError."""
        if isinstance(source, SpoolRecording):
            return await asyncio.to_thread(read_sealed, source)
        if source is None or not source.has(key):
            raise ObjectNotFound(recording_name(key[1], key[0]))
        found = source.objects[key]
        index = await source.document(found)
        entry = found.entries["mp4"]
        media = await source.archive.get(entry.key, bucket=entry.bucket)
        if isinstance(index, str) or not is_whole(media, index):
            raise FormatError(f"{entry.key} is not whole")
        return index, media

    async def finish_removal(self, row: RecordingRow, listing: ArchiveListing) -> str:
        """Remove the bytes of what was removed, if its trace is there and no hold keeps it; else
        have the row say that the archive has it, if it is whole. Nothing is done where the bytes
        under its name are not the row's."""
        if not self.wanted:
            return ""
        camera, archive = self._camera, listing.archive
        found, name = listing.objects[row.key], camera.name
        bucket = next(iter(found.entries.values())).bucket
        try:
            exactly = await versions(archive, name, row, bucket)
        except ArchiveError:
            return ""
        trace, whole = await listing.trace(row), found.whole
        held = await camera.catalogue.holds.is_held(name, row.start_ms, row.end_ms)
        if trace and not (whole and held):
            await remove_exactly(archive, name, row, exactly, bucket)
            return "removed"
        index, identity = await listing.document(found) if whole else "", row.identity
        if not isinstance(index, Index) or index.identity != identity:
            return ""
        await self._writer.forget_archived(name, identity, archive.name, removed=True)
        if not await self._writer.mark_archived(index, await listing.archived(found, index)):
            return ""
        if trace:
            await archive.remove(trace[0].key, bucket=trace[0].bucket)
        return "kept, row written: " + (
            "a hold keeps it" if held else "nothing told of its removal"
        )

    async def take_back(
        self, trace: Entry, told: Trace, row: RecordingRow, at: ArchiveListing
    ) -> str:
        """Remove the trace of a removal that did not happen; where that goes on meanwhile after
        all, it is told of again."""
        camera, data = self._camera, told.to_json()
        if not (self.wanted and await camera.says(row, at.name)):
            return ""
        await at.archive.remove(trace.key, bucket=trace.bucket)
        if await camera.says(row, at.name):
            return "removed"
        await at.archive.put(trace.key, data, sha256_of(data))
        return ""

    async def _believe_trace(self, row: RecordingRow, at: ArchiveListing) -> str | None:
        """Have a row say that an archive removed a recording when its time had come, where the
        trace of just this one does and no hold keeps it; None where nothing does. A database that
        came back from a copy does not know what was removed since. A trace of a time to come is
        none: whoever can write to an archive could write it of what is to be kept."""
        camera, keep_s, found = self._camera, at.verified.settings.keep, await at.trace(row)
        if found is None or keep_s is None:
            return None
        trace, told = found
        latest_ms = camera.now_ms + IN_FLIGHT_MS  # clocks differ
        if not row.end_ms + keep_s * 1000 <= told.removed_ms <= latest_ms:
            return None
        if await camera.catalogue.holds.is_held(camera.name, row.start_ms, row.end_ms):
            return None
        if not self.wanted:
            return ""
        await self._writer.forget_archived(camera.name, row.identity, at.name)
        await self._writer.put_removed(camera.name, at.name, trace.bucket, told)
        return "row written"

    async def believe_archive(self, row: RecordingRow, index: Index, at: ArchiveListing) -> str:
        """Have a row say what the archive does; what the row said before may be elsewhere."""
        if not self.wanted:
            return ""
        camera, identity = self._camera, row.identity
        told = await at.archived(at.objects[row.key], index)
        await self._writer.forget_recording(camera.name, identity)
        spool = camera.spool_id if row.key in camera.stored else None
        await self._writer.put_recordings([index], spool, now_ms=camera.now_ms)
        return "row written" * await self._writer.mark_archived(index, told)
