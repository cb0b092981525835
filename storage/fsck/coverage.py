"""The part of fsck that looks at time: gaps that one place has and another has not, and scheduled
time that neither a recording nor a gap accounts for."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence

from base.intervals import clip, subtract
from config.model import Config
from config.schedule import Window, windows
from storage.archival.retention import gap_object
from storage.archive.port import ObjectNotFound
from storage.fsck.camera import IN_FLIGHT_MS, CheckedCamera, Finding
from storage.fsck.listing import ArchiveListing, Unread
from storage.records import LONGEST_MS, ArchivedGap, FormatError, recording_name, sha256_of


async def unknown_gaps(
    camera: CheckedCamera, listing: ArchiveListing, repair: bool
) -> AsyncIterator[Finding]:
    """Find gaps of an archive that the catalogue does not know."""
    gaps = await camera.catalogue.gaps_between(camera.name, 0, 1 << 60)
    known = {(gap.gap_no, gap.start_ms) for gap in gaps}
    for key, entry in sorted(listing.gaps.items()):
        if key in known or entry.stored_ms > camera.now_ms - IN_FLIGHT_MS:
            continue
        try:
            told = ArchivedGap.parse(await listing.read(entry))
        except (ObjectNotFound, FormatError, Unread):
            what = "gap that cannot be read"
            yield camera.finding(listing.name, "different", what, key[0])
            continue
        gap, done = told.gap, ""
        if gap_object(told.name, gap)[0] != entry.key:
            yield camera.finding(
                listing.name, "different", "another gap than its name says", key[0]
            )
            continue
        if told.end_ms <= gap.start_ms:
            continue  # it was taken back: a clock had been ahead
        if repair:
            await camera.catalogue.writer.put_gaps(camera.name, [gap])
            done = "row written"
        yield camera.finding("catalogue", "missing", "gap that an archive has", key[0], done)


async def gaps_in_spool(
    camera: CheckedCamera, listing: ArchiveListing, repair: bool
) -> AsyncIterator[Finding]:
    """Find gaps that ended long ago, that no recording carries, and that are not archived."""
    newest = camera.reader.newest()
    if newest is not None and newest.name != camera.name:
        return  # an earlier election's
    carried = {gap.gap_no for gap in newest.header.gaps} if newest else set()
    for gap in camera.reader.all_gaps():
        old = gap.end_ms is not None and gap.end_ms < camera.now_ms - IN_FLIGHT_MS - LONGEST_MS
        is_carried = gap.gap_no <= camera.reader.carried_gap_no or gap.gap_no in carried
        if not old or is_carried or gap.start_ms == gap.end_ms:
            continue
        if (gap.gap_no, gap.start_ms) not in listing.gaps:
            done, (key, data) = "", gap_object(camera.name, gap)
            if repair:
                await listing.archive.put(key, data, sha256_of(data))
                done = "put"
            what = "gap that only the spool has"
            yield camera.finding(listing.name, "missing", what, gap.gap_no, done)


async def unaccounted_time(camera: CheckedCamera, config: Config) -> AsyncIterator[Finding]:
    """Find scheduled time that neither a recording nor a gap accounts for."""
    if not (scheduled := _scheduled(camera, config)):
        return
    until_ms, reader = camera.now_ms - LONGEST_MS, camera.reader
    spans = [(r.start_ms, r.end_ms) for r in (await camera.read_rows()).values()]
    spans += [(i.start_ms, i.end_ms) for _, i in reader.recordings() if i.segments]
    gaps = await camera.catalogue.gaps_between(camera.name, 0, 1 << 60)
    spans += [(g.start_ms, g.end_ms or until_ms) for g in (*gaps, *reader.all_gaps())]
    if not spans:
        return  # it was never recorded, here or anywhere
    for start_ms, end_ms in subtract(clip(scheduled, 0, until_ms), spans):
        length = f"{(end_ms - start_ms) / 1000:.3f} s from {recording_name(start_ms, 0)[:-3]}Z"
        what = "scheduled time without a recording or a gap"
        yield camera.finding("schedule", "missing", what, length)


def _scheduled(checked: CheckedCamera, config: Config) -> Sequence[Window]:
    """Return when the configuration has a camera recorded: never, where it does not know it."""
    for station in config.stations:
        for camera in station.cameras:
            if (station.id, camera.id) == checked.name[1:]:
                return windows(config.election, station, camera)
    return ()
