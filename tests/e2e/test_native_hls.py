"""The station's page where the browser plays HLS by itself and has no Media Source Extensions."""

from __future__ import annotations

import asyncio
import re
import time
from datetime import datetime
from pathlib import Path

import pytest
from playwright.async_api import Page

from kuager.simulator.camera import SimCamera
from tests.support.burned import burned
from tests.support.pages import GAPS, becomes
from tests.support.site_stack import opened, recorded
from tests.support.stack import SMALL
from tests.support.waiting import BOUND_S, until

BARE = "for (const name of ['MediaSource', 'ManagedMediaSource']) delete window[name]"
MOVES = "[...document.querySelectorAll('figure video')].some(one => !one.paused || one.seeking)"
# Gaps that are nearer to each other are one (outages.mjs), and before the first segment is one.
APART_S = 12
# Five target durations and 8 s: on a busy machine segments are longer, and 4 s are their target.
FAR_MS = 28_000
# The clock is written once a second, and a picture is shown up to 67 ms after its time.
EARLY_MS, LATE_MS = -200, 1300


async def clock_ms(page: Page) -> float:
    """Return the moment that the page says it shows, in UTC ms, whole seconds; 0 for none yet."""
    text = await page.get_attribute("#now", "datetime")
    return datetime.fromisoformat(text).timestamp() * 1000 if text else 0.0


async def true(page: Page, seconds: float, why: str, cameras: str = "") -> None:
    """Wait until the clock tells the time of all pictures, and see that they go on so."""
    begun = time.monotonic()
    well: list[int] = []  # what the first one showed, since all of them are true
    apart: list[float | None] = []
    while not well or well[-1] - well[0] < seconds * 1000:
        said = await clock_ms(page)
        _, times = await burned(page, f"figure{cameras} video")
        apart = [one and one - said for one in times]
        if times and times[0] and all(one and EARLY_MS < one < LATE_MS for one in apart):
            well.append(times[0])
        else:  # it does not play yet; or a stretch is over, and the next one loads
            well.clear()
        assert time.monotonic() - begun < BOUND_S, f"{why}: {apart} ms from the clock"
        await asyncio.sleep(0.1)


async def recorded_s(page: Page, camera: str) -> float:
    """Return how many seconds of a camera's last minute are listed."""
    stretch = "from=${Date.now() - 60000}&to=${Date.now()}"
    text = await page.evaluate(
        f"camera => fetch(`/live/s117/${{camera}}/index.m3u8?{stretch}`).then(one => one.text())",
        camera,
    )
    return sum(float(one) for one in re.findall(r"#EXTINF:([\d.]+)", text))


async def near_now(page: Page, why: str) -> None:
    """Wait until the page shows what happened a moment ago; a busy machine records it late."""

    async def near() -> bool:
        return time.time() * 1000 - await clock_ms(page) < FAR_MS

    await until(near, why=why)


async def stands_ms(page: Page) -> int:
    """Return the burned-in ms of the first picture, once all of them stand where they should."""
    await page.wait_for_selector("#play[data-icon=play]")
    seen: list[list[int | None]] = []

    async def still() -> bool:
        moves = await page.evaluate(MOVES)
        seen.append((await burned(page))[1])
        return not moves and len(seen) > 1 and None not in seen[-1] and seen[-1] == seen[-2]

    await until(still, why="the pictures do not stand")
    found = seen[-1][0]
    assert found is not None
    return found


@pytest.mark.browser
@pytest.mark.slow
async def test_live_and_rewind_play_and_the_clock_is_true(
    tmp_path: Path, chromium: str, ffmpeg: str
) -> None:
    cameras = [SimCamera("one", **SMALL), SimCamera("two", angle="entrance", **SMALL)]
    async with (
        recorded(tmp_path, cameras, ffmpeg) as (site, simulator),
        opened(chromium, "about:blank") as (page, errors),
    ):
        await page.add_init_script(BARE + GAPS)
        await page.goto(f"{site.base}/stations/s117?lang=en")
        await true(page, 2, "live")
        kinds = await page.eval_on_selector_all("figure video", "all => all.map(v => v.src)")
        assert all(".m3u8" in one for one in kinds), "it is not the browser that plays HLS"
        await near_now(page, "far behind what happens")

        async def long_enough() -> bool:
            return await recorded_s(page, "two") > APART_S

        await until(long_enough, why="too little is recorded before the gap")
        before = await page.evaluate("window.gaps")
        simulator.fault("two", "drop", 3)
        await becomes(page, f"window.gaps > {before}")
        await true(page, 1, "the other one, in a gap", "[data-camera=one]")
        await true(page, 1, "live after a gap")
        gap = page.locator("#gaps .who", has_text=re.compile("^2 ")).first
        await gap.wait_for(state="attached")  # the key goes to what is listed
        before = await page.evaluate("window.gaps")
        await page.keyboard.press("[")
        await page.keyboard.press("Shift+Period")
        await becomes(page, f"window.gaps > {before}")
        await page.keyboard.press("Shift+Comma")
        await true(page, 1, "over a gap, back in time")
        await page.keyboard.press("Space")
        stands = await stands_ms(page)
        await page.keyboard.press("ArrowLeft")  # where the other one is in its gap

        async def went_back() -> bool:
            _, (back, _) = await burned(page)
            return bool(back and 4900 < stands - back < 5100)

        await until(went_back, why=f"5 s back, paused, from {stands}")
        await page.keyboard.press("l")
        await true(page, 1, "live again")
        await near_now(page, "not live again")
        assert errors == []
