"""One recording in one archive: stored, verified and noted in the catalogue, and read from there.

The steps of a recording stand in `VerifiedArchive.store`, top to bottom. Every step may be
repeated; a crash between two repeats the first.
"""

from __future__ import annotations

import asyncio
import hashlib
import random
from pathlib import Path

import structlog

from base.clock import Clock, now_ms
from config.model import Archive as Settings
from storage.archival.backlog import Blocked
from storage.archival.pending import PermanentUploadError
from storage.archive.port import (
    Archive,
    ArchiveConflict,
    ArchiveError,
    Fault,
    ObjectNotFound,
    Put,
    UnreadableSource,
)
from storage.catalogue.archive_ids import identify
from storage.catalogue.cameras import Name
from storage.catalogue.catalogue import Catalogue
from storage.catalogue.rows import Archived
from storage.catalogue.schema import DAY_MS
from storage.records import ArchivedGap, FormatError, Index, parse_archive_document, sha256_of

LOCKED_LEAST_MS = 600_000  # an upload may take as long, and clocks differ
PIECE = 1 << 22  # bytes of a recording that are in memory while it is read from an archive

log = structlog.get_logger()


class VerifiedArchive:
    """An archive in which nothing counts as stored before it was verified."""

    def __init__(
        self, settings: Settings, archive: Archive, catalogue: Catalogue, clock: Clock = now_ms
    ):
        self.settings, self.archive = settings, archive
        self._catalogue, self._clock = catalogue, clock
        self._days: dict[Name, int] = {}  # the newest of which something was read back
        self._identifying = asyncio.Lock()
        self.verification_failures = 0

    async def identify(self) -> None:
        """Compare the archive's id, unless that was done; raises as archive_ids.identify."""
        async with self._identifying:
            if self.archive.expected_id is None:
                await identify(self.archive, self._catalogue.archive_ids)

    def locked_until_ms(self, index: Index) -> int | None:
        """Return until when Object Lock keeps a recording (UTC); None where it does not, and where
        that is over: no server takes a date of the past, and the recording belongs there."""
        keep_s = self.settings.keep
        if not self.settings.lock or not keep_s:
            return None
        until_ms = index.end_ms + keep_s * 1000
        return until_ms if until_ms > self._clock() + LOCKED_LEAST_MS else None

    async def store(self, index: Index, media: bytes | Path) -> Archived:
        """Take one recording, whose bytes were compared, to the archive; all steps after that.

        Raises ArchiveError, PermanentUploadError, CatalogueError.
        """
        assert index.seal is not None
        key, document = index.archive_key, index.archive_document()
        locked_until_ms = self.locked_until_ms(index)
        read_back = self._is_first_of_day(index) or (
            random.uniform(0, 100) < self.settings.read_back
        )
        # 2. the object, 3. its description as the commit, both verified
        parts: tuple[tuple[str, bytes | Path, str], ...] = (
            (".mp4", media, index.seal.sha256),
            (".json", document, sha256_of(document)),
        )
        how = locked_until_ms, read_back, index.seal.sha256
        try:
            (put, verified), (description, _) = [
                await self._put(key + ending, data, sha256, *how) for ending, data, sha256 in parts
            ]
        except UnreadableSource as error:
            raise PermanentUploadError(Blocked.UNREADABLE, str(error)) from None
        # 4. the row: from here on it may leave the spool
        etags = f"{put.etag} {description.etag}"
        there = Archived(
            self.archive.name,
            put.bucket,
            now_ms(),
            verified,
            etags,
            put.version_id,
            locked_until_ms,
        )
        if not await self._catalogue.writer.mark_archived(index, there):
            text = f"the catalogue has no row for {key}"
            raise PermanentUploadError(Blocked.NO_ROW, text)
        return there

    async def still_has(self, index: Index, bucket: str, etags: str) -> bool:
        """Say whether the archive has a recording as it was verified: a last look before the
        spool's copy goes. What was replaced since, by a write that was long on its way, is read.

        Raises ArchiveError where it cannot be asked, or is another archive.
        """
        assert index.seal is not None
        await self.identify()
        key = index.archive_key
        media, description = [
            await self.archive.etag(key + ending, bucket=bucket) for ending in (".mp4", ".json")
        ]
        if f"{media} {description}" == etags:
            return True
        await self.archive.check_id()  # of a disk that is not mounted nothing is there
        wanted = (index.seal.sha256, sha256_of(index.archive_document()))
        for ending, sha256 in zip((".mp4", ".json"), wanted, strict=True):
            found = await self.archive.sha256(key + ending, bucket=bucket)
            if found != sha256:
                what = "is no longer there" if found is None else "was altered later"
                where = key + ending
                log.error(f"An archived recording {what}", archive=self.archive.name, key=where)
                self.verification_failures += 1
                return False
        return True

    async def fetch(self, key: str, bucket: str, to: Path) -> Index:
        """Write the recording under a key to a file, compared with its hashes.

        Raises ObjectNotFound where there is none, FormatError where it is spoilt, and ArchiveError.
        """
        digest = hashlib.sha256()
        index = parse_archive_document(await self.archive.get(key + ".json", bucket=bucket))
        length = index.seal.length if index.seal else 0

        def take(piece: bytes) -> None:
            digest.update(piece)
            file.write(piece)

        try:
            with to.open("wb") as file:
                for at in range(0, length, PIECE):
                    count = min(PIECE, length - at)
                    piece = await self.archive.get(key + ".mp4", at, count, bucket=bucket)
                    await asyncio.to_thread(take, piece)
        except OSError as error:
            raise ArchiveError(f"{to} cannot be written: {error.strerror}") from None
        if index.archive_key != key or not index.seal or index.seal.sha256 != digest.hexdigest():
            raise FormatError(f"{key} has other bytes than its description says")
        return index

    async def put_document(self, key: str, data: bytes) -> None:
        """Store a small object, and read it back."""
        await self._put(key, data, sha256_of(data), None, read_back=True)

    async def _put(
        self,
        key: str,
        data: bytes | Path,
        sha256: str,
        locked_until_ms: int | None,
        read_back: bool,
        media_sha256: str | None = None,
    ) -> tuple[Put, str]:
        """Put an object; return where it is, and how that is known.

        `media_sha256` is that of the recording to which it belongs.
        """
        try:
            put = await self.archive.put(key, data, sha256, locked_until_ms)
        except ArchiveConflict as conflict:
            if await self._is_another(key, media_sha256):
                raise PermanentUploadError(Blocked.REFUSED, str(conflict)) from None
            name = self.archive.name
            if media_sha256 is None and await self._is_gap(key):
                log.info("A gap that an archive has ended otherwise", archive=name, key=key)
            else:
                # Half an object, or altered: of an upload of ours that the server spoilt. Nothing
                # vouches for these bytes, and they would keep the right ones out.
                log.error("A damaged object in the archive is replaced", archive=name, key=key)
                self.verification_failures += 1
            put = await self.archive.put(key, data, sha256, locked_until_ms, replace=True)
        if put.verified == "read back" or (put.verified and not read_back):
            return put, put.verified
        found = await self.archive.sha256(key, bucket=put.bucket)
        if found != sha256:
            self.verification_failures += 1
            what = "is not there" if found is None else "has other bytes"
            raise ArchiveError(f"{key} {what} when it is read back", Fault.ALTERED)
        return put, ", ".join(filter(None, (put.verified, "read back")))

    async def _is_gap(self, key: str) -> bool:
        """Say whether an archive has a gap under a key that can be read."""
        try:
            ArchivedGap.parse(await self.archive.get(key))
        except (ObjectNotFound, FormatError):
            return False
        return True

    async def _is_another(self, key: str, media_sha256: str | None) -> bool:
        """Say whether the archive has a whole recording under a key whose bytes are not ours.

        Where the bytes are ours, a `.json` that is another was spoilt, though it can be read.
        """
        base = key.rpartition(".")[0]
        try:
            index = parse_archive_document(await self.archive.get(base + ".json"))
        except (ObjectNotFound, FormatError):
            return False
        found = await self.archive.sha256(base + ".mp4")
        return index.seal is not None and index.seal.sha256 == found != media_sha256

    def _is_first_of_day(self, index: Index) -> bool:
        name, day = index.name, index.start_ms // DAY_MS
        first = self._days.get(name) != day
        self._days[name] = day
        return first
