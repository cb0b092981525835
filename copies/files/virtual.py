"""A copy as a virtual file: any range of it, straight from spool or archive.

Nothing is written to disk, and no more than a few megabytes are in memory, however long the copy
is. A segment leaves only after its bytes had the hash of its index line.
"""

from __future__ import annotations

import asyncio
import hashlib
from array import array
from collections import deque
from collections.abc import AsyncGenerator, Awaitable, Iterator
from contextlib import aclosing
from dataclasses import dataclass
from itertools import accumulate
from typing import TypeVar

from copies.footage.plan import CopyPlan, PlanPart
from copies.mp4 import Reference, make_proof_room, make_sidx, rebase
from storage.recording_source import RecordingReader, Sources
from storage.records import FormatError, Index

BLOCK_BYTES = 4 << 20  # read at once, whole segments; buckets answer few large requests faster
ALL_BYTES = 128 << 20  # that all copies read at once, until each reads single segments
AHEAD = 2  # blocks that are read while one is sent
INDEXES_AT_ONCE = 16

Bytes = bytes | memoryview
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class IndexCache:
    """The index lines of a part: 41 bytes a segment, for a day of them are in memory."""

    lengths: array[int]
    durations_90k: array[int]
    keys: bytes
    hashes: bytes


@dataclass(frozen=True, slots=True)
class Block:
    """Segments `first` to `stop` of a part, which are read at once: where they are in the
    recording and in the copy."""

    part: PlanPart
    index: IndexCache
    first: int
    stop: int
    offset: int
    at: int
    length: int


class VirtualFile:
    """The file of a plan. `head`, where it is given, is what `head()` returned before."""

    content_type = "video/mp4"
    _reading = 0  # how many are read now

    def __init__(
        self,
        plan: CopyPlan,
        sources: Sources,
        head: bytes | None = None,
        *,
        block_bytes: int = BLOCK_BYTES,
    ):
        if head is not None and len(head) != plan.head_length:
            raise ValueError(f"a head of {len(head)} bytes, and not {plan.head_length}")
        self.plan, self._head, self._block_bytes = plan, head, block_bytes
        self._reader = RecordingReader(sources, plan.name, plan.start_ms, plan.end_ms)
        self._indexes: dict[int, IndexCache] = {}
        lengths = [p.length for p in plan.parts]
        self._starts = list(accumulate(lengths, initial=plan.head_length))  # of parts, and the end

    @property
    def length(self) -> int:
        """Bytes in all."""
        return self.plan.length

    @property
    def etag(self) -> str:
        """Strong entity tag, with its quotes."""
        return self.plan.etag

    @property
    def last_modified_ms(self) -> int:
        """UTC of its last moment: nothing in it changes after that."""
        return self.plan.end_ms

    async def head(self) -> bytes:
        """Return all that is before the first segment; raises Unreadable.

        Unless it was given it needs the index of every recording.
        """
        if self._head is None:
            limit = asyncio.Semaphore(INDEXES_AT_ONCE)

            async def read(part: PlanPart) -> None:
                async with limit:
                    await self._index_of(part)

            await asyncio.gather(*map(read, self.plan.parts))
            self._head = self.plan.init + make_sidx(self._references(), self.plan.first_90k)
        return self._head

    def _references(self) -> Iterator[Reference]:
        for part in self.plan.parts:
            index = self._indexes[part.record_seq]
            yield from map(Reference, index.lengths, index.durations_90k, map(bool, index.keys))

    async def read(self, start: int = 0, stop: int | None = None) -> AsyncGenerator[Bytes, None]:
        """Yield the bytes [start, stop) in pieces; raises Unreadable where they cannot be had."""
        plan, end = self.plan, self._starts[-1]
        stop = plan.length if stop is None else min(stop, plan.length)
        init, head = len(plan.init), plan.head_length
        if start < min(init, stop):  # known before anything is read
            yield plan.init[start:stop]
        if max(start, init) < min(head, stop):
            yield (await self.head())[max(start, init) : stop]
        if max(start, head) < min(end, stop):
            async with aclosing(self._body(max(start, head), min(stop, end))) as pieces:
                async for piece in pieces:
                    yield piece
        if max(start, end) < stop:
            yield make_proof_room(plan.proof_length)[max(start - end, 0) : stop - end]

    async def _body(self, start: int, stop: int) -> AsyncGenerator[Bytes, None]:
        VirtualFile._reading += 1
        try:
            async with aclosing(_prefetch(self._reads(start, stop), AHEAD)) as blocks:
                async for at, pieces in blocks:
                    for piece in pieces:
                        if at < stop and at + len(piece) > start:
                            yield piece[max(0, start - at) : stop - at]
                        at += len(piece)
        finally:
            VirtualFile._reading -= 1

    async def _reads(
        self, start: int, stop: int
    ) -> AsyncGenerator[Awaitable[tuple[int, list[Bytes]]], None]:
        touched = [
            (part, at)
            for part, at in zip(self.plan.parts, self._starts, strict=False)
            if at < stop and at + part.length > start
        ]

        async def coming() -> AsyncGenerator[Awaitable[IndexCache], None]:
            for part, _ in touched:
                yield self._index_of(part)

        async with aclosing(_prefetch(coming(), 1)) as found:
            for part, at in touched:
                most = min(self._block_bytes, ALL_BYTES // VirtualFile._reading // (AHEAD + 1))
                for block in _blocks(part, await anext(found), at, most):
                    if block.at < stop and block.at + block.length > start:
                        yield self._read_block(block)

    async def _index_of(self, part: PlanPart) -> IndexCache:
        if part.record_seq not in self._indexes:
            self._indexes[part.record_seq] = await self._reader.index(
                part.key, lambda index: _cached_index(part, index)
            )
        return self._indexes[part.record_seq]

    async def _read_block(self, block: Block) -> tuple[int, list[Bytes]]:
        """Return where a block is in the copy, and its bytes, checked and with `tfdt` moved."""
        part, bases = block.part, self.plan.bases

        def check(data: bytes) -> list[Bytes]:
            if len(data) != block.length:
                raise ValueError(f"{len(data)} bytes, and not {block.length}")
            pieces, pos = list[Bytes](), 0
            for n in range(block.first, block.stop):
                segment = memoryview(data)[pos : pos + block.index.lengths[n]]
                digest = hashlib.sha256(segment).digest()
                if digest != block.index.hashes[32 * n : 32 * n + 32]:
                    raise ValueError(f"segment {part.first_segment_no + n} has another hash")
                moof = rebase(segment, bases)
                pieces += [moof, segment[len(moof) :]]
                pos += len(segment)
            return pieces

        return block.at, await self._reader.media(part.key, block.offset, block.length, check)


def _cached_index(part: PlanPart, index: Index) -> IndexCache:
    """Return the lines of a part; raises FormatError where the index is not of its recording."""
    if index.seal is None or index.seal.sha256 != part.sha256:
        raise FormatError("another recording, or one that is not finished")
    first = part.first_segment_no - index.segments[0].segment_no
    segments = index.segments[first : first + part.segments] if first >= 0 else []
    offset = part.offset
    for n, segment in enumerate(segments):
        if (segment.segment_no, segment.offset) != (part.first_segment_no + n, offset):
            raise FormatError("segments that do not follow each other")
        offset += segment.length
    if len(segments) != part.segments or offset != part.offset + part.length:
        raise FormatError("other segments than were found at first")
    return IndexCache(
        array("I", [s.length for s in segments]),
        array("I", [s.duration_90k for s in segments]),
        bytes(s.starts_with_key for s in segments),
        bytes.fromhex("".join(s.sha256 for s in segments)),
    )


def _blocks(part: PlanPart, index: IndexCache, at: int, most: int) -> Iterator[Block]:
    """Cut a part that begins at `at` of the copy into blocks of `most` bytes, or of a segment."""
    offset, first, length = part.offset, 0, 0
    for n, more in enumerate(index.lengths):
        if length and length + more > most:
            yield Block(part, index, first, n, offset, at, length)
            offset, at, first, length = offset + length, at + length, n, 0
        length += more
    yield Block(part, index, first, part.segments, offset, at, length)


async def _prefetch(
    work: AsyncGenerator[Awaitable[T], None], count: int
) -> AsyncGenerator[T, None]:
    """Yield what is awaited, in its order, with `count` at work ahead."""
    waiting: deque[asyncio.Future[T]] = deque()
    try:
        async for one in work:
            waiting.append(asyncio.ensure_future(one))
            if len(waiting) > count:
                yield await waiting.popleft()
        while waiting:
            yield await waiting.popleft()
    finally:
        for task in waiting:
            task.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)
        await work.aclose()
