"""Logs: sentences with context for a person at a terminal, JSON lines for everything else.

What libraries say by Python's `logging` goes the same way. A traceback never has the values of
variables, among which are secrets. In processes that answer to the public a line is written
LINES times in EVERY_S, however often somebody causes it. A line that cannot be written is left out,
and ends nothing that goes on.
"""

from __future__ import annotations

import contextlib
import logging
import sys
import time
from collections.abc import Callable, MutableMapping
from typing import Any

import structlog

LINES, EVERY_S = 20, 10.0
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


class _Lines(structlog.PrintLogger):
    """Writes lines; one that a full disk or a pipe without a reader does not take is left out, as
    Python's `logging` leaves it out: an error here would end whoever had something to say."""

    def msg(self, message: str) -> None:
        """Write a line."""
        with contextlib.suppress(OSError):
            super().msg(message)

    log = debug = info = warn = warning = msg
    fatal = failure = err = error = critical = exception = msg


def configure(process: str, public: bool = False) -> None:
    """Set up structlog and `logging` for this process; every line says which process it is from.

    `public`: strangers can cause lines.
    """
    terminal, seldom = sys.stderr.isatty(), Seldom()
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
        logger_factory=lambda *_: _Lines(sys.stderr),
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=processors,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, renderer],
        )
    )
    if public:
        handler.addFilter(seldom)
    logging.basicConfig(handlers=[handler], level=logging.WARNING, force=True)
    logging.captureWarnings(True)
    structlog.contextvars.bind_contextvars(process=process)
