"""What the spool has, compared with catalogue and archives: the part of `kuager fsck` that looks
for what is on this disk only.

Every recording that nobody writes any longer must be sealed, have a row, and be in each archive.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import structlog

from base.clock import Clock, now_ms
from storage.archival.backlog import Blocked
from storage.archival.pending import PermanentUploadError, read_sealed
from storage.catalogue.cameras import Name
from storage.catalogue.catalogue import InSpool
from storage.catalogue.rows import RecordingRow
from storage.records import FormatError, Identity, Index
from storage.spool.numbers import Numbers
from storage.spool.past import UNFINISHED
from storage.spool.reader import Key, SpoolReader, SpoolRecording
from storage.spool.repair import finish, restore_header
from storage.spool.writer import CameraSpool, SpoolBusy

log = structlog.get_logger()

LATE_MS = 300_000  # after its last byte: by then a recording is sealed and archived, if all is well

UNSEALED, UNREAD = "recording without a seal", "index that cannot be read"


@dataclass(frozen=True, slots=True)
class Local:
    """Something of the spool that is not as it should be."""

    stored: SpoolRecording
    where: str  # spool, catalogue, or the name of an archive
    kind: str  # missing or different
    what: str
    index: Index | None = None  # where it is sealed


@dataclass(slots=True)
class Waits:
    """How much of the spool an archive does not have yet, whether or not that is late."""

    recordings: int = 0
    bytes: int = 0


@dataclass(slots=True)
class SpoolCheck:
    """Looks at all recordings of a camera in the spool; `deep` hashes them."""

    archives: Sequence[str]
    deep: bool
    clock: Clock = now_ms
    waits: dict[str, Waits] = field(default_factory=dict)  # by archive

    async def look(
        self,
        reader: SpoolReader,
        rows: Mapping[Identity, RecordingRow],
        others: Mapping[Key, InSpool],
    ) -> AsyncIterator[Local]:
        """Yield what is wrong; `rows` are those of the catalogue, with their archives.

        What another election left in the spool waits as all else does; `others` are its rows, of
        those of this spool.
        """
        at_ms = self.clock()  # of `rows`: until the newest is hashed, others may take minutes
        for stored in reader.stored():
            index = reader.read(stored)
            late = at_ms - _written_ms(stored.lines) > LATE_MS
            sealed = index is not None and index.seal is not None
            if not sealed and late:
                unread = index is None or stored.broken
                yield Local(stored, "spool", "different", UNREAD if unread else UNSEALED)
            if index is None or index.seal is None or not index.segments:
                continue
            there = _archives_of(rows.get(index.identity), others.get(stored.key), index)
            if self.deep:
                try:
                    await asyncio.to_thread(read_sealed, stored)
                except PermanentUploadError as error:
                    is_index = error.blocked is Blocked.UNREADABLE
                    what = UNREAD if is_index else f"{error.blocked} in the spool"
                    yield Local(stored, "spool", "different", what)
            if there is None and late:
                what = "recording that only the spool has"
                yield Local(stored, "catalogue", "missing", what, index)
            for archive in self.archives:
                if archive not in (there or ()):
                    self._wait(archive, index)
                    if there is not None and late:
                        what = "recording that waits in the spool"
                        yield Local(stored, archive, "missing", what, index)

    def strays(self, reader: SpoolReader) -> list[str]:
        """Return the names of media whose index is gone, and that nobody begins just now."""
        return [
            path.name
            for path in sorted(reader.directory.glob("????-??-??/*.mp4"))
            if not path.with_suffix(".jsonl").exists()
            and self.clock() - _written_ms(path) > LATE_MS
        ]

    def _wait(self, archive: str, index: Index | None) -> None:
        waits = self.waits.setdefault(archive, Waits())
        waits.recordings += 1
        waits.bytes += index.seal.length if index and index.seal else 0


def _archives_of(
    row: RecordingRow | None, other: InSpool | None, index: Index
) -> Collection[str] | None:
    """Return the archives that have, or had, a recording; None where it has no row."""
    if row is not None:
        return {one.archive for one in row.archives}
    if other is not None and (other.name, other.identity) == (index.name, index.identity):
        return other.archives.keys() | other.retired
    return None


def seal_abandoned(reader: SpoolReader, name: Name, stored: SpoolRecording) -> str:
    """Seal what the recorder of a camera left without a seal, and mend a spoilt index where its
    bytes or its run tell what it said; return what was done, "" for none.

    Nothing is touched while a recorder of the camera runs. A file that cannot be read or written is
    said, and keeps no other from being mended.
    """
    index = reader.read(stored)
    is_named = index is not None and not stored.broken
    if (index.name if index and is_named else (reader.election(), *name[1:])) != name:
        return ""
    try:
        camera = CameraSpool(reader.directory.parent.parent, *name, Numbers.by_clock(now_ms()))
        try:
            if index is None:
                restore_header(stored.base)
            done = finish(stored.base, compare=True)
        finally:
            camera.close()
        if done is not None:
            read_sealed(stored)  # one that cannot be made whole stays as it was
    except (SpoolBusy, FormatError, FileNotFoundError, PermanentUploadError):
        return ""
    except OSError as error:
        log.error(UNFINISHED, file=str(stored.media), why=error.strerror)
        return ""
    return "sealed" if done else ""


def seal_all_abandoned(reader: SpoolReader, name: Name) -> str:
    """Do the same for all that a camera has; return what was done."""
    done = ""
    for stored in reader.stored():
        index = reader.read(stored)
        if index is None or index.seal is None:
            done = seal_abandoned(reader, name, stored) or done
    return done


def _written_ms(path: Path) -> int:
    """Return when the last byte of a file was written, by the clock of its disk."""
    try:
        return path.stat().st_mtime_ns // 1_000_000
    except OSError:
        return now_ms()  # it has just left the spool
