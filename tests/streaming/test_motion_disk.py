"""What tells of motion hours ago is on the disk alone, and a disk may be slow."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator
from pathlib import Path

from storage.media.fmp4 import Sample, TrackRun, write_segment
from storage.records import GapCause, Index
from storage.spool.motion import Motion, Parts, Steps, read_steps
from storage.spool.reader import SpoolReader, SpoolRecording
from storage.spool.writer import SegmentInfo
from tests.support.spool_files import CLOCK, UTC0, open_spool, run_at


async def test_a_slow_disk_holds_up_nothing_else(tmp_path: Path) -> None:
    """It is read in a thread, one file at a time, and once."""
    spool, run = open_spool(tmp_path), run_at(UTC0)
    for k in range(100):
        samples = [Sample(18_000, 3_000, True, 0), Sample(18_000, 100, False, 0)]
        spool.append(
            run,
            write_segment(k + 1, [TrackRun(1, k * 180_000, samples, [bytes(3_100)])]),
            SegmentInfo(
                tfdt_90k=k * 180_000,
                duration_90k=180_000,
                starts_with_key=True,
                arrival_ms=UTC0 + 2000 * k,
                camera_ms=None,
            ),
            CLOCK,
        )
    spool.seal(GapCause.NO_DATA)
    spool.close()
    read, threads, at_work, most = list[Path](), set[int](), set[Path](), 0

    def slow(parts: Parts) -> Steps:
        nonlocal most
        threads.add(threading.get_ident())
        read.append(parts.media)
        at_work.add(parts.media)
        most = max(most, len(at_work))
        found = read_steps(parts)
        at_work.discard(parts.media)
        return found

    reader, motion = SpoolReader(tmp_path, "s", "c"), Motion(slow)
    reader.refresh()
    count = len(reader.stored())
    assert count > 1

    async def recordings() -> AsyncIterator[tuple[SpoolRecording, Index]]:
        for found in reader.recordings():
            yield found

    first, second = await asyncio.gather(motion.of(recordings()), motion.of(recordings()))
    assert first == second and len(first) == 20 and most == 1
    assert threading.get_ident() not in threads and len(read) <= 2 * count
    before = len(read)
    assert await motion.of(recordings()) == first and len(read) == before
