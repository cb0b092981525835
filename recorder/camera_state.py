"""What is known of one camera while it is recorded, and what its operator is told.

The camera's life and its sessions share it; neither of them has to know the other for that.
"""

from __future__ import annotations

import asyncio
import math
import time
import traceback
from collections.abc import Callable
from concurrent.futures import Executor
from dataclasses import dataclass
from functools import partial
from types import CodeType
from typing import ParamSpec, TypeVar

import structlog

from base.backoff import Backoff
from config.schedule import Window
from recorder.clock import Clock
from recorder.disk_watch import SpoolDisk
from recorder.states import TRANSITIONS, Event, State
from storage.records import Ending, GapCause, Segment
from storage.spool.status_records import CameraStatus

BACKOFF_S = (0.5, 1.0, 2.0, 4.0, 5.0)
HEALTHY_S = 60.0  # of recording, until pauses begin with the shortest again
TOLD_AGAIN_S = 60.0  # a new run for the same cause
MOST_BYTES_S = 12_500_000  # of a camera in a second, for long: 100 Mbit/s. No camera sends so many
MOST_BYTES = 128 * 1024 * 1024  # beyond that at once: what a link held back
MOST_RUNS_S, MOST_RUNS = 0.5, 60  # that begin as the camera changes its picture; as of the bytes

P = ParamSpec("P")
T = TypeVar("T")

log = structlog.get_logger()


@dataclass(slots=True)
class Status(CameraStatus):
    """What `_status/` says of a camera: here, its words are of lists that are known."""

    state: State = State.IDLE
    cause: GapCause | None = None


def fault(error: Exception) -> Ending:
    """Return the end of a session by a fault of ours."""
    return Ending(GapCause.STREAM_BROKEN, f"a fault of the recorder: {error!r}")


@dataclass(slots=True)
class _Allowance:
    """So many of something a second, for long, and so many beyond that at once."""

    each_s: float
    at_once: float
    _taken: float = 0.0  # beyond `each_s`
    _taken_s: float = -math.inf

    def take(self, count: int, now_s: float) -> bool:
        passed_s, self._taken_s = now_s - self._taken_s, now_s
        self._taken = max(0.0, self._taken - passed_s * self.each_s) + count
        return self._taken <= self.at_once


class CameraState:
    """State, status and log of a camera, and its turn at the disk."""

    def __init__(self, name: str, clock: Clock, disk: SpoolDisk, pool: Executor):
        """`name` is station and camera; work with the disk is done in threads of `pool`."""
        self.clock, self.disk = clock, disk
        self.status = Status(since_ms=int(clock.now_ms()))
        self.window = Window(0, 0)  # that is recorded now, or was last
        self.backoff = Backoff(BACKOFF_S, spread=0.3)
        self.log = log.bind(camera=name)
        self._name, self._pool = name, pool
        self._one_at_a_time = asyncio.Lock()  # the spool is not made for two threads
        self._has_own_line = False  # of the log, on why nothing is recorded
        self._hears = True  # the sound that the camera promises
        self._new_run: tuple[GapCause, float] | None = None  # the last that was told, and when
        self._bytes = _Allowance(MOST_BYTES_S, MOST_BYTES)
        self._runs = _Allowance(MOST_RUNS_S, MOST_RUNS)
        self._faults: set[tuple[CodeType, int]] = set()  # of ours: where those are that were told

    def move(self, event: Event) -> None:
        """Change the state as the table says; KeyError for what it does not have."""
        state = TRANSITIONS[self.status.state, event]
        if state is not self.status.state:
            self.status.state, self.status.since_ms = state, int(self.clock.now_ms())

    def recorded(self, segment: Segment, healthy_s: float) -> None:
        """Take note of a written segment; `healthy_s` is how long its session has recorded."""
        status = self.status
        if status.state in (State.CONNECTING, State.BACKOFF):
            self.move(Event.SEGMENT)
            status.runs += 1
            if status.cause is not None and self._has_own_line:
                self.log.info("Recording again", after=status.cause.value)
            status.cause = status.detail = None
        if healthy_s > HEALTHY_S:
            self.backoff.succeeded()
        status.segment_no, status.recorded_ms = segment.segment_no, segment.end_ms
        status.bytes += segment.length

    def take_bytes(self, count: int, now_s: float) -> bool:
        """Count bytes that came at `now_s` (seconds that never go back); False where they are more
        than the disk of all cameras has for one. What one session took counts for the next, too.
        """
        return self._bytes.take(count, now_s)

    def take_run(self, now_s: float) -> bool:
        """Count a run that begins because the camera changed its picture, as `take_bytes` counts:
        each is a file of its own, to be flushed, entered and archived."""
        return self._runs.take(1, now_s)

    # -- what the operator is told -------------------------------------------------------

    def tell_ending(self, why: Ending) -> None:
        """Say why nothing is recorded, once a cause; what all cameras suffer the disk says."""
        status, refusal = self.status, self.disk.refusal
        if why.cause != status.cause:
            self._has_own_line = refusal is None or refusal.detail != why.detail
            if self._has_own_line:
                to_do = {"to_do": why.remedy} if why.remedy else {}
                # a second stream that waits for the first is in no fault
                say = self.log.info if why.cause is GapCause.CONNECTING else self.log.warning
                say("Not recording", cause=why.cause.value, why=why.detail, **to_do)
        status.cause, status.detail = why.cause, why.detail

    def tell_sound(self, heard: bool) -> None:
        """Say once when the sound that the camera promises does not come, and when it does."""
        if heard is not self._hears:
            self._hears = heard
            if heard:
                self.log.info("The camera sends sound again; it is recorded with it")
            else:
                self.log.warning("The camera promises sound and sends none; it is recorded without")

    def tell_new_run(self, why: Ending) -> None:
        """Say why a run ended whose session goes on; may be called in a thread."""
        now, before = time.monotonic(), self._new_run
        if before is None or before[0] is not why.cause or now - before[1] > TOLD_AGAIN_S:
            self._new_run = why.cause, now
            self.log.warning("A new run begins", cause=why.cause.value, why=why.detail)

    def tell_fault(
        self, error: Exception, text: str = "A session ended by a fault of the recorder"
    ) -> None:
        """Say where a fault of ours is, once, while it is handled."""
        *_, (frame, line) = traceback.walk_tb(error.__traceback__)
        if (where := (frame.f_code, line)) not in self._faults:
            self._faults.add(where)
            self.log.exception(text)

    def tell_refusal(self, what: str, error: OSError) -> None:
        """Say what the disk refused, where that is not told of all of the disk."""
        if self.disk.refusal is None:
            self.log.error(what, why=error.strerror)

    # -- the disk ------------------------------------------------------------------------

    async def in_thread(self, work: Callable[P, T], *args: P.args, **options: P.kwargs) -> T:
        """Do something with the disk, one thing at a time per camera."""
        async with self._one_at_a_time:
            with self.disk.at_work(self._name):
                done = asyncio.get_running_loop().run_in_executor(
                    self._pool, partial(work, *args, **options)
                )
                try:
                    return await asyncio.shield(done)
                except asyncio.CancelledError:  # a thread cannot be: it has the spool until then
                    await asyncio.wait({done})
                    raise
