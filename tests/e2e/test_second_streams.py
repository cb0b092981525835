"""Players that choose among streams, and a browser without scripts, play what is offered."""

from __future__ import annotations

import asyncio
import json
import time
from contextlib import AsyncExitStack
from pathlib import Path

import aiohttp
import pytest
from playwright.async_api import Page

from kuager.simulator.camera import SimCamera
from storage.records import GapCause
from streaming.http.assets import HERE
from tests.support.archiving import configure
from tests.support.live_fixture import LiveCamera
from tests.support.programs import need
from tests.support.site_stack import opened, recorded, serving
from tests.support.stack import SMALL
from tests.support.waiting import until
from tests.support.web import get

HLS_JS = HERE / "node_modules/hls.js/dist/hls.min.js"  # the player of many others' pages
PLAY = """(url) => {
  const video = document.body.appendChild(document.createElement("video"));
  video.muted = true;
  const hls = new Hls();
  const fatal = [];
  hls.on(Hls.Events.ERROR, (_, error) => { if (error.fatal) fatal.push(error.details); });
  hls.loadSource(url);
  hls.attachMedia(video);
  hls.on(Hls.Events.MANIFEST_PARSED, () => {
    hls.loadLevel = 0; // from now on it changes only when it is told to
    video.play();
  });
  Object.assign(window, { hls, video, fatal });
}"""


async def shows(page: Page, width: int) -> None:
    """Wait until a stream of this width plays, and goes on."""

    async def is_it() -> bool:
        return bool(await page.evaluate("video.videoWidth") == width)

    await until(is_it, why=f"no picture of {width}")
    begun_s = await page.evaluate("video.currentTime")

    async def moved() -> bool:
        return bool(await page.evaluate("video.currentTime") > begun_s + 1)

    await until(moved, why=f"the picture of {width} stands")


@pytest.mark.browser
@pytest.mark.slow
async def test_hls_js_goes_from_one_stream_to_the_other_and_back(
    tmp_path: Path, chromium: str, ffmpeg: str
) -> None:
    first = SimCamera("one", **(SMALL | {"width": 640, "height": 360}))
    low = {"one": SimCamera("one-low", **SMALL)}
    async with AsyncExitStack() as stack:
        site, _ = await stack.enter_async_context(recorded(tmp_path, [first], ffmpeg, low))
        another = site.base.replace("127.0.0.1", "localhost")  # somebody else's page
        page, _ = await stack.enter_async_context(
            opened(chromium, f"{another}/nothing", bypass_csp=True)
        )
        url = f"{site.base}/live/s117/one/all.m3u8"
        await page.add_script_tag(path=HLS_JS)

        async def both() -> bool:
            async with aiohttp.ClientSession() as session:
                text = (await get(session, url))[2].decode()
            return text.count("INF:BANDWIDTH=") == 4  # two streams, and the pictures of each

        await until(both, every=1)
        await page.evaluate(PLAY, url)
        await shows(page, 320)
        for level, width in ((1, 640), (0, 320)):
            await page.evaluate(f"hls.nextLevel = {level}")
            await shows(page, width)
        assert await page.evaluate("fatal") == []


async def ffprobe_says(url: str, what: str) -> dict[str, object]:
    """Return what ffprobe says of a stream of pictures; fails on any error."""
    ffprobe = need("ffprobe", "apt-get install ffmpeg")
    done = await asyncio.create_subprocess_exec(
        *(ffprobe, "-v", "error", "-select_streams", "v", "-count_packets"),
        *("-show_entries", what, "-of", "json", url),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    out, err = await done.communicate()
    assert done.returncode == 0 and err == b"", err.decode()
    found: dict[str, object] = json.loads(out)
    return found


@pytest.mark.browser
@pytest.mark.slow
async def test_a_moment_is_a_file_and_its_pictures_a_playlist(
    tmp_path: Path, chromium: str
) -> None:
    """ffprobe reads both to the end; a browser without scripts plays the file in the page."""
    begin_ms = int(time.time() * 1000) - 180_000
    camera = LiveCamera(tmp_path / "spool", "c")
    camera.begin(begin_ms)
    for _ in range(90):
        camera.append()
    camera.end(GapCause.NO_DATA)
    camera.close()
    config = configure(tmp_path, f"sqlite:///{tmp_path}/k.db", "archives: [archive]\n", "2h")
    async with serving(config) as site:
        stretch = f"from={begin_ms + 10_000}&to={begin_ms + 40_000}"
        url = f"{site.base}/live/s/c/pictures.m3u8?{stretch}"
        said = await ffprobe_says(url, "stream=nb_read_packets,width")
        assert said["streams"] == [{"width": 320, "nb_read_packets": "30"}]
        url = f"{site.base}/live/s/c/moment.mp4?t={begin_ms + 10_500}"
        said = await ffprobe_says(url, "stream=nb_read_packets:format=start_time,duration")
        assert said["streams"] == [{"nb_read_packets": str(61 * 25)}]
        assert said["format"] == {"start_time": "0.000000", "duration": "61.000000"}
        page_url = f"{site.base}/stations/s?lang=en&t={begin_ms + 10_500}"
        async with opened(chromium, page_url, java_script_enabled=False) as (page, _):
            video = "document.querySelector('[data-camera=c] video.moment')"
            assert await page.locator("[data-camera=c] video.moment").is_visible()
            assert not await page.locator("[data-camera=d] video.moment").count()
            await page.evaluate(f"{video}.play()")

            async def plays() -> bool:
                return bool(await page.evaluate(f"{video}.currentTime") > 1)

            await until(plays, why="the minute does not play")
