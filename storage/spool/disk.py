"""The disk under the spool: whether it is there, what room it has, and how long that lasts.

Hours left are the free bytes above the reserve, divided by what all recorders of the spool
write in a second: how long recording can go on if from now on nothing is removed. What the
uploader removes is left out on purpose. While it keeps up, the disk does not fill and nobody
needs the number; when the archive goes away it goes on removing, for as long as the rewind
window lasts, what was archived before, and a number that counts on that is large until it is
suddenly small. This one is never larger than the truth, and does not jump.
"""

from __future__ import annotations

import contextlib
import errno
import os
import uuid
from dataclasses import dataclass
from pathlib import Path

from base.durable import fsync_directory, replace_file
from storage.records import Ending, FormatError, GapCause, Marker

MARKER_FILE = "spool.json"
MARKER_FORMAT = "spool/1"
FEWEST_FILES = 256  # that the file system must still take
# of this process or this machine, and nothing that the disk is to blame for
_OURS = {
    errno.EMFILE: "this process has as many files open as it may: raise LimitNOFILE in the unit, "
    "or give it fewer cameras (workers)",
    errno.ENFILE: "this machine has as many files open as it can: raise fs.file-max",
    errno.ENOMEM: "this machine has no memory left: give it fewer cameras, or more memory",
}
_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
# what a bad block, a damaged file system or a right gives of one file, while others are well
_OF_ONE_FILE = {errno.EIO, errno.ENODATA, errno.EUCLEAN, errno.EBADMSG, errno.EACCES, errno.EPERM}


@dataclass(frozen=True, slots=True)
class DiskSpace:
    """What a disk has, in bytes; `files` says whether it takes more files."""

    free_bytes: int
    total_bytes: int
    files: bool


def refusal_of(error: OSError) -> Ending:
    """Return what an error of the disk means for recording."""
    cause = GapCause.DISK_FULL if error.errno in _FULL else GapCause.DISK_FAILED
    if short := shortage(error):
        return Ending(cause, f"the spool cannot be written: {short}")
    return Ending(cause, f"the spool cannot be written: {error.strerror}")


def shortage(error: OSError) -> str | None:
    """Say what this process or machine lacks and what to do, where an error means that."""
    return _OURS.get(error.errno or 0)


def may_be_of_one_file(error: OSError) -> bool:
    """Tell whether an error may be of the file alone that was read, and others are well."""
    return error.errno in _OF_ONE_FILE


def disk_space(spool: Path) -> DiskSpace:
    """Return the room of a spool's disk; raises OSError."""
    found = os.statvfs(spool)
    return DiskSpace(
        free_bytes=found.f_bavail * found.f_frsize,
        total_bytes=found.f_blocks * found.f_frsize,
        files=not found.f_files or found.f_favail >= FEWEST_FILES,  # 0: as many as fit
    )


def seconds_left(found: DiskSpace, reserve_bytes: int, bytes_per_s: float) -> float | None:
    """Return how long the room lasts; None where nothing is recorded."""
    if bytes_per_s <= 0:
        return None
    return max(0, found.free_bytes - reserve_bytes) / bytes_per_s


def is_mounted(mount: Path | None) -> bool:
    """Tell whether a disk is mounted where one is to be, or where a link leads; None: nowhere."""
    return mount is None or os.path.ismount(Path(os.path.realpath(mount)))


def claim_spool(spool: Path, mount: Path | None = None) -> str:
    """Return the spool's id; a new spool is made and marked with one.

    By the mark, a disk that went is told from a directory that is empty because it went. Nothing
    is made unless a disk is mounted at `mount`, if that is given. Raises OSError.
    """
    if not is_mounted(mount):
        raise OSError(errno.ENODEV, f"no disk is mounted at {mount}: mount it")
    with contextlib.suppress(FileNotFoundError):
        return spool_id(spool)
    (spool / "_status").mkdir(parents=True, exist_ok=True)
    own = spool / f"{MARKER_FILE}.{os.getpid()}"
    try:
        mark = Marker(MARKER_FORMAT, uuid.uuid4().hex)
        replace_file(own, mark.to_json(), durable=True)  # a torn one would refuse for good
        with contextlib.suppress(FileExistsError):  # another recorder was faster
            os.link(own, spool / MARKER_FILE)
    finally:
        own.unlink(missing_ok=True)
    fsync_directory(spool)
    return spool_id(spool)


def check_spool(spool: Path, wanted: str | None = None) -> DiskSpace:
    """Return the room of the spool; raises OSError, with words, where it cannot be written.

    With an id it must be the spool of that id.
    """
    try:
        found = spool_id(spool)
    except FileNotFoundError:
        text = f"it is gone from {spool} (no {MARKER_FILE} there): mount its disk again"
        raise OSError(errno.ENODEV, text) from None
    if wanted not in (None, found):
        text = f"another is at {spool} now: mount the one that was there, or restart Kuager"
        raise OSError(errno.ENODEV, text)
    if os.statvfs(spool).f_flag & os.ST_RDONLY:
        text = "its disk is read-only: see the kernel's log why, repair it, and mount it read-write"
        raise OSError(errno.EROFS, text)
    return disk_space(spool)


def spool_id(spool: Path) -> str:
    """Return the id by which a spool is marked; raises OSError where there is no mark."""
    try:
        return Marker.parse((spool / MARKER_FILE).read_bytes()).id
    except FormatError:
        path = spool / MARKER_FILE
        text = f"{path} cannot be read: if this is the right disk, remove it and restart"
        raise OSError(errno.EIO, text) from None
