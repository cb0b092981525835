"""What waits for one bucket of an archive, and which of it is tried next.

Whatever is not archived stays here, with the reason why; nothing is given up. A recording that
is refused holds up no other, and an archive that is away is not asked by everyone at once:

- What was never tried goes first, the oldest first; of cameras of which several were refused in a
  row, last.
- A failure may be the recording's or the archive's. The next success of another recording tells:
  where the archive took one shortly before and one now, it was the recording's, which then waits
  by its own back-off, and at most one such is tried at a time. Else it was the archive's, and what
  failed meanwhile counts as never tried.
- After AWAY failures in a row one recording at a time is tried, by the back-off of the archive, in
  turn the oldest and the newest that was not tried yet: so no number of refused recordings makes
  an archive look away for long.
"""

from __future__ import annotations

import heapq
import time
from bisect import insort
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from enum import StrEnum

from base.backoff import pause_s
from storage.catalogue.cameras import Name

RECORDING_S = (5.0, 30.0, 60.0, 300.0, 600.0)  # the pauses of what is refused by itself
ARCHIVE_S = (1.0, 2.0, 5.0, 10.0, 15.0)  # the pauses of an archive that takes nothing
AWAY = 4  # failures in a row
SEVERAL = 3  # refused in a row: so are perhaps all of this camera
BLAME_S = 60.0  # between two successes: what failed in between did so by itself


class Blocked(StrEnum):
    """Why something cannot be archived now, where that is not the archive being away."""

    REFUSED = "refused"  # the archive takes others, not this one
    UNREADABLE = "unreadable"  # its files in the spool cannot be read
    ALTERED = "altered"  # its bytes are not those that were sealed
    GONE = "gone"  # neither the spool nor another archive has it
    UNSEALED = "unsealed"  # whoever recorded it ended without sealing it
    NO_ROW = "no_row"  # the catalogue has no row of it


@dataclass(slots=True, eq=False)
class Job:
    """Something that an archive is to have and does not have yet."""

    key: str  # tells it from others
    camera: Name
    start_ms: int
    length: int  # in bytes
    blocked: Blocked | None = field(default=None, kw_only=True)
    why: str = field(default="", kw_only=True)  # it failed the last time, in words
    failures: int = field(default=0, kw_only=True)  # its own, in a row


class Backlog:
    """The jobs that wait, and when each is tried. It takes no time and waits for nothing."""

    def __init__(
        self,
        recording_s: tuple[float, ...] = RECORDING_S,
        archive_s: tuple[float, ...] = ARCHIVE_S,
        clock: Callable[[], float] = time.monotonic,
    ):
        """Pauses are in seconds; `clock` tells seconds since any moment."""
        self._recording_s, self._archive_s, self._clock = recording_s, archive_s, clock
        self._all: dict[str, Job] = {}
        self._deferred: set[str] = set()
        self._fresh: dict[Name, list[tuple[int, str]]] = {}  # by camera: start and key, sorted
        self._suspects: dict[str, Job] = {}  # failed since the last success, oldest try first
        self._refused: Counter[Name] = Counter()  # by camera, in a row
        self._later: list[tuple[float, str]] = []  # a heap: when what is blocked is tried again
        self._under_way: set[str] = set()
        self._retried: set[str] = set()  # of those under way, what had failed before
        self._failures = 0  # of the archive, in a row
        self._again_s = float("-inf")  # when something is tried again after a failure
        self._newest_next = False
        self._succeeded_s: float | None = None

    def __len__(self) -> int:
        return len(self._all)

    def __iter__(self) -> Iterator[Job]:
        return iter(self._all.values())

    def get(self, key: str) -> Job | None:
        """Return what waits under a key."""
        return self._all.get(key)

    def __contains__(self, key: str) -> bool:
        return key in self._all

    @property
    def is_away(self) -> bool:
        """Whether it is the archive that fails, and not single recordings."""
        cameras = {job.camera for job in self._suspects.values()}
        never = self._succeeded_s is None and self._failures > 0
        return never or len(cameras) > 1 or len(self._suspects) >= AWAY

    @property
    def is_idle(self) -> bool:
        """Whether all that waits has failed before, or nothing is taken any longer."""
        return self._failures >= AWAY or not (self._under_way or self._fresh)

    def add(self, job: Job) -> None:
        """Have a job tried as soon as it is its turn; nothing to do where it waits already."""
        if job.key not in self._all or job.key in self._deferred:
            self._deferred.discard(job.key)
            self._all[job.key] = job
            self._refresh(job)

    def defer(self, job: Job, blocked: Blocked, why: str) -> None:
        """Count a job that cannot be tried before `add` is called for it."""
        if job.key not in self._all or job.key in self._deferred:
            self._deferred.add(job.key)
            job.blocked, job.why = blocked, why
            self._all[job.key] = job

    def forget(self, key: str) -> None:
        """Leave out a job that is deferred and that needs not be done after all."""
        if key in self._deferred:
            self._deferred.discard(key)
            del self._all[key]

    def take(self) -> Job | None:
        """Return what is to be tried next, to be given back by one of the methods below; None
        where nothing is due."""
        now_s = self._clock()
        if self._failures >= AWAY:
            key = self._probe() if not self._under_way and now_s >= self._again_s else None
        else:
            key = self._oldest() or self._retry(now_s)
        if key is None:
            return None
        self._under_way.add(key)
        return self._all[key]

    def succeeded(self, job: Job) -> None:
        """Note that a job is done; it waits no longer."""
        now_s = self._clock()
        self._end(job.key)
        self._suspects.pop(job.key, None)
        self._all.pop(job.key, None)
        since_s = float("inf") if self._succeeded_s is None else now_s - self._succeeded_s
        by_themselves = since_s < BLAME_S or len(self._suspects) == 1
        for suspect in [s for s in self._suspects.values() if s.key not in self._under_way]:
            del self._suspects[suspect.key]
            if by_themselves:
                self._refused[suspect.camera] += 1
                self._block(suspect, Blocked.REFUSED, suspect.why)
            else:
                self._refresh(suspect)
        del self._refused[job.camera]
        self._failures, self._succeeded_s = 0, now_s

    def failed(self, job: Job, why: str) -> bool:
        """Note that the archive did not take it; True where it had not failed before."""
        self._end(job.key)
        first, job.why = not job.why, why
        if job.key in self._all:
            self._suspects.pop(job.key, None)
            self._suspects[job.key] = job
        self._failures += 1
        step = max(1, self._failures - AWAY + 1)
        self._again_s = self._clock() + pause_s(self._archive_s, step)
        return first

    def unfit(self, job: Job, blocked: Blocked, why: str) -> bool:
        """Note that it cannot be archived, whatever the archive, and is to be tried later; True
        where that was not known."""
        self._end(job.key)
        self._suspects.pop(job.key, None)
        news = job.blocked is not blocked
        if job.key in self._all:
            self._block(job, blocked, why)
        return news

    def put_back(self, job: Job) -> None:
        """Note that it was not tried after all."""
        self._end(job.key)
        if job.key in self._all and job.key not in self._suspects:
            self._refresh(job)

    # -- which is next -------------------------------------------------------------------

    def _refresh(self, job: Job) -> None:
        """Count a job as never tried."""
        job.blocked, job.why, job.failures = None, "", 0
        insort(self._fresh.setdefault(job.camera, []), (job.start_ms, job.key))

    def _block(self, job: Job, blocked: Blocked, why: str) -> None:
        job.blocked, job.why = blocked, why
        job.failures += 1
        due_s = self._clock() + pause_s(self._recording_s, job.failures)
        heapq.heappush(self._later, (due_s, job.key))

    def _end(self, key: str) -> None:
        self._under_way.discard(key)
        self._retried.discard(key)

    def _oldest(self) -> str | None:
        if not self._fresh:
            return None
        failing = {job.camera for job in self._suspects.values()}
        failing |= {camera for camera, count in self._refused.items() if count >= SEVERAL}
        return self._pop(min(self._fresh, key=lambda c: (c in failing, self._fresh[c][0])), 0)

    def _pop(self, camera: Name, at: int) -> str:
        _, key = self._fresh[camera].pop(at)
        if not self._fresh[camera]:
            del self._fresh[camera]
        return key

    def _retry(self, now_s: float) -> str | None:
        """Return what failed before and is due; at most one is tried at a time."""
        if self._retried:
            return None
        key = self._due(now_s)
        if key is None and self._suspects and now_s >= self._again_s:
            key = next(iter(self._suspects))
        if key is not None:
            self._retried.add(key)
        return key

    def _due(self, now_s: float) -> str | None:
        while self._later and self._later[0][0] <= now_s:
            _, key = heapq.heappop(self._later)
            if key in self._all:
                return key
        return None

    def _probe(self) -> str | None:
        """Return one by which to see whether an archive that is away is back."""
        if self._fresh:
            self._newest_next = not self._newest_next
            if self._newest_next:
                return self._oldest()
            return self._pop(max(self._fresh, key=lambda c: self._fresh[c][-1]), -1)
        if self._suspects:
            return next(iter(self._suspects))
        return self._due(self._clock())
