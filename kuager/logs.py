"""Logs: sentences with context for a person at a terminal, JSON lines for everything else.

What libraries say by Python's `logging` goes the same way. A traceback never has the values of
variables, among which are secrets. In processes that answer to the public a line is written
LINES times in EVERY_S, however often somebody causes it. Nobody waits for a line to be written: one
that cannot be is left out, and ends nothing that goes on.
"""

from __future__ import annotations

import contextlib
import logging
import sys
import threading
import time
from collections.abc import Callable, MutableMapping
from queue import SimpleQueue
from typing import Any

import structlog

from base.durable import write_all

LINES, EVERY_S = 20, 10.0
MOST_WAITING = 10_000  # lines that are not written yet
FLUSH_S = 1.0
MOST_SENTENCES = 1000  # known at a time; there are some dozens

Event = MutableMapping[str, Any]


class Seldom(logging.Filter):
    """Leaves out a line that was written LINES times in EVERY_S; a later one says how many."""

    def __init__(self, now: Callable[[], float] = time.monotonic):
        super().__init__()
        self._now = now
        self._seen: dict[str, tuple[float, int]] = {}  # since when, and how often

    def due(self, sentence: str) -> int | None:
        """Return how many lines were left out before this one; None if it is left out itself."""
        now = self._now()
        since, count = self._seen.get(sentence, (now, 0))
        left_out = 0
        if now - since >= EVERY_S:
            left_out, since, count = max(0, count - LINES), now, 0
        if len(self._seen) >= MOST_SENTENCES and sentence not in self._seen:
            self._seen.clear()
        self._seen[sentence] = since, count + 1
        return left_out if count < LINES else None

    def __call__(self, _logger: object, _method: str, event: Event) -> Event:
        """Return a line of structlog's that is to be written; raises DropEvent."""
        left_out = self.due(str(event.get("event")))
        if left_out is None:
            raise structlog.DropEvent
        return {**event, "left_out": left_out} if left_out else event

    def filter(self, record: logging.LogRecord) -> bool:
        """Tell whether a line of a library is to be written."""
        return self.due(str(record.msg)) is not None


class _Lines(logging.Handler):
    """Writes lines to standard error in a thread of its own, for structlog and for `logging`.

    A terminal that is stopped (Ctrl-S), or a program that does not read what it is given, would
    else hold up whoever has something to say: the event loop of a recorder, and all its cameras.
    """

    def __init__(self) -> None:
        super().__init__()
        # one that may be put into by who is putting already: what the garbage collector takes away
        # in the midst of it may have a line to say, and would wait for itself for ever
        self._waiting: SimpleQueue[str | threading.Event] = SimpleQueue()
        threading.Thread(target=self._write, name="log", daemon=True).start()

    def msg(self, line: str) -> None:
        """Have a line written; it is left out where very many wait."""
        if self._waiting.qsize() < MOST_WAITING:
            self._waiting.put(line)

    debug = info = warning = error = critical = exception = msg  # as structlog calls them

    def emit(self, record: logging.LogRecord) -> None:
        """Have a line of a library written; of one that cannot be read with its values, without."""
        try:
            line = self.format(record)
        except Exception:  # the library's own fault, which is not to end what it was about
            record.args = None
            line = self.format(record)
        self.msg(line)

    def flush(self) -> None:
        """Wait until all lines are written, FLUSH_S at most; `logging` does at the end."""
        self._waiting.put(written := threading.Event())
        written.wait(FLUSH_S)

    def _write(self) -> None:
        """Write lines, for ever. Not by way of `sys.stderr`, whose lock this would keep."""
        while True:
            line = self._waiting.get()
            if isinstance(line, threading.Event):
                line.set()
                continue
            with contextlib.suppress(OSError):  # a full disk, a reader that has gone
                write_all(sys.stderr.fileno(), f"{line}\n".encode(errors="backslashreplace"))


def configure(process: str, public: bool = False) -> None:
    """Set up structlog and `logging` for this process; every line says which process it is from.

    `public`: strangers can cause lines.
    """
    terminal, seldom, lines = sys.stderr.isatty(), Seldom(), _Lines()
    processors: list[Any] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        *([] if terminal else [structlog.processors.format_exc_info]),
    ]
    renderer: Any = structlog.processors.JSONRenderer()
    if terminal:
        plain = structlog.dev.plain_traceback
        renderer = structlog.dev.ConsoleRenderer(exception_formatter=plain)
    structlog.configure(
        processors=[*([seldom] if public else []), *processors, renderer],
        wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
        logger_factory=lambda *_: lines,
        cache_logger_on_first_use=True,
    )
    lines.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=processors,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, renderer],
        )
    )
    if public:
        lines.addFilter(seldom)
    logging.basicConfig(handlers=[lines], level=logging.WARNING, force=True)
    logging.captureWarnings(True)
    structlog.contextvars.bind_contextvars(process=process)
