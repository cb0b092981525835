"""Chromium watches a camera through a third machine while it goes from one machine to another."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from storage.spool.numbers import CLOCK_2020_S, Numbers
from tests.support.archiving import configure
from tests.support.live_fixture import LiveCamera, clip
from tests.support.several import Several, several
from tests.support.site_stack import opened, plays, shown_ms
from tests.support.waiting import until

pytestmark = [pytest.mark.slow, pytest.mark.browser]
CAMERA = "s/c"


def now_ms() -> int:
    return int(time.time() * 1000)


@contextlib.asynccontextmanager
async def recorded(machines: Several, name: str, epoch: int, colour: str) -> AsyncIterator[None]:
    """Have a machine record the camera in real time while the block runs."""
    floor = Numbers.by_lease(epoch, (CLOCK_2020_S + epoch) * 1000)
    camera = LiveCamera(machines[name].spool, "c", floor=floor)
    camera.begin(now_ms(), colour)

    async def go_on() -> None:
        while True:
            camera.keep_up()
            await asyncio.sleep(0.2)

    task = asyncio.create_task(go_on())
    try:
        yield
        assert not task.done()
    finally:
        task.cancel()
        camera.close()


@pytest.mark.parametrize("dies", [True, False])
async def test_a_player_goes_on_by_itself(tmp_path: Path, chromium: str, dies: bool) -> None:
    for colour in ("red", "blue"):
        clip(colour)
    config = configure(tmp_path, f"sqlite:///{tmp_path}/k.db", "archives: [archive]\n", "2h")
    old = now_ms() // 1000 - CLOCK_2020_S
    async with several(config, "abc") as machines, contextlib.AsyncExitStack() as first:
        await first.enter_async_context(recorded(machines, "a", old, "red"))
        machines.owns("a", CAMERA, old)
        await until(lambda: list(machines["a"].spool.glob("s/c/*/*.mp4")))
        async with opened(chromium, f"{machines['c'].base}/stations/s") as (page, errors):
            await plays(page, "c", "it does not begin")
            begun_ms = now_ms()
            new = begun_ms // 1000 - CLOCK_2020_S
            if dies:
                await first.aclose()
                machines.away.add("a")
                machines.tell()
                await asyncio.sleep(8)  # until its lease is over
                machines.owns("b", CAMERA, new, before="a")
            else:
                machines.owns("b", CAMERA, new, before="a", both=True)
            async with recorded(machines, "b", new, "blue"):
                if not dies:
                    await asyncio.sleep(4)
                    machines.owns("b", CAMERA, new, before="a")
                    await first.aclose()
                await plays(page, "c", "it does not go on")

                async def shows_the_new() -> bool:
                    return await shown_ms(page) > begun_ms + 5_000

                await until(shows_the_new)
                await plays(page, "c", "it stops again")
                assert errors == []
