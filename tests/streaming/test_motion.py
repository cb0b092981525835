"""When something moved before a camera, told by the sizes of its pictures."""

from __future__ import annotations

import asyncio
import threading
import time
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from config.model import Config
from storage.media.fmp4 import Mp4Error, Sample, TrackRun, first_sample_size, write_segment
from storage.records import ClockState, GapCause, Track
from storage.spool.disk import claim_spool
from storage.spool.numbers import Numbers
from storage.spool.reader import SpoolReader
from storage.spool.writer import CameraSpool, Run
from streaming.api.motion import STEP_MS, Motion, Whole, moves, read_steps
from tests.support.archiving import configure
from tests.support.web import ask, get, serving

NOW = int(time.time() * 1000)
BEGUN = (NOW - 300_000) // STEP_MS * STEP_MS


@pytest.fixture
def config(tmp_path: Path) -> Config:
    return configure(tmp_path, f"sqlite:///{tmp_path}/k.db", "archives: [archive]\n", "2h")


def record(spool: Path, sizes: list[int]) -> None:
    """Record segments of 2 s: a first picture of 3,000 bytes, and nine of so many each."""
    claim_spool(spool)
    camera = CameraSpool(spool, "e", "s", "c", Numbers())
    run = Run(BEGUN, b"init", (Track(1, "video", "h264", 90_000, 320, 180),), 2)
    for n, size in enumerate(sizes):
        pictures = [Sample(18_000, 3000, True, 0), *[Sample(18_000, size, False, 0)] * 9]
        media = write_segment(n, [TrackRun(1, n * 180_000, pictures, [bytes(3000 + 9 * size)])])
        camera.append(
            run,
            media,
            tfdt_90k=n * 180_000,
            duration_90k=180_000,
            starts_with_key=True,
            arrival_ms=BEGUN + n * 2000,
            camera_ms=None,
            clock=ClockState(True, 1),
        )
        if n % 30 == 29:
            camera.seal(None)
    camera.seal(GapCause.NO_DATA)
    camera.close()


async def test_what_moves_is_told_and_what_stands_is_not(config: Config) -> None:
    record(config.spool, [100] * 40 + [400] * 10 + [100] * 50)
    async with serving(config) as session:
        told = await ask(session, "/api/v1/stations/s/motion")
        camera, other = told["cameras"]
        assert other == {"id": "d", "motion": []}
        start = BEGUN + 80_000
        assert camera == {"id": "c", "motion": [{"start_ms": start, "end_ms": start + 20_000}]}
        part = f"/api/v1/stations/s/motion?from={BEGUN + 150_000}&to={NOW}"
        assert (await ask(session, part))["cameras"][0] == {"id": "c", "motion": []}
        status, _, body = await get(session, f"/api/v1/stations/s/motion?from={NOW}&to={BEGUN}")
        assert status == 400 and b"not after" in body


async def test_a_disk_that_is_slow_holds_up_nothing_else(config: Config) -> None:
    """Bytes of hours ago are on the disk alone: they are read in a thread, one file at a time."""
    record(config.spool, [100] * 100)
    threads, at_work, most = set[int](), set[Path](), 0

    def slow(whole: Whole) -> dict[int, float]:
        nonlocal most
        threads.add(threading.get_ident())
        at_work.add(whole.media)
        most = max(most, len(at_work))
        found = read_steps(whole)
        at_work.discard(whole.media)
        return found

    kept = Motion(slow)
    reader = SpoolReader(config.spool, "s", "c")
    reader.refresh()
    wholes = [(stored, Whole.of(stored, index)) for stored, index in reader.recordings()]
    assert len(wholes) > 1
    found = await asyncio.gather(*(kept.steps(whole, True) for _, whole in wholes))
    assert all(found) and most == 1 and threading.get_ident() not in threads
    assert [kept.known(stored) for stored, _ in wholes] == found


async def test_a_spoilt_recording_costs_only_its_own_marks(config: Config) -> None:
    record(config.spool, [100] * 60 + [500] * 40)
    files = sorted((config.spool / "s/c").rglob("*.mp4"))
    files[0].write_bytes(b"\0" * files[0].stat().st_size)
    files[1].unlink()
    async with serving(config) as session:
        told = await ask(session, "/api/v1/stations/s/motion")
        assert told["cameras"][0]["id"] == "c"


def test_a_camera_of_constant_bytes_says_nothing() -> None:
    assert moves({}) == []
    assert moves(dict.fromkeys(range(100), 5000.0)) == []


@given(st.dictionaries(st.integers(0, 300), st.floats(0, 1e9), max_size=60))
def test_stretches_are_in_order_and_touch_only_steps_that_were_seen(
    steps: dict[int, float],
) -> None:
    found = moves(steps)
    assert all(a[1] < b[0] for a, b in pairwise(found))
    for start, end in found:
        assert all(n in steps for n in range(start // STEP_MS, end // STEP_MS))


def test_only_our_own_segments_are_read() -> None:
    segment = write_segment(1, [TrackRun(1, 0, [Sample(1, 77, True, 0)], [bytes(77)])])
    assert first_sample_size(segment[:96]) == 77
    for other in (b"", segment[:95], bytes(96), segment[1:97]):
        with pytest.raises(Mp4Error):
            first_sample_size(other)
