"""The one reader of recordings: the bytes are in the spool, else in each archive that has them.

What is read is checked by the caller's `check`, in a thread; where it does not pass, that is said
in the log, and the next place is asked. So bytes that were altered in one place are never given
while another place has those that were recorded.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property, partial
from pathlib import Path
from typing import Protocol, TypeVar, runtime_checkable

import structlog

from storage.archive.port import ArchiveError, ObjectNotFound
from storage.catalogue.cameras import Name
from storage.catalogue.catalogue import Catalogue
from storage.catalogue.database import CatalogueError
from storage.catalogue.rows import ArchivedRow, RecordingRow
from storage.records import Index, parse_archive_document, parse_index, recording_name, sha256_of
from storage.spool.open_files import OpenFiles
from storage.spool.reader import Key

READ_S = 30.0
ASK_S = 5.0

T = TypeVar("T")
# by number and start: the bucket in each archive that has it
Buckets = Mapping[Key, Mapping[str, str]]
log = structlog.get_logger()


class Unreadable(RuntimeError):
    """No place gives a recording that its index describes; the text says which and why."""


class NotStored(Unreadable):
    """Every archive that was asked says that it does not have the recording."""


class Store(Protocol):
    """Where recordings are read from: an archive, or the spools of other machines."""

    name: str

    async def get(
        self, key: str, offset: int = 0, length: int | None = None, *, bucket: str = ""
    ) -> bytes:
        """Return a range of an object; raises ArchiveError."""
        ...


@runtime_checkable
class Spools(Store, Protocol):
    """The spools of other machines."""

    def has(self, spool: str | None) -> bool:
        """Tell whether it is one of theirs."""
        ...

    def is_away(self, spool: str | None) -> bool:
        """Tell whether it is one of theirs, and its machine is not there now."""
        ...

    async def settled_ms(
        self, name: Name, known: Collection[Key], from_ms: int, to_ms: int
    ) -> int | None:
        """Return from when on a stretch is, or may be, being recorded there, beside what is
        known."""
        ...


def add_spools(rows: Iterable[RecordingRow], stores: Sequence[Store]) -> None:
    """Add the spools of other machines to what rows say of archives."""
    for store in stores:
        if isinstance(store, Spools):
            for row in rows:
                if row.spool and row.removed_ms is None and store.has(row.spool):
                    row.archives = [*row.archives, _in_spool(row, store.name, row.spool)]


def _in_spool(row: RecordingRow, store: str, spool: str) -> ArchivedRow:
    """Return that a spool has a recording, as if it were a bucket of an archive."""
    return ArchivedRow(
        archive=store,
        bucket=spool,
        archived_ms=0,
        verified="",
        camera_pk=row.camera_pk,
        record_seq=row.record_seq,
        day=row.day,
        collision=row.collision,
        removed_ms=None,
        removed_reason=None,
        removal_begun_ms=None,
    )


@dataclass(frozen=True, slots=True)
class Sources:
    """The spool of this machine, the archives, and the catalogue that knows who has what."""

    spool: Path | None
    archives: Sequence[Store]
    catalogue: Catalogue | None = None
    files: OpenFiles = field(default_factory=OpenFiles)

    async def locate(self, name: Name, from_ms: int, to_ms: int) -> Buckets:
        """Return who has the recordings of a stretch; without an answer nothing is known, and
        every archive is asked."""
        if self.catalogue is None:
            return {}
        try:
            rows = await asyncio.wait_for(
                self.catalogue.recordings_between(name, from_ms, to_ms), ASK_S
            )
        except (CatalogueError, TimeoutError) as error:
            log.warning("The catalogue does not say where recordings are", why=str(error))
            return {}
        add_spools(rows, self.archives)
        return {row.key: row.buckets for row in rows}


@dataclass(slots=True)
class RecordingReader:
    """Reads the recordings of one camera.

    `buckets` says which archives have which recording; without it the catalogue is asked about
    [from_ms, to_ms) when it is needed first. Each recording is named by its number and start.
    """

    sources: Sources
    name: Name
    from_ms: int = 0
    to_ms: int = 0
    buckets: Buckets | None = None
    _asking: asyncio.Lock = field(default_factory=asyncio.Lock)

    async def index(self, key: Key, check: Callable[[Index], T]) -> T:
        """Return what `check` makes of a recording's index; raises Unreadable."""

        def parsed(parse: Callable[[bytes], Index], data: bytes) -> T:
            return check(parse(data))

        in_spool = (".jsonl", partial(parsed, parse_index))
        in_archive = (".json", partial(parsed, parse_archive_document))
        return await self._first(key, in_spool, in_archive, 0, None)

    async def media(self, key: Key, offset: int, length: int, check: Callable[[bytes], T]) -> T:
        """Return what `check` makes of a range of a recording; raises Unreadable."""
        return await self._first(key, (".mp4", check), (".mp4", check), offset, length)

    def in_spool(self, key: Key, ending: str) -> Path | None:
        """Return where a file of a recording is in the spool, if it is there; None without one."""
        if self.sources.spool is None:
            return None
        record_seq, start_ms = key
        file = recording_name(start_ms, record_seq) + ending
        return self.sources.spool.joinpath(self.name[1], self.name[2], file)

    async def _first(
        self,
        key: Key,
        in_spool: tuple[str, Callable[[bytes], T]],
        in_archive: tuple[str, Callable[[bytes], T]],
        offset: int,
        length: int | None,
    ) -> T:
        """Return what the first place gives that has the right bytes."""
        reasons = list[str]()
        if (path := self.in_spool(key, in_spool[0])) is not None:
            read = asyncio.to_thread(_pread, path, offset, length)
            try:
                return await _checked("the spool", str(path), read, in_spool[1])
            except _Failed as failed:
                reasons.append(str(failed))
        record_seq, start_ms = key
        object_key = "/".join((*self.name, recording_name(start_ms, record_seq) + in_archive[0]))
        archives = await self._archives(key)
        for archive, bucket in archives:
            read = archive.get(object_key, offset, length, bucket=bucket)
            try:
                return await _checked(archive.name, object_key, read, in_archive[1])
            except _Failed as failed:
                reasons.append(str(failed))
        why = "; ".join(filter(None, reasons))
        kind = NotStored if archives and not why else Unreadable
        text = f"{object_key} cannot be read from the spool or any archive"
        raise kind(f"{text}: {why}" if why else text)

    async def _archives(self, key: Key) -> list[tuple[Store, str]]:
        """Return the archives that have a recording, each with its bucket; all of them where
        nobody knows."""
        async with self._asking:
            if self.buckets is None:
                self.buckets = await self.sources.locate(self.name, self.from_ms, self.to_ms)
        there, archives = self.buckets.get(key), self.sources.archives
        if not there:
            return [(a, "") for a in archives]
        return [(a, there[a.name]) for a in archives if a.name in there]


@dataclass(frozen=True)
class HashedRange:
    """A range of a recording whose SHA-256 is known: its init, or a segment."""

    reader: RecordingReader
    key: Key
    offset: int
    length: int
    sha256: str

    @cached_property
    def _media(self) -> Path | None:
        return self.reader.in_spool(self.key, ".mp4")

    def piece_in_spool(self, start: int, length: int) -> bytes | None:
        """Return a piece, read in this thread and unchecked; None where the spool has not the
        whole range: what is sent in pieces begins only where its end is there, too."""
        path = self._media
        if path is None:
            return None
        try:
            files, end = self.reader.sources.files, self.offset + self.length
            data = files.read(path, self.offset + start, length, end)
        except FileNotFoundError:
            return None
        except OSError as error:
            log.error("A recording cannot be read", file=str(path), why=str(error))
            return None
        if len(data) != length:
            log.error("A recording is shorter than its index says", file=str(path))
            return None
        return data

    async def whole(self) -> bytes:
        """Return all of it, with the hash that was recorded; raises Unreadable."""
        return await self.reader.media(self.key, self.offset, self.length, self._check)

    def _check(self, data: bytes) -> bytes:
        if len(data) != self.length or sha256_of(data) != self.sha256:
            raise ValueError(f"{self.length} bytes at {self.offset} have another hash")
        return data


class _Failed(Exception):
    """A place does not give a recording; the text says why, and nothing where it has none."""


async def _checked(where: str, what: str, read: Awaitable[bytes], check: Callable[[bytes], T]) -> T:
    """Return what `check` makes of what is read; raises _Failed."""
    try:
        data = await asyncio.wait_for(read, READ_S)
        return await asyncio.to_thread(check, data)
    except (ObjectNotFound, FileNotFoundError):
        raise _Failed("") from None
    except TimeoutError:
        raise _Failed(f"{where} does not answer in {READ_S:g} s") from None
    except (ArchiveError, OSError) as error:
        raise _Failed(f"{where}: {error}") from None
    except ValueError as error:  # FormatError, Mp4Error, and what `check` does not believe
        log.error("Other bytes are here than were recorded", where=where, what=what, why=str(error))
        raise _Failed(f"{where} has other bytes: {error}") from None


def _pread(path: Path, offset: int, length: int | None) -> bytes:
    """Return a range of a file, to its end without `length`; raises OSError."""
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        return os.pread(fd, os.fstat(fd).st_size if length is None else length, offset)
    finally:
        os.close(fd)
