"""Work that takes long, while others watch: in short steps, in turn, and limited per client.

The thread that serves live video does nothing for longer than STEP_S at a time. What a client
causes is counted: a token is what takes about 10 ms. What has to be done in one piece is done in
a thread (see `SWITCH_S` in `app`).
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TypeVar

from aiohttp import web

from streaming.clients import client
from streaming.limits import Limit, Turns

STEP_S = 0.002
TOKEN_S = 0.01
T = TypeVar("T")


async def in_steps(steps: Iterable[T]) -> AsyncIterator[T]:
    """Yield what an iterable does, and let others go on whenever it has taken STEP_S."""
    begun = time.perf_counter()
    for one in steps:
        yield one
        if time.perf_counter() - begun > STEP_S:
            await asyncio.sleep(0)
            begun = time.perf_counter()


@dataclass(slots=True)
class Work:
    """What one process does of it."""

    tokens: Limit = field(default_factory=lambda: Limit(400, 0.05))
    _waiting: Turns = field(default_factory=lambda: Turns(8, 64))
    _turn: asyncio.Lock = field(default_factory=asyncio.Lock)

    @asynccontextmanager
    async def turn(self, request: web.Request) -> AsyncIterator[None]:
        """Wait until nobody else does long work; raises 429 and 503 where too many wait."""
        with self._waiting.turn(client(request)):
            async with self._turn:
                yield

    def check(self, request: web.Request) -> None:
        """Raise 429 for a client that caused too much."""
        self.tokens.check(client(request))

    def count(self, request: web.Request, tokens: float) -> None:
        """Count what a client causes."""
        self.tokens.take(client(request), tokens)

    async def in_thread(self, request: web.Request, work: Callable[[], T]) -> T:
        """Return what a function does, in its turn, in a thread; counts what it took."""

        def timed() -> tuple[T, float]:
            begun = time.thread_time()
            return work(), time.thread_time() - begun

        self.check(request)
        async with self.turn(request):
            done, took_s = await asyncio.to_thread(timed)
        self.count(request, took_s / TOKEN_S)
        return done


WORK = web.AppKey("work", Work)
