"""What exists of a camera in a stretch of time: files to be had, and why the rest is missing.

The catalogue and the spool tell it together: what is sealed is in the spool before the catalogue
knows of it, and in an archive after the spool forgot it. Both say the same of a recording's
number and start.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path

from base.clock import now_ms
from base.i18n.causes import IN_NO_ARCHIVE, ON_A_MACHINE_AWAY
from base.intervals import subtract
from copies.footage.plan import CopyPlan
from copies.footage.planning import plan_file
from copies.mp4 import MAX_REFERENCES
from storage.catalogue.cameras import Name
from storage.catalogue.catalogue import OWNERS, Catalogue
from storage.catalogue.rows import RecordingRow
from storage.recording_source import RecordingReader, Sources, Spools, Store, add_spools
from storage.records import LONGEST_MS, Gap
from storage.shown import Shown
from storage.spool.numbers import lease_of
from storage.spool.reader import Key, SpoolReader

TOLD_MS = 1000  # of time that nobody was to record; runs may be some ms apart
AT_ONCE = 8  # files that are planned side by side
# of the newest time nothing is final: pictures wait until their segment is written, and a gap ends
# where they begin
UNSURE_MS = 30_000


@dataclass(frozen=True, slots=True)
class Missing:
    """A stretch that was recorded and cannot be had; `removed_ms` is None where nobody removed
    it. `reason` is the end of a sentence in English, as the archive's trace tells it."""

    start_ms: int
    end_ms: int
    removed_ms: int | None
    reason: str


@dataclass(frozen=True, slots=True)
class CameraFootage:
    """What exists of one camera in a stretch (UTC).

    `files` are in the order of recording. `gaps` are clipped to the stretch; one that lasts ends
    with what is settled. `unscheduled` is time that is neither recorded nor missing. What is
    after `settled_until_ms` is not offered yet, being recorded, or of the last UNSURE_MS, or in
    the future; it is the end of the stretch where all of it is settled. `overlaps` says that a
    clock was set back, and that the times of files overlap.
    """

    files: tuple[CopyPlan, ...]
    gaps: tuple[Gap, ...]
    removed: tuple[Missing, ...]
    unscheduled: tuple[tuple[int, int], ...]
    settled_until_ms: int
    overlaps: bool


async def find(
    catalogue: Catalogue | None,
    archives: Sequence[Store],
    spool: Path,
    name: Name,
    from_ms: int,
    to_ms: int,
    *,
    zone: str,
) -> CameraFootage:
    """Return what exists of a camera in [from_ms, to_ms): whole segments that cover it.

    `zone` is the station's, for the names of files. Raises what the catalogue raises when it
    does not answer, and Unreadable where a recording at an end of a file cannot be read now.
    """
    asked_ms = now_ms()  # what begins while the catalogue is asked is in no list of these
    spool_reader = SpoolReader(spool, name[1], name[2])
    await asyncio.to_thread(spool_reader.refresh)
    rows: dict[Key, RecordingRow] = {}
    gaps: dict[Key, Gap] = {}
    if catalogue is not None:
        found = await catalogue.recordings_between(name, from_ms, to_ms)
        add_spools([row for row in found if not _is_away(row, archives)], archives)
        found.sort(key=lambda row: bool(row.archives))  # of two with one name what can be had
        rows = {row.key: row for row in found}
        known_gaps = await catalogue.gaps_between(name, from_ms, to_ms)
        gaps = {(gap.gap_no, gap.start_ms): gap for gap in known_gaps}
    gaps |= {(g.gap_no, g.start_ms): g for g in spool_reader.gaps(from_ms, to_ms)}
    settled_ms = min(to_ms, asked_ms - UNSURE_MS)
    fresh, begun_ms = await asyncio.to_thread(_sealed, spool_reader, rows, from_ms, to_ms)
    rows |= fresh
    settled_ms = min(settled_ms, begun_ms)
    for store in archives:
        if isinstance(store, Spools):
            elsewhere_ms = await store.settled_ms(name, rows.keys(), from_ms, to_ms)
            settled_ms = min(settled_ms, max(elsewhere_ms or settled_ms, from_ms))
    there, removed = _sort_out([rows[key] for key in sorted(rows)], spool_reader, archives)
    sources = Sources(spool, archives, catalogue)
    reader = RecordingReader(sources, name, from_ms, to_ms, {row.key: row.buckets for row in there})
    limit = asyncio.Semaphore(AT_ONCE)

    async def plan(stretch: list[RecordingRow]) -> CopyPlan:
        async with limit:
            return await plan_file(reader, name, stretch, from_ms, to_ms, zone)

    files = _distinct(await asyncio.gather(*map(plan, _stretches(there))))
    missing = _missing(gaps.values(), rows.values(), from_ms, settled_ms)
    accounted: list[CopyPlan | Missing | Gap] = [*files, *removed, *missing]
    return CameraFootage(
        tuple(files),
        tuple(missing),
        tuple(removed),
        tuple(subtract([(from_ms, settled_ms)], ((a.start_ms, a.end_ms or 0) for a in accounted))),
        settled_ms,
        any(
            b.start_ms < a.end_ms and lease_of(a.run_no) == lease_of(b.run_no)
            for a, b in pairwise(files)
        ),
    )


def told_unscheduled(stretches: Iterable[Sequence[int]]) -> list[tuple[int, int]]:
    """Return what people are told of `unscheduled`."""
    return [(start, end) for start, end in stretches if end - start >= TOLD_MS]


def _missing(
    gaps: Iterable[Gap], rows: Iterable[RecordingRow], from_ms: int, settled_ms: int
) -> list[Gap]:
    """Return what nobody recorded of a stretch; what one machine missed another may have."""
    shown = Shown((lease_of(row.record_seq), row.start_ms, row.end_ms) for row in rows)
    found = []
    for gap in shown.missing(gaps):
        start_ms, end_ms = max(gap.start_ms, from_ms), min(gap.end_ms or settled_ms, settled_ms)
        if start_ms < end_ms:
            found.append(replace(gap, start_ms=start_ms, end_ms=end_ms))
    return found


def _sealed(
    spool_reader: SpoolReader, known: dict[Key, RecordingRow], from_ms: int, to_ms: int
) -> tuple[dict[Key, RecordingRow], int]:
    """Return rows of sealed recordings that the catalogue does not know yet, and the moment from
    which on the stretch is being recorded, at most its end."""
    fresh, begun_ms = dict[Key, RecordingRow](), to_ms
    for stored in spool_reader.stored():
        if stored.key in known or not from_ms - LONGEST_MS < stored.start_ms < to_ms:
            continue
        index = spool_reader.read(stored)
        if index is None or not index.segments or index.end_ms <= from_ms:
            continue
        if index.seal is None:
            begun_ms = min(begun_ms, max(index.start_ms, from_ms))
        else:
            fresh[stored.key] = RecordingRow.of(index)
    return fresh, begun_ms


def _sort_out(
    rows: Iterable[RecordingRow], spool_reader: SpoolReader, archives: Sequence[Store]
) -> tuple[list[RecordingRow], list[Missing]]:
    """Return the recordings that can be had, and what became of the others."""
    in_spool = {stored.key for stored in spool_reader.stored()}
    names = {archive.name for archive in archives}
    there, missing = [], list[Missing]()
    for row in rows:
        holding = list(row.buckets)
        # a copy of it may still be in the spool, where every archive has removed it
        waiting = not row.archives or holding
        if names & set(holding) or (waiting and row.key in in_spool):
            there.append(row)
            continue
        removed_ms, reason = None, IN_NO_ARCHIVE
        if _is_away(row, archives):
            reason = ON_A_MACHINE_AWAY
        if holding:
            reason = f"the archive '{holding[0]}' is not configured here"
        elif last := row.removed:
            removed_ms, reason = last.removed_ms, last.removed_reason or ""
        one = Missing(row.start_ms, row.end_ms, removed_ms, reason)
        if missing and (missing[-1].end_ms, missing[-1].reason) == (one.start_ms, reason):
            one = replace(one, start_ms=missing.pop().start_ms)
        missing.append(one)
    return there, missing


def _is_away(row: RecordingRow, stores: Sequence[Store]) -> bool:
    """Tell whether a recording is, or was, in the spool of a machine that is not there now."""
    return any(isinstance(store, Spools) and store.is_away(row.spool) for store in stores)


def _stretches(rows: Iterable[RecordingRow]) -> list[list[RecordingRow]]:
    """Return the recordings of each file: one run without a hole, no more than a `sidx` holds.

    Two recorders of one camera may have used the same numbers; their recordings then alternate.
    """
    found: list[list[RecordingRow]] = []
    for row in rows:
        for stretch in found[: -OWNERS - 1 : -1]:
            segments = row.first_segment_no + row.segments - stretch[0].first_segment_no
            if _follows(stretch[-1], row) and segments <= MAX_REFERENCES:
                stretch.append(row)
                break
        else:
            found.append([row])
    return found


def _follows(last: RecordingRow, row: RecordingRow) -> bool:
    """Say whether a recording goes on with the run of another, where that ended."""
    return (
        (last.epoch, last.run_no) == (row.epoch, row.run_no)
        and last.record_seq < row.record_seq
        and last.first_segment_no + last.segments == row.first_segment_no
        and abs(last.end_ms - row.start_ms) <= 1
    )


def _distinct(files: Sequence[CopyPlan]) -> list[CopyPlan]:
    """Give files of the same second names of their own."""
    found: dict[str, CopyPlan] = {}
    for file in files:
        stem, first = file.file_name.removesuffix(".mp4"), file.parts[0]
        for more in ("", f"_{first.record_seq}", f"_{first.sha256}"):  # numbers may be used twice
            if f"{stem}{more}.mp4" not in found:
                break
        found[f"{stem}{more}.mp4"] = replace(file, file_name=f"{stem}{more}.mp4")
    return list(found.values())
