"""Connections that say nothing, half, or take nothing: the next visitor is served all the same."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Iterator
from typing import Any, cast

import pytest
from aiohttp import web

from base.prefixes import SITE_TIMES
from streaming.http import bodies, connections
from streaming.http.connections import BoundedServer, Caps, Connection, Runner
from tests.support.s3 import free_port
from tests.support.waiting import BOUND_S, until

GET = b"GET /small HTTP/1.1\r\nHost: x\r\n\r\n"
BIG = 32 << 20  # more than the buffers between the two hold


async def small(_request: web.Request) -> web.Response:
    return web.Response(text="served")


async def big(request: web.Request) -> web.StreamResponse:
    response = web.StreamResponse()
    await response.prepare(request)
    for _ in range(BIG >> 18):
        await response.write(bytes(1 << 18))
    return response


async def posted(request: web.Request) -> web.Response:
    return web.Response(text=str(len(await request.read())))


class Served:
    """A server whose looks at its connections are made by the test alone."""

    def __init__(self, server: BoundedServer, port: int):
        self.server, self.port = server, port
        self.now_s = 1000.0

    def look(self, later_s: float = 1.0) -> list[bool]:
        """Look at all connections so much later; returns which dawdle."""
        self.now_s += later_s
        self.server.sweep(self.now_s)
        return [connection.dawdles for connection in self.server.open]

    async def get(self, source: str = "127.0.0.1") -> bytes:
        """Return what a new visitor is told."""
        reader, writer = await asyncio.open_connection(
            "127.0.0.1", self.port, local_addr=(source, 0)
        )
        try:
            writer.write(GET)
            return await reader.read(2000)
        except ConnectionError:
            return b""
        finally:
            writer.close()

    def connect(self, said: bytes = b"", source: str = "127.0.0.1") -> socket.socket:
        found = socket.create_connection(("127.0.0.1", self.port), source_address=(source, 0))
        if said:
            found.sendall(said)
        return found


@contextlib.asynccontextmanager
async def serving(
    caps: Caps, is_proxy: bool = False, body_s: float = bodies.BODY_S
) -> AsyncIterator[Served]:
    app = web.Application(middlewares=[bodies.body_reader(body_s)])
    app.router.add_get("/small", small)
    app.router.add_get("/big", big)
    app.router.add_post("/post", posted)
    runner = Runner(app, stop_s=0.1, caps=caps, is_proxy=lambda _: is_proxy)
    await runner.setup()
    server = cast(BoundedServer, runner.server)
    server._timer.cancel()
    port = free_port()
    await web.TCPSite(runner, "127.0.0.1", port, backlog=1024).start()
    try:
        yield Served(server, port)
    finally:
        await runner.cleanup()


@pytest.fixture
def held() -> Iterator[list[socket.socket]]:
    """Connections of a test, closed when it ends."""
    found: list[socket.socket] = []
    yield found
    for one in found:
        one.close()


async def test_all_machines_of_a_country_stay_connected(held: list[socket.socket]) -> None:
    """Each keeps a connection of each of its two web processes, and of the role `node`."""
    async with serving(Caps.of_machines(65_536)) as served:
        for n in range(80):
            held += [served.connect(GET, f"127.0.1.{n + 1}") for _ in range(3)]
        await until(lambda: len(served.server.open) == len(held))


@pytest.mark.parametrize("said", [b"", GET[:20], GET, GET + GET[:9]], ids=str)
async def test_who_says_nothing_makes_room(held: list[socket.socket], said: bytes) -> None:
    async with serving(Caps(20, 8)) as served:
        for n in range(60):
            held.append(served.connect(said, f"127.0.0.{1 + n % 6}"))
            await asyncio.sleep(0)
            assert b"served" in await served.get(f"127.0.0.{1 + n % 6}")
            assert len(served.server.open) <= 20
        assert b"served" in await served.get("127.0.1.1")


@pytest.mark.parametrize(
    "said",
    [
        b"POST /post HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\nab",
        b"POST /post HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nab",
        b"GET /big HTTP/1.1\r\nHost: x\r\n\r\n",
    ],
    ids=["length", "chunked", "slow reader"],
)
async def test_who_dawdles_makes_room(held: list[socket.socket], said: bytes) -> None:
    async with serving(Caps(8, 8)) as served:
        held += [served.connect(said) for _ in range(8)]
        await until(lambda: len(served.server.open) == 8)
        await until(lambda: all(served.look()))
        for _ in range(5):
            assert b"served" in await served.get()


async def test_who_has_no_room_for_an_answer_makes_room_at_once(held: list[socket.socket]) -> None:
    async with serving(Caps(8, 8)) as served:
        held += [served.connect(b"GET /big HTTP/1.1\r\nHost: x\r\n\r\n") for _ in range(8)]
        await until(lambda: len(served.server.open) == 8)
        await until(lambda: all(connection.shut for connection in served.server.open))
        assert not any(connection.dawdles for connection in served.server.open)
        for _ in range(5):
            assert b"served" in await served.get()


async def test_one_address_has_its_share_and_a_proxy_all(held: list[socket.socket]) -> None:
    async with serving(Caps(12, 4)) as served:
        held += [served.connect(source=f"127.0.0.{2 + n % 2}") for n in range(10)]
        await until(lambda: len(served.server.open) == 8)
        assert {len(own) for own in served.server._of.values()} == {4}
    async with serving(Caps(12, 4), is_proxy=True) as served:
        held += [served.connect() for _ in range(10)]
        await until(lambda: len(served.server.open) == 10)


class Peer:
    """A connection's other end, at an address."""

    def __init__(self, host: str):
        self.host, self.aborted = host, False

    def get_extra_info(self, name: str) -> Any:
        return (self.host, 1) if name == "peername" else None

    def get_write_buffer_size(self) -> int:
        return 0

    def abort(self) -> None:
        self.aborted = True


async def test_a_site_of_many_networks_has_its_share(held: list[socket.socket]) -> None:
    async with serving(Caps(64, 4)) as served:
        for n in range(40):
            connection = cast(connections.Connection, served.server())
            connection.peer = cast(asyncio.Transport, Peer(f"2001:db8:1:{n:x}::1"))
            served.server.admit(connection)
        assert len(served.server.open) == 4 * SITE_TIMES
        held.append(served.connect())
        await until(lambda: len(served.server.open) == 4 * SITE_TIMES + 1)
        for connection in list(served.server.open):
            served.server.forget(connection)
        assert not served.server._of


async def test_an_answer_that_is_not_taken_is_thrown_away(held: list[socket.socket]) -> None:
    async with serving(Caps(8, 8)) as served:
        slow = served.connect(b"GET /big HTTP/1.1\r\nHost: x\r\n\r\n")
        held.append(slow)
        await until(lambda: sum(c.unsent for c in served.server.open) > 0)
        served.look()
        served.look(connections.STALL_S - 1)
        assert len(served.server.open) == 1
        taken = 0
        while taken < 8 * connections.LEAST_BYTES:  # it takes some, if slowly
            taken += len(await asyncio.to_thread(slow.recv, 1 << 16))
        (connection,) = served.server.open
        await until(lambda: connections._taken(connection.peer)[0] > connection.acked + (64 << 10))
        served.look(2)
        assert len(served.server.open) == 1
        await until(lambda: not served.look(connections.STALL_S + 1))


async def test_what_all_leave_is_bounded(held: list[socket.socket]) -> None:
    async with serving(Caps(20, 20, unsent=1 << 20)) as served:
        held += [served.connect(b"GET /big HTTP/1.1\r\nHost: x\r\n\r\n") for _ in range(12)]
        await until(lambda: sum(c.unsent > 0 for c in served.server.open) == 12)
        served.look()
        await until(lambda: sum(c.unsent for c in served.server.open) <= 1 << 20)
        assert served.server.open


def test_deadlines_and_caps() -> None:
    """What aiohttp is told, and what a process with few files has."""
    assert connections.HEAD_S <= 60 and bodies.BODY_S <= 30 and connections.STALL_S <= 60
    for files in (64, 256, 1024, 4096, 65_536, 1 << 20):
        caps = Caps.of_files(files)
        assert 0 < caps.each <= caps.in_all <= max(8, files - connections.OWN_FILES)
    assert Caps.of_files(1024)[:2] == (768, 64)


async def test_a_head_has_a_deadline(held: list[socket.socket]) -> None:
    async with serving(Caps(8, 8, head_s=0.2)) as served:
        held += [served.connect(said) for said in (b"", GET[:10], GET, GET + GET[:10])]
        await until(lambda: not served.server.open)


@pytest.mark.slow
async def test_a_body_has_a_deadline() -> None:
    async with serving(Caps(8, 8), body_s=0.2) as served:
        reader, writer = await asyncio.open_connection("127.0.0.1", served.port)
        writer.write(b"POST /post HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\nab")
        said: Any = await reader.read()
        assert b" 408 " in said.split(b"\r\n")[0] and b"close" in said
        writer.close()


async def test_who_comes_while_it_ends_holds_up_nothing(held: list[socket.socket]) -> None:
    """Neither the last that was let in, who has said nothing yet, nor the first that is not."""
    async with serving(Caps(8, 8)) as served:
        server = served.server
        for let_in in (True, False):
            ours, theirs = socket.socketpair()
            held.append(theirs)
            transport, _ = await asyncio.get_running_loop().create_connection(
                asyncio.Protocol, sock=ours
            )
            connection = cast(Connection, server())
            transport.set_protocol(connection)
            if not let_in:
                server.pre_shutdown()
            connection.connection_made(transport)
            assert (connection in server.open) is let_in
        await asyncio.wait_for(server.shutdown(None), BOUND_S)
        assert not server.open
