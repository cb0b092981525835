"""When the second stream of a camera is recorded: beside the first, and never at its cost.

Some cameras take one connection at a time, and a second stream is no evidence: it is asked for only
while the first is recorded, and left when that one breaks, or when room becomes short. Where the
first breaks whenever the second is asked for, the second rests. It counts its media time from the
same moment as the first, so that players can go from one to the other (RFC 8216, 6.2.4: matching
content has matching timestamps).
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

import structlog

from base.backoff import Backoff
from recorder.disk_watch import SpoolDisk
from storage.records import Ending, GapCause
from storage.spool.writer import TimeLine

LOOK_S = 0.5
SOON_S = 15.0  # after the second was asked for: the first breaks because of it, perhaps
REST_S = (30.0, 120.0, 600.0, 3600.0)  # after it did so again and again
# Before it is asked for again where the camera gave none, once and again: some take no more
# sessions, or suffer from each that is asked for.
REFUSED_S = (0.0, 5.0, 15.0, 60.0)
LEFT = Ending(GapCause.CONNECTING, "it is recorded only beside the first stream, while room lasts")

log = structlog.get_logger()


class SecondStream:
    """What a second stream's recorder knows of the first one's."""

    def __init__(
        self,
        name: str,
        first: Callable[[], TimeLine | None],
        disk: SpoolDisk,
        clock: Callable[[], float] = time.monotonic,
        look_s: float = LOOK_S,
    ):
        """`first` returns the time line of the first stream, None while that is not recorded;
        `clock` tells seconds since any moment; `look_s` are between looks at the first."""
        self._look_s = look_s
        self._name, self._first, self._disk, self._clock = name, first, disk, clock
        self.line: TimeLine | None = None  # on which this one is recorded, or is to be
        self._gone: TimeLine | None = None  # of a clock that is not followed any more
        self._seen: TimeLine | None = None  # of the first, at the last look
        self._asked_s = float("-inf")  # when this one was asked for
        self._rest_until_s = float("-inf")
        self._rests, self._refusals = Backoff(REST_S), Backoff(REFUSED_S)

    async def wait(self, goes_on: Callable[[], bool]) -> bool:
        """Wait until it may be asked for; False where it does not go on before that."""
        while goes_on():
            self.line = self._look()
            if self.line not in (None, self._gone) and self._clock() >= self._rest_until_s:
                self._asked_s = self._clock()
                return True
            await asyncio.sleep(self._look_s)
        return False

    def why_not(self) -> Ending | None:
        """Say why its session has to end, if it has to."""
        return None if self._look() == self.line else LEFT

    def refused(self, why: Ending) -> None:
        """Take note that there was none beside the first: it is asked for less often."""
        if why != LEFT:
            rest_until_s = self._clock() + self._refusals.failed()
            self._rest_until_s = max(self._rest_until_s, rest_until_s)

    def came(self) -> None:
        """Take note that it had pictures."""
        self._refusals.succeeded()

    def clock_was_set(self) -> None:
        """Wait for the first's next time line: what comes now is placed by another clock."""
        self._gone = self.line

    def _look(self) -> TimeLine | None:
        line = self._first()
        if self._seen is not None and line != self._seen:
            self._broke(self._clock() - self._asked_s)
        self._seen = line
        return None if self._disk.tight else line

    def _broke(self, asked_s: float) -> None:
        """Take note that the first broke, so long after the second was asked for."""
        if asked_s > SOON_S:
            self._rests.succeeded()
            return
        rest_s = self._rests.failed()
        self._rest_until_s = self._clock() + rest_s
        if self._rests.failures > 1:
            log.warning(
                "A camera breaks its first stream when the second is asked for; that one rests",
                camera=self._name,
                for_s=round(rest_s),
            )
