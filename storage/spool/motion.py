"""What the pictures of a camera take, step by step: by that it is told when something moved.

A picture that is like the one before it takes few bytes: what a segment has beside its first
picture, which is whole, grows with what moves. Nothing is decoded.
"""

from __future__ import annotations

import asyncio
import os
from collections import OrderedDict
from collections.abc import AsyncIterable, Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

from storage.media.fmp4 import FIRST_SAMPLE_BYTES, Mp4Error, first_sample_size
from storage.records import Index
from storage.spool.reader import SpoolRecording

STEP_MS = 10_000
CACHE_ENTRIES = 16_384  # recordings whose steps are in memory, about 0.5 kB each

Steps = dict[int, float]  # bytes beside the first pictures, by number of STEP_MS since 1970


@dataclass(frozen=True, slots=True)
class Parts:
    """What is read of a recording: where its segments begin, and their lengths."""

    media: Path
    segments: Sequence[tuple[int, int, int]]  # start in UTC ms, offset, length

    @classmethod
    def of(cls, stored: SpoolRecording, index: Index) -> Self:
        """Return that of a recording."""
        return cls(stored.media, [(s.start_ms, s.offset, s.length) for s in index.segments])


def read_steps(parts: Parts) -> Steps:
    """Return the steps of a recording; blocks on the disk, raises OSError and Mp4Error."""
    steps: Steps = {}
    file = os.open(parts.media, os.O_RDONLY | os.O_CLOEXEC)
    try:
        for start_ms, offset, length in parts.segments:
            rest = length - first_sample_size(os.pread(file, FIRST_SAMPLE_BYTES, offset))
            step = start_ms // STEP_MS
            steps[step] = steps.get(step, 0.0) + rest
    finally:
        os.close(file)
    return steps


@dataclass(slots=True)
class Motion:
    """What was read of recordings that are whole."""

    read: Callable[[Parts], Steps] = read_steps
    # one at a time: a disk that is asked for many places at once has no time for live video
    _reading: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(1))
    _kept: OrderedDict[str, Steps] = field(default_factory=OrderedDict)

    async def of(self, recordings: AsyncIterable[tuple[SpoolRecording, Index]]) -> Steps:
        """Return what recordings took, all together; nothing of those whose bytes are gone or
        spoilt. What is not known yet is read in a thread: it may have to come from the disk."""
        found, unread = list[Steps](), list[tuple[str, Parts, bool]]()
        async for stored, index in recordings:
            if (known := self._kept.get(str(stored.base))) is not None:
                found.append(known)
            else:
                sealed = index.seal is not None
                unread.append((str(stored.base), Parts.of(stored, index), sealed))
        found += [await self._read(*one) for one in unread]
        steps: Steps = {}
        for step, size in (each for one in found for each in one.items()):
            steps[step] = steps.get(step, 0.0) + size
        return steps

    async def _read(self, key: str, parts: Parts, sealed: bool) -> Steps:
        try:
            async with self._reading:
                found = await asyncio.to_thread(self.read, parts)
        except (OSError, Mp4Error):
            return {}
        if sealed:
            self._kept[key] = found
            if len(self._kept) > CACHE_ENTRIES:
                self._kept.popitem(last=False)
        return found
