"""What is told of a recording beside itself: gaps that none carries, and that it was removed.

Nothing is removed from an archive before its date, nor while a hold keeps it, and never without
a trace: `{key}.removed.json` stays in its place, and so does its row in the catalogue. The row
says so first, in one transaction with a last look at the holds: who orders it sees either that it
is gone, or keeps it.
"""

from __future__ import annotations

import contextlib
from datetime import UTC, datetime
from typing import Any

import orjson
import structlog

from base.clock import now_ms
from storage.archive import Archive, ArchiveConflict
from storage.cameras import Name
from storage.catalogue import Catalogue
from storage.index import Gap
from storage.keeper import digest_of
from storage.recording import recording_name

GAP_FORMAT = "gap/1"
REMOVED_FORMAT = "removed/1"
FACTS = (
    "record_seq",
    "epoch",
    "run_no",
    "first_segment_no",
    "segments",
    "start_ms",
    "end_ms",
    "bytes",
    "sha256",
    "overlaps",
)

log = structlog.get_logger()


def gap_object(name: Name, gap: Gap) -> tuple[str, bytes]:
    """Return key and bytes of the object that tells of an ended gap (docs/formats.md)."""
    day, clock = recording_name(gap.start_ms, gap.gap_no).split("/")
    at, _, number = clock.rpartition("-")
    election, station, camera = name
    document = {"kuager": GAP_FORMAT, "election": election, "station": station, "camera": camera}
    return "/".join((*name, day, f"{at}-gap-{number}.json")), orjson.dumps(document | gap.to_dict())


async def retire(catalogue: Catalogue, archive: Archive, name: Name, keep_s: int) -> int:
    """Remove what an archive has of a camera that is older than `keep_s` and not held.

    Returns how many recordings. In this order: the row, unless a hold was set meanwhile, then
    what says that it was removed, its bytes, its description, and that they are gone: after a
    crash all but the first is done again.
    """
    at_ms, removed = now_ms(), 0
    reason = f"kept for {keep_s // 86400} days"
    while due := await catalogue.holds.due(name, archive.name, at_ms - keep_s * 1000, at_ms):
        for row in due:
            if row["begun_ms"] is not None:
                at = {"removed_ms": row["begun_ms"], "reason": row["removed_reason"]}
            elif await catalogue.holds.begin_removal(name, row, archive.name, at_ms, reason):
                at = {"removed_ms": at_ms, "reason": reason}
            else:
                continue
            await remove(catalogue, archive, name, row, at)
            removed += 1
    if removed:
        day = datetime.fromtimestamp(at_ms / 1000 - keep_s, UTC).date()
        log.info(
            "Recordings were removed from an archive: their time has come",
            archive=archive.name,
            camera=f"{name[1]}/{name[2]}",
            recordings=removed,
            before=str(day),
        )
    return removed


async def remove(
    catalogue: Catalogue, archive: Archive, name: Name, row: dict[str, Any], at: dict[str, Any]
) -> None:
    """Remove the bytes of a recording whose row says that they are to go; every step repeats.

    `row` has FACTS, `bucket` and `version_id`; `at` has `removed_ms` and `reason`.
    """
    key = "/".join((*name, recording_name(row["start_ms"], row["record_seq"])))
    told: dict[str, Any] = dict(zip(("election", "station", "camera"), name, strict=True))
    data = orjson.dumps(
        {"kuager": REMOVED_FORMAT} | told | {fact: row[fact] for fact in FACTS} | at
    )
    with contextlib.suppress(ArchiveConflict):  # an earlier trace of it says as much
        await archive.put(key + ".removed.json", data, digest_of(data))
    await archive.remove(key + ".mp4", bucket=row["bucket"], version_id=row["version_id"])
    await archive.remove(key + ".json", bucket=row["bucket"])
    await catalogue.holds.end_removal(name, row, archive.name)
