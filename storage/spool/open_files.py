"""Files of the spool that are read again and again: each is opened once and kept open for a moment.

A removed file gives its room back when the last descriptor of it is closed, so none is kept for
longer than OPEN_S, however often it is read.
"""

from __future__ import annotations

import asyncio
import os
from dataclasses import dataclass
from pathlib import Path

OPEN_S = 2.0
MOST_OPEN = 64


@dataclass(slots=True)
class _Open:
    fd: int
    size: int  # when it was looked at; a recording that is being written grows
    closing: asyncio.TimerHandle


class OpenFiles:
    """Reads ranges of files, in the thread of the event loop. At most `most` are open at once."""

    def __init__(self, most: int = MOST_OPEN, open_s: float = OPEN_S):
        self._most, self._open_s = most, open_s
        self._open = dict[Path, _Open]()  # the first opened is the first

    def read(self, path: Path, offset: int, length: int, end: int) -> bytes:
        """Return a range of a file; nothing of a file that ends before `end`. Raises OSError."""
        file = self._open.get(path) or self._opened(path)
        try:
            if file.size < end:
                file.size = os.fstat(file.fd).st_size
            return os.pread(file.fd, length, offset) if file.size >= end else b""
        except OSError:  # the next one who asks opens it anew
            self._close(path)
            raise

    def close(self) -> None:
        """Close all of them."""
        for path in list(self._open):
            self._close(path)

    def _opened(self, path: Path) -> _Open:
        loop = asyncio.get_running_loop()
        if len(self._open) >= self._most:
            self._close(next(iter(self._open)))
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        closing = loop.call_later(self._open_s, self._close, path)
        found = self._open[path] = _Open(fd, 0, closing)
        return found

    def _close(self, path: Path) -> None:
        file = self._open.pop(path)
        file.closing.cancel()
        os.close(file.fd)
