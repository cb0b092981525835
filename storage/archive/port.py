"""The port to where recordings are kept for good: directory.py and s3.py are behind it.

An object is never replaced by another: the key holds the recording's number, so a second object
under the same key is either the same bytes (a crash before the commit) or an error.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Literal, Protocol

from storage.records import FormatError, Marker

MARKER_KEY = "_kuager/archive.json"  # no election has such an id
TRACE = ".removed.json"  # ending of what tells that a recording was removed


class Fault(StrEnum):
    """Why an archive takes nothing. The list is closed: docs/operations.md."""

    UNREACHABLE = "unreachable"
    SLOW = "slow"  # or overloaded
    CERTIFICATE = "certificate"  # it is not the server's, or nobody vouches for it
    CREDENTIALS = "credentials"  # the key is refused, or may not do this
    BUCKET = "bucket"  # it is not there, or is not as the configuration wants it
    ANOTHER = "another"  # not the archive that was there, or its disk is not mounted
    ALTERED = "altered"  # it has other bytes than were put there
    CLOCK = "clock"  # differs too much from the server's
    DISK = "disk"  # of a directory
    OTHER = "other"


class ArchiveError(RuntimeError):
    """The archive refuses or cannot be reached; the text says what to do, without secrets."""

    def __init__(self, text: str, fault: Fault = Fault.OTHER):
        super().__init__(text)
        self.fault = fault


class ObjectNotFound(ArchiveError):
    """There is no such object; nothing is wrong with the archive."""

    def __init__(self, key: str):
        super().__init__(f"there is no {key}")


class ObjectExists(ArchiveError):
    """There is an object already, and it may not be replaced."""

    def __init__(self, key: str):
        super().__init__(f"{key} exists", Fault.ALTERED)


class AnotherArchive(ArchiveError):
    """What is there is not the archive that was there before, or is not marked as one."""

    def __init__(self, text: str):
        super().__init__(text, Fault.ANOTHER)


class ArchiveConflict(ArchiveError):
    """The key holds other bytes than the ones to be put there."""

    def __init__(self, text: str):
        super().__init__(text, Fault.ALTERED)


class UnreadableSource(Exception):
    """The file that was to be stored cannot be read, or has changed: the archive is not to blame.
    The text says what."""


@dataclass(frozen=True, slots=True)
class Put:
    """Where an object was stored; who compared its SHA-256 so far, if anyone."""

    bucket: str
    verified: Literal["", "by the server", "read back"]
    etag: str
    version_id: str | None = None


@dataclass(frozen=True, slots=True)
class Entry:
    """An object as a listing tells of it: size in bytes, when it was stored in UTC."""

    key: str
    bucket: str
    size: int
    stored_ms: int


class Archive(Protocol):
    """Objects by key. All methods raise ArchiveError; `bucket` is what `put` answered.

    While `expected_id` is set, nothing is put where the archive's marker (MARKER) is missing or
    has another id: a directory whose disk is not mounted is not the archive.
    """

    name: str
    buckets: tuple[str, ...]  # one nameless of a directory
    expected_id: str | None

    def bucket_of(self, key: str) -> str:
        """Return the bucket in which an object is or would be put."""

    async def check_id(self) -> None:
        """Raise AnotherArchive unless this is the archive of `expected_id`, if that is set."""

    async def check_lock(self) -> None:
        """Raise ArchiveError where retention dates are wanted and would not be kept to."""

    @property
    def refuses_to_replace(self) -> bool:
        """Whether `put` without `replace` is known to lose nothing, not even what another puts
        there in the same moment; of a server that is known once something was put."""

    @property
    def server_time(self) -> tuple[int, float] | None:
        """The `Date` of its server's last answer in UTC milliseconds, and when that came, in
        `base.hostclock.elapsed_ms`; None where there is no server, or it has not answered yet."""

    async def put(
        self,
        key: str,
        data: bytes | Path,
        sha256: str,
        locked_until_ms: int | None = None,
        *,
        replace: bool = False,
    ) -> Put:
        """Store bytes, or those of a file, whole; without `replace`, raises ArchiveConflict
        rather than lose others. A file is read piece by piece; where it cannot be, raises
        UnreadableSource."""

    async def get(
        self, key: str, offset: int = 0, length: int | None = None, *, bucket: str = ""
    ) -> bytes:
        """Return a range of an object; raises ObjectNotFound where there is none."""

    async def sha256(self, key: str, *, bucket: str = "") -> str | None:
        """Read an object back and return its hash; None when there is none."""

    async def etag(self, key: str, *, bucket: str = "") -> str | None:
        """Return what changes when an object is replaced; None when there is none."""

    async def version_id(self, key: str, *, bucket: str = "") -> str | None:
        """Return the version of an object, where versions are kept; None else, or without one."""

    def entries(self, prefix: str) -> AsyncIterator[Entry]:
        """Yield what there is below a prefix that ends with `/`, sorted within each bucket."""

    async def below(self, prefix: str) -> list[str]:
        """Return the next part of all keys that begin with a prefix that ends with `/`, sorted."""

    async def remove(self, key: str, *, bucket: str = "", version_id: str | None = None) -> None:
        """Remove an object; nothing to do where there is none."""

    async def close(self) -> None:
        """Release threads and connections."""


def parse_marker(data: bytes, where: str) -> str:
    """Return the id in an archive's marker; raises AnotherArchive where there is none."""
    try:
        return Marker.parse(data).id
    except FormatError:
        raise AnotherArchive(
            f"{where}: {MARKER_KEY} cannot be read: put it back from a copy"
        ) from None


def compare_ids(found: str | None, expected: str | None, where: str) -> None:
    """Raise AnotherArchive unless the id that was found is the expected one."""
    if expected is not None and found is None:
        raise AnotherArchive(
            f"the archive is gone from {where} (no {MARKER_KEY} there): mount its disk, or put the "
            "marker back; where all of it is lost, give a new archive another 'name'"
        )
    if expected is not None and found != expected:
        raise AnotherArchive(
            f"another archive is at {where} now (id {found}, not {expected}): mount the one that "
            "was there; where that is lost, give the new one another 'name'"
        )
