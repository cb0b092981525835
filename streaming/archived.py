"""Segments that are no longer in the spool: where they are by the catalogue, then from the archive.

What is sent as whole has the hash that was recorded, or it is not sent.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections import OrderedDict
from dataclasses import dataclass

import structlog
from aiohttp import web

from storage.archive import Archive, ArchiveError
from storage.catalogue import CatalogueError, Name
from storage.index import FormatError, Index, parse_archive_document
from streaming.views import VIEWS

KEPT = 256  # indexes of archived recordings, in memory
READ_S = 30.0

log = structlog.get_logger()
INDEXES = web.AppKey("indexes", OrderedDict[str, Index])


@dataclass(frozen=True, slots=True)
class Part:
    """A range of an archived recording that has a hash."""

    archive: Archive
    key: str
    offset: int
    length: int
    sha256: str

    async def read(self, start: int, length: int) -> bytes:
        """Return bytes of the part; raises 404 or 503."""
        data = await _get(self.archive, self.key + ".mp4", self.offset + start, length)
        whole = length == self.length
        if len(data) != length or (whole and hashlib.sha256(data).hexdigest() != self.sha256):
            log.error("The archive holds other bytes than were recorded", key=self.key)
            raise unavailable()
        return data


async def archived_segment(request: web.Request, name: Name, segment_no: int) -> Part:
    """Return a segment; raises 404 or 503."""
    archive, key, index = await _recording(request, name, segment_no=segment_no)
    at = segment_no - index.segments[0].segment_no
    if not 0 <= at < len(index.segments):
        raise missing()
    s = index.segments[at]
    return Part(archive, key, s.offset, s.length, s.sha256)


async def archived_init(request: web.Request, name: Name, run_no: int) -> Part:
    """Return the init of a run; raises 404 or 503."""
    archive, key, index = await _recording(request, name, run_no=run_no)
    return Part(archive, key, 0, index.header.init_length, index.header.init_sha256)


async def _recording(
    request: web.Request, name: Name, *, segment_no: int = 0, run_no: int = 0
) -> tuple[Archive, str, Index]:
    views = request.app[VIEWS]
    try:
        row = await views.ask(
            lambda catalogue: (
                catalogue.recording_of_run(name, run_no)
                if run_no
                else catalogue.recording_with_segment(name, segment_no)
            )
        )
    except CatalogueError:
        raise unavailable() from None
    if row is None or views.archive is None:
        raise missing()
    key: str = row["archive_key"]
    indexes = request.app[INDEXES]
    if key not in indexes:
        try:
            document = await _get(views.archive, key + ".json")
            indexes[key] = parse_archive_document(document)
        except (FormatError, KeyError, TypeError) as error:
            log.error("A document in the archive cannot be read", key=key, why=str(error))
            raise unavailable() from None
        while len(indexes) > KEPT:
            indexes.popitem(last=False)
    indexes.move_to_end(key)
    return views.archive, key, indexes[key]


async def _get(archive: Archive, key: str, offset: int = 0, length: int | None = None) -> bytes:
    try:
        return await asyncio.wait_for(archive.get(key, offset, length), READ_S)
    except KeyError:
        raise missing() from None
    except (ArchiveError, TimeoutError):
        raise unavailable() from None


def missing() -> web.HTTPNotFound:
    """Return the answer for what was never recorded."""
    return web.HTTPNotFound(text="There is no such segment.\n")


def unavailable() -> web.HTTPServiceUnavailable:
    """Return the answer for what is there and cannot be read now."""
    return web.HTTPServiceUnavailable(
        text="The archive does not answer; ask again.\n", headers={"Retry-After": "10"}
    )
