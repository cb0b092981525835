"""Rows of the catalogue as types: what its readers get. Fields are named as the columns are.

All times are UTC milliseconds.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from storage.catalogue.schema import DAY_MS
from storage.records import Identity, Index, Losses


@dataclass(slots=True)
class Archived:
    """What an archive has of a recording: `verified` says how that is known."""

    archive: str
    bucket: str
    archived_ms: int
    verified: str
    etags: str = ""  # of .mp4 and .json, with a space between
    version_id: str | None = None
    locked_until_ms: int | None = None


@dataclass(slots=True, kw_only=True)
class ArchivedRow(Archived):
    """What an archive has, or had, of which recording."""

    camera_pk: int
    record_seq: int
    day: int
    collision: int
    removed_ms: int | None
    removed_reason: str | None
    removal_begun_ms: int | None


@dataclass(slots=True, kw_only=True)
class TimelineRow:
    """When a recording was made, with what archives have of it where that was asked for."""

    camera_pk: int = 0
    record_seq: int
    day: int
    collision: int = 0
    start_ms: int
    end_ms: int
    archives: Sequence[ArchivedRow] = ()
    losses: Losses = Losses()

    @property
    def key(self) -> tuple[int, int]:
        """Number and start, by which a spool and an archive name it."""
        return self.record_seq, self.start_ms

    @property
    def there(self) -> list[ArchivedRow]:
        """What the archives say that have it."""
        return [a for a in self.archives if a.removed_ms is None]

    @property
    def buckets(self) -> dict[str, str]:
        """The archives that have it, each with the bucket."""
        return {a.archive: a.bucket for a in self.there}

    @property
    def removed(self) -> ArchivedRow | None:
        """What the last archive says that removed it, where none has it any more."""
        if not self.archives or self.there:
            return None
        return max(self.archives, key=lambda a: a.removed_ms or 0)


@dataclass(slots=True, kw_only=True)
class RecordingRow(TimelineRow):
    """All that the catalogue knows of a recording."""

    epoch: int
    run_no: int
    first_segment_no: int
    segments: int
    bytes: int
    sha256: str
    overlaps: bool
    removed_ms: int | None = None  # from the spool
    spool: str | None = None

    @classmethod
    def of(cls, index: Index) -> RecordingRow:
        """Return the row that a sealed recording would have, without its camera."""
        return cls(**recording_values(index), losses=Losses.of(index.segments))

    @property
    def identity(self) -> Identity:
        """Which recording of its camera it is."""
        return Identity(self.record_seq, self.start_ms, self.sha256)


@dataclass(slots=True, kw_only=True)
class DueRow(RecordingRow):
    """A recording whose time has come in an archive, with what that has of it."""

    bucket: str
    etags: str
    locked_until_ms: int | None
    removal_begun_ms: int | None
    removed_reason: str | None


def recording_values(index: Index) -> dict[str, Any]:
    """Return what the index of a sealed recording says of its row."""
    header, seal = index.header, index.seal
    assert seal is not None
    return {
        "record_seq": header.record_seq,
        "day": index.start_ms // DAY_MS,
        "epoch": header.epoch,
        "run_no": header.run_no,
        "first_segment_no": index.segments[0].segment_no,
        "segments": seal.segments,
        "start_ms": index.start_ms,
        "end_ms": seal.end_ms,
        "bytes": seal.length,
        "sha256": seal.sha256,
        "overlaps": header.overlaps,
    }


@dataclass(slots=True)
class HoldRow:
    """What must not be removed, although its time has come."""

    hold_no: int
    election: str
    station: str | None
    camera: str | None
    from_ms: int | None
    to_ms: int | None
    until_ms: int | None
    reason: str
    created_ms: int
    released_ms: int | None
    order_pk: int | None


@dataclass(slots=True, kw_only=True)
class OfOrder:
    """Something of an order: `number` is None until it is placed."""

    order_pk: int
    number: int | None = None


@dataclass(slots=True, kw_only=True)
class FileRow(OfOrder):
    """A file of an order, and how far the pass over its bytes is."""

    file_no: int
    length: int
    hashed: int
    sha256: str | None = None
    crc32: int | None = None
    failed: str | None = None


@dataclass(slots=True, kw_only=True)
class PlannedFile(FileRow):
    """The same, with how it is made: `plan` is for copies/footage/plan.py."""

    plan: dict[str, Any]
    head: bytes | None = None


@dataclass(slots=True, kw_only=True)
class CheckoutRow(OfOrder):
    """A page of a provider on which an order can be paid."""

    provider: str
    reference: str
    url: str
    opened_ms: int
    looked_ms: int | None
    closed_ms: int | None


@dataclass(slots=True, kw_only=True)
class LetterRow(OfOrder):
    """A letter that waits to be sent; one that does not has no address any more."""

    letter_no: int
    kind: str
    recipient: str
    link: str | None
    created_ms: int
    tries: int
    next_ms: int | None
    sent_ms: int | None
    error: str | None
