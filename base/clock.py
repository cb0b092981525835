"""The time of day as a number, and the type of what tells it: a clock is given as a parameter."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

Clock = Callable[[], int]  # returns UTC milliseconds since 1970
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def now_ms() -> int:
    """Return this machine's time in UTC milliseconds since 1970: the clock of every process."""
    return time.time_ns() // 1_000_000


def parse_time(text: str) -> int:
    """Return a time of RFC 3339 in UTC milliseconds; raises ValueError for what is none, and for
    one without a zone."""
    at = datetime.fromisoformat(text)
    if at.tzinfo is None:
        raise ValueError("a time without a zone")
    try:
        return (at.astimezone(UTC) - _EPOCH) // timedelta(milliseconds=1)
    except OverflowError as error:  # the first or the last day that Python knows, by its zone
        raise ValueError(str(error)) from None
