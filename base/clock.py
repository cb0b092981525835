"""The time of day as a number, and the type of what tells it: a clock is given as a parameter."""

from __future__ import annotations

import time
from collections.abc import Callable

Clock = Callable[[], int]  # returns UTC milliseconds since 1970


def now_ms() -> int:
    """Return this machine's time in UTC milliseconds since 1970: the clock of every process."""
    return time.time_ns() // 1_000_000
