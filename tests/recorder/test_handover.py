"""A camera changes machines while it is recorded: both have it for a moment, nothing is missed."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from base.intervals import length, subtract
from config.schedule import Window
from kuager.simulator.camera import SimCamera
from kuager.simulator.server import Simulator
from recorder.camera_spec import CameraSpec
from recorder.states import State
from recorder.worker import Worker
from storage.records import GapCause
from storage.spool.lease_file import CameraLease
from storage.spool.numbers import CLOCK_2020_S, lease_of
from tests.support.stack import gaps, recorded, recordings
from tests.support.waiting import until

pytestmark = pytest.mark.slow


@contextlib.asynccontextmanager
async def machine(spool: Path, ffmpeg: str) -> AsyncIterator[Worker]:
    """A recorder without cameras."""
    worker = Worker([], spool, ffmpeg)
    task = asyncio.create_task(worker.run())
    try:
        yield worker
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


def now_ms() -> int:
    return int(time.time() * 1000)


@pytest.mark.parametrize("source", ["native", "ffmpeg"])
async def test_both_machines_record_until_the_new_one_does(
    tmp_path: Path, ffmpeg: str, source: str
) -> None:
    begun_ms = now_ms()
    epoch = begun_ms // 1000 - CLOCK_2020_S
    a, b = tmp_path / "a", tmp_path / "b"
    async with (
        Simulator([SimCamera("c", width=320, height=180)]) as simulator,
        machine(a, ffmpeg) as old,
        machine(b, ffmpeg) as new,
    ):
        windows = (Window(begun_ms - 60_000, begun_ms + 86_400_000),)
        first = CameraLease(epoch, begun_ms, missing=(begun_ms - 30_000, GapCause.NODE_LOST))
        spec = CameraSpec("e", "s", "c", simulator.url("c"), source, windows=windows, lease=first)
        await old.change([spec])
        await recorded(old, 4)
        taken_ms = now_ms()
        second = CameraLease(epoch + 1, taken_ms, alone=False)
        await new.change([replace(spec, lease=second)])
        await recorded(new, 4)
        assert old.cameras[0].status.state is State.RECORDING
        undisturbed = old.cameras[0].status.runs
        await old.change([])
        await new.change([replace(spec, lease=replace(second, alone=True))])
        await recorded(new, 2)
        assert (undisturbed, new.cameras[0].status.runs) == (1, 1)  # no session ended for it
    of_a, of_b = recordings(a, "c"), recordings(b, "c")
    assert {r.index.header.epoch for r in of_a} == {epoch}
    assert {r.index.header.epoch for r in of_b} == {epoch + 1}
    assert all(lease_of(r.index.header.record_seq) == r.index.header.epoch for r in of_a + of_b)
    assert all(r.index.seal for r in of_a)
    stretches = [(r.index.start_ms, r.index.end_ms) for r in of_a + of_b]
    whole = (min(start for start, _ in stretches), max(end for _, end in stretches))
    assert length(subtract([whole], stretches)) <= 2
    assert of_b[0].index.start_ms < of_a[-1].index.end_ms
    lost, *others = gaps(a, "c")
    assert (lost.cause, lost.start_ms) == (GapCause.NODE_LOST, begun_ms - 30_000)
    # who gave it away says nothing of what came then; who took it only of what it missed itself
    assert {g.cause for g in others} <= {GapCause.CONNECTING}
    assert all(g.end_ms and g.end_ms <= of_a[0].index.start_ms for g in others)
    assert all(g.start_ms >= taken_ms and g.end_ms for g in gaps(b, "c")[:1])


async def test_a_camera_that_is_let_go_is_tried_at_once(tmp_path: Path, ffmpeg: str) -> None:
    """It takes nobody while another machine has it; then nobody waits for a pause to end."""
    begun_ms = now_ms()
    epoch = begun_ms // 1000 - CLOCK_2020_S
    async with (
        Simulator([SimCamera("c", width=320, height=180)]) as simulator,
        machine(tmp_path, ffmpeg) as new,
    ):
        simulator.fault("c", "refuse-password")
        windows = (Window(begun_ms - 60_000, begun_ms + 86_400_000),)
        lease = CameraLease(epoch, begun_ms, alone=False)
        spec = CameraSpec("e", "s", "c", simulator.url("c"), "native", windows=windows, lease=lease)
        await new.change([spec])
        camera = new.cameras[0]
        await until(lambda: camera.state.backoff.failures >= 5)  # pauses of 5 s
        retries = camera.status.retries
        simulator.clear("c", "refuse-password")
        await new.change([replace(spec, lease=replace(lease, alone=True))])
        assert new.cameras[0] is camera and camera.state.backoff.failures == 0
        await recorded(new, 2)
        assert camera.status.retries <= retries + 1
