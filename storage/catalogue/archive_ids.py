"""Each archive has an id, in a marker that it carries (docs/formats.md) and in the catalogue.

By it a disk that is not mounted, and a bucket that is another than before, are told from the
archive: nothing is written there, and nothing leaves the spool because of what was once archived.
"""

from __future__ import annotations

import asyncio
import uuid

import sqlalchemy as sa
import structlog

from storage.archive.port import (
    MARKER_KEY,
    AnotherArchive,
    Archive,
    ArchiveConflict,
    ArchiveError,
    ObjectNotFound,
    compare_ids,
    parse_marker,
)
from storage.catalogue.connection import Pool
from storage.catalogue.schema import archive_ids, archived
from storage.records import Marker, sha256_of

FORMAT = "archive/1"

log = structlog.get_logger()


class ArchiveIds:
    """The ids of the archives that the catalogue knows, by their names in the configuration."""

    def __init__(self, pool: Pool):
        self._pool = pool
        self.naming = asyncio.Lock()  # archives are noted one after the other

    async def known(self) -> dict[str, str]:
        """Return ids by name."""
        rows = await self._pool.rows(sa.select(archive_ids))
        return {row["archive"]: row["archive_id"] for row in rows}

    async def remember(self, archive: str, archive_id: str) -> None:
        """Note the id of an archive that had none; whoever was faster is right."""
        row = {"archive": archive, "archive_id": archive_id}
        await self._pool.upsert(archive_ids, [row], ["archive"], [])

    async def has_recordings(self, archive: str) -> bool:
        """Say whether the catalogue has recordings in an archive of this name."""
        a = archived.c
        asked = sa.select(a.day).where(a.archive == archive, a.removed_ms.is_(None)).limit(1)
        return bool(await self._pool.column(asked))


async def identify(archive: Archive, ids: ArchiveIds) -> None:
    """Have an archive expect the id that the catalogue knows, or mark it with a new one.

    It is marked where neither it nor the catalogue knows an id: a new archive, or one from before
    there were ids. Raises AnotherArchive where it is not the one that was there, ArchiveError,
    and what a database raises.
    """
    await archive.check_id()
    known = await ids.known()
    found = await marked(archive)
    expected = known.get(archive.name)
    if expected is None:
        own = None if found else await _mark(archive, ids)
        found = found or own or await _marked_by_another(archive)
        async with ids.naming:  # of two new names of one place the second sees the first
            named = {name for name, other in (await ids.known()).items() if other == found}
            if others := sorted(named - {archive.name}):
                raise AnotherArchive(
                    f"this is the archive '{others[0]}': give it that name again, or another place"
                )
            await ids.remember(archive.name, found)
            expected = (await ids.known())[archive.name]
        if own not in (None, expected) and not archive.refuses_to_replace:
            # who was faster had marked it in the same moment, and the server let ours replace that;
            # where none does, he has marked another place: a disk of his own by the same name
            found = expected
            await _put_marker(archive, expected, replace=True)
    compare_ids(found, expected, f"the place of '{archive.name}'")
    archive.expected_id = expected


async def marked(archive: Archive) -> str | None:
    """Return the id in an archive's marker; None where there is no marker."""
    try:
        return parse_marker(await archive.get(MARKER_KEY), archive.name)
    except ObjectNotFound:
        return None


async def _mark(archive: Archive, ids: ArchiveIds) -> str | None:
    """Mark a new archive; return its id, None where another process was faster."""
    there = set(await archive.below("")) - {MARKER_KEY.partition("/")[0]}
    if not there and await ids.has_recordings(archive.name):
        raise AnotherArchive(
            f"the catalogue has recordings in '{archive.name}', and nothing is there: mount its "
            "disk; where all of it is lost, give a new archive another 'name'"
        )
    archive_id = uuid.uuid4().hex
    try:
        await _put_marker(archive, archive_id)
    except ArchiveConflict:
        return None
    log.info("A new archive was marked", archive=archive.name, archive_id=archive_id)
    return archive_id


async def _put_marker(archive: Archive, archive_id: str, *, replace: bool = False) -> None:
    data = Marker(FORMAT, archive_id).to_json()
    await archive.put(MARKER_KEY, data, sha256_of(data), replace=replace)


async def _marked_by_another(archive: Archive) -> str:
    if (found := await marked(archive)) is None:
        raise ArchiveError(f"'{archive.name}' says that {MARKER_KEY} exists, and does not give it")
    return found
