"""Work that takes long, while others watch: in short steps, in turn, and limited per client.

In each round of the event loop one request for live video is begun, or STEP_S of prepared answers
are given, and one step of all other work is done: a request that is begun, or STEP_S of one that
takes longer. Clients come in turn, so that
whoever asks for much waits for himself; and half of the time nothing but video is done, so that it
waits for one such step at most. What a client causes is counted: a token is what takes about 10 ms.
What has to be done in one piece is done in a thread (see `SWITCH_S` in `app`).
"""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict, deque
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TypeVar

from aiohttp import web
from aiohttp.typedefs import Handler

from base.prefixes import site_of
from streaming.http.clients import client
from streaming.http.groups import group_of
from streaming.http.rate_limit import ConcurrencyLimit, RateLimit, busy

STEP_S = 0.001
PAUSE_S, MOST_PAUSE_S = 0.001, 0.01  # event loops count in whole milliseconds
TOKEN_S = 0.01
T = TypeVar("T")
Call = Callable[[], None]


class FairQueue:
    """Lets one go on in each round of the event loop, or short calls for STEP_S, clients in turn.

    One that yields leaves as many rounds to others as it has used, PAUSE_S at a time.
    """

    def __init__(self, yields: bool = False, clock: Callable[[], float] = time.perf_counter):
        self._yields, self._clock = yields, clock
        self._waiting: OrderedDict[str, deque[asyncio.Future[None] | Call]] = OrderedDict()
        self._taken = False  # this round
        self._left_s = STEP_S  # of this round, for calls
        self._ends = False  # whether the end of this round is awaited
        self._begun_s = self._used_s = 0.0

    async def turn(self, who: str) -> None:
        """Wait until it is the turn of this client's site; not at all where nobody came in this
        round."""
        loop = asyncio.get_running_loop()
        if not self._taken:
            self._begin(loop)
            self._taken = True
            return
        waiter = loop.create_future()
        self._waiting.setdefault(site_of(who), deque()).append(waiter)
        await waiter

    def call(self, who: Callable[[], str], call: Call) -> None:
        """Call it now or, where nothing is left of this round, when it is the turn of the site of
        `who`."""
        if self._taken:
            self._waiting.setdefault(site_of(who()), deque()).append(call)
        else:
            self._call(call, asyncio.get_running_loop())

    def _call(self, call: Call, loop: asyncio.AbstractEventLoop) -> None:
        self._begin(loop)
        begun_s = self._clock()
        call()
        self._left_s -= self._clock() - begun_s
        self._taken = self._left_s <= 0

    def _begin(self, loop: asyncio.AbstractEventLoop) -> None:
        if not self._ends:
            self._ends, self._begun_s = True, self._clock()
            loop.call_soon(self._end, loop)

    def _end(self, loop: asyncio.AbstractEventLoop) -> None:
        self._ends = False
        self._used_s += self._clock() - self._begun_s
        if self._yields and self._used_s >= PAUSE_S:
            loop.call_later(min(self._used_s, MOST_PAUSE_S), self._next, loop)
            self._used_s = 0.0
        else:
            self._next(loop)

    def _next(self, loop: asyncio.AbstractEventLoop) -> None:
        self._taken, self._left_s = False, STEP_S
        while self._waiting and not self._taken:
            who, waiters = self._waiting.popitem(last=False)
            one = waiters.popleft()
            while isinstance(one, asyncio.Future) and one.done() and waiters:
                one = waiters.popleft()  # cancelled: that was no turn of this client
            if waiters:
                self._waiting[who] = waiters  # behind the other clients
            if not isinstance(one, asyncio.Future):
                self._call(one, loop)
            elif not one.done():
                one.set_result(None)
                self._begin(loop)
                self._taken = True


@dataclass(slots=True)
class Scheduler:
    """What one process does of it; `at_once` is how much that is long."""

    tokens: RateLimit = field(default_factory=lambda: RateLimit(400, 0.05))
    waiting: ConcurrencyLimit = field(default_factory=lambda: ConcurrencyLimit(8, 64))
    at_once: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(1))
    patience_s: float = 30.0  # of who waits for it: it may be long because a database hangs
    video: FairQueue = field(default_factory=FairQueue)
    rest: FairQueue = field(default_factory=lambda: FairQueue(yields=True))

    async def in_steps(self, request: web.Request, steps: Iterable[T]) -> AsyncIterator[T]:
        """Yield what an iterable does, and wait for another turn whenever it has taken STEP_S;
        counts what it took. Nothing is awaited by who takes what is yielded."""
        who, taken_s = client(request), 0.0
        await self.rest.turn(who)
        begun, until = time.thread_time(), time.perf_counter() + STEP_S
        try:
            for one in steps:
                yield one
                if time.perf_counter() > until:
                    taken_s += time.thread_time() - begun
                    await self.rest.turn(who)
                    begun, until = time.thread_time(), time.perf_counter() + STEP_S
        finally:
            self.count(request, (taken_s + time.thread_time() - begun) / TOKEN_S)

    @asynccontextmanager
    async def turn(self, request: web.Request) -> AsyncIterator[None]:
        """Wait until there is room for long work; raises 429 and 503 where too many do, or long."""
        with self.waiting.turn(client(request)):
            try:
                async with asyncio.timeout(self.patience_s):
                    await self.at_once.acquire()
            except TimeoutError:
                raise busy() from None
            try:
                yield
            finally:
                self.at_once.release()

    def check(self, request: web.Request) -> None:
        """Raise 429 for a client that caused too much."""
        self.tokens.check(client(request))

    def count(self, request: web.Request, tokens: float) -> None:
        """Count what a client causes."""
        self.tokens.take(client(request), tokens)

    async def in_thread(self, request: web.Request, work: Callable[[], T]) -> T:
        """Return what a function does, in its turn, in a thread; counts what it took.

        Raises what `check` and `turn` do.
        """

        def timed() -> tuple[T, float]:
            begun = time.thread_time()
            return work(), time.thread_time() - begun

        self.check(request)
        async with self.turn(request):
            done, took_s = await asyncio.to_thread(timed)
        self.count(request, took_s / TOKEN_S)
        return done


SCHEDULER = web.AppKey("scheduler", Scheduler)


@web.middleware
async def in_turn(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Begin requests in turn."""
    scheduler = request.app[SCHEDULER]
    is_stretch = bool(request.rel_url.raw_query_string)  # of a playlist, which may be long
    urgent = group_of(request).urgent and not is_stretch
    await (scheduler.video if urgent else scheduler.rest).turn(client(request))
    return await handler(request)
