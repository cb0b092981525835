"""Does playback ever freeze? python -m benchmarks.soak

Tabs of Chromium with the station's page, half of them on a slow link, do at random what people do:
open links to moments, load live, jump, step, change the speed. Whether a picture moves is seen in
the video elements, not in what the page says. The machine is kept busy by something else meanwhile.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import multiprocessing
import random
import shutil
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from playwright.async_api import Browser, Page, async_playwright

from storage.records import GapCause
from tests.support.live_fixture import LiveCamera
from tests.support.site_stack import CHROMIUM, Site, serving, station_yaml, write_config

CAMERAS = ("c", "d", "e")
PAST_S = 3000  # of footage before it begins
SLOW: dict[str, Any] = {
    "offline": False,
    "latency": 300,
    "downloadThroughput": 50_000,
    "uploadThroughput": 50_000,
}  # 400 kbit/s
FROZEN_S = 20.0  # nothing moves for so long, although there is something to show
SLOW_FROZEN_S = 60.0  # the same where a picture takes seconds
# Counts the pictures of the large camera that were really shown.
COUNTS = """
  window.pictures = 0;
  const seen = new WeakSet();
  const count = (video) => {
    const next = () => { window.pictures += video.closest('.lead') ? 1 : 0;
      video.requestVideoFrameCallback(next); };
    video.requestVideoFrameCallback(next);
  };
  new MutationObserver(() => {
    for (const video of document.querySelectorAll('figure video')) {
      if (!seen.has(video)) { seen.add(video); count(video); }
    }
  }).observe(document, { childList: true, subtree: true });
"""
LOOK = """() => {
  const lead = document.querySelector('.lead');
  const video = lead?.querySelector('video');
  return lead && [window.pictures, lead.dataset.state, document.querySelector('#play').dataset.icon,
    lead.querySelector('.slate').textContent, document.querySelector('#card-words').textContent,
    document.querySelector('#live').ariaPressed, document.querySelector('#now').dateTime,
    video.currentTime, [...Array(video.buffered.length).keys()].map((n) =>
      [video.buffered.start(n), video.buffered.end(n)])];
}"""
KEYS = (
    *("ArrowLeft", "ArrowRight", "Shift+ArrowLeft", "Shift+ArrowRight", "PageUp", "PageDown"),
    *("l", "[", "]", "1", "2", "3", "Shift+Period", "Shift+Comma", "m"),
)


@dataclass
class Result:
    """What came of the actions of one kind of link."""

    waits_s: list[float] = field(default_factory=list)
    frozen: list[str] = field(default_factory=list)
    behind_s: list[float] = field(default_factory=list)


def busy() -> None:
    """Keep one core busy."""
    while True:
        sum(range(100_000))


@contextlib.contextmanager
def load(processes: int) -> Iterator[None]:
    """Keep cores busy while the block runs."""
    started = [multiprocessing.Process(target=busy, daemon=True) for _ in range(processes)]
    for one in started:
        one.start()
    try:
        yield
    finally:
        for one in started:
            one.terminate()


@contextlib.asynccontextmanager
async def station(folder: Path) -> AsyncIterator[Site]:
    """Record three cameras with some gaps and holes in an hour, and serve them."""
    cameras = [LiveCamera(folder / "spool", c) for c in CAMERAS]
    now_ms = int(time.time() * 1000)
    for n, one in enumerate(cameras):
        at_ms = now_ms - PAST_S * 1000
        for part in range(3):
            one.begin(at_ms, "red")
            if part == 1:
                one.leave_out(40 + n, 300)
            until_ms = at_ms + PAST_S * 1000 // 3 - (20_000 + 3000 * n)
            while part < 2 and at_ms + (one.written + 1) * 1000 <= until_ms:
                one.append()
            if part < 2:
                one.end(GapCause.NO_DATA)
            at_ms += PAST_S * 1000 // 3

    async def keep_up() -> None:
        while True:
            for one in cameras:
                one.keep_up()
            await asyncio.sleep(0.2)

    urls = {c: f"rtsp://127.0.0.1/{c}" for c in CAMERAS}
    config = write_config(folder, station_yaml("s", "117", urls))
    async with serving(config) as site:
        task = asyncio.create_task(keep_up())
        try:
            yield site
        finally:
            task.cancel()
            for one in cameras:
                one.close()


async def act(page: Page, base: str, chance: random.Random) -> str:
    """Do something at random; returns what."""
    kind = chance.random()
    if kind < 0.3:
        at = time.time() - chance.uniform(15, PAST_S - 20)
        t = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(at))
        await page.goto(f"{base}/stations/s?lang=en&t={t}", wait_until="commit")
        return f"link to {PAST_S - (time.time() - at):.0f} s"
    if kind < 0.4:
        await page.goto(f"{base}/stations/s?lang=en", wait_until="commit")
        return "live load"
    key = chance.choice(KEYS)
    await page.keyboard.press(key)
    return key


async def moved(page: Page, limit_s: float) -> tuple[float, str]:
    """Wait until pictures move, or there is a reason why not; returns how long, and what is seen
    where neither comes."""
    begun = time.monotonic()
    before: int | None = None
    seen: list[Any] | None = None
    while time.monotonic() - begun < limit_s:
        with contextlib.suppress(Exception):  # between two pages
            seen = await page.evaluate(LOOK)
        if seen:
            pictures, state, icon = seen[:3]
            if icon == "play":
                await page.keyboard.press("Space")
            if state in ("gap", "missing") and seen[3]:
                return time.monotonic() - begun, ""
            if before is None or pictures < before:
                before = pictures
            elif pictures >= before + 2 and state == "plays":
                return time.monotonic() - begun, ""
        await asyncio.sleep(0.05)
    return limit_s, str(seen)


async def walk(
    browser: Browser, base: str, moments: int, slow: bool, result: Result, seed: int
) -> None:
    """Use one tab."""
    chance = random.Random(seed)
    context = await browser.new_context(viewport={"width": 1280, "height": 800})
    await context.add_init_script(COUNTS)
    page = await context.new_page()
    if slow:
        tools = await context.new_cdp_session(page)
        await tools.send("Network.enable")
        await tools.send("Network.emulateNetworkConditions", SLOW)
    await page.goto(f"{base}/stations/s?lang=en")
    limit_s = SLOW_FROZEN_S if slow else FROZEN_S
    await moved(page, limit_s)
    for _ in range(moments):
        what = await act(page, base, chance)
        took_s, wrong = await moved(page, limit_s)
        result.waits_s.append(took_s)
        if wrong:
            result.frozen.append(f"{what}: {wrong}")
            print(f"frozen after {what}: {wrong}", flush=True)
            await page.goto(f"{base}/stations/s?lang=en")
            await moved(page, limit_s)
        seen = await page.evaluate(LOOK)
        if seen and seen[5] == "true" and seen[6]:
            shown_s = await page.evaluate("t => Date.parse(t)", seen[6]) / 1000
            result.behind_s.append(time.time() - shown_s)
        await asyncio.sleep(chance.uniform(0, 1.5))
    await context.close()


async def main(moments: int, tabs: int, cores: int) -> int:
    """Walk, and print the table; returns how often it froze."""
    program = shutil.which("chromium") or sys.exit("Chromium is missing: apt-get install chromium")
    results: dict[bool, Result] = defaultdict(Result)
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder, load(cores):
        async with station(Path(folder)) as site, async_playwright() as play:
            browser = await play.chromium.launch(executable_path=program, args=CHROMIUM)
            async with asyncio.TaskGroup() as group:
                for n in range(tabs):
                    slow = bool(n % 2)
                    each = moments // tabs + (n < moments % tabs)
                    group.create_task(walk(browser, site.base, each, slow, results[slow], n))
            await browser.close()
    print("| link | actions | freezes | median, s | p95, s | most, s | live: most behind, s |")
    print("|---|---|---|---|---|---|---|")
    for slow, one in sorted(results.items()):
        middle, high, most = np.percentile(one.waits_s, (50, 95, 100))
        name = "400 kbit/s, 300 ms" if slow else "as it is"
        behind = max(one.behind_s, default=float("nan"))
        print(
            f"| {name} | {len(one.waits_s)} | {len(one.frozen)} | {middle:.1f} | {high:.1f} "
            f"| {most:.1f} | {behind:.1f} |"
        )
    return sum(len(one.frozen) for one in results.values())


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--moments", type=int, default=500)
    parser.add_argument("--tabs", type=int, default=6)
    parser.add_argument("--busy", type=int, default=2, help="cores that something else uses")
    given = parser.parse_args()
    sys.exit(1 if asyncio.run(main(given.moments, given.tabs, given.busy)) else 0)
