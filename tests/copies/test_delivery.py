"""Copies over real HTTP: ranges, conditions, slow and vanishing clients, spoilt bytes."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import random
import socket
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from functools import partial
from pathlib import Path

import aiohttp
import pytest
from aiohttp import web

from copies.files.virtual import Bytes, VirtualFile
from copies.footage.find import find
from copies.footage.plan import CopyPlan
from storage.catalogue.database import CatalogueError
from storage.recording_source import Sources
from streaming.http.ranges import Content, send
from streaming.media.downloads import content_of, read_while
from tests.support.footage import NAME, UTC0, Camera, whole
from tests.support.s3 import free_port
from tests.support.waiting import until


@contextlib.asynccontextmanager
async def serving(content: Content) -> AsyncIterator[aiohttp.ClientSession]:
    """Serve content at /copy."""

    async def copy(request: web.Request) -> web.StreamResponse:
        return await send(request, content, {"Cache-Control": "private"})

    app = web.Application()
    app.router.add_get("/copy", copy)
    runner = web.AppRunner(app, shutdown_timeout=1)
    await runner.setup()
    port = free_port()
    await web.TCPSite(runner, "127.0.0.1", port).start()
    try:
        async with aiohttp.ClientSession(f"http://127.0.0.1:{port}") as session:
            yield session
    finally:
        await runner.cleanup()


async def made(root: Path, *, segments: int = 40, size: int = 300) -> tuple[CopyPlan, Sources]:
    camera = Camera(root, size=size)
    camera.record(segments)
    stretch = (UTC0, UTC0 + segments * 2_000)
    (plan,) = (await find(None, [], root, NAME, *stretch, zone="UTC")).files
    return plan, Sources(root, [])


def copy_of(plan: CopyPlan, sources: Sources) -> Content:
    file = VirtualFile(plan, sources)
    return content_of(file, file.read)


async def test_what_may_be_had_no_longer_is_broken_off(tmp_path: Path) -> None:
    plan, sources = await made(tmp_path, segments=40, size=30_000)
    looks = 0

    async def lasts() -> bool:
        nonlocal looks
        looks += 1
        if looks == 2:
            raise CatalogueError("away")  # is no reason to break off
        return looks < 4

    file = VirtualFile(plan, sources, block_bytes=60_000)
    read = partial(read_while, lasts, file, "e_s_c.mp4", look_s=0)
    async with serving(content_of(file, read)) as session:
        async with session.get("/copy") as answer:
            assert answer.status == 200
            with pytest.raises(aiohttp.ClientError):
                await answer.read()
        assert looks == 4


async def test_whole_ranges_and_conditions(tmp_path: Path) -> None:
    plan, sources = await made(tmp_path)
    data = await whole(plan, sources)
    async with serving(copy_of(plan, sources)) as session:

        async def get(method: str = "GET", **headers: str) -> tuple[int, Mapping[str, str], bytes]:
            named = {k.replace("_", "-"): v for k, v in headers.items()}
            async with session.request(method, "/copy", headers=named) as answer:
                return answer.status, answer.headers, await answer.read()

        status, headers, body = await get()
        assert (status, body) == (200, data)
        assert headers["Content-Length"] == str(plan.length)
        assert headers["Content-Type"] == "video/mp4" and "Content-Encoding" not in headers
        assert headers["ETag"] == plan.etag and headers["Accept-Ranges"] == "bytes"
        assert headers["Cache-Control"] == "private"
        modified = headers["Last-Modified"]
        status, head, body = await get("HEAD")
        assert (status, body) == (200, b"") and head["Content-Length"] == str(plan.length)
        for wanted, first, part in (
            ("bytes=0-0", 0, data[:1]),
            ("bytes=5000-80000", 5000, data[5000:80001]),
            ("bytes=5000-", 5000, data[5000:]),
            ("bytes=-700", len(data) - 700, data[-700:]),
        ):
            status, headers, body = await get(Range=wanted)
            assert (status, body) == (206, part)
            last = first + len(part) - 1
            assert headers["Content-Range"] == f"bytes {first}-{last}/{len(data)}"
            assert (await get(Range=wanted, If_Range=plan.etag))[0] == 206
            assert (await get(Range=wanted, If_Range=modified))[0] == 206
            status, _, body = await get(Range=wanted, If_Range='"another"')
            assert (status, body) == (200, data)
        status, headers, _ = await get(Range=f"bytes={len(data)}-")
        assert status == 416 and headers["Content-Range"] == f"bytes */{len(data)}"
        for odd in ("bytes=0-5,10-20", "lines=1-2", "bytes=9-5", "bytes=x"):
            assert (await get(Range=odd))[0] in (200, 416)
        status, headers, body = await get(If_None_Match=plan.etag)
        assert (status, body, headers["ETag"]) == (304, b"", plan.etag)
        assert (await get(If_None_Match='"another"'))[0] == 200
        assert (await get(If_Modified_Since=modified))[0] == 304
        assert (await get(If_Modified_Since=modified, If_None_Match='"another"'))[0] == 200
        for date in ("Thu, 01 Jan 1970 00:00:00 GMT", f"Thu, 01 Jan {'9' * 20} 00:00:00 GMT"):
            assert (await get(If_Modified_Since=date))[0] == 200


async def test_downloads_at_once_broken_off_and_resumed(tmp_path: Path) -> None:
    plan, sources = await made(tmp_path)
    sha256 = hashlib.sha256(await whole(plan, sources)).hexdigest()
    async with serving(copy_of(plan, sources)) as session:

        async def download(seed: int) -> str:
            chance, found, at = random.Random(seed), hashlib.sha256(), 0
            while at < plan.length:
                headers = {"Range": f"bytes={at}-", "If-Range": plan.etag}
                async with session.get("/copy", headers=headers) as answer:
                    assert answer.status == 206
                    most = at + chance.randrange(1, plan.length)
                    async for piece in answer.content.iter_any():
                        found.update(piece)
                        at += len(piece)
                        if at >= most:
                            answer.close()
                            break
            return found.hexdigest()

        assert set(await asyncio.gather(*map(download, range(20)))) == {sha256}


def spoil(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


async def test_bytes_that_cannot_be_had_end_the_connection_short(tmp_path: Path) -> None:
    plan, sources = await made(tmp_path, segments=80)
    data = await whole(plan, sources)
    spoil(sorted(tmp_path.rglob("*.mp4"))[1])  # noqa: ASYNC240
    got = bytearray()
    async with serving(copy_of(plan, sources)) as session:
        with pytest.raises((aiohttp.ClientPayloadError, aiohttp.ClientOSError)):
            async with session.get("/copy") as answer:
                assert answer.status == 200
                async for piece in answer.content.iter_any():
                    got += piece
    assert len(got) < len(data) and data.startswith(got)


async def test_a_client_that_goes_or_is_slow_holds_little(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    plan, sources = await made(tmp_path, segments=300, size=40_000)
    assert plan.length > 40_000_000
    file, read, open_ = VirtualFile(plan, sources, block_bytes=100_000), [0], [0]

    async def counted(start: int, stop: int) -> AsyncGenerator[Bytes, None]:
        open_[0] += 1
        try:
            async for piece in file.read(start, stop):
                read[0] += len(piece)
                yield piece
        finally:
            open_[0] -= 1

    async with serving(content_of(file, counted)) as session:
        port = session._base_url.port  # type: ignore[union-attr]
        with socket.create_connection(("127.0.0.1", port)) as slow:
            slow.sendall(b"GET /copy HTTP/1.1\r\nHost: x\r\n\r\n")
            await until(lambda: read[0])
            before = 0
            while before != read[0]:  # until nothing more fits between them
                before = read[0]
                await asyncio.sleep(0.3)
            assert open_[0] == 1
            assert read[0] < 20_000_000, "read far ahead of a client that reads nothing"
        await until(lambda: open_[0] == 0)  # it went, and the reading stopped
    assert not caplog.records, "a client that goes is no error"
