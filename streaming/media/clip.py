"""A minute from a moment on as one file: what a page shows of a moment where no script runs.

It is the segments as they are, with their `tfdt` moved so that the file begins at 0: nothing is
written anywhere, and any range of it can be had.
"""

from __future__ import annotations

import hashlib
from collections.abc import AsyncGenerator, Iterable
from dataclasses import dataclass
from itertools import accumulate

from aiohttp import web

from base.i18n.gettext import gettext
from copies.mp4 import Reference, common_bases, make_sidx, rebase, timescales
from storage.catalogue.cameras import Name
from storage.media.fmp4 import Mp4Error, box_at, parse_moof
from storage.recording_source import HashedRange, RecordingReader, Sources, Unreadable
from storage.records import Header, Index, Segment
from storage.spool.reader import Key
from streaming.context import CONTEXT
from streaming.http.negotiation import language_of
from streaming.http.parameters import time_ms
from streaming.http.prepared import PIECE
from streaming.http.ranges import Content, send
from streaming.http.scheduler import SCHEDULER
from streaming.media.live import INIT_TYPE

LENGTH_MS = 60_000
# so far before a moment the keyframe is looked for without which nothing is seen
BEFORE_MS = 60_000

Placed = tuple[Key, Header, Segment]  # a segment with its recording

routes = web.RouteTableDef()


@routes.get("/live/{station}/{camera}/moment.mp4")
async def moment(request: web.Request) -> web.StreamResponse:
    """Serve at most a minute of one run from the moment `t` on, with what its first picture needs;
    404 where that is not in the rewind window, or nothing was recorded then."""
    context, lang = request.app[CONTEXT], language_of(request)
    name, reader = context.camera(request)
    at_ms, now_ms = time_ms(request, "t"), context.clock()
    if at_ms is None:
        text = gettext("'t' is missing: write t=2026-11-29T09:40:00Z", lang)
        raise web.HTTPBadRequest(text=text)
    found = list[Placed]()
    if now_ms - context.config.rewind_s * 1000 <= at_ms <= now_ms:
        scheduler = request.app[SCHEDULER]
        scheduler.check(request)
        steps = reader.stretch(at_ms - BEFORE_MS, at_ms + LENGTH_MS)
        found = one_run([one async for one in scheduler.in_steps(request, steps)], at_ms)
    if not found:
        text = gettext("There is no recording of this moment here.", lang)
        raise web.HTTPNotFound(text=text)
    try:
        clip = _Clip.of(context.sources, name, found)
    except (Mp4Error, Unreadable):
        text = gettext("There is no recording of this moment here.", lang)
        raise web.HTTPNotFound(text=text) from None
    whole = found[-1][2].end_ms >= at_ms + LENGTH_MS
    content = Content(INIT_TYPE, clip.length, clip.etag, clip.read)
    return await send(request, content, {"Cache-Control": f"public, max-age={60 if whole else 1}"})


def one_run(stretch: Iterable[tuple[Index, list[Segment]]], at_ms: int) -> list[Placed]:
    """Return the segments of a stretch that show a moment and what follows, as far as they are of
    one run without a hole, from the last keyframe before it on. None where nothing shows it."""
    found = list[Placed]()
    for index, segments in stretch:
        header = index.header
        for segment in segments:
            if found and not _follows(found[-1], header, segment):
                if _holds(found, at_ms):
                    return found
                found = []
            if segment.starts_with_key and segment.start_ms <= at_ms:
                found = []
            if found or segment.starts_with_key:
                found.append(((header.record_seq, index.start_ms), header, segment))
    return found if _holds(found, at_ms) else []


def _follows(last: Placed, header: Header, segment: Segment) -> bool:
    _, before, one = last
    return header.run == before.run and segment.segment_no == one.segment_no + 1


def _holds(found: list[Placed], at_ms: int) -> bool:
    return bool(found) and found[0][2].start_ms <= at_ms < found[-1][2].end_ms


@dataclass(frozen=True, slots=True)
class _Clip:
    """The file: what is before its segments, and where each of them is."""

    head: bytes
    parts: list[HashedRange]
    bases: dict[int, int]
    etag: str

    @classmethod
    def of(cls, sources: Sources, name: Name, found: list[Placed]) -> _Clip:
        """Return that of at least one segment; raises Mp4Error and Unreadable."""
        reader, (key, header, _) = RecordingReader(sources, name), found[0]
        init = _piece(HashedRange(reader, key, 0, header.init_length, header.init_sha256))
        parts = [HashedRange(reader, key, s.offset, s.length, s.sha256) for key, _, s in found]
        first = _piece(parts[0])
        moof = box_at(first, 0, len(first))
        if moof is None:
            raise Mp4Error("a segment without a moof")
        starts = {f.track_id: f.decode_time for f in parse_moof(first, moof)}
        bases = common_bases(starts, timescales(init))
        references = [Reference(s.length, s.duration_90k, s.starts_with_key) for _, _, s in found]
        head = init + make_sidx(references, starts[1] - bases[1])
        told = hashlib.sha256("".join(s.sha256 for _, _, s in found).encode())
        return cls(head, parts, bases, f'"{told.hexdigest()[:32]}"')

    @property
    def length(self) -> int:
        """Bytes in all."""
        return len(self.head) + sum(part.length for part in self.parts)

    async def read(self, start: int, stop: int) -> AsyncGenerator[bytes, None]:
        """Yield the bytes [start, stop) in pieces; raises Unreadable."""
        if start < len(self.head):
            yield self.head[start:stop]
        starts = accumulate((part.length for part in self.parts), initial=len(self.head))
        for at, part in zip(starts, self.parts, strict=False):
            begin, end = max(0, start - at), min(part.length, stop - at)
            for offset in range(begin // PIECE * PIECE, end, PIECE):
                data = _piece(part, offset)
                if offset == 0:
                    moof = rebase(data, self.bases)
                    data = moof + data[len(moof) :]
                yield data[max(0, begin - offset) : end - offset]


def _piece(part: HashedRange, offset: int = 0) -> bytes:
    """Return a piece of a part in the spool; raises Unreadable."""
    if (data := part.piece_in_spool(offset, min(PIECE, part.length - offset))) is None:
        raise Unreadable("the spool has it no longer")
    return data
