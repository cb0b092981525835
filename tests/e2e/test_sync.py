"""All angles show the same moment, by the clock that is burned into their pictures."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from playwright.async_api import Page

from kuager.simulator.camera import SimCamera
from tests.support.burned import burned
from tests.support.pages import in_step
from tests.support.site_stack import opened, recorded
from tests.support.stack import SMALL, recordings
from tests.support.strip import pictures
from tests.support.waiting import until


async def shown_picture(page: Page) -> int:
    """Return the burned-in ms of what the first angle shows."""
    _, (first, *_) = await burned(page)
    assert first
    return first


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
        opened(chromium, f"{site.base}/stations/s117?lang=en") as (page, errors),
    ):
        await in_step(page, 4, "live")
        now_ms, (first, _) = await burned(page)
        assert first and now_ms - first < 12_000, "far behind what happens"
        simulator.fault("two", "drop", 5)
        await page.wait_for_selector('[data-camera=two][data-state="gap"]')
        await another_picture(page, await shown_picture(page), least_ms=500)
        text = await page.text_content("[data-camera=two] .slate")
        assert text and "No picture" in text
        await in_step(page, 3, "after a gap in one")

        await page.context.set_offline(True)
        await asyncio.sleep(6)
        await page.context.set_offline(False)
        await in_step(page, 3, "after a network stall")

        await page.keyboard.press("[")  # some seconds before the gap
        await in_step(page, 1, "after a jump")
        await page.keyboard.press("Shift+Period")  # twice as fast
        await page.wait_for_selector('[data-camera=two][data-state="gap"]')
        await in_step(page, 2, "over a gap, at twice the speed")
        moment = await page.get_attribute("#now", "datetime")
        assert moment
        shown_ms = float(await page.evaluate("Date.parse", moment))
        _, (first, _) = await burned(page)
        assert first and abs(first - shown_ms) < 2500, "the page says another time"
        await page.keyboard.press("Space")
        await in_step(page, 1, "paused", stands=True)
        recorded_ms = burned_pictures(tmp_path / "spool", "one", ffmpeg)
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
