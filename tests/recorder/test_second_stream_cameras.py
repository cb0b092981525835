"""Second streams of simulated cameras, by both sources: in time, in step with the first, played."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import m3u8
import pytest

from config.load import load
from config.model import Config
from kuager.simulator.camera import SimCamera
from kuager.simulator.server import Simulator
from recorder.camera_spec import camera_specs
from recorder.states import State
from recorder.worker import Worker
from storage.records import Segment
from tests.support.archiving import configure
from tests.support.stack import Recording, recorded, recordings
from tests.support.waiting import until
from tests.support.web import get, serving

pytestmark = pytest.mark.slow

CAMERAS = [
    SimCamera("first", width=640, height=360, audio="aac"),
    SimCamera("second", width=320, height=180, bitrate=100_000, audio="aac"),
]


def configured(folder: Path, simulator: Simulator, source: str) -> Config:
    made = configure(folder, f"sqlite:///{folder}/k.db", "archives: [archive]\n", "2h")
    one, two = simulator.url("first"), simulator.url("second")
    (folder / "stations.yaml").write_text(
        "stations:\n- id: s\n  cameras:\n"
        f'  - {{id: c, url: "{one}", low_url: "{two}", source: {source}}}\n'
    )
    return load(made.path, {})


@contextlib.asynccontextmanager
async def at_work(config: Config, ffmpeg: str) -> AsyncIterator[Worker]:
    worker = Worker(camera_specs(config, 0, 1), config.spool, ffmpeg)
    task = asyncio.create_task(worker.run())
    try:
        yield worker
    finally:
        task.cancel()
        await asyncio.wait({task})


@pytest.mark.parametrize("source", ["ffmpeg", "native"])
async def test_both_streams_show_the_same_at_the_same_time(
    tmp_path: Path, ffmpeg: str, source: str
) -> None:
    async with Simulator(CAMERAS, ffmpeg=ffmpeg) as simulator:
        config = configured(tmp_path, simulator, source)
        program = ffmpeg if source == "ffmpeg" else "/bin/false"
        async with at_work(config, program) as worker, serving(config) as session:
            first, second = worker.cameras
            await until(lambda: second.status.state is State.RECORDING)
            await recorded(worker, 24)
            await until(lambda: all(fit_s(tmp_path, name) > 6 for name in ("c", "c.low")))
            status, _, body = await get(session, "/live/s/c/all.m3u8")
            offered = m3u8.loads(body.decode())
            assert status == 200 and len(offered.playlists) == 2
            sizes = [variant.stream_info.resolution for variant in offered.playlists]
            assert sizes == [(640, 360), (320, 180)]
            assert all("mp4a.40.2" in v.stream_info.codecs for v in offered.playlists)
            await check_timestamps(session)
            simulator.fault("second", "drop", 3)  # the first goes on, in its run
            await until(lambda: second.status.runs == 2)
            await recorded(worker, 4)
            assert first.status.runs == 1 and first.status.state is State.RECORDING
            await check_timestamps(session)
            text = (await get(session, "/live/s/c.low/index.m3u8"))[2].decode()
            assert text.count("#EXT-X-MAP") == 2 and "#EXT-X-DISCONTINUITY\n" not in text
    for name in ("c", "c.low"):
        run = first_run(tmp_path, name)
        shown = [(error, s) for r in run for _, error, s in r.shown(ffmpeg) if is_fit(r, s)]
        ordered = sorted(abs(error) for error, _ in shown)
        assert ordered[int(len(ordered) * 0.99)] <= 150, (name, ordered[-10:])


def first_run(folder: Path, name: str) -> list[Recording]:
    """Return the recordings of a stream's first run."""
    found = recordings(folder / "spool", name)
    return [r for r in found if r.index.header.run_no == found[0].index.header.run_no]


def is_fit(recording: Recording, segment: Segment) -> bool:
    """Say whether a segment is late enough in its run, and came in time on a busy machine."""
    after_ms = segment.start_ms - recording.index.header.run_start_ms
    return after_ms > 16_000 and not (segment.moved_ms or segment.by_arrival)


def fit_s(folder: Path, name: str) -> float:
    """Return how long the segments are that are fit to be judged."""
    run = first_run(folder, name)
    return sum(s.duration_90k for r in run for s in r.index.segments if is_fit(r, s)) / 90_000


async def check_timestamps(session: aiohttp.ClientSession) -> None:
    """Both playlists have the discontinuity number of one run, and dates that are near each other
    by now."""
    numbers = []
    for name in ("c", "c.low"):
        _, _, body = await get(session, f"/live/s/{name}/index.m3u8")
        found = m3u8.loads(body.decode())
        assert not any(segment.discontinuity for segment in found.segments)
        numbers.append(found.discontinuity_sequence)
        assert time.time() - found.segments[-1].current_program_date_time.timestamp() < 30
    assert numbers[0] == numbers[1]
