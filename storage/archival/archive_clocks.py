"""What the archives' servers say of the time, weighed against the clock of this machine."""

from __future__ import annotations

import asyncio
import contextlib

from base.hostclock import HEARD_MS, ClockWatch
from base.outage import Outage
from storage.archival.replicators import Replicators
from storage.archive.port import ArchiveError


class ArchiveClocks:
    """Has the clock watch hear the servers, and tells when the clock is not believed."""

    def __init__(self, replicators: Replicators, watch: ClockWatch):
        self._replicators, self._watch = replicators, watch
        self._doubt = Outage(
            "The clock of this machine is not believed: nothing is removed on its word",
            "The clock of this machine is believed again",
        )

    def judge(self) -> None:
        """Notice that the clock was set, hear what the archives' servers say, and tell it."""
        self._watch.look()
        for replicator in self._replicators.all:
            if told := replicator.archive.archive.server_time:
                self._watch.heard(replicator.name, *told)
        if (why := self._watch.unlikely()) is None:
            self._doubt.end()
        elif self._doubt.why is None:
            self._doubt.begin(why)

    async def ask(self, look_s: float) -> None:
        """Have every server tell the time that has not done so for half an hour, for ever."""
        asked_ms = dict.fromkeys(self._replicators.all, float("-inf"))
        while True:
            for replicator in self._replicators.all:
                archive, at_ms = replicator.archive.archive, self._watch.elapsed()
                told_ms = archive.server_time[1] if archive.server_time else float("-inf")
                last_ms = max(asked_ms[replicator], told_ms)
                if at_ms - last_ms > HEARD_MS / 2:
                    asked_ms[replicator] = at_ms
                    with contextlib.suppress(ArchiveError):  # also who refuses tells the time
                        await archive.etag("_kuager/clock")
            await asyncio.sleep(look_s)
