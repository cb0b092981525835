"""When recordings are removed from archives: a day after the start and then daily, while the clock
is beyond doubt."""

from __future__ import annotations

import structlog

from base.clock import Clock
from base.hostclock import ClockWatch
from base.outage import Outage
from config.model import Config
from storage.archival.archive_clocks import ArchiveClocks
from storage.archival.archived_holds import ArchivedHolds
from storage.archival.replicator import Replicator
from storage.archival.replicators import Replicators
from storage.archival.retention import retire
from storage.archival.spool_cameras import GIVE_WAY
from storage.archive.port import ArchiveError
from storage.catalogue.cameras import Name
from storage.catalogue.catalogue import Catalogue
from storage.catalogue.database import CatalogueError
from storage.spool.lease_file import Holdings

log = structlog.get_logger()

AGAIN_S = 600.0  # until what is not removed now is tried again


class RetentionSchedule:
    """Removes from the archives of a configuration what they need keep no longer."""

    def __init__(
        self,
        config: Config,
        catalogue: Catalogue,
        replicators: Replicators,
        holds: ArchivedHolds,
        clocks: ArchiveClocks,
        clock: Clock,
        watch: ClockWatch,
        retire_s: float,
    ):
        """Of several machines each sees to the cameras that it records. `retire_s`: seconds between
        two looks, and for which the clock must not have been set."""
        self._election, self._catalogue, self._replicators = (
            config.election.id,
            catalogue,
            replicators,
        )
        self._holdings = Holdings(config.spool, config.node is not None)
        self._clocks, self._clock, self._watch = clocks, clock, watch
        self._holds = holds
        self._retire_s = retire_s
        self.overdue: dict[str, int] = {}  # by archive: what the last look did not remove
        self._told = set[tuple[str, ...]]()  # archives, with the other elections that they have
        self._at_ms = float("-inf")  # in `elapsed_ms`: when it is next looked for
        self._outage = Outage(
            "Recordings whose time has come are not removed from archives now",
            "Recordings whose time has come are removed from archives again",
        )
        self.retired_total = 0

    async def retire_when_due(self) -> None:
        """Retire a day after the start, and after a clock that was set."""
        at_ms = self._watch.elapsed()
        if self._watch.steady_s() >= self._retire_s and at_ms >= self._at_ms:
            self._at_ms = at_ms + await self.retire() * 1000

    async def retire(self) -> float:
        """Remove from archives what is older than they keep it, unless the clock is in doubt;
        return in how many seconds to do so again."""
        due = [(r, r.settings.keep) for r in self._replicators.all if r.settings.keep is not None]
        names = await self._catalogue.cameras.names(self._election) if due else []
        names = [name for name in names if self._holdings.has("/".join(name[1:]))]
        for name in names:
            if extent := await self._catalogue.extent_ms(name):
                self._watch.past(extent[1], f"a recording of {name[1]}/{name[2]}")
        away, ready = "", []
        for replicator, keep_s in due:  # before the first removal: each may know holds
            try:
                await replicator.archive.identify()
                await self._holds.settle(replicator.archive.archive)
                ready.append((replicator, keep_s))
            except ArchiveError as error:
                away = str(error)
                self.overdue[replicator.name] = await self._due(replicator, keep_s, names)
        for replicator, keep_s in ready:
            try:
                await self._tell_of_others(replicator, keep_s)
                away = await self._retire_from(replicator, keep_s, names) or away
            except ArchiveError as error:
                away = str(error)
            except _ClockInDoubt as doubt:
                self._outage.begin(str(doubt))
                return min(self._retire_s, AGAIN_S)
        if away:
            self._outage.begin(away)
            return min(self._retire_s, AGAIN_S)
        self._outage.end()
        return self._retire_s

    async def _due(self, replicator: Replicator, keep_s: int, names: list[Name]) -> int:
        """Return how many recordings an archive need keep no longer, of each camera some."""
        now_ms, holds = self._clock(), self._catalogue.holds
        asked = (replicator.name, now_ms - keep_s * 1000, now_ms, 0, self._others(replicator))
        return sum([len(await holds.due(name, *asked)) for name in names])

    def _others(self, replicator: Replicator) -> dict[str, int | None]:
        """Return the other archives, and for how long each keeps recordings."""
        return {r.name: r.settings.keep for r in self._replicators.all if r is not replicator}

    async def _tell_of_others(self, replicator: Replicator, keep_s: int) -> None:
        """Say once which other elections an archive has longer than it keeps this one: their time
        is told by their own configuration, which may say another."""
        before_ms = self._clock() - keep_s * 1000
        found = await self._catalogue.holds.elections_due(
            self._election, replicator.name, before_ms
        )
        if (replicator.name, *found) not in self._told and found:
            self._told.add((replicator.name, *found))
            log.warning(
                "Recordings of other elections stay in an archive, although it keeps those of this "
                "one for less long: an uploader with their configuration removes them",
                archive=replicator.name,
                elections=found,
            )

    async def _retire_from(self, replicator: Replicator, keep_s: int, names: list[Name]) -> str:
        """Remove what one archive need keep no longer; return what went wrong, "" for nothing."""
        wrong, in_a_row, overdue = "", 0, list[int]()
        for name in names:
            self._clocks.judge()
            why = self._watch.doubt()
            if why or self._watch.steady_s() < self._retire_s:
                raise _ClockInDoubt(why or "the clock was set")
            try:
                self.retired_total += await retire(
                    *(self._catalogue, replicator.archive.archive, name, keep_s),
                    others=self._others(replicator),
                    clock=self._clock,
                    refuse=overdue.append,
                )
                in_a_row = 0
            except (CatalogueError, OSError) as error:
                wrong, in_a_row = f"{'/'.join(name[1:])}: {str(error)[:300]}", in_a_row + 1
                if in_a_row >= min(GIVE_WAY, len(names)):
                    raise
        self.overdue[replicator.name] = sum(overdue)
        return wrong


class _ClockInDoubt(Exception):
    """Nothing is removed on the word of a clock that is not believed."""
