"""What is known of one camera while fsck looks at it, and what is found."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from storage.catalogue.cameras import Name
from storage.catalogue.catalogue import Catalogue, InSpool
from storage.catalogue.rows import ArchivedRow, RecordingRow, recording_values
from storage.fsck.listing import ArchiveListing
from storage.records import Identity, Index, plain, sha256_of
from storage.spool.reader import Key, SpoolReader, SpoolRecording

IN_FLIGHT_MS = 600_000  # an object that is younger than this is not missed in the catalogue
WAITS_MS = 3_600_000  # what another spool has not archived after so long is told of


@dataclass(frozen=True, slots=True)
class Finding:
    """Something that is not as it should be; `done` says how it was put right, if it was."""

    camera: str
    where: str  # spool, catalogue, schedule, or the name of an archive
    kind: str  # missing, extra or different
    what: str
    which: str = ""  # record_seq or key, for one to look at
    done: str = ""


@dataclass(slots=True)
class CheckedCamera:
    """One camera in catalogue, archives and spool, as it was found at `now_ms`."""

    name: Name
    now_ms: int
    catalogue: Catalogue
    reader: SpoolReader
    spool_id: str | None  # None where there is no spool here
    listings: Sequence[ArchiveListing]
    rows: dict[Identity, RecordingRow] = field(default_factory=dict)
    stored: dict[Key, SpoolRecording] = field(default_factory=dict)
    # by whom recordings were described first, and the SHA-256 of how
    _described: dict[Identity, tuple[str, str]] = field(default_factory=dict)

    def finding(
        self, where: str, kind: str, what: str, which: object = "", done: str = ""
    ) -> Finding:
        """Return a finding of this camera."""
        return Finding("/".join(self.name[1:]), where, kind, what, plain(str(which)), done)

    async def read_rows(self) -> dict[Identity, RecordingRow]:
        """Return the rows of its recordings as they are now."""
        return {r.identity: r for r in await self.catalogue.recordings_of(self.name)}

    async def in_spool(self) -> dict[Key, InSpool]:
        """Return the rows of what this spool has, of whatever election."""
        if self.spool_id is None:
            return {}
        return await self.catalogue.in_spool(*self.name[1:], self.spool_id)

    async def says(self, row: RecordingRow, archive: str) -> bool:
        """Say whether the catalogue still says that an archive has a recording."""
        told = (await self.read_rows()).get(row.identity)
        return told is not None and archive in told.buckets

    def waits(self, row: RecordingRow) -> bool:
        """Say whether another spool has a recording, as far as its row knows."""
        return row.removed_ms is None and row.spool not in (None, self.spool_id)

    def comes(self, row: RecordingRow) -> bool:
        """Say whether an archive may still get a recording from another spool. That one may be
        gone: after a while it is missed where another archive has it."""
        return self.waits(row) and not (row.there and row.end_ms < self.now_ms - WAITS_MS)

    def is_here(self, row: RecordingRow) -> bool:
        """Say whether this spool has a recording, or what may be it."""
        stored = self.stored.get(row.key)
        if stored is None:  # it may be in a folder that cannot be read
            return bool(self.reader.unlisted) and row.removed_ms is None and not self.waits(row)
        index = self.reader.read(stored)
        return not index or not index.seal or index.identity == row.identity

    def described_otherwise(self, where: str, index: Index) -> str:
        """Return the spool or the archive that was asked before and describes the same bytes
        otherwise; "" for none. Of arrivals, clocks, losses and gaps no byte tells."""
        stored, identity = self.stored.get(index.identity[:2]), index.identity
        local = stored and self.reader.read(stored)
        if local and local.seal and local.identity == identity:
            told = sha256_of(local.archive_document())
            self._described.setdefault(identity, ("the spool", told))
        told = sha256_of(index.archive_document())
        first, first_told = self._described.setdefault(identity, (where, told))
        return "" if told == first_told else first

    def lost(self, row: RecordingRow, done: str) -> str:
        """Return what to call a recording that an archive has not."""
        others = self.is_here(row) or self.waits(row)
        others = others or any(listing.has(row.key) for listing in self.listings)
        return "recording" if done or others else "recording that nobody has: lost"


def said_of(row: RecordingRow | None, archive: str) -> ArchivedRow | None:
    """Return what a row says that an archive has, or had."""
    return next((a for a in row.archives if a.archive == archive), None) if row else None


def differs(row: RecordingRow, index: Index) -> str:
    """Return what a row says otherwise than the description beside the bytes; "" for nothing."""
    right = recording_values(index)
    if row.sha256 != right["sha256"]:
        return "sha256"
    return ", ".join(name for name, value in right.items() if getattr(row, name) != value)
