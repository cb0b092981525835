"""A recorder's watch over the spool's disk: pause, go on, and say each thing once.

What is wrong with all of the disk (full, read-only, gone) pauses all cameras of the process and
is told in one line. What is wrong with the files of one camera is that camera's affair.
"""

from __future__ import annotations

import asyncio
import itertools
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

import structlog

from base.outage import Outage
from config.limits import SpoolLimits
from storage.records import Ending, GapCause
from storage.spool.disk import (
    DiskSpace,
    check_spool,
    claim_spool,
    refusal_of,
    seconds_left,
    shortage,
)
from storage.spool.status import SpoolStatus
from storage.spool.status_records import DiskStatus

RATE_S = 60.0  # over which the rate of writing is taken
RATE_KNOWN_S = 20.0
OTHERS_S = 10.0  # between looks at what other recorders write
MARGIN = 1.25  # of a threshold, before it counts as left behind
TIGHT, ROOMY = 2.0, 2.5  # times the reserve: below it second streams pause, above it they go on
SLOW_S = 2.0  # of one write: said so
FAST_S = 30.0  # without such a write: it is fast again
MAX_WAITING = 512 * 1024 * 1024  # bytes of all cameras that may wait for a slow disk

T = TypeVar("T")

log = structlog.get_logger()


class Thresholds:
    """The times of `spool_warn`, in seconds, largest first; each is told when it is passed."""

    def __init__(self, thresholds_s: Sequence[int]):
        self._thresholds_s = thresholds_s
        self._passed = 0  # how many of them

    def take(self, left_s: float) -> int | None:
        """Return the threshold that is passed, 0 when all are far behind, None for neither."""
        below = sum(left_s < t for t in self._thresholds_s)
        near = sum(left_s < t * MARGIN for t in self._thresholds_s)
        if below > self._passed:
            self._passed = below
            return self._thresholds_s[below - 1]
        if near < self._passed:
            self._passed = near
            return None if near else 0
        return None


class SpoolDisk:
    """One process's watch; `refusal` is None while recordings can be written."""

    def __init__(
        self,
        spool: Path,
        limits: SpoolLimits,
        share: int,
        written_bytes: Callable[[], int],
        clock: Callable[[], float] = time.monotonic,
    ):
        """`written_bytes` counts up what the cameras of this process have written; `clock` tells
        seconds since any moment."""
        self._clock = clock
        self._spool, self._limits, self._share, self._written = spool, limits, share, written_bytes
        self.refusal: Ending | None = None
        self.waiting = 0  # bytes that are cut and not written
        self.tight = False  # what is left is for first streams
        self._id: str | None = None
        self._space: DiskSpace | None = None
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="spool-disk")
        self._samples: deque[tuple[float, int]] = deque()
        self._rate = 0.0  # of this process, bytes a second
        self._others: dict[int, float] = {}  # of the other recorders, by share
        self._others_at = float("-inf")
        self._left_s: float | None = None
        self._thresholds = Thresholds(limits.warn_s)
        self._under_way: dict[int, tuple[float, str]] = {}  # what the disk is at: since, whose
        self._keys = itertools.count()
        self._slow_s = 0.0  # the longest since it began to be slow
        self._slow_at = 0.0
        self._refuses = Outage(
            "Recording pauses",
            "Recording goes on: the spool can be written again",
            spool=str(spool),
        )

        self._lacks = Outage(
            "The spool's disk cannot be looked at; recording goes on",
            "The spool's disk can be looked at again",
            spool=str(spool),
        )

    # -- room ----------------------------------------------------------------------------

    async def thread(self, work: Callable[[], T]) -> T:
        """Do something with the disk, whatever its cameras wait for."""
        return await asyncio.get_running_loop().run_in_executor(self._thread, work)

    async def look(self) -> None:
        """Look at the disk and take note; about once a second, and when a write failed."""
        try:
            self._space = found = await self.thread(self._examine)
            refusal = self._full(found)
        except OSError as error:
            if short := shortage(error):  # the disk was not even asked: what was known stays so
                self._lacks.begin(short)
                return
            refusal = refusal_of(error)
        self._lacks.end()
        self._measure(refusal is not None)
        self.refusal = refusal
        if self._space is not None:
            reserve = self._limits.reserve.of(self._space.total_bytes)
            self.tight = self._space.free_bytes < (ROOMY if self.tight else TIGHT) * reserve
        if refusal is not None:
            self._left_s = 0.0
            if self._speaks():
                self._refuses.begin(refusal.detail)
        elif self._space is not None:
            self._refuses.end(free=human(self._space.free_bytes))
            self._pass_thresholds(self._space)

    def _examine(self) -> DiskSpace:
        """Look at the disk, in a thread."""
        if self._id is None:
            self._id = claim_spool(self._spool, self._limits.mount)
        found = check_spool(self._spool, self._id)
        if self._clock() - self._others_at > OTHERS_S:
            self._others_at = self._clock()
            status = SpoolStatus(self._spool)
            list(status.refresh())
            said = status.recorders().items()
            self._others = {n: s.spool.bytes_per_s for n, s in said if n != self._share}
        return found

    def _full(self, found: DiskSpace) -> Ending | None:
        reserve = self._limits.reserve.of(found.total_bytes)
        needed = reserve
        if self.refusal is not None and self.refusal.cause is GapCause.DISK_FULL:
            # enough for a minute, so that cameras are not started to be stopped
            minute = int(60 * (self._rate + sum(self._others.values())))
            needed += min(max(reserve // 4, minute), found.total_bytes // 20)
        what = "room" if found.free_bytes < needed else "" if found.files else "room for files"
        if not what:
            return None
        return Ending(
            GapCause.DISK_FULL,
            f"the spool has no {what} beyond its reserve of {human(reserve)}: make room, or see "
            "why the archives do not take recordings",
        )

    def _measure(self, paused: bool) -> None:
        """Take the rate of writing; while recording pauses it stays what it was."""
        if paused:
            self._samples.clear()
            return
        now = self._clock()
        self._samples.append((now, self._written()))
        while now - self._samples[0][0] > RATE_S:
            self._samples.popleft()
        since, before = self._samples[0]
        if now - since > RATE_KNOWN_S:
            self._rate = max(0, self._samples[-1][1] - before) / (now - since)

    def _pass_thresholds(self, found: DiskSpace) -> None:
        rate = self._rate + sum(self._others.values())
        self._left_s = seconds_left(found, self._limits.reserve.of(found.total_bytes), rate)
        if self._left_s is None:
            return
        passed = self._thresholds.take(self._left_s)
        if passed is None or not self._speaks():
            return
        say = {"hours_left": round(self._left_s / 3600, 1), "free": human(found.free_bytes)}
        if passed:
            text = "The spool fills: see that the archives take recordings, or make room"
            log.warning(text, mark=f"{passed / 3600:g} h", **say, spool=str(self._spool))
        else:
            log.info("The spool has room again", **say, spool=str(self._spool))

    def _speaks(self) -> bool:
        """Of all recorders of the spool the first says what is wrong with the disk: once."""
        return self._share <= min(self._others, default=self._share)

    async def why(self, error: OSError) -> Ending:
        """Say why a write failed: by what is wrong with the whole disk, else by the error."""
        await self.look()
        return self.refusal or refusal_of(error)

    # -- slowness ------------------------------------------------------------------------

    @contextmanager
    def at_work(self, camera: str) -> Iterator[None]:
        """Take the time of one piece of work with the disk, waiting for a thread included."""
        key, since = next(self._keys), self._clock()
        self._under_way[key] = since, camera
        try:
            yield
        finally:
            del self._under_way[key]
            self._took(self._clock() - since, camera)

    def tick(self) -> None:
        """See how long what is under way lasts already; about twice a second."""
        now = self._clock()
        if self._under_way:
            since, camera = min(self._under_way.values())
            self._took(now - since, camera)
        if self._slow_s and now - self._slow_at > FAST_S:
            log.info(
                "The spool's disk is fast again",
                longest_s=round(self._slow_s, 1),
                spool=str(self._spool),
            )
            self._slow_s = 0.0

    def _took(self, seconds: float, camera: str) -> None:
        if seconds < SLOW_S:
            return
        if not self._slow_s:
            log.warning(
                "The spool's disk is slow: recordings wait in memory",
                write_s=round(seconds, 1),
                camera=camera,
                waiting=human(self.waiting),
                spool=str(self._spool),
            )
        self._slow_s, self._slow_at = max(self._slow_s, seconds), self._clock()

    # -- telling -------------------------------------------------------------------------

    def close(self) -> None:
        """End the thread, without waiting for a disk that does not answer."""
        self._thread.shutdown(wait=False)

    def status(self) -> DiskStatus:
        """Return what `_status/` says of it."""
        left = self._left_s
        return DiskStatus(
            bytes_per_s=round(self._rate),
            free_bytes=self._space.free_bytes if self._space else None,
            hours_left=None if left is None else round(left / 3600, 2),
            waiting_bytes=self.waiting,
            slow_s=round(self._slow_s, 1),
            cause=self.refusal.cause if self.refusal else None,
            detail=self.refusal.detail if self.refusal else None,
        )


def human(count: float) -> str:
    """Return bytes as people say them."""
    for unit, size in (("TB", 1e12), ("GB", 1e9), ("MB", 1e6)):
        if count >= size:
            return f"{count / size:.1f} {unit}"
    return f"{count / 1e3:.0f} kB"
