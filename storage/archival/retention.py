"""What is told of a recording beside itself: gaps that none carries, and that it was removed.

Nothing is removed from an archive before its date, nor while a hold keeps it, and never without
a trace: `{key}.removed.json` stays in its place, and so does its row in the catalogue. The trace
is stored first. Then the row says so, in one transaction with a last look at the holds: who
orders it sees either that it is gone, or keeps it. Only then its bytes go. Whether the clock may
be believed is for the caller to know (base/hostclock.py).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import asdict
from datetime import UTC, datetime
from types import MappingProxyType

import orjson
import structlog

from base.clock import Clock, now_ms
from storage.archive.port import TRACE, Archive, ArchiveConflict, ArchiveError, ObjectNotFound
from storage.catalogue.cameras import Name
from storage.catalogue.catalogue import Catalogue
from storage.catalogue.rows import DueRow, RecordingRow
from storage.records import (
    REMOVED_FORMAT,
    FormatError,
    Gap,
    Trace,
    parse_archive_document,
    recording_name,
    sha256_of,
)

SHARE = 0.1  # of a camera's recordings that one pass removes at most
GAP_FORMAT = "gap/1"
SAID = 5  # of those that cannot be removed, by name
log = structlog.get_logger()


def gap_object(name: Name, gap: Gap) -> tuple[str, bytes]:
    """Return key and bytes of the object that tells of an ended gap (docs/formats.md)."""
    day, clock = recording_name(gap.start_ms, gap.gap_no).split("/")
    at, _, number = clock.rpartition("-")
    election, station, camera = name
    document = {"kuager": GAP_FORMAT, "election": election, "station": station, "camera": camera}
    return "/".join((*name, day, f"{at}-gap-{number}.json")), orjson.dumps(document | gap.to_dict())


async def retire(
    catalogue: Catalogue,
    archive: Archive,
    name: Name,
    keep_s: int,
    *,
    share: float = SHARE,
    others: Mapping[str, int | None] = MappingProxyType({}),
    clock: Clock = now_ms,
    refuse: Callable[[int], None] = lambda _: None,
) -> int:
    """Remove what an archive has of a camera that is older than `keep_s` and not held.

    What one of the `others` is to keep, each for so many seconds, and never had stays as well: this
    may be the last copy. At most a `share` of all recordings that the camera ever had are removed,
    the oldest first; the rest is for the next pass. What cannot be removed is said by its name, is
    tried again the next time, and holds up no other; `refuse` is told how many these are. Returns
    how many were removed. Raises what a database raises. After a crash at any step the next pass
    goes on: see docs/crashes.md.
    """
    at_ms, removed, last_seq = clock(), 0, 0
    refused: dict[str, str] = {}  # by name, and why
    reason = f"kept for {keep_s // 86400} days"
    before_ms = at_ms - keep_s * 1000
    at_most = math.ceil(await catalogue.holds.recordings(name) * share)
    while removed < at_most:
        due = await catalogue.holds.due(name, archive.name, before_ms, at_ms, last_seq, others)
        for row in due[: at_most - removed]:
            last_seq = row.record_seq
            try:
                removed += await _remove(catalogue, archive, name, row, at_ms, reason)
            except (ArchiveError, FormatError) as error:
                refused[recording_name(row.start_ms, last_seq)] = str(error)
        if not due:
            break
    refuse(len(refused))
    if refused:
        log.error(
            "Recordings whose time has come cannot be removed; they are tried again",
            archive=archive.name,
            camera=f"{name[1]}/{name[2]}",
            recordings=len(refused),
            why=dict(list(refused.items())[:SAID]),
        )
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


async def versions(
    archive: Archive, name: Name, row: RecordingRow, bucket: str, etags: str = ""
) -> dict[str, str | None]:
    """Return what an archive has of exactly the recording that a row names: the endings of its
    objects, with their versions where the bucket keeps such.

    `etags` are those with which its bytes were verified. Raises ArchiveError where anything else
    is under its name, or what describes it cannot be read.
    """
    key, found = _key(name, row), dict[str, str | None]()
    version = await archive.version_id(key + ".mp4", bucket=bucket)
    etag = await archive.etag(key + ".mp4", bucket=bucket)
    if etag is not None:
        found[".mp4"] = version
        if etag != etags.partition(" ")[0]:
            sha256 = await archive.sha256(key + ".mp4", bucket=bucket)
            if sha256 != row.sha256:
                raise ArchiveError(f"{key}.mp4 has other bytes than the catalogue names")
    version = await archive.version_id(key + ".json", bucket=bucket)
    try:
        document = await archive.get(key + ".json", bucket=bucket)
    except ObjectNotFound:
        return found
    found[".json"] = version
    try:
        index = parse_archive_document(document)
    except FormatError as error:
        raise ArchiveError(f"{key}.json cannot be read: {error}") from None
    if index.name != name or index.identity != row.identity:
        raise ArchiveError(f"{key}.json describes another recording than the catalogue names")
    return found


async def remove_exactly(
    archive: Archive, name: Name, row: RecordingRow, found: dict[str, str | None], bucket: str
) -> None:
    """Remove what `versions` found of a recording: its bytes, then its description."""
    for ending, version in found.items():
        await archive.remove(_key(name, row) + ending, bucket=bucket, version_id=version)


def _key(name: Name, row: RecordingRow) -> str:
    return "/".join((*name, recording_name(row.start_ms, row.record_seq)))


async def _remove(
    catalogue: Catalogue, archive: Archive, name: Name, row: DueRow, at_ms: int, reason: str
) -> bool:
    """Remove one recording, in this order: a look whether it is what its row names, what tells of
    it, its row, its bytes, its description, and that they are gone. False where a hold was set
    meanwhile: then nothing tells of it. Raises ArchiveError."""
    key, bucket, put = _key(name, row), row.bucket, None
    found = await versions(archive, name, row, bucket, row.etags)
    begun_ms = row.removal_begun_ms
    if begun_ms is not None:
        at_ms, reason = begun_ms, row.removed_reason or ""
    elif found.keys() != {".mp4", ".json"}:
        raise ArchiveError(f"{key} is not whole there any more: `kuager fsck` says what is missing")
    camera = dict(zip(("election", "station", "camera"), name, strict=True))
    why = {"removed_ms": at_ms, "reason": reason}
    told = Trace.of({**asdict(row), **camera, **why, "kuager": REMOVED_FORMAT})
    data = told.to_json()
    try:
        put = await archive.put(key + TRACE, data, sha256_of(data))
        if await archive.sha256(key + TRACE, bucket=put.bucket) != sha256_of(data):
            raise ArchiveError(f"{key}{TRACE} is not there when it is read back")
    except ArchiveConflict:  # whoever began with it died, or does it now; what was told stays
        told = Trace.parse(await archive.get(key + TRACE))
        if told.sha256 != row.sha256:
            raise ArchiveError(f"{key}{TRACE} tells of another recording") from None
    if begun_ms is None and not await catalogue.holds.begin_removal(
        name, row, archive.name, told.removed_ms, told.reason, clock_ms=at_ms
    ):
        if put is not None:
            await archive.remove(key + TRACE, bucket=put.bucket, version_id=put.version_id)
        return False
    if await archive.etag(key + TRACE) is None:  # fsck took back what an earlier pass had told
        data = told.to_json()
        await archive.put(key + TRACE, data, sha256_of(data))
    await remove_exactly(archive, name, row, found, bucket)
    await catalogue.holds.end_removal(name, row, archive.name)
    return True
