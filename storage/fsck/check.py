"""Compares spool, catalogue and archives, camera by camera, and puts right what can be.

Nothing is ever removed from an archive here but what was to be removed: what a row names, with
the bytes that the row names, that no hold keeps, and with its trace. Where a row and the `.json`
beside whole bytes differ, the archive is right, unless the spool or another archive has what the
row names. What may just be on its way is left alone: the catalogue is read before and after the
archive is listed and before anything is called missing, and an object that is younger than
IN_FLIGHT_MS is not missed in the catalogue.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence

from base.clock import Clock, now_ms
from config.model import LOW, Config
from storage.archival.archived_holds import compare, settle
from storage.archival.verified_archive import VerifiedArchive
from storage.archive.port import Archive, Entry, ObjectNotFound
from storage.catalogue.cameras import Name
from storage.catalogue.catalogue import Catalogue
from storage.catalogue.rows import RecordingRow
from storage.fsck.camera import (
    IN_FLIGHT_MS,
    WAITS_MS,
    CheckedCamera,
    Finding,
    differs,
    said_of,
)
from storage.fsck.coverage import gaps_in_spool, unaccounted_time, unknown_gaps
from storage.fsck.listing import GONE, ArchiveListing, ObjectReader, StoredObject, Unread
from storage.fsck.repair import REMOVED, Repair
from storage.fsck.spool import UNREAD, UNSEALED, Local, SpoolCheck, seal_abandoned
from storage.records import FormatError, Index, Trace, is_id, plain
from storage.spool.disk import spool_id
from storage.spool.reader import Key, SpoolReader, SpoolRecording

Position = tuple[str, str, int, Key]  # station, camera, number of the archive, recording

OTHER_LENGTH = "recording of another length"
ANOTHER = "another recording than the catalogue and another place have"
BATCH = 200


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
        self.clock, self.config, self.catalogue = clock, config, catalogue
        self.repair, self.deep = repair, deep
        self.archives = [
            VerifiedArchive(settings, archive, catalogue)
            for settings, archive in zip(config.archives, archives, strict=True)
        ]
        self.spool_id: str | None = None
        with contextlib.suppress(OSError):  # there is no spool here
            self.spool_id = spool_id(config.spool)
        self.recordings = 0
        self.findings: list[Finding] = []  # of all cameras, as far as they were looked at
        self.spool = SpoolCheck([a.name for a in archives], deep, clock)
        self.position, self.after = after, after
        self.reader = ObjectReader()

    @property
    def bytes_read(self) -> int:
        """How much of recordings was read from archives."""
        return self.reader.bytes_read

    async def cameras(self) -> list[Name]:
        """Return all cameras that configuration, catalogue, spool or an archive know, sorted; a
        second stream only where it is to be archived."""
        election = self.config.election.id
        found = set(await self.catalogue.cameras.names(election))
        found |= {(election, s.id, c.id) for s in self.config.stations for c in s.cameras}
        for path in self.config.spool.glob("[a-z0-9]*/*/camera.json"):
            found.add((election, path.parent.parent.name, path.parent.name))
        for verified in self.archives:
            for station in await verified.archive.below(f"{election}/"):
                for camera in await verified.archive.below(f"{election}/{station}/"):
                    found.add((election, station, camera))
        low = self.config.archive_low
        return sorted(
            (election, station, camera)
            for election, station, camera in found
            if is_id(station) and is_id(camera) and (low or not camera.endswith(LOW))
        )

    async def holds(self) -> list[Finding]:
        """Compare holds in the catalogue with those in archives; raises ArchiveError and
        CatalogueError."""
        found = list[Finding]()
        for verified in self.archives:
            archive, election = verified.archive, self.config.election.id
            differ = await compare(self.catalogue, archive, election)
            if self.repair:
                await settle(self.catalogue, archive, differ)
            entered, told = ("entered", "told") if self.repair else ("", "")
            for hold in differ.unknown:
                found.append(Finding("", "catalogue", "missing", "hold", hold.key, entered))
            for key in differ.untold:
                found.append(Finding("", archive.name, "missing", "hold", key, told))
            for key, why in differ.unreadable.items():
                which = plain(f"{key}: {why}")
                found.append(Finding("", archive.name, "different", "hold", which))
        return found

    async def check(self, name: Name) -> list[Finding]:
        """Look at one camera; raises ArchiveError and CatalogueError."""
        listings = [ArchiveListing(archive, name, self.reader) for archive in self.archives]
        camera = CheckedCamera(
            name=name,
            now_ms=self.clock(),
            catalogue=self.catalogue,
            reader=SpoolReader(self.config.spool, name[1], name[2]),
            spool_id=self.spool_id,
            listings=listings,
        )
        begin = len(self.findings)
        async for finding in _CameraCheck(self, camera).look():
            self.findings.append(finding)
        return self.findings[begin:]


class _CameraCheck:
    """One look at one camera."""

    def __init__(self, fsck: Fsck, camera: CheckedCamera):
        self._fsck, self._camera = fsck, camera
        self._repair, self._writer = Repair(camera, fsck.repair), camera.catalogue.writer
        self._finding = camera.finding
        self._put: set[tuple[str, Key]] = set()  # archive and name of what was put there
        self._missed = list[tuple[RecordingRow, ArchiveListing | None]]()  # None: by this spool

    async def look(self) -> AsyncIterator[Finding]:
        """Yield what is wrong, each put right first where that is asked for."""
        camera, reader, wanted = self._camera, self._camera.reader, self._fsck.repair
        before = await camera.read_rows()
        for listing in camera.listings:
            await listing.load()
        camera.rows = await camera.read_rows()
        reader.refresh()
        camera.stored = {stored.key: stored for stored in reader.stored()}
        for listing in camera.listings:
            async for finding in self._unknown(listing):
                yield finding
        camera.rows = await camera.read_rows() if wanted else camera.rows
        others = await camera.in_spool()
        async for local in self._fsck.spool.look(reader, camera.rows, others):
            yield await self._local(local)
        camera.rows = await camera.read_rows() if wanted else camera.rows
        for identity, row in camera.rows.items():
            self._fsck.recordings += 1
            for listing in camera.listings:
                if (listing.name, row.key) not in self._put:  # since it was listed
                    async for finding in self._compare(row, listing, before.get(identity)):
                        yield finding
            if identity in before:  # what has come since may be younger than the look at the spool
                async for finding in self._in_spool(row):
                    yield finding
        async for finding in self._missing():
            yield finding
        if self._fsck.deep:
            for number, listing in enumerate(camera.listings):
                async for finding in self._read_all(number, listing):
                    yield finding
        for folder in sorted(reader.unlisted):
            yield self._finding("spool", "different", "folder that cannot be read", folder.name)
        for stray in self._fsck.spool.strays(reader):
            yield self._finding("spool", "extra", "bytes without an index", stray)
        for path in sorted(reader.directory.glob("*/*.aside")):
            what = "set aside: index or bytes are damaged"
            yield self._finding("spool", "extra", what, path.name)
        async for finding in unaccounted_time(camera, self._fsck.config):
            yield finding

    async def _local(self, local: Local) -> Finding:
        """Return what is wrong with the spool as a finding, put right where that is asked for."""
        done, key, camera = "", local.stored.key, self._camera
        if self._repair.wanted and local.what in (UNSEALED, UNREAD):
            done = await self._seal(local.stored)
        elif self._repair.wanted and local.index is not None and local.where == "catalogue":
            await self._writer.put_recordings([local.index], camera.spool_id)
            done = "row written"
        elif self._repair.wanted and local.kind == "missing" and local.index is not None:
            listing = next(t for t in camera.listings if t.name == local.where)
            if row := (await camera.read_rows()).get(local.index.identity):
                done = await self._repair.restore(row, listing)
                if not done and await self._seal(local.stored):  # its index was spoilt
                    done = await self._repair.restore(row, listing)
                self._put |= {(local.where, key)}
        return self._finding(local.where, local.kind, local.what, key[0], done)

    async def _seal(self, stored: SpoolRecording) -> str:
        """Seal or mend a recording of the spool; return what was done."""
        camera = self._camera
        return await asyncio.to_thread(seal_abandoned, camera.reader, camera.name, stored)

    # -- what the catalogue does not know ------------------------------------------------

    async def _unknown(self, listing: ArchiveListing) -> AsyncIterator[Finding]:
        camera, known = self._camera, {identity[:2] for identity in self._camera.rows}
        for stranger in listing.unknown:
            yield self._finding(listing.name, "extra", "not an object of ours", stranger)
        for look in (unknown_gaps, gaps_in_spool):
            async for finding in look(camera, listing, self._repair.wanted):
                yield finding
        unknown = [
            (key, found)
            for key, found in sorted(listing.objects.items())
            if key not in known and found.newest_ms < camera.now_ms - IN_FLIGHT_MS
        ]
        for n in range(0, len(unknown), BATCH):
            batch = unknown[n : n + BATCH]
            async for finding in self._unknown_recordings(listing, batch):
                yield finding
            for (seq, start_ms), found in batch:
                if found.whole:
                    continue
                if trace := found.entries.get("removed.json"):
                    yield await self._unknown_trace(listing, trace, (seq, start_ms))
                elif (seq, start_ms) not in camera.stored:
                    half = (
                        "bytes without a description"
                        if "mp4" in found.entries
                        else "a description without bytes"
                    )
                    yield self._finding(listing.name, "extra", half, seq)

    async def _unknown_recordings(
        self, listing: ArchiveListing, batch: Sequence[tuple[Key, StoredObject]]
    ) -> AsyncIterator[Finding]:
        """Find whole recordings without a row, and enter them."""
        camera = self._camera
        whole = [(key, found) for key, found in batch if found.whole]
        indexes = await asyncio.gather(*(listing.document(found) for _, found in whole))
        good = [
            (index, await listing.archived(found, index))
            for (_, found), index in zip(whole, indexes, strict=True)
            if isinstance(index, Index)
        ]
        if self._repair.wanted and good:
            here = [index for index, _ in good if index.identity[:2] in camera.stored]
            away = [index for index, _ in good if index.identity[:2] not in camera.stored]
            await self._writer.put_recordings(here, camera.spool_id)
            await self._writer.put_recordings(away, now_ms=camera.now_ms)
            await self._writer.put_archived(good)
        for ((seq, _), _), index in zip(whole, indexes, strict=True):
            if index == GONE:
                continue
            if isinstance(index, str):
                yield self._finding(listing.name, "different", index, seq)
            else:
                what = "recording that the catalogue does not know"
                done = "row written" if self._repair.wanted else ""
                yield self._finding("catalogue", "missing", what, seq, done)

    async def _unknown_trace(self, listing: ArchiveListing, trace: Entry, key: Key) -> Finding:
        name, done = self._camera.name, ""
        try:
            told = Trace.parse(await listing.read(trace))
        except (ObjectNotFound, FormatError, Unread):
            what = "trace that cannot be read"
            return self._finding(listing.name, "different", what, key[0])
        if told.name != name or told.identity[:2] != key:
            what = "trace of another recording"
            return self._finding(listing.name, "different", what, key[0])
        if self._repair.wanted:
            await self._writer.put_removed(name, listing.name, trace.bucket, told)
            done = "row written"
        return self._finding("catalogue", "missing", REMOVED, key[0], done)

    # -- what the catalogue says ---------------------------------------------------------

    async def _compare(
        self, row: RecordingRow, listing: ArchiveListing, before: RecordingRow | None
    ) -> AsyncIterator[Finding]:
        """Find what an archive has and should not, or has not and should; `before` is the row as it
        was when the archive was not listed yet: what was stored or removed since is on its way."""
        camera, seq, archive = self._camera, row.record_seq, listing.name
        found = listing.objects.get(row.key, StoredObject())
        said, said_before = said_of(row, archive), said_of(before, archive)
        if said is not None and said.removed_ms is not None:
            was_removed = said_before is not None and said_before.removed_ms is not None
            if was_removed and found.entries.keys() - {"removed.json"}:
                done = await self._repair.finish_removal(row, listing)
                yield self._finding(archive, "extra", "bytes of what was removed", seq, done)
        elif said is not None and found.whole:
            async for finding in self._compare_whole(row, listing, found):
                yield finding
        elif said is None and found.whole:
            if found.newest_ms < camera.now_ms - IN_FLIGHT_MS:
                index, done = await listing.document(found), ""
                if self._repair.wanted and isinstance(index, Index):
                    told = await listing.archived(found, index)
                    done = "row written" * await self._writer.mark_archived(index, told)
                what = "that an archive has a recording"
                yield self._finding("catalogue", "missing", what, seq, done)
        elif said is None:
            if before is not None and not (camera.is_here(row) or camera.comes(row)):
                self._missed.append((row, listing))
        elif said_before is not None:
            self._missed.append((row, listing))

    async def _compare_whole(
        self, row: RecordingRow, listing: ArchiveListing, found: StoredObject
    ) -> AsyncIterator[Finding]:
        """Compare a recording that an archive has with its row, without reading its bytes."""
        camera, seq = self._camera, row.record_seq
        other = found.entries["mp4"].size != row.bytes
        if other and (finding := await self._judge(row, listing, OTHER_LENGTH)):
            yield finding
        trace = await listing.trace(row)
        if trace and trace[0].stored_ms < camera.now_ms - IN_FLIGHT_MS:
            done = await self._repair.take_back(*trace, row, listing)
            what = "trace of a removal that did not happen"
            yield self._finding(listing.name, "extra", what, seq, done)

    async def _in_spool(self, row: RecordingRow) -> AsyncIterator[Finding]:
        """Find what this spool should have and has not; of others' spools it knows nothing."""
        camera = self._camera
        if row.removed_ms is not None or camera.is_here(row):
            return
        if not camera.waits(row):
            self._missed.append((row, None))
        elif not row.archives and row.end_ms < camera.now_ms - WAITS_MS:
            what = f"recording in no archive yet: only the spool {row.spool} has it"
            yield self._finding("spool", "missing", what, row.record_seq)

    async def _missing(self) -> AsyncIterator[Finding]:
        """Look once more for what seems to be missing, by rows as they are by now: what was stored,
        removed or taken off the spool meanwhile is not."""
        camera = self._camera
        now = await camera.read_rows() if self._missed else {}
        for row, listing in self._missed:
            told = now.get(row.identity)
            if listing is not None:
                if told and said_of(told, listing.name) == said_of(row, listing.name):
                    yield await self._repair.missing(row, listing)
            elif told and told.removed_ms is None:
                done = ""
                if self._repair.wanted and any(one.has(row.key) for one in camera.listings):
                    await self._writer.mark_removed(camera.name, row.identity, camera.now_ms)
                    done = "row written"
                seq, what = row.record_seq, "recording that was not removed"
                yield self._finding("spool", "missing", what, seq, done)

    # -- every byte ----------------------------------------------------------------------

    async def _read_all(self, number: int, listing: ArchiveListing) -> AsyncIterator[Finding]:
        rows, fsck, camera = dict[Key, list[RecordingRow]](), self._fsck, self._camera
        for row in (await camera.read_rows()).values():
            rows.setdefault(row.key, []).append(row)
        for key, found in sorted(listing.objects.items()):
            position = (camera.name[1], camera.name[2], number, key)
            if not found.whole or key not in rows or (fsck.after and position <= fsck.after):
                continue
            for row in rows[key]:
                if (finding := await self._judge(row, listing)) is not None:
                    yield finding
            fsck.position = position

    async def _judge(
        self, row: RecordingRow, listing: ArchiveListing, seen: str = ""
    ) -> Finding | None:
        """Read a recording in an archive: are its bytes those of its description, and its row?

        `seen` is what a look from outside found, for bytes that are not.
        """
        index, wrong = await listing.recording(listing.objects[row.key])
        seq = row.record_seq
        if wrong == GONE:
            return None  # it was removed meanwhile
        if wrong or index is None:
            done = await self._repair.restore(row, listing)
            return self._finding(listing.name, "different", seen or wrong, seq, done)
        if index.identity != row.identity and await self._repair.is_elsewhere(row, listing):
            # two witnesses against one: whoever can write to one archive makes no other word true
            done = await self._repair.restore(row, listing)
            return self._finding(listing.name, "different", ANOTHER, seq, done)
        if told := differs(row, index):
            done = await self._repair.believe_archive(row, index, listing)
            what = f"row with another {told} than its recording"
            return self._finding("catalogue", "different", what, seq, done)
        if other := self._camera.described_otherwise(listing.name, index):
            return self._finding(listing.name, "different", f"other words than {other} has", seq)
        return None
