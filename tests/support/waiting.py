"""Waiting for something to become true, on a machine that may be busy with other work."""

from __future__ import annotations

import asyncio
import inspect
import time
from collections.abc import Awaitable, Callable

# Only what never happens takes so long; what happens late, on a busy machine, is no failure.
BOUND_S = 120.0


async def until(
    what: Callable[[], object | Awaitable[object]],
    seconds: float = BOUND_S,
    every: float = 0.05,
    why: str = "",
) -> float:
    """Ask `what`, a function or a coroutine function, until it is true; fail after `seconds`.

    Returns how long it took, in seconds.
    """
    begun = time.monotonic()
    while True:
        answer = what()
        if await answer if inspect.isawaitable(answer) else answer:
            return time.monotonic() - begun
        assert time.monotonic() - begun < seconds, why or "it did not happen in time"
        await asyncio.sleep(every)
