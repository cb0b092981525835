"""Takes gaps to the catalogue and, where no recording carries them, to the archives."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

import structlog

from base.clock import Clock
from base.hostclock import ClockWatch
from base.lock import is_locked
from storage.archival.replicators import Replicators
from storage.archival.retention import gap_object
from storage.archival.spool_cameras import SpoolCamera, SpoolCameras
from storage.catalogue.cameras import Name
from storage.catalogue.catalogue import Catalogue
from storage.catalogue.recordings import END_UNKNOWN
from storage.records import Gap
from storage.spool.gaps import EARLIER_GAPS, read_gaps

GAP_AGE_MS = 180_000  # after its end: the recording that follows, if one does, carries it
RECENT = 50  # gaps at the end of a journal, which alone change

log = structlog.get_logger()


class GapUpload:
    """Takes what a spool says of gaps to the catalogue and the archives."""

    def __init__(
        self,
        catalogue: Catalogue,
        cameras: SpoolCameras,
        replicators: Replicators,
        clock: Clock,
        watch: ClockWatch,
    ):
        self._catalogue, self._cameras, self._replicators = catalogue, cameras, replicators
        self._clock, self._watch = clock, watch

    async def put(self, camera: SpoolCamera) -> None:
        """Write the rows of a camera's gaps that changed."""
        gaps = camera.reader.all_gaps()
        if (state := tuple(gaps[-RECENT:])) != camera.gaps_seen:
            begin = 0 if not camera.gaps_seen else max(0, len(gaps) - RECENT)
            await self._catalogue.writer.put_gaps(camera.name, gaps[begin:])
            camera.gaps_seen = state

    async def put_earlier(self, camera: SpoolCamera) -> None:
        """Enter and archive the gaps of earlier elections, which stand under their names."""
        for path in camera.reader.directory.glob(EARLIER_GAPS.format("*")):
            election = path.stem.removeprefix(EARLIER_GAPS.format("").removesuffix(".jsonl"))
            if election in camera.earlier:
                continue
            name = election, *camera.name[1:]
            begun = [gap.start_ms for gap in camera.reader.all_gaps()]
            begun += [stored.start_ms for stored in camera.reader.stored()]
            gaps = [_ended(gap, begun) for gap in read_gaps(path)]
            await self._catalogue.writer.put_gaps(name, gaps)
            for gap in gaps:
                if gap.end_ms is not None and gap.start_ms < gap.end_ms:
                    self._archive(name, gap)
            if all(gap.end_ms is not None for gap in gaps):
                camera.earlier.add(election)

    async def end_lost(self, camera: SpoolCamera) -> None:
        """End what lasted in another spool whose recorder cannot tell the end any more."""
        known = {(gap.gap_no, gap.start_ms) for gap in camera.reader.all_gaps()}
        writer, name = self._catalogue.writer, camera.name
        for gap in await writer.end_lost_gaps(name, known, self._clock()):
            log.warning(
                "A gap that another spool had lasts no longer: its end was never told",
                camera="/".join(name[1:]),
                start_ms=gap.start_ms,
                end_ms=gap.end_ms,
            )
            self._archive(name, gap)

    def archive_ended(self, *, unrecorded: bool = False) -> None:
        """Have archives keep gaps that ended and that no recording carries to them; with
        `unrecorded` those of cameras that nobody records now, however lately they ended."""
        now, age_ms = self._watch.elapsed(), 0 if unrecorded else GAP_AGE_MS
        for camera in self._cameras:
            if not camera.archived or (unrecorded and is_locked(camera.reader.directory / "lock")):
                continue
            if camera.deferred:  # what held them up may have gone meanwhile
                camera.seen = ()
            ended = camera.ended_gaps
            camera.ended_gaps, waits = {}, False
            for gap in camera.reader.all_gaps():
                if gap.gap_no <= camera.reader.carried_gap_no or gap.end_ms is None:
                    continue
                if camera.queued_gaps.get(gap.gap_no, gap.start_ms) == gap.end_ms:
                    continue  # also one that is none; but one that was told may be none now
                # whatever the clocks say: it may end earlier when a recording follows
                seen = (gap.gap_no, gap.end_ms)
                camera.ended_gaps[seen] = ended.get(seen, now)
                waits = waits or now - camera.ended_gaps[seen] < age_ms
                if not waits:
                    camera.queued_gaps[gap.gap_no] = gap.end_ms
                    self._archive(camera.name, gap)

    def _archive(self, name: Name, gap: Gap) -> None:
        for replicator in self._replicators.all:
            replicator.add_document(name, gap.start_ms, *gap_object(name, gap))


def _ended(gap: Gap, begun: Iterable[int]) -> Gap:
    """Return a gap that nobody will end, ended where the next of these moments is."""
    later = [at_ms for at_ms in begun if at_ms > gap.start_ms]
    if gap.end_ms is not None or not later:
        return gap
    return replace(gap, end_ms=min(later), detail=f"{gap.detail}; {END_UNKNOWN}")
