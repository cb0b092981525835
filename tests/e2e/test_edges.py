"""An edge of nginx in front of two machines, with the files of deploy/nginx."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from base.clock import now_ms
from streaming.app import create_app, make_runner
from tests.support.config_files import KUAGER, read
from tests.support.edge import Edge
from tests.support.s3 import free_port
from tests.support.spools import fill

pytestmark = pytest.mark.slow
Asked = tuple[int, str, Mapping[str, str]]  # the machine's port, the path, the headers


@asynccontextmanager
async def two_machines(folder: Path) -> AsyncIterator[tuple[list[int], list[Asked]]]:
    """Two Kuager with the same camera; gives their ports, and the requests that they were asked."""
    settings = "web: {public_url: 'https://localhost', trusted_proxies: [127.0.0.1]}\n"
    asked: list[Asked] = []
    start_ms = now_ms() - 60_000

    async def note(request: web.Request, _: web.StreamResponse) -> None:
        assert request.transport is not None
        port = request.transport.get_extra_info("sockname")[1]
        asked.append((port, request.path, request.headers))

    async with AsyncExitStack() as stack:
        ports = [free_port(), free_port()]
        for n, port in enumerate(ports):
            (folder / str(n)).mkdir()
            config = read(folder / str(n), kuager_yaml=KUAGER + settings)
            fill(config.spool, "s1", "c1", start_ms=start_ms, runs=1, segments=28).close()
            app = create_app(config, None, [])
            app.on_response_prepare.append(note)
            runner = make_runner(app)
            await runner.setup()
            stack.push_async_callback(runner.cleanup)
            await web.TCPSite(runner, "127.0.0.1", port).start()
        yield ports, asked


async def test_an_edge_asks_once_for_what_many_watch(tmp_path: Path) -> None:
    async with two_machines(tmp_path) as (ports, asked):
        edge = Edge(tmp_path / "edge", ports)
        async with edge.serving() as session:

            async def read_(path: str, **more: Any) -> tuple[int, bytes]:
                async with session.get(path, **more) as answer:
                    return answer.status, await answer.read()

            status, playlist = await read_("/live/s1/c1/index.m3u8")
            assert status == 200
            segment = next(t for t in playlist.decode().splitlines() if t.endswith(".m4s"))
            path = f"/live/s1/c1/{segment}"
            before = len(asked)
            found = await asyncio.gather(*(read_(path) for _ in range(60)))
            assert {status for status, _ in found} == {200} and len({b for _, b in found}) == 1
            assert len(asked) == before + 1
            part = await read_(path, headers={"Range": "bytes=10-19"})
            assert part == (206, found[0][1][10:20]) and len(asked) == before + 1
            # all of a camera goes to one machine, and says for whom
            of_camera = [one for one in asked if one[1].startswith("/live/")]
            assert len({port for port, _, _ in of_camera}) == 1
            assert {headers["X-Forwarded-For"] for *_, headers in of_camera} == {"127.0.0.1"}
            # pages are limited, video is not; in 10 s a busy machine asks for no more than it may
            assert {*await edge.at_once("/stations/s1", path, 200)} == {200, 429}
            videos = await asyncio.gather(*(read_(path) for _ in range(300)))
            assert {status for status, _ in videos} == {200}


async def test_an_edge_asks_another_machine_when_one_is_gone(tmp_path: Path) -> None:
    async with two_machines(tmp_path) as (ports, _):
        for dead in range(2):  # whichever the camera falls to
            nodes = [free_port() if n == dead else port for n, port in enumerate(ports)]
            edge = Edge(tmp_path / f"edge-{dead}", nodes)
            async with edge.serving() as session:
                async with session.get("/live/s1/c1/index.m3u8") as answer:
                    assert answer.status == 200
                async with session.get("/stations/s1") as answer:
                    assert answer.status == 200


async def test_an_edge_shows_live_while_what_is_older_cannot_be_had(tmp_path: Path) -> None:
    """Each of these 503 was a failure of its machine: after some all were left out, and live was
    502 for everybody."""
    async with two_machines(tmp_path) as (ports, _):  # without a catalogue
        edge = Edge(tmp_path / "edge", ports)
        async with edge.serving() as session:
            for number in range(1, 9):
                async with session.get(f"/live/s1/c1/{number << 20}.m4s") as answer:
                    assert answer.status == 503
            async with session.get("/live/s1/c1/index.m3u8") as answer:
                assert answer.status == 200
