"""The files of an order: who may fetch them, how many at once, and how long."""

from __future__ import annotations

import asyncio
import hashlib
import io
import json
import threading
import zipfile
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp.test_utils import make_mocked_request

from base.clock import now_ms
from base.i18n.gettext import gettext
from config.model import Config
from copies.files.virtual import VirtualFile
from copies.orders import events
from copies.orders.service import OrderService
from streaming.app import create_app
from streaming.media import downloads as copies_files
from streaming.orders_context import ORDERS
from tests.support.selling import (
    configured,
    ordered,
    paid,
    read_through,
    selling,
)
from tests.support.waiting import until


@pytest.fixture
def config(tmp_path: Path) -> Config:
    return configured(tmp_path)


async def test_downloads(config: Config) -> None:
    async with selling(config) as (base, catalogue), aiohttp.ClientSession(base) as http:
        secret = await ordered(http, cameras=["c", "d"])
        order = f"/api/v1/copies/orders/{secret}"
        async with http.get(f"/copies/{secret}/everything.zip") as answer:
            assert answer.status == 403
        await paid(config, catalogue)
        async with http.get(f"/copies/{secret}/invoice.pdf") as answer:
            assert answer.status == 200  # it shows that it is paid
        async with http.get(order) as answer:
            told = await answer.json()
        assert [len(camera["files"]) for camera in told["footage"]] == [2, 2]
        for camera in told["footage"]:
            for file in camera["files"]:
                async with http.get(file["url"]) as answer:
                    whole = await answer.read()
                    assert answer.status == 200 and len(whole) == file["length"]
                    assert answer.headers["ETag"] == file["etag"]
                    assert answer.headers["Referrer-Policy"] == "no-referrer"
                for asked in ({"Range": "bytes=1000-"}, {"Range": "bytes=-500"}):
                    same = asked | {"If-Range": file["etag"]}
                    async with http.get(file["url"], headers=same) as answer:
                        start = int(asked["Range"].strip("bytes=").partition("-")[0] or -500)
                        assert answer.status == 206 and await answer.read() == whole[start:]
                other = {"Range": "bytes=1000-", "If-Range": '"other"'}
                async with http.get(file["url"], headers=other) as answer:
                    assert answer.status == 200 and await answer.read() == whole
                async with http.get(file["url"].replace(file["name"], "x.mp4")) as answer:
                    assert answer.status == 404
        assert told["state"] == "paid" and told["zip"] is None
        async with http.get(f"/copies/{secret}/everything.zip?lang=en") as answer:
            assert answer.status == 503 and answer.headers["Retry-After"] == "30"
            assert "still being read through" in await answer.text()
        await read_through(config, catalogue)
        async with http.get(order) as answer:
            told = await answer.json()
        async with http.get(told["zip"]) as answer:
            data = await answer.read()
            assert len(data) == int(answer.headers["Content-Length"])
        with zipfile.ZipFile(io.BytesIO(data)) as found:
            assert found.testzip() is None
            names = set(found.namelist())
            sums = found.read("SHA256SUMS").decode()
            text = found.read("README.txt").decode("utf-8-sig")
            listed = json.loads(found.read("manifest.json"))
            for line in sums.splitlines():
                digest, name = line.split("  ")
                assert hashlib.sha256(found.read(name)).hexdigest() == digest
        assert {"README.txt", "manifest.json", "SHA256SUMS"} < names and len(names) == 7
        assert gettext("the camera does not answer", "kk") in text
        async with http.get(told["manifest"]) as answer:
            said = await answer.json()
        assert said["cameras"][0]["gaps"] == listed["cameras"][0]["gaps"]
        assert [g["cause"] for g in said["cameras"][0]["gaps"]] == ["unreachable"]
        found_order = await catalogue.orders.with_number(1)
        assert found_order is not None
        end = events.lapse(found_order.until_ms or 0)
        await catalogue.orders.change(found_order.order_pk, end)
        async with http.get(told["zip"]) as answer:
            assert answer.status == 410


async def test_lists_of_files_are_made_beside_live_video(
    config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A month of several cameras is of 400,000 recordings, and takes seconds to list."""
    threads = list[int]()

    def spy(name: str) -> None:
        make = getattr(copies_files, name)

        def made(*about: Any) -> Any:
            threads.append(threading.get_ident())
            return make(*about)

        monkeypatch.setattr(copies_files, name, made)

    spy("manifest")
    spy("Bundle")
    async with selling(config) as (base, catalogue), aiohttp.ClientSession(base) as http:
        secret = await ordered(http)
        await paid(config, catalogue)
        await read_through(config, catalogue)
        for name in ("manifest.json", "everything.zip"):
            async with http.get(f"/copies/{secret}/{name}") as answer:
                assert answer.status == 200 and await answer.read()
    assert len(threads) == 2 and threading.get_ident() not in threads


async def test_a_client_has_few_downloads_at_once_that_hold_no_connection_of_the_database(
    config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with selling(config) as (base, catalogue), aiohttp.ClientSession(base) as http:
        secret = await ordered(http)
        await paid(config, catalogue)
        async with http.get(f"/api/v1/copies/orders/{secret}") as answer:
            url = (await answer.json())["footage"][0]["files"][0]["url"]
        begun, go_on, read = [0], asyncio.Event(), VirtualFile.read

        async def slow(file: VirtualFile, start: int, stop: int) -> AsyncIterator[Any]:
            begun[0] += 1
            await go_on.wait()
            async for piece in read(file, start, stop):
                yield piece

        monkeypatch.setattr(VirtualFile, "read", slow)
        engine: Any = catalogue.pool.engine.sync_engine
        connections = engine.pool.checkedout()

        async def fetch() -> int:
            async with http.get(url) as answer:
                await answer.read()
                return answer.status

        first = [asyncio.create_task(fetch()) for _ in range(8)]
        await until(lambda: begun[0] == 8)
        assert [await fetch() for _ in range(3)] == [429] * 3
        assert engine.pool.checkedout() <= connections
        go_on.set()
        assert await asyncio.gather(*first) == [200] * 8
        assert await fetch() == 200


async def test_a_download_lasts_as_long_as_its_order(config: Config) -> None:
    assert config.copies is not None
    ahead_ms = 0
    async with selling(config) as (base, catalogue), aiohttp.ClientSession(base) as http:
        await ordered(http)
        await ordered(http)
        app = create_app(config, catalogue, [], lambda: now_ms() + ahead_ms)
        request = make_mocked_request("GET", "/", app=app)
        lasting, found = [], []
        for number in (1, 2):
            await paid(config, catalogue, number)
            order = await catalogue.orders.with_number(number)
            assert order is not None
            found.append(order)
            lasting.append(partial(copies_files.lasts, request, order))
        assert [await lasts() for lasts in lasting] == [True, True]
        await OrderService(config, catalogue, {}).refund(found[1], True, "back")
        assert [await lasts() for lasts in lasting] == [True, False]
        ahead_ms = config.copies.download_for * 1000
        assert [await lasts() for lasts in lasting] == [False, False]
        await app[ORDERS].close()
