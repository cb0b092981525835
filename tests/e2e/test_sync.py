"""All angles show the same moment, by the clock that is burned into their pictures."""

from __future__ import annotations

import asyncio
from datetime import datetime
from itertools import pairwise
from pathlib import Path

import pytest
from playwright.async_api import Page, expect

from kuager.simulator.camera import SimCamera
from tests.support.burned import GRAB, VIDEOS, burned, read_picture
from tests.support.pages import GAPS, becomes, in_step
from tests.support.site_stack import opened, recorded
from tests.support.stack import SMALL, recordings
from tests.support.strip import pictures
from tests.support.waiting import until

PICTURE_MS = 1000 / SimCamera("one").fps


async def shown_picture(page: Page) -> int:
    """Return the burned-in ms of what the first angle shows."""
    return await another_picture(page, 0)


async def another_picture(page: Page, before: int, least_ms: int = 1) -> int:
    """Wait until the first angle shows a picture at least so far from one; return its ms."""
    now = before

    async def came() -> bool:
        nonlocal now
        _, (first, *_) = await burned(page)
        now = first or before
        return abs(now - before) >= least_ms

    await until(came, why="the first angle stands")
    return now


async def says_what_it_shows(page: Page) -> bool:
    """Say whether the page's time is that of its first picture; both are read at once."""
    both = f"of => [document.querySelector('#now').dateTime, ({GRAB})(of)]"
    said, (_, (first, *_)) = await page.evaluate(both, VIDEOS)
    burned_ms = read_picture(*first) if first and said else None
    return (
        burned_ms is not None
        and abs(burned_ms - datetime.fromisoformat(said).timestamp() * 1000) < 2500
    )


async def regular_pictures(page: Page, recorded_ms: list[int]) -> None:
    """Go back, while it stands, to where some pictures follow: a busy camera leaves some out, and a
    step to one that is not there ends half way."""
    while True:
        shown = await shown_picture(page)
        following = recorded_ms[recorded_ms.index(shown) :][:7]
        assert len(following) == 7
        if max(b - a for a, b in pairwise(following)) < 1.5 * PICTURE_MS:
            return
        await page.keyboard.press("ArrowLeft")
        await another_picture(page, shown, least_ms=1000)


def burned_pictures(spool: Path, camera: str, ffmpeg: str) -> list[int]:
    """Return the burned-in ms of every picture that is recorded, in order."""
    found = [
        picture.burned_ms
        for one in recordings(spool, camera, "s117")
        for picture in pictures(one.path, ffmpeg, expect_errors=True)
    ]
    return sorted(ms for ms in found if ms)


@pytest.mark.browser
@pytest.mark.slow
async def test_angles_are_in_step_after_all_that_happens(
    tmp_path: Path, chromium: str, ffmpeg: str
) -> None:
    cameras = [SimCamera("one", **SMALL), SimCamera("two", angle="entrance", **SMALL)]
    async with (
        recorded(tmp_path, cameras, ffmpeg) as (site, simulator),
        opened(chromium, "about:blank") as (page, errors),
    ):
        await page.add_init_script(GAPS)
        await page.goto(f"{site.base}/stations/s117?lang=en")
        await in_step(page, 4, "live")

        async def is_near() -> bool:  # a busy machine records late
            now_ms, (first, *_) = await burned(page)
            return first is not None and now_ms - first < 12_000

        await until(is_near, why="far behind what happens")
        simulator.fault("two", "drop", 600)  # until all that is said of it was seen
        await page.wait_for_selector('[data-camera=two][data-state="gap"]')
        await another_picture(page, await shown_picture(page), least_ms=500)
        await expect(page.locator("[data-camera=two] .slate")).to_contain_text("No picture")
        simulator.clear("two", "drop")
        await in_step(page, 3, "after a gap in one")

        await page.context.set_offline(True)
        await asyncio.sleep(6)
        await page.context.set_offline(False)
        await in_step(page, 3, "after a network stall")

        gaps = await page.evaluate("window.gaps")
        await page.keyboard.press("[")  # some seconds before the gap
        await in_step(page, 1, "after a jump")
        await page.keyboard.press("Shift+Period")  # twice as fast
        await becomes(page, f"window.gaps > {gaps}")
        await in_step(page, 2, "over a gap, at twice the speed")
        await until(lambda: says_what_it_shows(page), why="the page says another time")
        await page.keyboard.press("Space")
        await in_step(page, 1, "paused", stands=True)
        recorded_ms = burned_pictures(tmp_path / "spool", "one", ffmpeg)
        await regular_pictures(page, recorded_ms)
        shown = [await shown_picture(page)]
        for key in "...,":
            await page.keyboard.press(key)
            shown.append(await another_picture(page, shown[-1]))
        place = recorded_ms.index(shown[0])
        assert [recorded_ms.index(one) - place for one in shown] == [0, 1, 2, 3, 2]

        async def is_five_on() -> bool:
            _, (first, _) = await burned(page)
            return first == recorded_ms[place + 5]

        for _ in range(3):  # faster than the pictures come
            await page.keyboard.press(".")
        await until(is_five_on, why="three pictures more")
        await page.keyboard.press("l")
        await in_step(page, 2, "live again")
        assert errors == []
