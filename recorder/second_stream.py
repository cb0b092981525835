"""When the second stream of a camera is recorded: beside the first, and never at its cost.

Some cameras take one connection at a time, and a second stream is no evidence: it is asked for only
while the first is recorded, and left when that one breaks, or when room becomes short. It counts
its media time from the same moment as the first, so that players can go from one to the other
(RFC 8216, 6.2.4: matching content has matching timestamps).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from recorder.disk_watch import SpoolDisk
from storage.records import Ending, GapCause
from storage.spool.writer import TimeLine

LOOK_S = 0.5
LEFT = Ending(GapCause.CONNECTING, "it is recorded only beside the first stream, while room lasts")


class SecondStream:
    """What a second stream's recorder knows of the first one's."""

    def __init__(self, first: Callable[[], TimeLine | None], disk: SpoolDisk):
        """`first` returns the time line of the first stream, None while that is not recorded."""
        self._first, self._disk = first, disk
        self.line: TimeLine | None = None  # on which this one is recorded
        self._gone: TimeLine | None = None  # of a clock that is not followed any more

    async def wait(self, goes_on: Callable[[], bool]) -> bool:
        """Wait until it may be recorded; False where it does not go on before that."""
        while goes_on():
            self.line = self._now()
            if self.line not in (None, self._gone):
                return True
            await asyncio.sleep(LOOK_S)
        return False

    def why_not(self) -> Ending | None:
        """Say why its session has to end, if it has to."""
        return None if self._now() == self.line else LEFT

    def clock_was_set(self) -> None:
        """Wait for the first's next time line: what comes now is placed by another clock."""
        self._gone = self.line

    def _now(self) -> TimeLine | None:
        return None if self._disk.tight else self._first()
