"""A web process in the test's own process, and its clients."""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
from aiohttp import web

from base.clock import Clock, now_ms
from config.model import Config
from storage.archive.port import Archive
from storage.catalogue.catalogue import Catalogue
from streaming.app import OPERATORS, create_app, make_runner
from streaming.http.connections import Runner
from streaming.ops.health import operators_app
from tests.support.s3 import free_port
from tests.support.tables import open_catalogue


@contextlib.asynccontextmanager
async def serving(
    config: Config, catalogue: Catalogue | None = None, *archives: Archive, clock: Clock = now_ms
) -> AsyncIterator[aiohttp.ClientSession]:
    runner = make_runner(create_app(config, catalogue, archives, clock))
    await runner.setup()
    port = free_port()
    await web.TCPSite(runner, "127.0.0.1", port).start()
    try:
        async with aiohttp.ClientSession(
            f"http://127.0.0.1:{port}", headers={"Accept-Language": "en"}
        ) as session:
            yield session
    finally:
        await runner.cleanup()


@contextlib.asynccontextmanager
async def opened(config: Config) -> AsyncIterator[Catalogue]:
    catalogue = await open_catalogue(config.database_url)
    try:
        yield catalogue
    finally:
        await catalogue.close()


@contextlib.asynccontextmanager
async def operating(config: Config, clock: Clock = now_ms) -> AsyncIterator[aiohttp.ClientSession]:
    """Serve what operators see."""
    async with opened(config) as catalogue:
        app = create_app(config, catalogue, [], clock)
        runner = Runner(operators_app(app), stop_s=1, caps=OPERATORS)
        await runner.setup()
        port = free_port()
        await web.TCPSite(runner, "127.0.0.1", port).start()
        try:
            async with aiohttp.ClientSession(f"http://127.0.0.1:{port}") as session:
                yield session
        finally:
            await runner.cleanup()


async def get(session: aiohttp.ClientSession, path: str, **more: Any) -> tuple[int, Any, bytes]:
    async with session.request(more.pop("method", "GET"), path, **more) as answer:
        return answer.status, answer.headers, await answer.read()


NOW = int(time.time() * 1000)


def standing() -> int:
    """A clock that stands: what is said now stays what is said now, however slow the machine."""
    return NOW


def say(config: Config, *live: str, age_ms: int = 0, clock: Clock = standing) -> None:
    """Say of cameras that they are recorded, as a recorder would; of all others that not."""
    names = [f"{s.id}/{c.id}" for s in config.stations for c in s.cameras]
    states = {n: {"state": "recording" if n in live else "backoff"} for n in names}
    folder = config.spool / "_status"
    folder.mkdir(parents=True, exist_ok=True)
    said = {"written_ms": clock() - age_ms, "cameras": states}
    (folder / "recorder-0.json.new").write_text(json.dumps(said))
    (folder / "recorder-0.json.new").rename(folder / "recorder-0.json")


async def ask(session: aiohttp.ClientSession, path: str, status: int = 200, **more: Any) -> Any:
    async with session.get(path, **more) as answer:
        assert answer.status == status, await answer.text()
        assert answer.headers["Access-Control-Allow-Origin"] == "*"
        return await answer.json(content_type=None)
