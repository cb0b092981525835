"""A recorder process: the cameras of its share, one clock, one pool of threads for the disk."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from operator import methodcaller
from pathlib import Path

import structlog

from base.clock import now_ms
from base.durable import replace_file
from base.hostclock import UNSYNCHRONIZED
from base.outage import Outage
from config.limits import SpoolLimits
from recorder.camera import CameraRecorder
from recorder.camera_spec import CameraSpec
from recorder.clock import Clock
from recorder.disk_watch import SpoolDisk
from recorder.gap_accounting import end_open_gap
from recorder.rtsp.connection import Resolver
from recorder.states import State
from storage.records import GapCause
from storage.spool.numbers import Numbers
from storage.spool.status import last_runs_ms
from storage.spool.status_records import HEARTBEAT, ClockStatus, Heartbeat, RecorderStatus
from storage.spool.writer import CameraSpool, SpoolBusy, TimeLine

TICK_S = 0.5
LOOK_S = 1.0  # between looks at the spool's disk
STATUS_S = 2.0
HEARTBEAT_EACH = 5  # of the status files: a heartbeat is flushed, which a loss of power survives
DISK_THREADS = 32  # so that some cameras' slow files leave room for the others
ANEW_S = 5.0  # until a camera is tried again whose recorder failed
SPREAD_S = 0.02  # per camera, so that a start does not ask all cameras at once

log = structlog.get_logger()


def finish_others(specs: Sequence[CameraSpec], recorded: Sequence[CameraSpec], spool: Path) -> None:
    """Seal what a recorder that died left here of cameras that another machine records now, and
    end their gaps. Blocks on the disk."""
    last_runs, names = last_runs_ms(spool), {spec.name for spec in recorded}
    for spec in specs:
        if spec.name in names or not (spool / spec.name / "camera.json").exists():
            continue
        at_ms = now_ms()
        try:
            floor = Numbers.by_clock(at_ms)
            camera = CameraSpool(spool, spec.election, spec.station, spec.camera, floor)
            try:
                end_open_gap(camera, spec.windows, last_runs.get(spec.name), at_ms)
            finally:
                camera.close()
        except (SpoolBusy, OSError) as error:
            log.error("What is here of a camera is not finished", camera=spec.name, why=str(error))


def _count(specs: Sequence[CameraSpec]) -> int:
    """Return how many cameras there are; second streams are none."""
    return sum(not spec.first for spec in specs)


class Worker:
    """Runs the cameras of one share until cancelled."""

    def __init__(
        self,
        cameras: Sequence[CameraSpec],
        spool: Path,
        ffmpeg: str,
        share: int = 0,
        limits: SpoolLimits = SpoolLimits(),  # noqa: B008
        clock: Clock | None = None,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ):
        """`clock` is the system's where none is given; `sleep` waits where a recorder failed."""
        self._sleep = sleep
        self._specs = cameras
        self._last_runs_ms = last_runs_ms(spool)
        self._clock = clock or Clock(
            max(self._last_runs_ms.values(), default=0),
            lambda ms: any(w.start_ms <= ms < w.end_ms for s in self._specs for w in s.windows),
        )
        self._unsynchronized = Outage(
            "The clock of this machine is not synchronized", "The clock is synchronized again"
        )
        self._doubt = Outage(
            "The clock of this machine was set and is not believed: recording goes on by the time "
            "that has passed",
            "The clock of this machine is believed again",
        )
        self._pool = ThreadPoolExecutor(DISK_THREADS, thread_name_prefix="disk")
        self._spool, self._ffmpeg, self._resolver = spool, ffmpeg, Resolver()
        self.disk = SpoolDisk(
            spool, limits, share, lambda: sum(c.status.bytes for c in self.cameras)
        )
        self._share = share
        self._cameras = {s.name: self._camera(s, self._last_runs_ms.get(s.name)) for s in cameras}
        self._lives: dict[str, asyncio.Task[None]] = {}
        self._leaving: set[asyncio.Task[None]] = set()  # lives that end, and seal what is open
        self._status = spool / "_status" / f"recorder-{share}.json"

    @property
    def cameras(self) -> list[CameraRecorder]:
        """Those that are recorded, in the order of the configuration."""
        return list(self._cameras.values())

    def _camera(self, spec: CameraSpec, last_run_ms: int | None) -> CameraRecorder:
        camera = CameraRecorder(
            spec,
            self._spool,
            self._ffmpeg,
            self._clock,
            self._pool,
            self.disk,
            self._resolver,
            last_run_ms,
        )
        if spec.first is not None:
            camera.follow(partial(self._time_line, spec.first))
        return camera

    def _time_line(self, name: str) -> TimeLine | None:
        """Return the run of a camera that is recorded now."""
        camera = self._cameras.get(name)
        return camera.time_line if camera else None

    async def run(self) -> None:
        """Record; on cancellation everything is sealed before this returns."""
        log.info("Recorder started", cameras=_count(self._specs))
        await self.disk.look()
        self._begin()
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._tick_for_ever())
                tasks.create_task(self._look_for_ever())
                tasks.create_task(self._tell_for_ever())
        finally:
            await self._end(list(self._lives))
            if self._leaving:  # of a change that was cancelled meanwhile
                await asyncio.wait(self._leaving)
            self._pool.shutdown()
            self._resolver.close()
            self._write_status()
            self.disk.close()
            log.info("Recorder stopped, all recordings are sealed")

    async def change(self, specs: Sequence[CameraSpec]) -> None:
        """Record these cameras from now on; those that are the same go on undisturbed.

        Of a camera whose windows alone differ the session goes on, too. Others that differ, and
        those that are gone, are sealed first; what had a lease another machine goes on with.
        """
        new = {s.name: s for s in specs}
        unchanged = {
            name
            for name, camera in self._cameras.items()
            if name in new and camera.spec.has_same_session(new[name])
        }
        ended = {name: camera for name, camera in self._cameras.items() if name not in unchanged}
        for camera in ended.values():
            if camera.spec.lease is not None:
                camera.give_away()
        await self._end(list(ended))
        begun_ms = int(self._clock.now_ms())
        self._specs = specs
        self._cameras = {  # as they are now: one of those that go on may have begun anew
            name: self._cameras[name] if name in unchanged else self._camera(spec, begun_ms)
            for name, spec in new.items()
        }
        for name in unchanged:
            if self._cameras[name].spec != new[name]:
                self._cameras[name].change(new[name])
        self._begin()
        await self.disk.thread(self._write_status)  # others wait for what was let go
        undisturbed = _count([spec for spec in specs if spec.name in unchanged])
        log.info("The cameras were changed", cameras=_count(specs), undisturbed=undisturbed)

    def _begin(self) -> None:
        """Begin the lives of cameras that have none."""
        names = [name for name in self._cameras if name not in self._lives]
        spread_s = min(5.0, SPREAD_S * len(names))
        for name in names:
            self._lives[name] = asyncio.create_task(self._live(name, spread_s))

    async def _end(self, names: list[str]) -> None:
        lives = [self._lives.pop(name) for name in names if name in self._lives]
        for life in lives:
            life.cancel()
            self._leaving.add(life)
            life.add_done_callback(self._leaving.discard)
        if lives:
            await asyncio.wait(lives)

    async def _live(self, name: str, spread_s: float) -> None:
        """Run a camera; a fault of ours that ends its life is told and costs no other anything."""
        while True:
            try:
                await self._cameras[name].run(spread_s)
            except Exception:
                log.exception("A camera's recorder failed; it begins anew", camera=name)
                await self._sleep(ANEW_S)
                spec = self._cameras[name].spec  # which may have been changed meanwhile
                self._cameras[name] = self._camera(spec, int(self._clock.now_ms()))

    async def _tick_for_ever(self) -> None:
        while True:
            is_recording = any(c.status.state is not State.IDLE for c in self.cameras)
            if jumped_ms := self._clock.follow(recording=is_recording):
                log.error("The clock of this machine was set", by_ms=round(jumped_ms))
                self._for_each(methodcaller("clock_jumped", jumped_ms))
            self._judge_clock()
            self._for_each(methodcaller("tick"))
            self.disk.tick()
            await asyncio.sleep(TICK_S)

    def _for_each(self, work: Callable[[CameraRecorder], None]) -> None:
        """Do something for each camera; a fault of ours with one costs no other anything."""
        for camera in self.cameras:
            try:
                work(camera)
            except Exception as error:
                camera.end_by_fault(error)

    def _judge_clock(self) -> None:
        """Say what is wrong with the clock: the first recorder of a machine, once."""
        if self._share:
            return
        for outage, why in (
            (self._doubt, self._clock.doubt),
            (self._unsynchronized, None if self._clock.synchronized else UNSYNCHRONIZED),
        ):
            if why is None:
                outage.end()
            elif outage.why is None:
                outage.begin(why)

    async def _look_for_ever(self) -> None:
        while True:
            await self.disk.look()
            await asyncio.sleep(LOOK_S)

    async def _tell_for_ever(self) -> None:
        for n in itertools.count():
            await self.disk.thread(partial(self._write_status, n % HEARTBEAT_EACH == 0))
            await asyncio.sleep(STATUS_S)

    def _write_status(self, heartbeat: bool = True) -> None:
        refusal = self.disk.refusal
        if refusal is not None and refusal.cause is GapCause.DISK_FAILED:
            return  # where a disk is gone nothing is written in its place
        told = RecorderStatus(
            pid=os.getpid(),
            written_ms=int(self._clock.now_ms()),
            clock=ClockStatus(self._clock.synchronized, self._clock.doubt),
            spool=self.disk.status(),
            cameras={c.spec.name: c.status for c in self.cameras if not c.spec.first},
            low={c.spec.first: c.status for c in self.cameras if c.spec.first},
        )
        beat = Heartbeat(pid=told.pid, written_ms=told.written_ms, cameras=list(self._cameras))
        with contextlib.suppress(OSError):  # a disk that refuses is told by the cameras
            replace_file(self._status, told.to_json())
            if heartbeat:
                path = self._status.with_suffix(HEARTBEAT)
                replace_file(path, beat.to_json(), durable=True)
