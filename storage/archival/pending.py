"""What an archive is to have: recordings of the spool, and gaps that none of them carries."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Self

from storage.archival.backlog import Blocked, Job
from storage.catalogue.cameras import Name
from storage.records import FormatError, Index, parse_index
from storage.spool.reader import SpoolRecording
from storage.spool.repair import compared


class PermanentUploadError(Exception):
    """Something about this one recording, whatever the archive; the text says what."""

    def __init__(self, blocked: Blocked, text: str):
        super().__init__(text)
        self.blocked = blocked


@dataclass(slots=True, eq=False)
class PendingUpload(Job):
    """A recording that an archive does not have; its index is read again when it is its turn."""

    stored: SpoolRecording
    done: dict[str, tuple[str, str]]  # the archives that have it, with bucket and ETags

    @classmethod
    def of(
        cls, name: Name, stored: SpoolRecording, length: int, done: dict[str, tuple[str, str]]
    ) -> Self:
        """Return what is to be done to archive a recording of a camera; `length` is in bytes."""
        return cls(str(stored.base), name, stored.start_ms, length, stored, done)


@dataclass(slots=True, eq=False)
class PendingDocument(Job):
    """A small object without a row, that is its own commit: an ended gap."""

    data: bytes


def read_sealed(stored: SpoolRecording) -> tuple[Index, Path]:
    """Return the index of a recording in the spool and its file, whose bytes were compared;
    raises PermanentUploadError."""
    try:
        index = parse_index(stored.lines.read_bytes())
        stored.check_name(index)
        unaltered, described = compared(index, stored.media)
    except FileNotFoundError:
        text = f"{stored.media} is gone from the spool"
        raise PermanentUploadError(Blocked.GONE, text) from None
    except (OSError, FormatError) as error:
        text = f"{stored.media} cannot be read: {error}"
        raise PermanentUploadError(Blocked.UNREADABLE, text) from None
    if not unaltered:
        text = f"{stored.media} does not have the bytes that were sealed"
        raise PermanentUploadError(Blocked.ALTERED, text)
    if not described:
        text = f"{stored.lines} is spoilt: it describes other bytes than those beside it"
        raise PermanentUploadError(Blocked.UNREADABLE, text)
    return index, stored.media
