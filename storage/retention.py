"""What is told of a recording beside itself: gaps that none carries, and that it was removed.

Nothing is removed from an archive before its date, nor while a hold keeps it, and never without
a trace: `{key}.removed.json` stays in its place, and so does its row in the catalogue.
"""

from __future__ import annotations

import time
from datetime import UTC, datetime
from typing import Any

import orjson
import structlog

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

    Returns how many recordings. In this order: what says that it was removed, then its bytes,
    then its description, then the row: after a crash the same is done again.
    """
    now_ms, removed = time.time_ns() // 1_000_000, 0
    while due := await catalogue.holds.due(name, archive.name, now_ms - keep_s * 1000, now_ms):
        for row in due:
            seq, start_ms = row["record_seq"], row["start_ms"]
            key = "/".join((*name, recording_name(start_ms, seq)))
            at: dict[str, Any] = {
                "removed_ms": now_ms,
                "reason": f"kept for {keep_s // 86400} days",
            }
            told: dict[str, Any] = dict(zip(("election", "station", "camera"), name, strict=True))
            data = orjson.dumps(
                {"kuager": REMOVED_FORMAT} | told | {fact: row[fact] for fact in FACTS} | at
            )
            bucket = row["bucket"]
            try:
                await archive.put(key + ".removed.json", data, digest_of(data))
            except ArchiveConflict:  # written before a crash, with the moment of that time
                at = orjson.loads(await archive.get(key + ".removed.json", bucket=bucket))
            await archive.remove(key + ".mp4", bucket=bucket, version_id=row["version_id"])
            await archive.remove(key + ".json", bucket=bucket)
            await catalogue.writer.mark_removed_from_archive(
                name, seq, start_ms, archive.name, at["removed_ms"], at["reason"]
            )
            removed += 1
    if removed:
        day = datetime.fromtimestamp(now_ms / 1000 - keep_s, UTC).date()
        log.info(
            "Recordings were removed from an archive: their time has come",
            archive=archive.name,
            camera=f"{name[1]}/{name[2]}",
            recordings=removed,
            before=str(day),
        )
    return removed
