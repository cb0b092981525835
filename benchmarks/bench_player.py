"""What a viewer gets, read from the burned-in clock: python -m benchmarks.bench_player

Three simulated cameras, the real recorder and web process, Chromium with the station's page; as
the peer, hls.js with its own settings, playing the same cameras in the same browser.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import itertools
import shutil
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from pathlib import Path

import numpy as np
from playwright.async_api import Browser, Page, async_playwright

from benchmarks.soak import SLOW
from kuager.simulator.camera import SimCamera
from kuager.simulator.server import Simulator
from recorder.ffmpeg import find_ffmpeg
from streaming.http.assets import HERE
from tests.support.burned import burned, spread_ms
from tests.support.site_stack import CHROMIUM, Site, recorded

HLS_JS = HERE / "node_modules/hls.js/dist/hls.light.min.mjs"
MOST_MS = 150
SIZE = {"width": 640, "height": 360, "bitrate": 400_000}
LOW = {"width": 320, "height": 180, "bitrate": 120_000}  # of a second stream
# When the first picture of any angle and of the last one was shown, in ms since the click.
FIRST = """() => {
  window.first = [];
  new MutationObserver(() => {
    for (const video of document.querySelectorAll('video:not([data-seen])')) {
      video.dataset.seen = '';
      video.requestVideoFrameCallback((_now, { presentationTime }) => first.push(presentationTime));
    }
  }).observe(document, { childList: true, subtree: true });
}"""
PEER = """async ([module, sources]) => {
  const { default: Hls } = await import(module);
  document.body.replaceChildren();
  for (const source of sources) {
    const video = document.createElement('video');
    video.muted = true;
    document.body.append(video);
    const hls = new Hls();
    hls.loadSource(source);
    hls.attachMedia(video);
    hls.on(Hls.Events.MANIFEST_PARSED, () => video.play());
  }
}"""


def told(name: str, values: list[float], unit: str) -> None:
    """Print a row of the table: median, 95th and 99th percentile, most."""
    found = np.percentile(values, (50, 95, 99, 100)) if values else [np.nan] * 4
    print(
        f"| {name} | {' | '.join(f'{v:.1f}' for v in found)} | {unit} | {len(values)} |", flush=True
    )


@contextlib.asynccontextmanager
async def page_of(browser: Browser, url: str, **options: bool) -> AsyncIterator[Page]:
    """Open a page in a profile of its own, with nothing cached."""
    context = await browser.new_context(viewport={"width": 1280, "height": 800}, **options)  # type: ignore[arg-type]
    await context.add_init_script(f"({FIRST})()")
    page = await context.new_page()
    await page.goto(url)
    try:
        yield page
    finally:
        await context.close()


async def loads(browser: Browser, site: Site, count: int) -> None:
    """Measure from the click on a station's link to its first picture, cache empty and full."""
    for name, again in (("click to first picture, nothing cached", False), ("cached", True)):
        first, last = [], []
        for _ in range(count):
            async with page_of(browser, f"{site.base}/?lang=en") as page:
                for _ in range(1 + again):
                    await page.goto(f"{site.base}/?lang=en")
                    await page.click("#stations a")
                    found: list[float] = []
                    while len(found) < 3:
                        await asyncio.sleep(0.02)
                        found = await page.evaluate("window.first ?? []")
                first.append(min(found))
                last.append(max(found))
        told(name, first, "ms")
        told(f"{name}: all angles", last, "ms")


async def watch(page: Page, seconds: float) -> tuple[list[float], list[float]]:
    """Return the delays of all angles and how far they are apart, in ms, twice a second."""
    delays: list[float] = []
    spreads: list[float] = []
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        now_ms, times = await burned(page)
        known = [t for t in times if t is not None]
        delays += [now_ms - t for t in known]
        if len(known) == len(times):
            spreads.append(max(known) - min(known))
        await asyncio.sleep(0.5)
    return delays, spreads


async def slow(browser: Browser, site: Site, count: int, cameras: str) -> None:
    """Measure what a viewer gets at 400 kbit/s and 300 ms: the first picture, how old is what is
    called live, bytes in a minute."""
    first: list[float] = []
    behind: list[float] = []
    sizes: list[float] = []
    for _ in range(count):
        async with page_of(browser, "about:blank") as page:
            came: list[float] = []
            tools = await page.context.new_cdp_session(page)
            await tools.send("Network.enable")
            await tools.send("Network.emulateNetworkConditions", SLOW)
            tools.on("Network.dataReceived", lambda e, to=came: to.append(e["encodedDataLength"]))
            await page.goto(f"{site.base}/stations/s117?lang=en", wait_until="commit")
            found: list[float] = []
            while not found:
                await asyncio.sleep(0.05)
                found = await page.evaluate("window.first ?? []")
            first.append(min(found))
            came.clear()
            for _ in range(60):
                now_ms, times = await burned(page)
                if times[0] and await page.get_attribute("#live", "aria-pressed") == "true":
                    behind.append(now_ms - times[0])
                await asyncio.sleep(1)
            sizes.append(sum(came) / 1000)
    told(f"400 kbit/s, 300 ms, {cameras}: first picture", first, "ms")
    told(f"400 kbit/s, 300 ms, {cameras}: behind, called live", behind, "ms")
    told(f"400 kbit/s, 300 ms, {cameras}: in a minute", sizes, "kB")


async def in_step(page: Page) -> float:
    """Return how many seconds it takes until all angles are in step."""
    begun = time.monotonic()
    while (spread := await spread_ms(page)) is None or spread > MOST_MS:
        if time.monotonic() - begun > 60:
            return float("nan")
        await asyncio.sleep(0.05)
    return time.monotonic() - begun


async def steps(page: Page, simulator: Simulator, seconds: float) -> None:
    """Measure how angles keep in step, and again after all that happens."""
    await in_step(page)
    _, spreads = await watch(page, seconds)
    told(f"apart, {seconds:.0f} s of live", spreads, "ms")
    await page.keyboard.press("ArrowLeft")
    await page.keyboard.press("Shift+ArrowLeft")
    print(f"in step {await in_step(page):.1f} s after a jump of a minute")
    told("apart, after a jump", (await watch(page, 30))[1], "ms")
    await page.keyboard.press("l")
    await asyncio.sleep(4)
    await gap(page, simulator)
    told("apart, after a gap in one", (await watch(page, 30))[1], "ms")
    await page.context.set_offline(True)
    await asyncio.sleep(10)
    await page.context.set_offline(False)
    before = (await burned(page))[1]
    after = before
    while after == before:
        await asyncio.sleep(0.05)
        _, after = await burned(page)
    print(f"in step {await in_step(page):.1f} s after the first picture after 10 s offline")
    told("apart, after a network stall", (await watch(page, 30))[1], "ms")


async def gap(page: Page, simulator: Simulator) -> None:
    """Print, second by second, what people see of a camera that dies and comes back."""
    print("\n| s | the camera that died | the others |\n|---|---|---|")
    simulator.fault("entrance", "drop", 15)
    begun = time.monotonic()
    _, before = await burned(page)
    last, back = "", 0.0
    for second in itertools.count(1):
        await asyncio.sleep(begun + second - time.monotonic())
        _, now = await burned(page)
        slate = (await page.text_content("[data-camera=entrance] .slate") or "").strip()
        state = await page.get_attribute("[data-camera=entrance]", "data-state")
        moved = [bool(a and b and a > b) for a, b in zip(now, before, strict=True)]
        seen = slate or ("plays" if moved[2] else "its last picture")
        others = "play" if all(moved[:2]) else "stand"
        if f"{seen}{others}" != last:
            print(f"| {second} | {seen} | {others} |", flush=True)
        last, before = f"{seen}{others}", now
        back = back + 1 if state == "plays" and second > 10 else 0
        if back > 3 or second > 90:
            break
    print(f"\nin step {await in_step(page):.1f} s later\n")


async def main(seconds: float, count: int) -> None:
    """Measure all and print the table."""
    program = shutil.which("chromium") or sys.exit("Chromium is missing: apt-get install chromium")
    cameras = [
        SimCamera(angle, angle=angle, **SIZE)  # type: ignore[arg-type]
        for angle in ("ballot-box", "counting-table", "entrance")
    ]
    with tempfile.TemporaryDirectory(prefix="kuager-bench-") as name:
        async with (
            recorded(Path(name), cameras, find_ffmpeg(None)) as (site, simulator),
            async_playwright() as play,
        ):
            browser = await play.chromium.launch(args=CHROMIUM, executable_path=program)
            await asyncio.sleep(20)
            print("\n| what | median | p95 | p99 | most | unit | samples |")
            print("|---|---|---|---|---|---|---|")
            await loads(browser, site, count)
            await slow(browser, site, max(1, count // 6), "one stream")
            async with page_of(browser, f"{site.base}/stations/s117?lang=en") as page:
                await asyncio.sleep(15)
                told("live behind the burned-in clock", (await watch(page, 60))[0], "ms")
                await steps(page, simulator, seconds)
            async with page_of(browser, f"{site.base}/nothing", bypass_csp=True) as page:
                sources = [f"/live/s117/{c.name}/index.m3u8" for c in cameras]
                await page.route("**/peer.mjs", lambda route: route.fulfill(path=HLS_JS))
                await page.evaluate(PEER, ["/peer.mjs", sources])
                await asyncio.sleep(15)
                delays, spreads = await watch(page, 60)
                told("peer, hls.js alone: behind", delays, "ms")
                told("peer, hls.js alone: apart", spreads, "ms")
            await browser.close()
    low = {
        c.name: SimCamera(f"{c.name}-low", angle=c.angle, **LOW)  # type: ignore[arg-type]
        for c in cameras
    }
    with tempfile.TemporaryDirectory(prefix="kuager-bench-") as name:
        async with (
            recorded(Path(name), cameras, find_ffmpeg(None), low) as (site, _),
            async_playwright() as play,
        ):
            browser = await play.chromium.launch(args=CHROMIUM, executable_path=program)
            await asyncio.sleep(20)
            await slow(browser, site, max(1, count // 6), "second streams")
            await browser.close()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=300, help="in live, in step")
    parser.add_argument("--loads", type=int, default=30)
    given = parser.parse_args()
    asyncio.run(main(given.seconds, given.loads))
