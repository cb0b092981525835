"""A pipe to or from a child process, each descriptor of it with exactly one owner.

A transport of asyncio wants a file object and closes it; uvloop closes the descriptor below it as
well. Between the two closes another thread may have opened a file that got the same number, and
then loses it. So pipes are watched with `loop.add_reader`, and whoever opened one closes it.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
from collections.abc import Callable

_buffer = memoryview(bytearray(256 * 1024))  # shared by all pipes: a process has one event loop


class ReadPipe:
    """A pipe that a child writes and the event loop reads.

    `take` is called with what was read, valid until it returns, and `ended` once, when nobody
    has the writing end open any more. `size` is what the kernel is asked to buffer, in bytes.
    Give `writing` to the child, then call `child_has_it`; call `close` in every case.
    """

    def __init__(
        self,
        take: Callable[[memoryview], None],
        ended: Callable[[], None] = lambda: None,
        size: int = 0,
    ):
        self._take, self._ended = take, ended
        self._reading, self.writing = os.pipe2(os.O_CLOEXEC)
        os.set_blocking(self._reading, False)
        if size:
            with contextlib.suppress(OSError):  # an unprivileged user may have used up his share
                fcntl.fcntl(self._reading, fcntl.F_SETPIPE_SZ, size)
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(self._reading, self._readable)

    def child_has_it(self) -> None:
        """Close our copy of the writing end, so that the child's is the last."""
        if self.writing >= 0:
            os.close(self.writing)
            self.writing = -1

    def close(self) -> None:
        """Stop reading and free the descriptors; may be called twice."""
        self.child_has_it()
        self._stop()

    def _stop(self) -> None:
        if self._reading >= 0:
            self._loop.remove_reader(self._reading)
            os.close(self._reading)
            self._reading = -1

    def drain(self) -> None:
        """Take now what the pipe holds, without waiting for more."""
        while self._reading >= 0 and self._readable():
            pass

    def _readable(self) -> bool:
        try:
            count = os.readv(self._reading, [_buffer])
        except BlockingIOError:
            return False
        if count:
            self._take(_buffer[:count])
        else:
            self._stop()
            self._ended()
        return count > 0


def pipe_with(data: bytes) -> int:
    """Return the reading end of a pipe that holds `data`, at most 64 kB, and then ends.

    The caller closes it.
    """
    reading, writing = os.pipe2(os.O_CLOEXEC)
    try:
        os.set_blocking(writing, False)
        if os.write(writing, data) != len(data):
            raise OSError(f"{len(data)} bytes do not fit into a pipe")
    except BaseException:
        os.close(reading)
        raise
    finally:
        os.close(writing)
    return reading
