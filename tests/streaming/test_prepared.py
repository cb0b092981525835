"""Prepared answers: those of the application, as long as they are true, in turn, and bounded."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import shutil
import socket
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from functools import partial
from ipaddress import ip_network
from pathlib import Path
from typing import Any, cast

import aiohttp
import pytest
from aiohttp import web
from aiohttp.typedefs import Handler
from hypothesis import given
from hypothesis import strategies as st

from base.clock import Clock
from config.model import Config
from storage.records import ClockState, GapCause
from storage.spool.open_files import OpenFiles
from storage.spool.writer import CameraSpool, Run, SegmentInfo
from streaming.app import create_app, make_runner
from streaming.context import CONTEXT
from streaming.http.connections import BoundedServer, Caps, Connection
from streaming.http.prepared import PIECE, PREPARED
from streaming.http.scheduler import SCHEDULER, STEP_S, FairQueue
from streaming.ops.http_counts import REQUESTS
from tests.support.archiving import configure
from tests.support.s3 import free_port
from tests.support.spools import TRACKS, fill
from tests.support.waiting import BOUND_S, until
from tests.support.web import get, say, standing

NOW = standing()
LIVE, INIT, THUMB = "/live/s/c/index.m3u8", "/live/s/c/init-1.mp4", "/live/s/c/thumb.jpg"
SMALL, LARGE = "/live/s/c/2.m4s", "/live/s/d/2.m4s"


@dataclass(slots=True)
class Site:
    """A served application that notes what it is asked itself."""

    app: web.Application
    runner: web.AppRunner
    port: int
    session: aiohttp.ClientSession
    asked: list[str] = field(default_factory=list)

    @property
    def connections(self) -> list[Connection]:
        return list(cast(BoundedServer, self.runner.server).open)


@contextlib.asynccontextmanager
async def serving(
    config: Config, clock: Clock = standing, caps: Caps | None = None, process: str = "web-0"
) -> AsyncIterator[Site]:
    app = create_app(config, None, [], clock, process)
    asked = list[str]()

    @web.middleware
    async def note(request: web.Request, handler: Handler) -> web.StreamResponse:
        asked.append(request.path_qs)
        return await handler(request)

    app.middlewares.insert(0, note)
    runner, port = make_runner(app, caps=caps), free_port()
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", port).start()
    try:
        async with aiohttp.ClientSession(f"http://127.0.0.1:{port}") as session:
            yield Site(app, runner, port, session, asked)
    finally:
        await runner.cleanup()


@pytest.fixture
def config(tmp_path: Path) -> Config:
    made = configure(tmp_path, f"sqlite:///{tmp_path}/k.db", "archives: [archive]\n", "2h")
    begun = NOW - 30_000
    fill(made.spool, start_ms=begun, runs=1, segments=9, size=500, sealed=False).close()
    fill(made.spool, "s", "d", start_ms=begun, runs=1, segments=4, size=3 * PIECE).close()
    for name in ("thumb.jpg", "picture.jpg"):
        path = made.spool / "s/c" / name
        path.write_bytes(os.urandom(3000))
        os.utime(path, (NOW / 1000, NOW / 1000))
    say(made, "s/c", "s/d")
    return made


def told(answer: tuple[int, Any, bytes]) -> tuple[int, dict[str, str], bytes]:
    """Return what is told, without its date."""
    status, headers, body = answer
    return status, {k: v for k, v in headers.items() if k != "Date"}, body


@pytest.mark.parametrize(
    "path", [LIVE, INIT, SMALL, LARGE, THUMB, "/live/s/c/picture.jpg", "/live/s/d/index.m3u8"]
)
async def test_prepared_answers_are_those_of_the_application(config: Config, path: str) -> None:
    async with serving(config) as site:
        first = await get(site.session, path)
        tag = {"If-None-Match": first[1]["ETag"]}
        known = await get(site.session, path, headers=tag)
        assert site.asked == [path, path] and (first[0], known[0]) == (200, 304)
        for headers, ours in (({}, first), (tag, known), ({"If-None-Match": '"0"'}, first)):
            for others in ({}, {"Accept-Language": "kk", "Origin": "http://x", "Cookie": "a=b"}):
                again = await get(site.session, path, headers=headers | others)
                assert told(again) == told(ours)
                assert abs(_seconds(again[1]["Date"]) - _seconds(first[1]["Date"])) < BOUND_S
        assert len(site.asked) == 2


def _seconds(date: str) -> float:
    return time.mktime(time.strptime(date, "%a, %d %b %Y %H:%M:%S GMT"))


UNUSUAL: dict[str, tuple[bytes, int]] = {
    "another method": (b"HEAD %s HTTP/1.1\r\n\r\n", 200),
    "what is posted": (b"POST %s HTTP/1.1\r\nContent-Length: 1\r\n\r\na", 405),
    "a body": (b"GET %s HTTP/1.1\r\nContent-Length: 1\r\n\r\na", 200),
    "pieces": (b"GET %s HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 200),
    "an old HTTP": (b"GET %s HTTP/1.0\r\nConnection: keep-alive\r\n\r\n", 200),
    "the last request": (b"GET %s HTTP/1.1\r\nConnection: close\r\n\r\n", 200),
    "a range": (b"GET %s HTTP/1.1\r\nRange: bytes=0-3\r\n\r\n", 206),
    "a date": (b"GET %s HTTP/1.1\r\nIf-Modified-Since: Sun, 29 Nov 2026 09:00:00 GMT\r\n\r\n", 200),
    "any tag": (b"GET %s HTTP/1.1\r\nIf-None-Match: *\r\n\r\n", 304),
    "a weak tag": (b'GET %s HTTP/1.1\r\nIf-None-Match: W/"a"\r\n\r\n', 200),
    "two tags": (b'GET %s HTTP/1.1\r\nIf-None-Match: "a", "b"\r\n\r\n', 200),
    "what is expected": (b"GET %s HTTP/1.1\r\nExpect: 100-continue\r\n\r\n", 100),
    "another protocol": (b"GET %s HTTP/1.1\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n", 200),
    "a parameter": (b"GET %s?a=b HTTP/1.1\r\n\r\n", 200),
    "another spelling": (b"GET /live/s/%%63/2.m4s?%s HTTP/1.1\r\n\r\n", 200),
    "a whole address": (b"GET http://x%s HTTP/1.1\r\n\r\n", 200),
}


@pytest.mark.parametrize("name", UNUSUAL)
async def test_what_is_unusual_goes_to_the_application(config: Config, name: str) -> None:
    said, status = UNUSUAL[name]
    async with serving(config) as site:
        for _ in range(2):
            await get(site.session, SMALL)
        assert site.asked == [SMALL]
        reader, writer = await asyncio.open_connection("127.0.0.1", site.port)
        writer.write((said % SMALL.encode()).replace(b"\r\n", b"\r\nHost: x\r\n", 1))
        async with asyncio.timeout(BOUND_S):
            assert int((await reader.readline()).split()[1]) == status
        assert len(site.asked) == 2
        writer.close()


def append(spool: CameraSpool, segments: int = 1, size: int = 50) -> None:
    """Go on with the newest run."""
    run = spool._run
    assert run is not None
    for _ in range(segments):
        place = spool.next_segment_no - 1
        spool.append(
            run,
            os.urandom(size),
            SegmentInfo(
                tfdt_90k=place * 180_000,
                duration_90k=180_000,
                starts_with_key=True,
                arrival_ms=NOW - 30_000 + 2000 * place,
                camera_ms=None,
            ),
            ClockState(True, 1),
        )


async def test_a_playlist_is_told_until_there_is_a_newer_one(
    config: Config, tmp_path: Path
) -> None:
    shutil.rmtree(config.spool / "s/c")
    spool = fill(config.spool, start_ms=NOW - 30_000, runs=1, segments=9, sealed=False)
    async with serving(config) as site:
        for number in range(10, 15):
            append(spool)

            async def is_told(end: bytes = b"\n%d.m4s\n" % number) -> bool:
                return (await get(site.session, LIVE))[2].endswith(end)

            await until(is_told, every=0.01)
            count = len(site.asked)
            for _ in range(20):
                assert await is_told()
            assert len(site.asked) == count <= number - 9 + 1
        spool.seal(GapCause.NO_DATA)  # it goes on in another recording
        spool.begin_gap(NOW, GapCause.NO_DATA, "")
        spool.append(
            Run(NOW, b"\0\0\0\x10ftypiso5" + bytes(4), TRACKS, 2),
            b"another run",
            SegmentInfo(
                tfdt_90k=0,
                duration_90k=180_000,
                starts_with_key=True,
                arrival_ms=NOW,
                camera_ms=None,
            ),
            ClockState(True, 1),
        )

        async def goes_on() -> bool:
            return b"DISCONTINUITY\n" in (await get(site.session, LIVE))[2]

        await until(goes_on, every=0.01)
    spool.close()


@pytest.mark.parametrize("lost", ["before", "meanwhile"])
async def test_a_playlist_goes_on_where_nothing_names_the_newest(config: Config, lost: str) -> None:
    shutil.rmtree(config.spool / "s/c")
    spool = fill(config.spool, start_ms=NOW - 30_000, runs=1, segments=9, sealed=False)
    numbers = config.spool / "s/c/camera.json"
    async with serving(config) as site:
        for n in range(2):
            if (lost == "before") == (n == 0):
                numbers.unlink()
            assert (await get(site.session, LIVE))[2].endswith(b"\n9.m4s\n")
        append(spool)

        async def is_told() -> bool:
            return (await get(site.session, LIVE))[2].endswith(b"\n10.m4s\n")

        await until(is_told, every=0.01)
    spool.close()


async def test_what_is_too_old_is_told_no_longer(config: Config) -> None:
    now = [NOW]
    async with serving(config, clock=lambda: now[0]) as site:
        for path in (SMALL, LARGE):
            assert [(await get(site.session, path))[0] for _ in range(3)] == [200] * 3
        assert site.asked == [SMALL, LARGE]
        now[0] += 3 * 3_600_000
        for path in (SMALL, LARGE):
            assert [(await get(site.session, path))[0] for _ in range(2)] == [403] * 2


@pytest.mark.slow
async def test_a_picture_is_told_while_it_is_the_newest_and_one_of_now(config: Config) -> None:
    now, path = [NOW], config.spool / "s/c/thumb.jpg"
    say(config, "s/c", clock=lambda: now[0])
    async with serving(config, clock=lambda: now[0]) as site:
        before = await get(site.session, THUMB)
        assert (await get(site.session, THUMB))[2] == before[2] and len(site.asked) == 1
        path.with_suffix(".new").write_bytes(b"another")
        os.utime(path.with_suffix(".new"), (NOW / 1000 + 5, NOW / 1000 + 5))
        path.with_suffix(".new").rename(path)

        async def body() -> bytes:
            return (await get(site.session, THUMB))[2]

        async def is_told() -> bool:
            return await body() == b"another"

        await until(is_told)
        assert (await get(site.session, THUMB))[0] == 200
        now[0] += 3_600_000  # nobody has made another one since
        assert (await get(site.session, THUMB))[0] == 404
        now[0] = NOW
        await until(is_told)  # what recorders say may have been looked at an hour later, too
        assert await is_told()
        say(config, clock=lambda: now[0])  # the camera is not recorded

        async def is_slate() -> bool:
            return (await get(site.session, THUMB))[0] == 404

        await until(is_slate)


async def test_what_left_the_spool_is_told_no_longer(config: Config) -> None:
    async with serving(config) as site:
        for path in (SMALL, INIT, LARGE):
            for _ in range(2):
                assert (await get(site.session, path))[0] == 200
        shutil.rmtree(config.spool / "s")
        site.app[CONTEXT].files.close()  # as they are in a moment
        for path in (SMALL, INIT, LARGE):  # nobody knows whether an archive has it
            assert (await get(site.session, path))[0] == 503


async def test_a_file_is_not_kept_open(tmp_path: Path) -> None:
    """What was removed gives its room back; and few are open at once."""
    paths = [tmp_path / str(n) for n in range(5)]
    for n, path in enumerate(paths):
        path.write_bytes(b"0123456789" * (n + 1))

    def open_now() -> int:
        found = [fd.readlink() for fd in Path("/proc/self/fd").iterdir() if fd.is_symlink()]
        return sum(path.is_relative_to(tmp_path) for path in found)

    files = OpenFiles(most=3, open_s=0.05)
    for _ in range(2):
        for path in paths:
            assert files.read(path, 3, 4, 10) == b"3456"
            assert open_now() <= 3
    assert files.read(paths[0], 3, 4, 11) == b""  # its end is not there
    with paths[0].open("ab") as file:
        file.write(b"a")
    assert files.read(paths[0], 8, 3, 11) == b"89a"
    for path in paths:
        path.unlink()
    await until(lambda: open_now() == 0)
    with pytest.raises(FileNotFoundError):
        files.read(paths[0], 0, 1, 1)


async def read(reader: asyncio.StreamReader) -> tuple[int, bytes]:
    """Return the next answer of a connection."""
    async with asyncio.timeout(BOUND_S):
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        found = re.search(r"Content-Length: (\d+)", head)
        return int(head.split()[1]), await reader.readexactly(int(found[1]) if found else 0)


def ask(path: str, *headers: str) -> bytes:
    return "\r\n".join([f"GET {path} HTTP/1.1", "Host: x", *headers, "", ""]).encode()


async def test_answers_come_in_the_order_of_their_requests(config: Config) -> None:
    async with serving(config) as site:
        bodies = {path: (await get(site.session, path))[2] for path in (LIVE, SMALL, LARGE, INIT)}
        reader, writer = await asyncio.open_connection("127.0.0.1", site.port)
        for paths in ([SMALL], [LARGE], [SMALL, LIVE], [LARGE, LARGE, SMALL], [INIT, LARGE, LIVE]):
            writer.write(b"".join(map(ask, paths)))
            for path in paths:
                assert await read(reader) == (200, bodies[path])
        said = ask(LIVE)
        for n in range(0, len(said), 7):  # as a slow client sends it
            writer.write(said[n : n + 7])
            await writer.drain()
            await asyncio.sleep(0)
        assert await read(reader) == (200, bodies[LIVE])
        with waiting(site):
            writer.write(ask(SMALL))
            await until(lambda: any(connection._messages for connection in site.connections))
            assert not any(c.waits for c in site.connections if c._messages)
            writer.write(ask(LARGE) + ask(INIT))
            await until(lambda: not any(c.pending for c in site.connections if c._messages))
        for path in (SMALL, LARGE, INIT):
            assert await read(reader) == (200, bodies[path])
        writer.write(ask(LIVE))
        assert await read(reader) == (200, bodies[LIVE])
        writer.close()


@contextlib.contextmanager
def waiting(site: Site) -> Iterator[FairQueue]:
    """Have nobody's turn come meanwhile."""
    queue = site.app[SCHEDULER].video
    queue._taken = True
    yield queue
    queue._next(asyncio.get_running_loop())


async def test_who_waits_for_his_turn_is_answered_before_the_end(config: Config) -> None:
    async with serving(config) as site:
        body = (await get(site.session, SMALL))[2]
        reader, writer = await asyncio.open_connection("127.0.0.1", site.port)
        with waiting(site):
            writer.write(ask(SMALL))
            await until(lambda: any(connection._messages for connection in site.connections))
            ending = asyncio.create_task(site.runner.cleanup())
            await until(lambda: not any(c.pending for c in site.connections if c._messages))
        assert await read(reader) == (200, body)
        await ending
        writer.close()


async def test_a_client_that_takes_nothing_holds_a_piece(config: Config) -> None:
    shutil.rmtree(config.spool / "s/d")
    size = 16 << 20  # more than sockets hold
    fill(config.spool, "s", "d", start_ms=NOW - 30_000, runs=1, segments=2, size=size).close()
    async with serving(config) as site:
        body = (await get(site.session, LARGE))[2]
        await get(site.session, SMALL)
        for path in (SMALL, LARGE):
            slow = socket.create_connection(("127.0.0.1", site.port))
            slow.setblocking(False)
            for _ in range(100):  # of which nothing is read
                with contextlib.suppress(BlockingIOError):
                    slow.send(ask(path))
                await asyncio.sleep(0)
            if path == LARGE:
                await until(lambda: any(c.unsent for c in site.connections))
            assert max(c.unsent for c in site.connections) <= 3 * PIECE
            if path == LARGE:
                reader, writer = await asyncio.open_connection(sock=slow)
                for _ in range(2):
                    assert await read(reader) == (200, body)
                writer.close()
            slow.close()


async def test_an_idle_connection_has_a_deadline_from_its_last_answer(config: Config) -> None:
    async with serving(config, caps=Caps(8, 8, head_s=BOUND_S)) as site:
        await get(site.session, SMALL)
        reader, writer = await asyncio.open_connection("127.0.0.1", site.port)
        deadlines = [0.0]
        for _ in range(3):
            writer.write(ask(SMALL))
            assert (await read(reader))[0] == 200
            deadlines.append(max(c._next_keepalive_close_time for c in site.connections))
        assert deadlines == sorted(deadlines) and len(site.asked) == 1
        for connection in site.connections:
            assert connection._keepalive_handle is not None
            connection._keepalive_handle.cancel()
            connection._next_keepalive_close_time = 0.0  # as if it were over
            connection._process_keepalive()
        await until(lambda: not site.connections)
        assert await reader.read() == b""
        writer.close()


async def test_prepared_answers_are_counted(config: Config) -> None:
    async with serving(config, process="of this test") as site:
        for _ in range(5):
            await get(site.session, SMALL)
            tag = (await get(site.session, LARGE))[1]["ETag"]
        for _ in range(3):
            assert (await get(site.session, LARGE, headers={"If-None-Match": tag}))[0] == 304
        assert len(site.asked) == 3
    route = "/live/{station}/{camera}/{segment_no}.m4s"
    counted = [REQUESTS.labels("of this test", route, s)._value.get() for s in ("200", "304")]
    assert counted == [10, 3]


async def test_prepared_answers_have_a_bound(config: Config) -> None:
    async with serving(config) as site:
        prepared = site.app[PREPARED]
        prepared.most_bytes = 10_000
        for number in (*range(1, 10), *range(1, 10)):
            assert (await get(site.session, f"/live/s/c/{number}.m4s"))[0] == 200
            assert prepared._bytes <= 10_000 and len(prepared._entries) <= 3
        for _ in range(2):
            assert (await get(site.session, "/live/s/c/9.m4s"))[0] == 200
        assert len(site.asked) == 18


async def test_clients_behind_a_proxy_come_in_turn(config: Config) -> None:
    """One who asks by many connections waits for himself."""
    trusting = config.web.model_copy(update={"trusted_proxies": (ip_network("127.0.0.0/8"),)})
    async with serving(config.model_copy(update={"web": trusting})) as site:
        body = (await get(site.session, SMALL))[2]
        many = [await asyncio.open_connection("127.0.0.1", site.port) for _ in range(6)]
        with waiting(site) as queue:
            for n, (_, writer) in enumerate(many):
                writer.write(ask(SMALL, f"X-Forwarded-For: 203.0.113.{n // 3}"))
            await until(lambda: sum(bool(c._messages) for c in site.connections) == 6)
            assert {who: len(calls) for who, calls in queue._waiting.items()} == {
                "203.0.113.0": 3,
                "203.0.113.1": 3,
            }
        for reader, writer in many:
            assert await read(reader) == (200, body)
            writer.close()


@given(st.lists(st.tuples(st.sampled_from("abcd"), st.integers(0, 3)), max_size=40))
def test_calls_come_in_turn_and_leave_rounds_to_others(asked: list[tuple[str, int]]) -> None:
    """Each takes some thirds of STEP_S; no round has more than that and what was begun in it."""

    async def all_of_them() -> list[tuple[int, str, int]]:
        now_s, came, rounds = [0.0], list[tuple[int, str, int]](), [0]
        queue = FairQueue(clock=lambda: now_s[0])

        async def count() -> None:
            while True:
                rounds[0] += 1
                await asyncio.sleep(0)

        def call(who: str, thirds: int) -> None:
            came.append((rounds[0], who, thirds))
            now_s[0] += thirds * STEP_S / 3
            if thirds == 0:
                raise ValueError("a call that fails")

        counting = asyncio.create_task(count())
        await asyncio.sleep(0)
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(lambda *_: None)
        for who, thirds in asked:
            with contextlib.suppress(ValueError):
                queue.call(lambda who=who: who, partial(call, who, thirds))  # type: ignore[misc]
        for _ in range(3 * len(asked) + 3):
            await asyncio.sleep(0)
        assert not queue._waiting and not queue._taken and not queue._ends
        counting.cancel()
        return came

    came = asyncio.run(all_of_them())
    assert sorted((who, thirds) for _, who, thirds in came) == sorted(asked)
    for turn in {turn for turn, _, _ in came}:
        taken = [thirds for at, _, thirds in came if at == turn]
        assert sum(taken[:-1]) < 3 + 1e-9
    for who in "abcd":  # of one client in the order of asking
        assert [t for _, w, t in came if w == who] == [t for w, t in asked if w == who]
