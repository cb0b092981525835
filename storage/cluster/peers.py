"""Asks other machines for what is in their spools, over their inner addresses.

What many ask for at once is fetched once, and passed on as it comes. A machine that does not
answer is left alone for a moment, and so is what it does not have: nobody waits long for what is
not there. What is in memory is bounded.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import OrderedDict
from collections.abc import AsyncGenerator, Callable, Mapping
from typing import Any

import aiohttp
import orjson
import structlog
from pydantic import SecretStr

from base.clock import Clock, now_ms
from base.outage import Outage
from storage.cluster.peer_auth import HEADER, sign
from storage.spool.node_map import MachineEntry

CONNECT_S, READ_S, ALL_S = 1.0, 5.0, 60.0
AWAY_S = 1.0  # for which a machine is not asked again that did not answer
ABSENT_S = 0.5  # and what it does not have
MOST_ABSENT = 10_000  # of these, in memory
AT_ONCE = 256  # questions to all machines
AT_ONE = 16  # and to one of them: so one that hangs holds up no other
PIECE = 64 << 10
MOST_BYTES = 32 << 20  # of one answer

log = structlog.get_logger()


class Unreachable(RuntimeError):
    """A machine does not give what it was asked for; the text says why."""


class Flight:
    """An answer on its way, to everyone who asked for it. It is `aiohttp`'s, in memory."""

    def __init__(self) -> None:
        self.status = 0
        self.headers: Mapping[str, str] = {}
        self._pieces: list[bytes] = []
        self._error: Unreachable | None = None
        self._is_done = False
        self._news = asyncio.Event()
        self.readers = 0

    def begin(self, status: int, headers: Mapping[str, str]) -> None:
        """Take note that it begins."""
        self.status, self.headers = status, headers
        self._tell()

    def add(self, piece: bytes) -> None:
        """Take note of a piece."""
        self._pieces.append(piece)
        self._tell()

    def end(self, error: Unreachable | None = None) -> None:
        """Take note that nothing more comes, or why."""
        self._is_done, self._error = True, error
        self._tell()

    def _tell(self) -> None:
        self._news.set()
        self._news = asyncio.Event()

    async def begun(self) -> None:
        """Wait until status and headers are known; raises Unreachable."""
        while not self.status:
            if self._error is not None:
                raise self._error
            await self._news.wait()

    async def read(self, start: int, stop: int) -> AsyncGenerator[bytes, None]:
        """Yield these bytes of the body as they come; raises Unreachable."""
        at = n = 0
        while at < stop:
            if n == len(self._pieces):
                if self._error is not None:
                    raise self._error
                if self._is_done:
                    raise Unreachable("the answer ended early")
                await self._news.wait()
                continue
            piece = self._pieces[n]
            if wanted := piece[max(0, start - at) : stop - at]:
                yield wanted
            at, n = at + len(piece), n + 1

    async def body(self) -> bytes:
        """Return all of the body; raises Unreachable."""
        while not self._is_done:
            await self._news.wait()
        if self._error is not None:
            raise self._error
        return b"".join(self._pieces)


class Peers:
    """Other machines, asked by one process. What they answer is in docs/scaling.md."""

    def __init__(
        self,
        read_s: float = READ_S,
        absent_s: float = ABSENT_S,
        clock: Callable[[], float] = time.monotonic,
        password: SecretStr | None = None,
        utc: Clock = now_ms,
    ):
        """Nobody waits longer than `read_s` for a piece; what was not there is asked for again
        after `absent_s`. Questions are signed with the `password`, where there is one."""
        self._password, self._utc = password, utc
        self._read_s, self._absent_s, self._clock = read_s, absent_s, clock
        self._session: aiohttp.ClientSession | None = None
        self._flights: dict[tuple[str, str], tuple[Flight, asyncio.Task[None]]] = {}
        self._absent: OrderedDict[tuple[str, str], float] = OrderedDict()
        self._away: dict[str, float] = {}  # until when, by address
        self._outages: dict[str, Outage] = {}
        self._room = asyncio.Semaphore(AT_ONCE)
        self._room_at: dict[str, asyncio.Semaphore] = {}

    async def close(self) -> None:
        """End what is on its way."""
        tasks = [task for _, task in self._flights.values()]
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)
        if self._session is not None:
            await self._session.close()

    @contextlib.asynccontextmanager
    async def ask(self, machine: MachineEntry, path: str) -> AsyncGenerator[Flight, None]:
        """Give the answer to GET of a path: 200, begun; raises Unreachable where it is another, or
        none. Once nobody reads it any more it is not fetched any further."""
        key = (machine.address, path)
        if self._is_away(machine):
            raise Unreachable(f"{machine.name} does not answer")
        if self._absent.get(key, 0.0) > self._clock():
            raise Unreachable(f"{machine.name} does not have it")
        if key not in self._flights:
            flight = Flight()
            self._flights[key] = flight, asyncio.create_task(self._fly(machine, path, flight))
        flight, task = self._flights[key]
        flight.readers += 1
        try:
            await flight.begun()
            if flight.status != 200:
                raise Unreachable(f"{machine.name} does not have it ({flight.status})")
            yield flight
        finally:
            flight.readers -= 1
            if not flight.readers:
                task.cancel()
                if self._flights.get(key, (None, None))[0] is flight:
                    del self._flights[key]  # whoever asks now begins anew

    async def body(self, machine: MachineEntry, path: str) -> bytes:
        """Return the whole answer to GET of a path; raises Unreachable."""
        async with self.ask(machine, path) as flight:
            return await flight.body()

    async def json(self, machine: MachineEntry, path: str) -> Any:
        """Return an answer in JSON; raises Unreachable."""
        body = await self.body(machine, path)
        try:
            return await asyncio.to_thread(orjson.loads, body)
        except ValueError as error:
            raise Unreachable(f"{machine.name} does not answer in JSON: {error}") from None

    async def _fly(self, machine: MachineEntry, path: str, flight: Flight) -> None:
        key = (machine.address, path)
        try:
            room_at = self._room_at.setdefault(machine.address, asyncio.Semaphore(AT_ONE))
            async with room_at, self._room:
                if self._is_away(machine):  # noticed while this one waited
                    raise Unreachable("it does not answer")
                await self._fetch(machine, path, flight)
            if flight.status != 200:
                self._absent[key] = self._clock() + self._absent_s
                while len(self._absent) > MOST_ABSENT:
                    self._absent.popitem(last=False)
            flight.end()
        except Exception as error:  # whatever it is, nobody may wait for ever
            why = str(error) or "no answer in time"
            if not (flight.status or self._is_away(machine)):
                self._away[machine.address] = self._clock() + AWAY_S
                self._outage(machine).begin(why)
            flight.end(Unreachable(f"{machine.name}: {why}"))
        except asyncio.CancelledError:
            flight.end(Unreachable("nobody waits for it"))
            raise
        else:
            self._outage(machine).end()
        finally:
            if self._flights.get(key, (None, None))[0] is flight:
                del self._flights[key]

    def _is_away(self, machine: MachineEntry) -> bool:
        return self._away.get(machine.address, 0.0) > self._clock()

    async def _fetch(self, machine: MachineEntry, path: str, flight: Flight) -> None:
        if self._session is None:
            timeout = aiohttp.ClientTimeout(ALL_S, sock_connect=CONNECT_S, sock_read=self._read_s)
            connector = aiohttp.TCPConnector(limit=0, limit_per_host=AT_ONE)
            self._session = aiohttp.ClientSession(timeout=timeout, connector=connector)
        url, headers = f"http://{machine.address}{path}", dict[str, str]()
        if self._password is not None:
            headers[HEADER] = sign(self._password.get_secret_value(), path, self._utc())
        async with self._session.get(url, headers=headers, allow_redirects=False) as answer:
            if answer.status == 403:
                raise Unreachable("it has another node.password, or its clock is wrong")
            flight.begin(answer.status, answer.headers)
            size = 0
            if answer.status == 200:
                async for piece in answer.content.iter_chunked(PIECE):
                    size += len(piece)
                    if size > MOST_BYTES:
                        raise Unreachable(f"an answer of more than {MOST_BYTES >> 20} MB")
                    flight.add(piece)

    def _outage(self, machine: MachineEntry) -> Outage:
        return self._outages.setdefault(
            machine.address,
            Outage(
                "Another machine does not answer; what it alone has cannot be shown",
                "The other machine answers again",
                node=machine.name,
                address=machine.address,
            ),
        )
