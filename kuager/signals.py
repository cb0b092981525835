"""How a process is asked to end, once it has begun (before: kuager/__main__.py).

The handlers are Python's, not the event loop's: a loop takes its handlers away when it closes, and
a signal that came then would end the process without its exit code, or print a traceback. They
are functions also where they do nothing, as programs that we start would inherit SIG_IGN.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import stat
import time
from collections.abc import Callable

STOPS = (signal.SIGINT, signal.SIGTERM)
GRACE_S = 3.0  # what comes sooner after the first signal is the same wish, sent to a whole group


def on_stop(stop: Callable[[], None], hangup: Callable[[], None]) -> None:
    """Have the running event loop call `stop` for each SIGINT and SIGTERM, `hangup` for SIGHUP.

    Once the loop is closed, signals do nothing.
    """
    loop = asyncio.get_running_loop()

    def call(callback: Callable[[], None]) -> Callable[[int, object], None]:
        def handle(_number: int, _frame: object) -> None:
            with contextlib.suppress(RuntimeError):  # the loop is closed
                loop.call_soon_threadsafe(callback)

        return handle

    for number in STOPS:
        signal.signal(number, call(stop))
    signal.signal(signal.SIGHUP, call(hangup))


def on_parent_gone(
    gone: Callable[[], None], on_input: Callable[[bytes], None] = lambda _: None
) -> None:
    """Have the running event loop call `gone` once standard input, a pipe or a socket, ends.

    What comes over it before goes to `on_input`. Another kind of standard input has no end.
    """
    loop = asyncio.get_running_loop()
    with contextlib.suppress(OSError):  # there may be none
        mode = os.fstat(0).st_mode
        if not (stat.S_ISFIFO(mode) or stat.S_ISSOCK(mode)):
            return

        def readable() -> None:
            try:
                data = os.read(0, 1 << 16)
            except BlockingIOError:
                return
            except OSError:  # a socket whose peer died
                data = b""
            if data:
                on_input(data)
            else:
                loop.remove_reader(0)
                gone()

        loop.add_reader(0, readable)


class StopRequests:
    """What one process does each time it is asked to end: the first time `stop`, which seals.

    Who is `hard` set for, the one process that a person or a service manager speaks to, is ended
    by it when asked again later than GRACE_S. Within it, and in all others, repeats are ignored.
    """

    def __init__(
        self,
        stop: Callable[[], object],
        hard: Callable[[], None] | None = None,
        now: Callable[[], float] = time.monotonic,
    ):
        self._stop, self._hard, self._now = stop, hard, now
        self._first: float | None = None

    @property
    def already(self) -> bool:
        """Whether anybody asked."""
        return self._first is not None

    def again(self) -> None:
        """Take one signal."""
        if self._first is None:
            self._first = self._now()
            self._stop()
        elif self._hard is not None and self._now() - self._first > GRACE_S:
            self._hard()
