"""One camera in its worker: what goes wrong there costs no other camera anything."""

from __future__ import annotations

import asyncio
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from config.schedule import Window
from recorder import camera as camera_module
from recorder.camera_spec import CameraSpec
from recorder.clock import Clock
from recorder.worker import Worker
from storage.records import Ending, GapCause
from storage.spool.numbers import Numbers
from storage.spool.writer import CameraSpool
from tests.support.frames import UTC0
from tests.support.waiting import until


class Session:
    """What a worker's ticks reach of a session, with a fault of ours or without."""

    def __init__(self, fault: str = ""):
        self.ticks, self.clocks, self._fault = 0, 0, fault
        self.ended: list[Ending] = []

    def tick(self) -> None:
        self.ticks += 1
        if self._fault:
            raise KeyError(self._fault)

    def clock_was_set(self, why: Ending, by_ms: float) -> None:
        self.clocks += 1
        if self._fault:
            raise KeyError(self._fault)

    def end(self, why: Ending) -> None:
        self.ended.append(why)


async def test_a_fault_of_ours_at_one_camera_ends_its_session_alone(tmp_path: Path) -> None:
    offset = [UTC0]
    specs = [CameraSpec("e", "s", name, "rtsp://127.0.0.1/c") for name in "ab"]
    clock = Clock(offset_ms=lambda: offset[0], elapsed=lambda: 0.0)
    worker = Worker(specs, tmp_path, "ffmpeg", clock=clock)
    faulty, well = Session("a state that is none"), Session()
    sessions: list[Any] = [faulty, well]
    for camera, session in zip(worker.cameras, sessions, strict=True):
        camera._session = session
    with capture_logs() as said:
        ticking = asyncio.create_task(worker._tick_for_ever())
        await until(lambda: well.ticks >= 2 or ticking.done(), every=0.02)
        offset[0] += 1_000
        await until(lambda: well.clocks or ticking.done(), every=0.02)
        assert not ticking.done()
        ticking.cancel()
    worker.disk.close()
    assert faulty.ended[0].cause is GapCause.STREAM_BROKEN and not well.ended
    assert "a fault of the recorder" in faulty.ended[0].detail
    told = [line for line in said if "fault of the recorder" in line["event"]]
    assert [line["camera"] for line in told] == ["s/a"] * 2, "of each place once"


@pytest.mark.parametrize("ends", ["before the others are sealed", "after it"])
async def test_a_recorder_that_begins_anew_while_cameras_change(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ends: str
) -> None:
    """The recorder that failed is never taken for the one that records, nor its windows."""
    pause, sealed = asyncio.Event(), asyncio.Event()

    async def sleep(seconds: float) -> None:
        await pause.wait()

    async def fails(spread_s: float) -> None:
        raise RuntimeError("once")

    async def seals(spread_s: float) -> None:
        try:
            await asyncio.Event().wait()
        finally:
            await sealed.wait()

    specs = [CameraSpec("e", "s", name, "rtsp://127.0.0.1/c") for name in "ab"]
    worker = Worker(specs, tmp_path, "ffmpeg", sleep=sleep)
    failed, other = worker.cameras
    monkeypatch.setattr(failed, "run", fails)
    monkeypatch.setattr(other, "run", seals)
    with capture_logs() as said:
        worker._begin()
        await until(lambda: said, every=0.005)
        changed = replace(specs[0], windows=(Window(0, 1),))
        changing = asyncio.create_task(worker.change([changed]))
        (pause if ends == "before the others are sealed" else sealed).set()
        await until(lambda: worker.cameras[0] is not failed or changing.done(), every=0.005)
        pause.set()
        sealed.set()
        await changing
        await until(lambda: worker.cameras[0] is not failed, every=0.005)
        assert [camera.spec for camera in worker.cameras] == [changed]
        await worker._end(["s/a"])
    worker.disk.close()


async def test_a_stop_waits_for_cameras_that_a_change_was_ending(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    began, leaves, sealed = asyncio.Event(), asyncio.Event(), asyncio.Event()

    async def seals(spread_s: float) -> None:
        began.set()
        try:
            await asyncio.Event().wait()
        finally:
            leaves.set()
            await sealed.wait()

    worker = Worker([CameraSpec("e", "s", "a", "rtsp://127.0.0.1/c")], tmp_path, "ffmpeg")
    monkeypatch.setattr(worker.cameras[0], "run", seals)
    running = asyncio.create_task(worker.run())
    await began.wait()
    changing = asyncio.create_task(worker.change([]))
    await leaves.wait()
    for task in (running, changing):  # as the process ends
        task.cancel()
    for _ in range(50):
        await asyncio.sleep(0)
    assert changing.done() and not running.done()
    sealed.set()
    await asyncio.wait({running})
    assert running.cancelled()


async def test_a_camera_that_is_left_while_its_spool_is_opened_can_be_taken_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A spool that is repaired takes time; meanwhile a reload or a lease leaves the camera."""
    begun, may_open = threading.Event(), threading.Event()

    def open_slowly(*args: Any) -> CameraSpool:
        begun.set()
        may_open.wait()
        return CameraSpool(*args)

    monkeypatch.setattr(camera_module, "CameraSpool", open_slowly)
    worker = Worker([CameraSpec("e", "s", "a", "rtsp://127.0.0.1/c")], tmp_path, "ffmpeg")
    worker._begin()
    await until(begun.is_set, every=0.005)
    leaving = asyncio.create_task(worker._end(["s/a"]))
    await asyncio.sleep(0)
    may_open.set()
    await leaving
    CameraSpool(tmp_path, "e", "s", "a", Numbers.by_clock(UTC0)).close()  # its lock is free
    worker.disk.close()
