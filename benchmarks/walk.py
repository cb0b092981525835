"""The demo as people use it, at three widths: python -m benchmarks.walk [--shots FOLDER]

Starts `kuager demo`, spoils a camera, and walks through the pages in Chromium: with a mouse or
fingers, with the keyboard alone, without JavaScript. What the pages say of the time is compared
with the clock that is burned into the pictures. Prints a table; ends with 1 where something fails.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import re
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

from playwright.async_api import Browser, async_playwright, expect

from tests.support.burned import burned
from tests.support.pages import axe, becomes, in_step
from tests.support.s3 import free_port
from tests.support.site_stack import CHROMIUM

WIDTHS = {390: "dark", 820: "light", 1440: "dark"}
GAP_S = 8
ANGLES = 3
GONE = "entrance"  # the angle with the gap


@contextlib.asynccontextmanager
async def demo(folder: Path) -> AsyncIterator[str]:
    """Run the demo; gives its address once all cameras play and one had a gap."""
    port = free_port()
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "kuager", "demo"),
        env=os.environ | {"PORT": str(port), "DATA": str(folder)},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
    )
    assert process.stdout
    try:
        async with asyncio.timeout(60):
            while b"cameras play" not in await process.stdout.readline():
                pass
        await asyncio.sleep(15)  # something to go back to
        await tell(folder, "demo", "fault", f"s117-{GONE}", "drop", str(GAP_S))
        await asyncio.sleep(GAP_S + 40)  # and that it is past
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        await process.communicate()


async def tell(folder: Path, *arguments: str) -> None:
    """Run a `kuager` command beside the demo."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "kuager", *arguments),
        env=os.environ | {"DATA": str(folder)},
        stdout=asyncio.subprocess.DEVNULL,
    )
    assert await process.wait() == 0, arguments


class Walk:
    """One person at one width; every step is a method that fails with an AssertionError."""

    def __init__(self, browser: Browser, base: str, width: int, shots: Path | None):
        self._browser, self._base, self._width, self._shots = browser, base, width, shots

    async def begin(self) -> None:
        """Open the home page in a profile of its own; phones have fingers."""
        context = await self._browser.new_context(
            viewport={"width": self._width, "height": 800},
            color_scheme=WIDTHS[self._width],  # type: ignore[arg-type]
            has_touch=self._width < 500,
            locale="en-GB",
        )
        self.page = await context.new_page()
        self.errors: list[str] = []
        self.page.on("pageerror", lambda error: self.errors.append(str(error)))
        await self.page.goto(self._base)

    async def end(self) -> None:
        """See that nothing went wrong in the scripts, and that nothing was stored."""
        assert self.errors == [], self.errors
        assert await self.page.context.cookies() == []

    async def take(self, name: str) -> None:
        """Keep a picture of the page, and see that it fits."""
        over = await self.page.evaluate("document.documentElement.scrollWidth")
        assert over <= self._width, f"{over} wide"
        if self._shots:
            path = self._shots / f"{self._width}-{name}.png"
            await self.page.screenshot(path=path, full_page=True)

    async def find_a_station_by_typing(self) -> None:
        await self.take("home")
        await self.page.locator("#q").press_sequentially("shkola 12")
        await self.page.locator("#found li").first.wait_for()
        await self.take("typing")
        await self.page.locator("#found li").first.click()
        await self.page.wait_for_url(re.compile("/stations/s117"))

    async def play_all_angles(self) -> None:
        await self.page.locator('[data-state="plays"]').nth(ANGLES - 1).wait_for(timeout=20_000)
        await in_step(self.page, 3, "live")
        now_ms, (first, *_) = await burned(self.page)
        assert first and now_ms - first < 8_000, f"{now_ms - (first or 0)} ms behind"
        await self.take("live")

    async def go_back_in_time(self) -> None:
        for _ in range(3):
            await self.page.click("#back")
        await self._shows_its_time()
        await in_step(self.page, 1, "back")

    async def jump_across_a_gap(self) -> None:
        await self.page.keyboard.press("[")
        gone = self.page.locator(f"[data-camera={GONE}]")
        await gone.and_(self.page.locator('[data-state="gap"]')).wait_for(timeout=30_000)
        await expect(gone.locator(".slate")).to_contain_text("No picture")
        others = f"figure:not([data-camera={GONE}]) video"
        _, before = await burned(self.page, others)
        await asyncio.sleep(1.5)
        _, after = await burned(self.page, others)
        assert all(a and b and a - b > 500 for a, b in zip(after, before, strict=True)), "stand"
        await self.take("gap")
        await gone.and_(self.page.locator('[data-state="plays"]')).wait_for(timeout=40_000)
        await in_step(self.page, 1, "after the gap")

    async def follow_a_link_to_a_moment(self) -> None:
        await self.page.locator("#play").click()
        await self.page.locator(".pick").nth(1).click()
        await self.page.click("#share")
        await self.take("share")
        link = await self.page.input_value("#address")
        assert "t=" in link and "angle=counting-table" in link, link
        moment = await self.page.evaluate(
            "link => Date.parse(new URL(link).searchParams.get('t'))", link
        )
        other = await self.page.context.new_page()
        await other.goto(link)
        await other.wait_for_selector(".lead[data-camera=counting-table][data-state=plays]")
        _, (shown, *_) = await burned(other, ".lead video")
        assert shown and -1500 < shown - moment < 8000, f"{shown} is not {moment}"
        await other.close()
        await self.page.keyboard.press("Escape")

    async def drag_and_zoom_the_timeline(self) -> None:
        track = self.page.locator("#track")
        await track.scroll_into_view_if_needed()
        box = await track.bounding_box()
        assert box
        x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
        before = await self.page.inner_text("#ticks")
        if self._width < 500:
            await self._pinch(x, y)
        else:
            await self.page.mouse.move(x, y)
            for _ in range(4):
                await self.page.mouse.wheel(0, -100)
        assert await self.page.inner_text("#ticks") != before, "not nearer"
        await self.take("nearer")
        if self._width < 1024:
            await self.page.click("#menu summary")
        await self.page.click("#whole")
        await self.page.keyboard.press("Escape")
        await self.page.mouse.move(0, 0)
        needle = await self.page.locator("#needle").bounding_box()
        assert needle
        await self.page.mouse.move(needle["x"] + 1, y)
        await self.page.mouse.down()
        await self.page.mouse.move(needle["x"] - box["width"] / 12, y, steps=4)
        await self.page.mouse.up()
        await self._shows_its_time()

    async def _pinch(self, x: float, y: float) -> None:
        tools = await self.page.context.new_cdp_session(self.page)

        async def touch(kind: str, *at: float) -> None:
            points = [{"x": one, "y": y, "id": n} for n, one in enumerate(at)]
            await tools.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": points})

        await touch("touchStart", x - 20, x + 20)
        for apart in range(25, 125, 10):
            await touch("touchMove", x - apart, x + apart)
        await touch("touchEnd")

    async def mark_a_stretch_and_order_it(self) -> None:
        await self.page.keyboard.press("[")  # what is a minute old can be ordered
        await self.page.keyboard.press("i")
        await self.page.click("#on")
        await self.page.keyboard.press("o")
        await expect(self.page.locator("#marked")).to_contain_text(re.compile(r", 1\d s"))
        await self.page.click("#marked-order")
        await self.page.get_by_role("button", name="See recordings and price").click()
        await expect(self.page.locator("main")).to_contain_text("Recorded: ")
        await expect(self.page.locator(".gaps")).to_contain_text("the camera does not answer")
        await self.take("quote")
        await self.page.get_by_role("button", name="Order").click()
        await self.page.locator("#state").wait_for()
        ready = self.page.locator(".files a").first
        await ready.wait_for(timeout=20_000)
        async with self.page.expect_download() as file:
            await ready.click()
        data = await (await file.value).path()
        assert data.read_bytes()[4:8] == b"ftyp"
        await self.take("order")

    async def switch_the_language(self) -> None:
        await self.page.goto(f"{self._base}/stations/s117?lang=en&angle=entrance")
        await self.page.click('.languages a[lang="kk"]')
        await expect(self.page.locator("h1")).to_contain_text("№ 12 мектеп")
        await self.page.wait_for_selector(".lead[data-camera=entrance]")
        await self.take("kazakh")
        await self.page.click('.languages a[lang="ru"]')
        await expect(self.page.locator("h1")).to_contain_text("Школа № 12")

    async def use_the_keyboard_alone(self) -> None:
        press = self.page.keyboard.press
        await self.page.goto(f"{self._base}/?lang=en")
        while await self.page.evaluate("document.activeElement.id") != "q":
            await press("Tab")
        await self.page.keyboard.type("204")
        await self.page.locator("#found li").first.wait_for()
        await press("ArrowDown")
        await press("Enter")
        await self.page.wait_for_url(re.compile("/stations/s204"))
        await self.page.locator('[data-state="plays"]').nth(ANGLES - 1).wait_for(timeout=20_000)
        await press("2")
        await self.page.wait_for_selector(".lead[data-camera=counting-table]")
        await press("ArrowLeft")
        await self._shows_its_time()
        await press("Space")
        await asyncio.sleep(0.7)
        _, (stands, *_) = await burned(self.page, ".lead video")
        await press(".")
        await asyncio.sleep(0.7)
        _, (later, *_) = await burned(self.page, ".lead video")
        assert stands and later and 0 < later - stands < 1000, "a picture on"
        await press("m")
        assert await self.page.get_attribute("#sound", "aria-pressed") == "true"
        await press("f")
        await becomes(self.page, "document.fullscreenElement !== null")
        await press("f")
        await becomes(self.page, "document.fullscreenElement === null")
        await press("?")
        await self.page.locator("#keys").wait_for()
        await self.take("keys")
        await press("Escape")
        await press("l")
        await becomes(self.page, "!location.search.includes('t=')")

    async def watch_without_javascript(self) -> None:
        context = await self._browser.new_context(
            viewport={"width": self._width, "height": 800}, java_script_enabled=False
        )
        try:
            page = await context.new_page()
            await page.goto(f"{self._base}/?lang=ru")
            await page.fill("#q", "школа 12")
            await page.press("#q", "Enter")
            await page.click("#stations a")
            stills = page.locator(".still")
            assert await stills.count() == ANGLES
            src = await stills.first.get_attribute("src")
            assert src
            first = await (await context.request.get(self._base + src)).body()
            assert first[:2] == b"\xff\xd8"
            await asyncio.sleep(16)  # the page has renewed itself
            assert await (await context.request.get(self._base + src)).body() != first
            assert await page.locator(".plain").first.is_visible()
        finally:
            await context.close()

    async def have_axe_look(self) -> None:
        for theme in ("light", "dark"):
            await self.page.emulate_media(color_scheme=theme)
            for path in PAGES:
                await self.page.goto(self._base + path)
                await self.page.wait_for_load_state("networkidle" if "st" not in path else "load")
                found = await axe(self.page)
                assert found == [], f"{path}, {theme}: {found}"

    async def _shows_its_time(self) -> None:
        """See that the page's clock and the picture's agree, back in time."""
        begun = time.monotonic()
        while True:
            moment = await self.page.get_attribute("#now", "datetime")
            _, (shown, *_) = await burned(self.page, ".lead video")
            told = await self.page.evaluate("t => Date.parse(t)", moment)
            # the page's clock is in whole seconds
            apart = abs(shown - told - 500) if shown else None
            if apart is not None and apart < 1500 and "t=" in self.page.url:
                return
            assert time.monotonic() - begun < 15, f"{apart} ms from what the page says"
            await asyncio.sleep(0.2)


PAGES = (
    "/?lang=en",
    "/?lang=kk&q=117",
    "/?lang=ru&q=zzzz",
    "/stations/s117?lang=en",
    "/stations/s204?lang=kk",
    "/stations/999?lang=ru",
    "/embed/s117/entrance?lang=en",
    "/copies?lang=kk",
    "/copies/new?lang=ru&station=s117",
    "/copies/register?lang=en",
    "/nothing?lang=en",
)
STEPS: tuple[Callable[[Walk], Awaitable[None]], ...] = (
    Walk.find_a_station_by_typing,
    Walk.play_all_angles,
    Walk.go_back_in_time,
    Walk.jump_across_a_gap,
    Walk.follow_a_link_to_a_moment,
    Walk.drag_and_zoom_the_timeline,
    Walk.mark_a_stretch_and_order_it,
    Walk.switch_the_language,
    Walk.use_the_keyboard_alone,
    Walk.watch_without_javascript,
    Walk.have_axe_look,
    Walk.end,
)


async def walk(shots: Path | None) -> int:
    """Walk at every width; returns how many steps failed."""
    program = shutil.which("chromium") or sys.exit("Chromium is missing: apt-get install chromium")
    here = asyncio.current_task()
    assert here
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, here.cancel)
    failed = 0
    print("| width | theme | step | |\n|---|---|---|---|")
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        async with demo(Path(folder)) as base, async_playwright() as play:
            browser = await play.chromium.launch(executable_path=program, args=CHROMIUM)
            for width, theme in WIDTHS.items():
                one = Walk(browser, base, width, shots)
                await one.begin()
                for step in STEPS:
                    begun = time.monotonic()
                    try:
                        await step(one)
                        said = f"{time.monotonic() - begun:.1f} s"
                    except Exception:  # told, and the walk goes on
                        failed, said = failed + 1, "FAILED"
                        traceback.print_exc()
                    name = getattr(step, "__name__", "").replace("_", " ")
                    print(f"| {width} | {theme} | {name} | {said} |", flush=True)
                await one.page.context.close()
            await browser.close()
    return failed


def main() -> None:
    """Read the arguments and walk."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--shots", type=Path, help="a folder for pictures of the pages")
    shots: Path | None = parser.parse_args().shots
    if shots:
        shots.mkdir(parents=True, exist_ok=True)
    sys.exit(1 if asyncio.run(walk(shots)) else 0)


if __name__ == "__main__":
    main()
