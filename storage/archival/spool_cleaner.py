"""Removes from the spool what the archives have: the last step of the commit order.

A recording goes only when as many archives as configured have it, verified, and it is older than
the rewind window, or the disk is nearly full; and after a last look whether they still have it.
Second streams that are not to be archived go by their age alone, and first where room is short.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable
from pathlib import Path

from base.clock import Clock
from base.hostclock import ClockWatch
from base.outage import Outage
from config.model import Config
from storage.archival.replicators import Replicators
from storage.archival.spool_cameras import GIVE_WAY, SpoolCamera, SpoolCameras
from storage.archive.port import ArchiveError
from storage.catalogue.catalogue import Catalogue, InSpool
from storage.catalogue.database import CatalogueError
from storage.records import LONGEST_MS
from storage.spool.disk import DiskSpace
from storage.spool.reader import SpoolRecording

PRESSED = 2  # times the reserve: what is archived goes early, so that recording need not pause


Removable = tuple[SpoolRecording, InSpool | None, SpoolCamera]  # a row where it is archived


class SpoolCleaner:
    """Removes archived recordings from a spool."""

    def __init__(
        self,
        config: Config,
        catalogue: Catalogue,
        cameras: SpoolCameras,
        replicators: Replicators,
        clock: Clock,
        watch: ClockWatch,
        disk_space: Callable[[Path], DiskSpace],
    ):
        self._config, self._catalogue, self._clock, self._watch = config, catalogue, clock, watch
        self._cameras, self._replicators = cameras, replicators
        self._disk_space = disk_space
        self._pressure = Outage(
            "The spool's disk is nearly full: archived recordings leave it early",
            "The spool's disk has room again",
        )
        self._staying = Outage(
            "Archived recordings cannot be taken off the spool; they are tried again",
            "All that is to leave the spool leaves it again",
        )
        self.removed_total = 0

    async def remove(self) -> None:
        """Take off the spool what is archived and older than the rewind window.

        How old is told by its name, so that nothing is read: some minutes more are kept. Where
        the disk is nearly full, second streams go before that, then archived recordings, each the
        oldest first: their segments then come from the archive.
        """
        before_ms = self._clock() - self._config.rewind_s * 1000 - LONGEST_MS
        if self._watch.unlikely():
            before_ms = 0
        found = self._removable(before_ms)
        if not os.access(self._config.spool, os.W_OK):
            return  # a disk that is read-only, which recorders say
        refused: dict[str, str] = {}  # by name, and why
        in_a_row = set[tuple[str, str]]()  # cameras of which the catalogue refused something
        for stored, row, camera in sorted(
            found, key=lambda one: (one[1] is not None, one[0].start_ms)
        ):
            if stored.start_ms >= before_ms and not self._is_pressed():
                continue
            try:
                if row is None or await self._is_archived(camera, stored, row):
                    await self._take_off(camera, stored, row)
                in_a_row.clear()
            except OSError as error:
                refused[str(stored.base)] = error.strerror or str(error)
            except CatalogueError as error:
                refused[str(stored.base)] = str(error)[:300]
                in_a_row.add(stored.camera)
                if len(in_a_row) >= min(GIVE_WAY, len(self._cameras)):
                    raise
        if refused:
            name, why = next(iter(refused.items()))
            self._staying.begin(f"{name}: {why}")
        else:
            self._staying.end()

    def _removable(self, before_ms: int) -> list[Removable]:
        """Return what enough archives have, or none is to have, and is to go, as far as is known
        without a look."""
        pressed, found = self._is_pressed(), list[Removable]()
        for camera in self._cameras:
            for stored in camera.reader.stored()[:-1]:  # not the newest: recorders go on there
                if pressed or stored.start_ms < before_ms:
                    row = (camera.known or {}).get(stored.key)
                    if self._replicators.are_enough(row) if row else not camera.archived:
                        found.append((stored, row, camera))
        return found

    async def _take_off(
        self, camera: SpoolCamera, stored: SpoolRecording, row: InSpool | None
    ) -> None:
        stored.media.unlink(missing_ok=True)
        stored.lines.unlink(missing_ok=True)
        with contextlib.suppress(OSError):
            stored.base.parent.rmdir()  # the day's last
        camera.reader.forget(stored.key)
        self.removed_total += 1
        if row is None:
            return
        await self._catalogue.writer.mark_removed(row.name, row.identity, self._clock())
        (camera.known or {}).pop(stored.key, None)

    async def _is_archived(self, camera: SpoolCamera, stored: SpoolRecording, row: InSpool) -> bool:
        """Look a last time whether the archives have a recording; what they lost goes again."""
        index = camera.reader.read(stored)
        if index is None:
            return not stored.lines.exists()  # else it cannot be read now
        spool_id = self._cameras.spool_id
        # by the names in its header: somebody may have renamed the folder
        found = await self._catalogue.in_spool(*row.name[1:], spool_id, stored.record_seq)
        told = found.get(stored.key)
        if index.seal is None or not told or not index.identity == row.identity == told.identity:
            camera.enter_again(stored)
            return False
        row.retired.update(told.retired)
        for replicator in self._replicators.all:
            name = replicator.name
            if name in row.retired:
                row.archives.pop(name, None)
            if (there := row.archives.get(name)) is None:
                continue
            if replicator.is_away:  # it would only be waited for
                return False
            try:
                if name in told.archives and await replicator.archive.still_has(index, *there):
                    continue
            except ArchiveError:  # away: its own replicator says so
                return False
            del row.archives[name]
            await self._catalogue.writer.forget_archived(row.name, row.identity, name)
            self._replicators.add(row.name, stored, row.archives, row.retired)
        return self._replicators.are_enough(row)

    def _is_pressed(self) -> bool:
        """Say whether recording will soon have to pause for want of room."""
        try:
            found = self._disk_space(self._config.spool)
        except OSError:
            return False
        reserve = self._config.spool_limits.reserve.of(found.total_bytes)
        pressed = found.free_bytes < PRESSED * reserve
        if pressed:
            self._pressure.begin("less than twice the reserve is free")
        else:
            self._pressure.end()
        return pressed
