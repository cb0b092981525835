"""A recording and its index in the making: their name, their two files, and how they are sealed.

The files are docs/formats.md. Whatever the disk refuses is raised as OSError.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import zlib
from pathlib import Path

from base.clock import Clock
from base.durable import fsync_directory, make_directory, write_all
from storage.records import GapCause, Header, Seal, Segment

ROTATE_MS = 60_000


class Recording:
    """The recording in the making: two open files and a running hash."""

    def __init__(
        self,
        base: Path,
        header: Header,
        init: bytes,
        start_ms: int,
        camera_id: str,
        clock: Clock,
    ):
        self._clock = clock
        self.segments = 0
        self.unsure = False  # whether a flush failed: the disk may not have what can be read
        self.end_ms = start_ms
        phase = zlib.crc32(camera_id.encode()) % ROTATE_MS  # so that cameras do not rotate at once
        self.rotate_ms = start_ms + ROTATE_MS - (start_ms - phase) % ROTATE_MS
        make_directory(base.parent)  # not its parents: a disk that is gone is not made up
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
        self.base = base
        self.digest = hashlib.sha256(init)
        self.length = len(init)
        with contextlib.ExitStack() as undo:  # a disk that refuses leaves no half recording
            for ending, data in ((".mp4", init), (".jsonl", header.to_line())):
                path = base.with_name(base.name + ending)
                fd = os.open(path, flags, 0o644)
                undo.callback(path.unlink, missing_ok=True)
                undo.callback(os.close, fd)
                write_all(fd, data)
                if ending == ".mp4":
                    self.media = fd
                else:
                    self.index = fd
            undo.pop_all()

    def append(self, data: bytes, segment: Segment, end_ms: int) -> None:
        """Write a segment, then its line: by that it is live."""
        write_all(self.media, data)
        write_all(self.index, segment.to_line())
        self.digest.update(data)
        self.length += len(data)
        self.segments += 1
        self.end_ms = end_ms

    def seal(self, reason: GapCause | None) -> None:
        """Flush and seal; `reason` is why the run ends with it, None where it goes on."""
        try:
            self._flush(self.media)
            seal = Seal(
                sealed_ms=self._clock(),
                segments=self.segments,
                length=self.length,
                sha256=self.digest.hexdigest(),
                end_ms=self.end_ms,
                end_reason=reason,
            )
            write_all(self.index, seal.to_line())
            self._flush(self.index)
        finally:
            self.close()
        self.unsure = True
        fsync_directory(self.base.parent)
        self.unsure = False

    def _flush(self, fd: int) -> None:
        """Flush a file. After a failure, whatever its errno, the kernel counts its pages as
        written: no later flush tells whether they are."""
        self.unsure = True
        os.fsync(fd)
        self.unsure = False

    def close(self) -> None:
        """Close both files, once: their numbers may be another camera's a moment later."""
        files, self.media, self.index = (self.media, self.index), -1, -1
        for fd in files:
            if fd >= 0:
                with contextlib.suppress(OSError):
                    os.close(fd)
