"""A whole site for browser tests: simulated cameras, a recorder, the web process, Chromium."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from types import MappingProxyType
from typing import Any
from zoneinfo import ZoneInfo

from aiohttp import web
from playwright.async_api import BrowserContext, Page, async_playwright

from config.load import load
from config.model import Config
from kuager.simulator.camera import SimCamera
from kuager.simulator.server import Simulator
from recorder.camera_spec import camera_specs
from recorder.worker import Worker
from storage.catalogue.catalogue import Catalogue
from streaming.app import create_app, make_runner
from tests.support.s3 import free_port
from tests.support.waiting import BOUND_S, until

CHROMIUM = [
    *("--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
]
MORE = """\
    name: {kk: № 12 мектеп, ru: Школа № 12, en: School 12}
    region: {kk: Алматы қаласы, ru: город Алматы, en: Almaty city}
    district: {kk: Медеу ауданы, ru: Медеуский район, en: Medeu district}
    address: {kk: Абай даңғылы 5, ru: пр. Абая 5, en: 5 Abai Avenue}"""


def write_config(folder: Path, stations: str, election: str = "", more: str = "") -> Config:
    """Write and load a configuration; `election` adds settings to the election's."""
    (folder / "stations.yaml").write_text("stations:\n" + stations)
    (folder / "kuager.yaml").write_text(
        "election:\n  id: e\n"
        "  name: {kk: Сайлау, ru: Выборы, en: Presidential election}\n"
        "  date: 2026-11-29\n  time_zone: Asia/Almaty\n"
        + (election or "  windows: [{from: 2020-01-01T00:00, to: 2090-01-01T00:00}]\n")
        + "stations: stations.yaml\nspool: spool\narchives: [archive]\nrewind: 2h\n"
        f'database: "sqlite:///{folder}/k.db"\n{more}'
    )
    return load(folder / "kuager.yaml", {})


def station_yaml(
    station: str,
    number: str,
    cameras: Mapping[str, str],
    more: str = "",
    low: Mapping[str, str] = MappingProxyType({}),
) -> str:
    """Return a station of the stations file; `cameras` is id: RTSP address, `low` the same of
    second streams."""
    lines = [f"  - id: {station}", f'    number: "{number}"', *more.splitlines(), "    cameras:"]
    for camera, url in cameras.items():
        second = f', low_url: "{low[camera]}"' if camera in low else ""
        lines.append(f'      - {{id: {camera}, url: "{url}"{second}}}')
    return "\n".join(lines) + "\n"


@dataclass
class Site:
    """A web process that can go away and come back at the same address."""

    config: Config
    port: int
    runner: web.AppRunner | None = None
    catalogue: Catalogue | None = None

    @property
    def base(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    async def start(self) -> None:
        self.catalogue = await Catalogue.open(self.config.database_url)
        self.runner = make_runner(create_app(self.config, self.catalogue, []))
        await self.runner.setup()
        await web.TCPSite(self.runner, "127.0.0.1", self.port).start()

    async def stop(self) -> None:
        if self.runner:
            await self.runner.cleanup()
            self.runner = None
        if self.catalogue:
            await self.catalogue.close()
            self.catalogue = None


@contextlib.asynccontextmanager
async def serving(config: Config) -> AsyncIterator[Site]:
    """Serve while the block runs."""
    one = Site(config, free_port())
    await one.start()
    try:
        yield one
    finally:
        await one.stop()


@contextlib.asynccontextmanager
async def recorded(
    folder: Path,
    cameras: list[SimCamera],
    ffmpeg: str,
    low: Mapping[str, SimCamera] = MappingProxyType({}),
) -> AsyncIterator[tuple[Site, Simulator]]:
    """Record simulated cameras as station s117 and serve them while the block runs; `low` are
    second streams, by camera."""
    async with Simulator([*cameras, *low.values()]) as simulator:
        seconds = {camera: simulator.url(one.name) for camera, one in low.items()}
        urls = {c.name: simulator.url(c.name) for c in cameras}
        begun = datetime.now(ZoneInfo("Asia/Almaty")) - timedelta(minutes=1)
        window = f"  windows: [{{from: {begun:%Y-%m-%dT%H:%M}, to: 2090-01-01T00:00}}]\n"
        config = write_config(folder, station_yaml("s117", "117", urls, MORE, seconds), window)
        worker = Worker(camera_specs(config, 0, 1), config.spool, ffmpeg)
        task = asyncio.create_task(worker.run())
        try:
            async with serving(config) as site:
                yield site, simulator
        finally:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task


async def patient_page(context: BrowserContext) -> Page:
    """Open a page whose waiting ends only for what never happens."""
    page = await context.new_page()
    page.set_default_timeout(BOUND_S * 1000)
    return page


@contextlib.asynccontextmanager
async def opened(chromium: str, url: str, **options: Any) -> AsyncIterator[tuple[Page, list[str]]]:
    """Open a page; yields it with the list of what goes wrong in its scripts."""
    async with async_playwright() as play:
        browser = await play.chromium.launch(executable_path=chromium, args=CHROMIUM)
        try:
            options.setdefault("viewport", {"width": 390, "height": 800})
            page = await patient_page(await browser.new_context(**options))
            errors: list[str] = []
            page.on("pageerror", lambda error: errors.append(str(error)))
            page.on(
                "console",
                lambda said: errors.append(said.text) if "Security Policy" in said.text else None,
            )
            await page.goto(url)
            yield page, errors
        finally:
            await browser.close()


async def shown_ms(page: Page) -> float:
    """Return the moment that a station's page says its picture is of, in UTC."""
    text: str | None = None

    async def is_said() -> bool:  # not while live begins anew, because a busy machine fell behind
        nonlocal text
        text = await page.get_attribute("#now", "datetime")
        return bool(text)

    await until(is_said, why="the page says no moment")
    return float(await page.evaluate("Date.parse", text))


async def plays(page: Page, camera: str, why: str) -> None:
    """Wait until what a camera shows moves on, twice in a row, and is of now."""
    at_s = f"document.querySelector('[data-camera={camera}] video').currentTime"

    async def is_near() -> bool:
        return time.time() - await shown_ms(page) / 1000 < 15

    for _ in range(2):
        begun_s = float(await page.evaluate(at_s))

        async def moved(begun_s: float = begun_s) -> bool:
            return float(await page.evaluate(at_s)) > begun_s + 0.3

        await until(moved, why=why)
    await until(is_near, why=f"{why}: far behind what happens")
