"""What one archive has of one camera: its objects by recording, and reading them."""

from __future__ import annotations

import asyncio
import contextlib
import re
from dataclasses import dataclass, field

from storage.archival.verified_archive import VerifiedArchive
from storage.archive.port import Archive, ArchiveError, Entry, ObjectNotFound
from storage.catalogue.cameras import Name
from storage.catalogue.rows import Archived, RecordingRow
from storage.records import (
    FormatError,
    Index,
    Trace,
    parse_archive_document,
    recording_name,
    sha256_of,
    start_of,
)
from storage.spool.reader import Key
from storage.spool.repair import is_consistent

PARALLEL = 8
GIVE_WAY = 10  # objects in a row that cannot be read: it is the archive
GONE = "gone since it was listed"
UNREADABLE = "description that cannot be read"

_OBJECT = re.compile(
    r"(?P<day>\d{4}-\d\d-\d\d)/(?P<clock>\d{9})Z-(?P<gap>gap-)?(?P<no>\d+)"
    r"\.(?P<kind>mp4|json|removed\.json)",
    re.ASCII,
)


class Unread(Exception):
    """An object of an archive that gives others cannot be read."""


class ObjectReader:
    """Reads objects, some at a time; gives up where several in a row cannot be read."""

    def __init__(self) -> None:
        self.gate = asyncio.Semaphore(PARALLEL)
        self.bytes_read = 0  # of recordings
        self._unread = 0  # objects, in a row

    async def read(self, archive: Archive, entry: Entry) -> bytes:
        """Return the bytes of an object. Raises ObjectNotFound where it is gone since it was
        listed, Unread where it cannot be read, and ArchiveError where several in a row cannot."""
        try:
            async with self.gate:
                data = await archive.get(entry.key, bucket=entry.bucket)
        except ObjectNotFound:
            raise
        except ArchiveError as error:
            self._unread += 1
            if self._unread >= GIVE_WAY:
                raise
            raise Unread(str(error)) from None
        self._unread = 0
        return data


@dataclass(slots=True)
class StoredObject:
    """What an archive has under the name of a recording."""

    entries: dict[str, Entry] = field(default_factory=dict)  # by kind: mp4, json, removed.json

    @property
    def whole(self) -> bool:
        """Whether its bytes and its description are there."""
        return "mp4" in self.entries and "json" in self.entries

    @property
    def newest_ms(self) -> int:
        """When the last of it was stored (UTC)."""
        return max(e.stored_ms for e in self.entries.values())


class ArchiveListing:
    """What one archive had of one camera when it was listed."""

    def __init__(self, verified: VerifiedArchive, name: Name, reader: ObjectReader):
        self.verified, self.archive, self.name = verified, verified.archive, verified.archive.name
        self._camera, self._reader = name, reader
        self.objects: dict[Key, StoredObject] = {}
        self.gaps: dict[Key, Entry] = {}
        self.unknown: list[str] = []

    async def load(self) -> None:
        """List the archive; raises ArchiveError."""
        prefix = "/".join(self._camera) + "/"
        async for entry in self.archive.entries(prefix):
            try:
                m = _OBJECT.fullmatch(entry.key[len(prefix) :])
                key = (int(m["no"]), start_of(m["day"], m["clock"])) if m else None
            except ValueError:  # of no day or time that there is
                key = None
            if m is None or key is None:
                self.unknown.append(entry.key)
            elif m["gap"]:
                self.gaps[key] = entry
            else:
                self.objects.setdefault(key, StoredObject()).entries[m["kind"]] = entry

    def has(self, key: Key) -> bool:
        """Say whether a whole recording is there."""
        return key in self.objects and self.objects[key].whole

    async def is_there(self, row: RecordingRow) -> bool:
        """Ask for a recording by its name: lists come late on some servers, or end too early."""
        key = "/".join((*self._camera, recording_name(row.start_ms, row.record_seq)))
        asked = [await self.archive.etag(key + ending) for ending in (".mp4", ".json")]
        return None not in asked

    async def read(self, entry: Entry) -> bytes:
        """Return the bytes of an object; raises as ObjectReader.read."""
        return await self._reader.read(self.archive, entry)

    async def document(self, found: StoredObject) -> Index | str:
        """Return the description of a recording, or what is wrong with it."""
        entry = found.entries["json"]
        try:
            index = parse_archive_document(await self.read(entry))
        except ObjectNotFound:
            return GONE
        except (Unread, FormatError):
            return UNREADABLE
        seal = index.seal
        if not index.segments or entry.key != index.archive_key + ".json":
            return "description of another recording"
        if seal is None or found.entries["mp4"].size != seal.length:
            return "other length than its description says"
        return index

    async def recording(self, found: StoredObject) -> tuple[Index | None, str]:
        """Return what describes a recording, and what is wrong with it or its bytes."""
        index = await self.document(found)
        if isinstance(index, str):
            return None, index
        try:
            media = await self.read(found.entries["mp4"])
        except ObjectNotFound:
            return None, GONE
        except Unread:
            return None, "bytes that cannot be read"
        self._reader.bytes_read += len(media)
        if not is_consistent(index):
            return index, "description whose times or numbers do not fit together"
        whole = await asyncio.to_thread(is_whole, media, index)
        return index, "" if whole else "other bytes than were recorded"

    async def trace(self, row: RecordingRow) -> tuple[Entry, Trace] | None:
        """Return what tells of the removal of exactly this recording, and its words."""
        trace = self.objects.get(row.key, StoredObject()).entries.get("removed.json")
        with contextlib.suppress(ObjectNotFound, FormatError, Unread):
            if trace:
                told = Trace.parse(await self.read(trace))
                return (trace, told) if told.sha256 == row.sha256 else None
        return None

    async def archived(self, found: StoredObject, index: Index) -> Archived:
        """Return what the catalogue is to say of a recording that the archive has."""
        media, stored_ms = found.entries["mp4"], found.entries["json"].stored_ms
        async with self._reader.gate:
            version = await self.archive.version_id(media.key, bucket=media.bucket)
        return Archived(
            self.name,
            media.bucket,
            stored_ms,
            "listed",
            version_id=version,
            locked_until_ms=self.verified.locked_until_ms(index),
        )


def is_whole(media: bytes, index: Index) -> bool:
    """Say whether every byte of a recording has the hashes that its description gives, and that
    gives times and numbers that fit together."""
    parts = [(0, index.header.init_length, index.header.init_sha256)]
    parts += [(s.offset, s.length, s.sha256) for s in index.segments]
    view, at = memoryview(media), 0
    for offset, length, sha256 in parts:
        if offset != at or sha256_of(view[at : at + length]) != sha256:
            return False
        at += length
    assert index.seal is not None
    is_all = at == len(media) and sha256_of(media) == index.seal.sha256
    return is_all and is_consistent(index)
