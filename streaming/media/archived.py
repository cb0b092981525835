"""Segments that are no longer in the spool: where they are by the catalogue, then from the archive.

What is sent of them has the hash that was recorded, or it is not sent.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable
from datetime import UTC, datetime
from typing import TypeVar

import structlog
from aiohttp import web

from base.i18n.format import format_hours
from base.i18n.gettext import gettext
from storage.catalogue.cameras import Name
from storage.catalogue.database import CatalogueError
from storage.catalogue.rows import ArchivedRow
from storage.recording_source import HashedRange, NotStored, RecordingReader, Unreadable
from storage.records import FormatError, Identity, Index
from storage.spool.node_map import MachineEntry
from storage.spool.reader import Key
from streaming.context import CONTEXT, AppContext
from streaming.http.clients import client
from streaming.http.negotiation import language_of
from streaming.http.rate_limit import ConcurrencyLimit, RateLimit
from streaming.http.scheduler import SCHEDULER, Scheduler

CACHED_INDEXES = 256  # of archived recordings, in memory
# who watches at the far end of the rewind window may pause for a quarter of it
LEAST_GRACE_MS, MOST_GRACE_MS = 60_000, 1_200_000
ARCHIVE_SCHEDULER = web.AppKey("archive_scheduler", Scheduler)
INDEXES = web.AppKey("indexes", OrderedDict[tuple[Name, Identity], Index])

T = TypeVar("T")
log = structlog.get_logger()


class OnlyOn(Exception):
    """What is asked for is in no archive yet, and in the spool of another machine."""

    def __init__(self, machine: MachineEntry):
        super().__init__(machine.name)
        self.machine = machine


async def archived_segment(request: web.Request, name: Name, segment_no: int) -> HashedRange:
    """Return where a segment is; raises OnlyOn, 404, 410 or 503."""
    reader, key, index = await _recording(request, name, segment_no=segment_no)
    at = segment_no - index.segments[0].segment_no
    if not 0 <= at < len(index.segments):
        raise missing()
    s = index.segments[at]
    refuse_old(request, s.end_ms)
    return HashedRange(reader, key, s.offset, s.length, s.sha256)


async def archived_init(request: web.Request, name: Name, run_no: int) -> HashedRange:
    """Return where the init of a run is; raises OnlyOn, 404, 410 or 503."""
    reader, key, index = await _recording(request, name, run_no=run_no)
    return HashedRange(reader, key, 0, index.header.init_length, index.header.init_sha256)


async def checked(read: Awaitable[T]) -> T:
    """Return what is read of a recording that the catalogue knows; raises 404 or 503."""
    try:
        return await read
    except NotStored as error:
        log.error("What left the spool is in no archive that should have it", why=str(error))
        raise web.HTTPNotFound(text="This was recorded, and no archive has it now.\n") from None
    except Unreadable as error:
        log.error("What left the spool cannot be shown now", why=str(error))
        raise unavailable() from None


async def _recording(
    request: web.Request, name: Name, *, segment_no: int = 0, run_no: int = 0
) -> tuple[RecordingReader, Key, Index]:
    context = request.app[CONTEXT]
    scheduler = request.app[ARCHIVE_SCHEDULER]
    scheduler.check(request)
    scheduler.count(request, 1)
    await request.app[SCHEDULER].rest.turn(client(request))  # it was begun in the queue of video
    async with scheduler.turn(request):
        try:
            row = await context.ask(
                lambda catalogue: (
                    catalogue.recording_of_run(name, run_no)
                    if run_no
                    else catalogue.recording_with_segment(name, segment_no)
                )
            )
        except CatalogueError:
            raise unavailable() from None
    if row is None:
        raise missing()
    if not row.there and row.removed_ms is None and (only := context.only_on(row.spool)):
        if segment_no:
            refuse_old(request, row.end_ms)
        raise OnlyOn(only)
    if not row.archives:
        raise missing()
    if removed := row.removed:
        raise gone(removed)
    if segment_no:
        refuse_old(request, row.end_ms)
    identity, indexes = row.identity, request.app[INDEXES]
    reader = RecordingReader(context.sources, name, buckets={row.key: row.buckets})

    def check(index: Index) -> Index:
        if index.identity != identity:
            raise FormatError("another recording than the catalogue names")
        return index

    if (index := indexes.get((name, identity))) is None:
        index = indexes[name, identity] = await checked(reader.index(row.key, check))
        while len(indexes) > CACHED_INDEXES:
            indexes.popitem(last=False)
    else:
        indexes.move_to_end((name, identity))
    return reader, row.key, index


def archive_scheduler() -> Scheduler:
    """Return how often a client may have catalogue and archive asked, ten angles at full speed, and
    that the catalogue has one such question at a time."""
    return Scheduler(RateLimit(100, 0.1), ConcurrencyLimit(32, 256), asyncio.Semaphore(1))


def oldest_ms(context: AppContext) -> int:
    """Return the moment (UTC ms) before which nothing is given: what ended earlier is told of in
    no playlist, and its segments are refused."""
    rewind_ms = context.config.rewind_s * 1000
    grace_ms = max(LEAST_GRACE_MS, min(MOST_GRACE_MS, rewind_ms // 4))
    return context.clock() - rewind_ms - grace_ms


def refuse_old(request: web.Request, end_ms: int) -> None:
    """Raise 403 for what ended before the public can watch: copies are the way to it."""
    context = request.app[CONTEXT]
    if end_ms < oldest_ms(context):
        lang = language_of(request)  # only this has a language: what is given is one for all
        hours = format_hours(context.config.rewind_s)
        if context.config.copies is None:
            text = gettext(
                "This is further back than the %(hours)s h that can be watched here.",
                lang,
                hours=hours,
            )
        else:
            text = gettext(
                "This is further back than the %(hours)s h that can be watched here: order a copy.",
                lang,
                hours=hours,
            )
        raise web.HTTPForbidden(text=text)


def gone(archived: ArchivedRow) -> web.HTTPGone:
    """Return the answer for what was recorded and is kept no longer."""
    day = datetime.fromtimestamp((archived.removed_ms or 0) / 1000, UTC).date()
    return web.HTTPGone(text=f"Removed on {day}: {archived.removed_reason}.\n")


def missing() -> web.HTTPNotFound:
    """Return the answer for what was never recorded."""
    return web.HTTPNotFound(text="There is no such segment.\n")


def unavailable() -> web.HTTPServiceUnavailable:
    """Return the answer for what is there and cannot be read now."""
    return web.HTTPServiceUnavailable(
        text="The archive does not answer; ask again.\n", headers={"Retry-After": "10"}
    )


def away() -> web.HTTPServiceUnavailable:
    """Return the answer for what was recorded, and is on a machine that does not answer."""
    return web.HTTPServiceUnavailable(
        text="This was recorded, on a machine that is away; ask again.\n",
        headers={"Retry-After": "10"},
    )
