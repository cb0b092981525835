"""What plays: ffprobe and Chromium over real sockets, from a spool that grows."""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from playwright.async_api import Page

from storage.records import GapCause
from tests.support.archiving import configure
from tests.support.live_fixture import LiveCamera, live_camera
from tests.support.programs import need
from tests.support.site_stack import Site, opened, serving, shown_ms
from tests.support.waiting import until


@contextlib.asynccontextmanager
async def site(folder: Path, cameras: list[LiveCamera]) -> AsyncIterator[Site]:
    """Serve, and let the cameras record, while the block runs."""

    async def record() -> None:
        while True:
            for one in cameras:
                one.keep_up()
            await asyncio.sleep(0.2)

    config = configure(folder, f"sqlite:///{folder}/k.db", "archives: [archive]\n", "2h")
    async with serving(config) as one:
        task = asyncio.create_task(record())
        try:
            yield one
            assert not task.done()
        finally:
            task.cancel()


async def at_s(page: Page, camera: str) -> float:
    return float(
        await page.evaluate(f"document.querySelector('[data-camera={camera}] video').currentTime")
    )


async def words(page: Page, camera: str) -> str:
    """Return what is said over the picture of a camera."""
    return str(await page.text_content(f"[data-camera={camera}] .slate"))


async def plays(page: Page, camera: str, why: str) -> None:
    """Wait until the picture of a camera moves on, twice in a row."""
    for _ in range(2):
        begun_s = await at_s(page, camera)

        async def moved(begun_s: float = begun_s) -> bool:
            return await at_s(page, camera) > begun_s + 0.3

        await until(moved, why=why)


async def is_near(page: Page) -> bool:
    """Say whether what is shown is what happens now, but for a player's delay."""
    return await shown_s(page) < 20


async def shown_s(page: Page) -> float:
    """Return how long ago the moment that is shown was, in seconds."""
    return time.time() - await shown_ms(page) / 1000


@pytest.mark.browser
@pytest.mark.slow
async def test_a_player_goes_on_after_a_gap_and_says_why_there_was_one(
    tmp_path: Path, chromium: str
) -> None:
    with live_camera(tmp_path / "spool", "c") as c, live_camera(tmp_path / "spool", "d") as d:
        async with (
            site(tmp_path, [c, d]) as at,
            opened(chromium, f"{at.base}/stations/s") as (page, errors),
        ):
            await plays(page, "c", "c does not begin")
            await plays(page, "d", "d does not begin")
            assert await words(page, "c") == ""
            await until(lambda: is_near(page), why="far behind what happens")
            c.end(GapCause.UNREACHABLE)

            async def said() -> bool:
                text = await words(page, "c")
                return bool(
                    re.fullmatch(
                        r"No picture since \d\d:\d\d:\d\d: the camera does not answer\.", text
                    )
                )

            await until(said, why="the page does not say why")
            written = d.written  # for longer than what the playlist holds
            await until(lambda: d.written >= written + 12)
            before = await at_s(page, "d")
            c.begin(int(time.time() * 1000), "blue")
            await plays(page, "c", "c does not go on after the gap")

            async def silent() -> bool:
                return await words(page, "c") == ""

            await until(silent, why="the words stay although there is a picture")
            await until(lambda: is_near(page), why="far behind what happens")
            assert await at_s(page, "d") > before, "another angle suffered"
            assert errors == []
            assert await page.evaluate("document.documentElement.scrollWidth") <= 390


@pytest.mark.browser
@pytest.mark.slow
async def test_a_player_goes_on_when_the_server_was_away(tmp_path: Path, chromium: str) -> None:
    with live_camera(tmp_path / "spool", "c") as c:
        async with (
            site(tmp_path, [c]) as at,
            opened(chromium, f"{at.base}/stations/s") as (page, errors),
        ):
            await plays(page, "c", "c does not begin")
            await at.stop()

            async def away() -> bool:
                return "server does not answer" in (await page.text_content("#card-words") or "")

            await until(away, why="the page does not say that the server is away")
            await asyncio.sleep(6)
            await at.start()
            await plays(page, "c", "c does not go on")
            await until(lambda: is_near(page), why="far behind what happens")
            # a camera that was never recorded begins to play without a reload
            with live_camera(tmp_path / "spool", "d") as d:

                async def begins() -> bool:
                    d.keep_up()
                    return await page.get_attribute("[data-camera=d]", "data-state") == "plays"

                await until(begins, why="d does not begin")
            assert errors == []


@pytest.mark.browser
@pytest.mark.slow
async def test_a_hole_in_the_pictures_is_jumped_over(tmp_path: Path, chromium: str) -> None:
    with live_camera(tmp_path / "spool", "c") as c:
        async with (
            site(tmp_path, [c]) as at,
            opened(chromium, f"{at.base}/stations/s") as (page, errors),
        ):
            await plays(page, "c", "c does not begin")
            hole = c.written + 4  # before it is written, however late the browser began
            c.leave_out(hole, 300)
            hole_s = c.run_start_ms / 1000 + hole
            await until(lambda: over(page, hole_s + 2), why="it stands at the hole")
            assert await page.evaluate("document.querySelector('video').buffered.length") == 2

            async def is_in_front() -> bool:  # of the hole, after some steps into it
                await page.keyboard.press("ArrowLeft")
                return not await over(page, hole_s)

            await until(is_in_front, every=0.3)
            await until(lambda: over(page, hole_s + 4), why="it stands at the hole, back")
            assert errors == []


async def over(page: Page, moment_s: float) -> bool:
    """Say whether a moment is past."""
    return time.time() - await shown_s(page) > moment_s


@pytest.mark.browser
@pytest.mark.slow
async def test_a_browser_that_cannot_show_h265_says_so(tmp_path: Path, chromium: str) -> None:
    with live_camera(tmp_path / "spool", "c", "h265") as c:
        async with (
            site(tmp_path, [c]) as at,
            opened(chromium, f"{at.base}/stations/s") as (page, _),
        ):
            able = await page.evaluate(
                "MediaSource.isTypeSupported('video/mp4; codecs=\"hvc1.1.6.L60.90\"')"
            )
            if able:
                await plays(page, "c", "c does not begin")
                return

            async def said() -> bool:
                return "cannot show" in await words(page, "c")

            await until(said, why="black, with no word why")


async def probe(ffprobe: str, url: str, count: str) -> tuple[str, int]:
    """Return codec and number of frames or packets that ffprobe reads; fails on any error."""
    done = await asyncio.create_subprocess_exec(
        *(ffprobe, "-v", "error", "-select_streams", "v", f"-count_{count}"),
        *("-show_entries", f"stream=codec_name,nb_read_{count}", "-of", "json", url),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    out, err = await done.communicate()
    assert done.returncode == 0 and err == b"", err.decode()
    (stream,) = json.loads(out)["streams"]
    return stream["codec_name"], int(stream[f"nb_read_{count}"])


@pytest.mark.parametrize(("codec", "name"), [("h264", "h264"), ("h265", "hevc")])
@pytest.mark.slow
async def test_ffprobe_reads_every_picture_of_a_stretch_over_a_gap(
    tmp_path: Path, codec: str, name: str
) -> None:
    ffprobe = need("ffprobe", "apt-get install ffmpeg")
    now_ms = int(time.time() * 1000)
    camera = LiveCamera(tmp_path / "spool", "c", codec)
    for begin_ms, colour in ((now_ms - 180_000, "red"), (now_ms - 140_000, "blue")):
        camera.begin(begin_ms, colour)
        for _ in range(20):
            camera.append()
        camera.end(GapCause.NO_DATA)
    camera.close()
    async with site(tmp_path, []) as at:
        for begin_s, end_s, seconds in ((175, 160, 15), (140, 130, 10)):
            begin, end = now_ms - begin_s * 1000, now_ms - end_s * 1000
            url = f"{at.base}/live/s/c/index.m3u8?from={begin}&to={end}"
            assert await probe(ffprobe, url, "frames") == (name, 25 * seconds)
        # ffmpeg 5.1 throws away a second of decoded pictures where timestamps begin anew
        url = f"{at.base}/live/s/c/index.m3u8?from={now_ms - 175_000}&to={now_ms - 130_000}"
        assert await probe(ffprobe, url, "packets") == (name, 25 * 25)
