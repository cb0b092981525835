"""When something moved before a camera, told by the sizes of its pictures."""

from __future__ import annotations

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
from storage.spool.motion import STEP_MS
from storage.spool.numbers import CLOCK_2020_S, Numbers
from storage.spool.writer import CameraSpool, Run, SegmentInfo
from streaming.api.motion import moves
from tests.support.archiving import configure
from tests.support.several import several
from tests.support.web import ask, get, serving

NOW = int(time.time() * 1000)
BEGUN = (NOW - 300_000) // STEP_MS * STEP_MS


@pytest.fixture
def config(tmp_path: Path) -> Config:
    return configure(tmp_path, f"sqlite:///{tmp_path}/k.db", "archives: [archive]\n", "2h")


def record(spool: Path, sizes: list[int], floor: Numbers = Numbers()) -> None:  # noqa: B008
    """Record segments of 2 s: a first picture of 3,000 bytes, and nine of so many each."""
    claim_spool(spool)
    camera = CameraSpool(spool, "e", "s", "c", floor)
    run = Run(BEGUN, b"init", (Track(1, "video", "h264", 90_000, 320, 180),), 2)
    for n, size in enumerate(sizes):
        pictures = [Sample(18_000, 3000, True, 0), *[Sample(18_000, size, False, 0)] * 9]
        media = write_segment(n, [TrackRun(1, n * 180_000, pictures, [bytes(3000 + 9 * size)])])
        camera.append(
            run,
            media,
            SegmentInfo(
                tfdt_90k=n * 180_000,
                duration_90k=180_000,
                starts_with_key=True,
                arrival_ms=BEGUN + n * 2000,
                camera_ms=None,
            ),
            ClockState(True, 1),
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


async def test_every_machine_tells_what_moved(config: Config) -> None:
    """Of what two have recorded while a camera moved, each minute counts once."""
    epoch = NOW // 1000 - CLOCK_2020_S - 300
    async with several(config, "abc", clock=lambda: NOW) as machines:
        for name, sizes in (("a", [100] * 60), ("b", [100] * 40 + [400] * 10 + [100] * 50)):
            floor = Numbers.by_lease(epoch + (name == "b"), NOW)
            record(machines[name].spool, sizes, floor)
        machines.owns("b", "s/c", epoch + 1, before="a", both=True)
        for name in "abc":
            told = await ask(machines[name].session, "/api/v1/stations/s/motion")
            start = BEGUN + 80_000
            moved = [{"start_ms": start, "end_ms": start + 20_000}]
            assert told["cameras"][0] == {"id": "c", "motion": moved}, name


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
