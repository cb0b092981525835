"""Where the bytes of a recording are read from: the spool, then each archive that has it.

What is read is checked by the caller's `check`, in a thread; what does not pass is said in the
log, and the next place is asked.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TypeVar

import structlog

from storage.archive.port import Archive, ArchiveError
from storage.catalogue.cameras import Name
from storage.catalogue.catalogue import Catalogue
from storage.catalogue.database import CatalogueError
from storage.records import FormatError, Index, parse_archive_document, parse_index, recording_name
from storage.spool.reader import Key

READ_S = 30.0
ASK_S = 5.0

T = TypeVar("T")
# by number and start: the bucket in each archive that has it
Buckets = Mapping[Key, Mapping[str, str]]
log = structlog.get_logger()


class Unreadable(RuntimeError):
    """No place has a recording that its index describes; the text says which and why."""


@dataclass(frozen=True, slots=True)
class Sources:
    """The spool of this machine, the archives, and the catalogue that knows who has what."""

    spool: Path | None
    archives: Sequence[Archive]
    catalogue: Catalogue | None = None

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
        return {
            (row["record_seq"], row["start_ms"]): {
                a["archive"]: a["bucket"] for a in row["archives"] if a["removed_ms"] is None
            }
            for row in rows
        }


@dataclass(slots=True)
class Reader:
    """Reads the recordings of one camera."""

    sources: Sources
    name: Name
    from_ms: int
    to_ms: int
    buckets: Buckets | None = None  # found out when it is needed
    _asking: asyncio.Lock = field(default_factory=asyncio.Lock)

    async def index(self, start_ms: int, record_seq: int, check: Callable[[Index], T]) -> T:
        """Return what `check` makes of a recording's index; raises Unreadable."""

        def parsed(parse: Callable[[bytes], Index], data: bytes) -> T:
            try:
                return check(parse(data))
            except (KeyError, TypeError, AttributeError) as error:  # JSON that is not ours
                raise FormatError(str(error)) from None

        return await self._first(
            start_ms,
            record_seq,
            (".jsonl", partial(parsed, parse_index)),
            (".json", partial(parsed, parse_archive_document)),
            0,
            None,
        )

    async def media(
        self, start_ms: int, record_seq: int, offset: int, length: int, check: Callable[[bytes], T]
    ) -> T:
        """Return what `check` makes of a range of a recording; raises Unreadable."""
        way = (".mp4", check)
        return await self._first(start_ms, record_seq, way, way, offset, length)

    async def _first(
        self,
        start_ms: int,
        record_seq: int,
        in_spool: tuple[str, Callable[[bytes], T]],
        in_archive: tuple[str, Callable[[bytes], T]],
        offset: int,
        length: int | None,
    ) -> T:
        election, station, camera = self.name
        stem = recording_name(start_ms, record_seq)
        if self.sources.spool is not None:
            path = self.sources.spool / station / camera / (stem + in_spool[0])
            read = asyncio.to_thread(_pread, path, offset, length)
            found, value = await _try("the spool", str(path), read, in_spool[1])
            if found:
                return value  # type: ignore[return-value]
        key = f"{election}/{station}/{camera}/{stem}{in_archive[0]}"
        for archive, bucket in await self._places((record_seq, start_ms)):
            read = archive.get(key, offset, length, bucket=bucket)
            found, value = await _try(archive.name, key, read, in_archive[1])
            if found:
                return value  # type: ignore[return-value]
        raise Unreadable(f"{key} cannot be read from the spool or any archive")

    async def _places(self, key: Key) -> Iterable[tuple[Archive, str]]:
        async with self._asking:
            if self.buckets is None:
                self.buckets = await self.sources.locate(self.name, self.from_ms, self.to_ms)
        there = self.buckets.get(key)
        archives = self.sources.archives
        if not there:
            return [(a, "") for a in archives]
        return [(a, there[a.name]) for a in archives if a.name in there]


async def _try(
    where: str, what: str, read: Awaitable[bytes], check: Callable[[bytes], T]
) -> tuple[bool, T | None]:
    try:
        data = await asyncio.wait_for(read, READ_S)
        return True, await asyncio.to_thread(check, data)
    except (KeyError, FileNotFoundError):
        return False, None
    except (ArchiveError, OSError, TimeoutError) as error:
        log.warning("A recording cannot be read here", where=where, what=what, why=str(error))
    except ValueError as error:  # FormatError, Mp4Error, and what `check` does not believe
        log.error("Other bytes are here than were recorded", where=where, what=what, why=str(error))
    return False, None


def _pread(path: Path, offset: int, length: int | None) -> bytes:
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        return os.pread(fd, os.fstat(fd).st_size if length is None else length, offset)
    finally:
        os.close(fd)
