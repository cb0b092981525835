"""Pictures of the pages in each of their states: python -m benchmarks.states FOLDER

Four widths, light and dark, three languages; axe-core looks at each state. The pictures are to be
looked at one by one: what is cut off, covered, or not said.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import shutil
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any, Literal

import aiohttp
import sqlalchemy as sa
from playwright.async_api import Browser, Page, async_playwright

from benchmarks.soak import SLOW
from copies.orders.service import OrderService
from copies.states import State
from storage.catalogue.orders import Payment
from storage.catalogue.schema import orders
from storage.records import GapCause
from tests.support.live_fixture import LiveCamera
from tests.support.pages import axe
from tests.support.site_stack import CHROMIUM, Site, serving, station_yaml, write_config

CAMERAS = ("c", "d", "e")
THEMES: tuple[Literal["light", "dark"], ...] = ("light", "dark")
SIZES = ((360, 740), (390, 844), (820, 1180), (1440, 900))
NAMES = "    name: {kk: № 12 мектеп, ru: Школа № 12, en: School 12}\n    address: 5 Abai Avenue"
COPIES = (
    "web: {public_url: http://127.0.0.1}\n"
    "copies:\n  price_per_minute: 10\n  tax: 16%\n"
    "  bank: {beneficiary: Office, bin: '123456789012', iban: KZ86125KZT5004100100,"
    " bank: Bank, bic: KCJBKZKX, beneficiary_code: '16', purpose_code: '859'}\n"
)
PLAYS = ".lead[data-state=plays]"
PAGES = (
    ("home", "/"),
    ("nothing-found", "/?q=zzzzzz"),
    ("about", "/about"),
    ("help", "/help"),
    ("copies", "/copies/"),
    ("form", "/copies/new?station=s"),
    ("register", "/copies/register"),
)
Act = Callable[[Page], Awaitable[object]]


class Shots:
    """Takes a state at all widths, in both themes and three languages."""

    def __init__(self, browser: Browser, folder: Path):
        self._browser, self._folder = browser, folder
        self.count = 0
        self.wrong: list[str] = []

    async def take(
        self,
        name: str,
        site: Site,
        path: str,
        waits: str,
        act: Act | None = None,
        slow: bool = False,
        script: bool = True,
    ) -> None:
        """Open a page, wait until a selector is there, do something, and take the picture."""
        print(name, flush=True)
        for width, height in SIZES:
            for theme in THEMES:
                for lang in ("kk", "ru", "en"):
                    context = await self._browser.new_context(
                        viewport={"width": width, "height": height},
                        color_scheme=theme,
                        java_script_enabled=script,
                    )
                    page = await context.new_page()
                    if slow:
                        tools = await context.new_cdp_session(page)
                        await tools.send("Network.enable")
                        await tools.send("Network.emulateNetworkConditions", SLOW)
                    join = "&" if "?" in path else "?"
                    await page.goto(f"{site.base}{path}{join}lang={lang}", wait_until="commit")
                    await page.wait_for_selector(waits, state="attached", timeout=120_000)
                    if act:
                        await act(page)
                    await page.screenshot(
                        path=self._folder / f"{name}-{width}-{theme}-{lang}.png", full_page=True
                    )
                    self.count += 1
                    if script and lang == "kk":
                        found = await axe(page)
                        self.wrong += [f"{name}, {width}, {theme}: {one}" for one in found]
                    await context.close()


@contextlib.asynccontextmanager
async def recorded(
    folder: Path, windows: str, ago_s: int, until_s: int
) -> AsyncIterator[tuple[Site, list[LiveCamera]]]:
    """Serve a station whose cameras recorded from `ago_s` until `until_s` ago, with a gap in one;
    where that is 0 they go on, where both are they never began."""
    urls = {c: f"rtsp://127.0.0.1/{c}" for c in CAMERAS}
    stations = station_yaml("s", "117", urls, NAMES)
    config = write_config(folder, stations, f"  windows: {windows}\n", COPIES)
    cameras = [LiveCamera(folder / "spool", c) for c in CAMERAS] if ago_s else []
    now_ms = int(time.time() * 1000)
    for n, one in enumerate(cameras):
        one.begin(now_ms - ago_s * 1000)
        while one.written < ago_s - until_s - 120 * n:
            one.append()
        if n:
            one.end(GapCause.UNREACHABLE)
            one.begin(now_ms - (until_s + 60) * 1000, "blue")
            while one.written < 60:
                one.append()
        if until_s:
            one.end(GapCause.RECORDER_STOPPED)

    async def keep_up() -> None:
        while True:
            for one in cameras:
                if not until_s:
                    one.keep_up()
            await asyncio.sleep(0.2)

    async with serving(config) as site:
        task = asyncio.create_task(keep_up())
        try:
            yield site, cameras
        finally:
            task.cancel()
            for one in cameras:
                one.close()


def iso(ago_s: float) -> str:
    """Return a moment so long ago as addresses have it."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() - ago_s))


async def menu(page: Page) -> None:
    """Open the menu."""
    await page.click("#menu summary")


async def while_open(shots: Shots, folder: Path) -> None:
    """Take the states of a station that is recorded."""
    windows = "[{from: 2020-01-01T00:00, to: 2090-01-01T00:00}]"
    async with recorded(folder, windows, 900, 0) as (site, cameras):
        told: list[tuple[str, str, str, Act | None]] = [
            ("live", "", PLAYS, None),
            ("equal", "", PLAYS, lambda page: page.keyboard.press("g")),
            ("paused", "", PLAYS, lambda page: page.keyboard.press("k")),
            ("menu", "", PLAYS, menu),
            ("sharing", "", PLAYS, lambda page: page.keyboard.press("s")),
            ("keys", "", PLAYS, lambda page: page.keyboard.press("?")),
            ("whole-screen", "", PLAYS, lambda page: page.keyboard.press("f")),
            ("back", f"?t={iso(300)}", PLAYS, None),
            ("gap", f"?angle=d&t={iso(100)}", ".lead[data-state=gap]", None),
            ("too-old", f"?t={iso(3 * 3600)}", "#card-acts > *", None),
            ("future", "?t=2999-01-01T00:00:00Z", "#card-acts > *", None),
            ("malformed", "?t=tomorrow", "#card-acts > *", None),
        ]
        for name, query, waits, act in told:
            await shots.take(name, site, f"/stations/s{query}", waits, act)
        await shots.take("slow", site, "/stations/s", "#quality:not([hidden])", slow=True)
        await shots.take("no-script", site, "/stations/s", ".still", script=False)
        await shots.take("embed", site, "/embed/s/c", "main[data-state=plays]")
        await shots.take("unknown", site, "/stations/118", "main")
        for name, path in PAGES:
            await shots.take(name, site, path, "main")
        await an_order(shots, site)
        cameras[0].end(GapCause.NO_DATA)
        await shots.take("one-out", site, "/stations/s", "[data-camera=c][data-state=gap]")
        for one in cameras[1:]:
            one.end(GapCause.UNREACHABLE)
        await shots.take("all-out", site, "/stations/s", "[data-camera=e][data-state=gap]")


async def an_order(shots: Shots, site: Site) -> None:
    """Take an order in each state that its page names."""
    assert site.catalogue
    now_ms, seconds = int(time.time() * 1000), aiohttp.ClientTimeout(60)
    wanted = {"station": "s", "cameras": CAMERAS, "from": now_ms - 500_000, "to": now_ms - 400_000}
    async with aiohttp.ClientSession(site.base, timeout=seconds, raise_for_status=True) as session:
        async with session.post("/api/v1/copies/quotes", json=wanted) as answer:
            place = answer.headers["Location"]
        path = f"/copies/{place.rpartition('/')[2]}"
        await shots.take("order-quoted", site, path, ".standing")
        async with session.post(f"{place}/order") as answer:
            total = (await answer.json())["price"]["total"]
    await shots.take("order-waiting", site, path, ".standing")
    service = OrderService(site.config, site.catalogue, {})
    for name, amount in (("partly-paid", total // 2), ("paid", total - total // 2)):
        payment = Payment("invoice", name, amount, "KZT", now_ms)
        await service.enter_payment(1, payment, "operator")
        await shots.take(f"order-{name}", site, path, ".standing")
    ended = {"ended_ms": now_ms}
    for name, values in (
        ("ready", {"state": State.READY, "ready_ms": now_ms}),
        ("over", {"state": State.EXPIRED} | ended),
        ("refunded", {"state": State.REFUNDED} | ended),
        ("cancelled", {"state": State.CANCELLED, "paid_ms": None} | ended),
        ("rejected", {"state": State.REJECTED, "reason": "A court forbids it."} | ended),
        ("not-paid", {"state": State.EXPIRED} | ended),
    ):
        await site.catalogue.pool.execute(sa.update(orders).values(values))
        await shots.take(f"order-{name}", site, path, ".standing")


def _place(stack: contextlib.ExitStack) -> Path:
    name = tempfile.TemporaryDirectory(prefix="kuager-", ignore_cleanup_errors=True)
    return Path(stack.enter_context(name))


async def main(folder: Path) -> int:
    """Take all states; returns what axe-core found."""
    program = shutil.which("chromium") or sys.exit("Chromium is missing: apt-get install chromium")
    closed = time.strftime("%Y-%m-%dT%H:%M", time.gmtime(time.time() + 5 * 3600 - 300))
    options: dict[str, Any] = {"executable_path": program, "args": CHROMIUM}
    with contextlib.ExitStack() as stack:
        first, second, third = (_place(stack) for _ in range(3))
        async with async_playwright() as play:
            browser = await play.chromium.launch(**options)
            shots = Shots(browser, folder)
            before = "[{from: 2089-01-01T00:00, to: 2090-01-01T00:00}]"
            async with recorded(first, before, 0, 0) as (site, _):
                await shots.take("before", site, "/stations/s", "#state:not([hidden])")
            await while_open(shots, second)
            after = f"[{{from: 2020-01-01T00:00, to: {closed}}}]"
            async with recorded(third, after, 1200, 310) as (site, _):
                await shots.take("after", site, "/stations/s", "#state:not([hidden])")
            await browser.close()
    for one in shots.wrong:
        print(one)
    print(f"{shots.count} pictures in {folder}, found by axe-core: {len(shots.wrong)}")
    return len(shots.wrong)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    out: Path = parser.parse_args().folder
    out.mkdir(parents=True, exist_ok=True)
    sys.exit(1 if asyncio.run(main(out)) else 0)
