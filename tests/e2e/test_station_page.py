"""The station's page in Chromium: one screen, links that say why not, keys, timeline, sharing."""

from __future__ import annotations

import asyncio
import itertools
import re
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, ExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from playwright.async_api import Page, expect

from config.model import Config
from storage.records import GapCause
from tests.support.live_fixture import LiveCamera, live_camera
from tests.support.pages import axe, becomes
from tests.support.site_stack import Site, opened, serving, station_yaml, write_config
from tests.support.waiting import until

CAMERAS = ("c", "d", "e")
COPIES = (
    "web: {public_url: http://127.0.0.1}\n"
    "copies:\n  price_per_minute: 10\n  tax: 16%\n"
    "  bank: {beneficiary: Office, bin: '123456789012', iban: KZ86125KZT5004100100,"
    " bank: Bank, bic: KCJBKZKX, beneficiary_code: '16', purpose_code: '859'}\n"
)
NAMES = "    name: School 12\n    address: 5 Abai Avenue"
HOUR = re.compile(r"(\d\d):")
PHONE, DESK = {"width": 360, "height": 740}, {"width": 1440, "height": 900}
SHIFTS = """
  window.shifts = 0;
  new PerformanceObserver((list) => {
    for (const one of list.getEntries()) if (!one.hadRecentInput) window.shifts += one.value;
  }).observe({ type: 'layout-shift', buffered: true });
"""
# What was closed has the focus until the next picture of the page.
PRESSED_AS_IT_CLOSES = """() => {
  document.querySelector("#sharing").close();
  document.activeElement.dispatchEvent(
    new KeyboardEvent("keydown", { code: "Digit7", key: "?", shiftKey: true, bubbles: true }));
}"""
# What of an embedded camera's bar is cut off, or broken in lines so that the bar is higher.
CUT = """[...document.querySelectorAll('.bar, .bar > :not(a)')]
  .filter((one) => one.scrollWidth > one.clientWidth || one.clientHeight > 48)
  .map((one) => `${one.className} ${one.id}, ${one.scrollWidth} x ${one.clientHeight} px`)"""
# The heights at which the controls below the picture stand.
ROWS = """[...new Set([...document.querySelectorAll('.controls > button')].map((one) => {
  const { top, height } = one.getBoundingClientRect();
  return Math.round((top + height / 2) / 4);
}))]"""
FIVE = ("#play", "#back", "#on", "#live", "#full")
# In one look: a screen that has just changed may not have its size yet.
FILLS = """(({ width, height }) => width === innerWidth && height === innerHeight)(
  document.querySelector(".lead .frame").getBoundingClientRect())"""
# Before playback goes on by itself, and takes the button away.
PRESSED_WHEN_ONLINE = """(button) => addEventListener(
  "online", () => document.querySelector(button).click(), { once: true })"""


def configured(folder: Path, more: str = "") -> Config:
    """Station s with three cameras."""
    cameras = {c: f"rtsp://127.0.0.1/{c}" for c in CAMERAS}
    return write_config(folder, station_yaml("s", "117", cameras, NAMES), more=more)


async def keep_up(cameras: list[LiveCamera]) -> None:
    while True:
        for one in cameras:
            one.keep_up()
        await asyncio.sleep(0.2)


@asynccontextmanager
async def page_at(
    folder: Path,
    chromium: str,
    path: str = "/stations/s?lang=en",
    *,
    more: str = "",
    **options: Any,
) -> AsyncIterator[tuple[Page, list[str], Site, list[LiveCamera]]]:
    """Record three cameras, serve them, and open a page; it has to have no errors at the end."""
    async with AsyncExitStack() as stack:
        recording = stack.enter_context(ExitStack())
        cameras = [recording.enter_context(live_camera(folder / "spool", c)) for c in CAMERAS]
        site = await stack.enter_async_context(serving(configured(folder, more)))
        task = asyncio.create_task(keep_up(cameras))
        stack.callback(task.cancel)
        page, errors = await stack.enter_async_context(opened(chromium, "about:blank", **options))
        await page.add_init_script(SHIFTS)
        await page.goto(site.base + path)
        yield page, errors, site, cameras
        assert errors == []


def live(page: Page) -> Any:
    return expect(page.locator("#live"))


def iso(ago_s: float) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() - ago_s))


async def plays(page: Page, camera: str = "c") -> None:
    await page.wait_for_selector(f"[data-camera={camera}][data-state=plays]")


@pytest.mark.browser
@pytest.mark.slow
async def test_a_link_shows_its_moment_or_says_why_not(tmp_path: Path, chromium: str) -> None:
    async with page_at(tmp_path, chromium, f"/stations/s?lang=en&t={iso(6)}", more=COPIES) as (
        page,
        _,
        site,
        _,
    ):
        await plays(page)
        assert "t=" in page.url
        for t, words, ways in (
            (
                iso(3 * 3600),
                "further back than what can be watched",
                ["Order a copy", "Watch live"],
            ),
            ("2999-01-01T00:00:00Z", "has not come yet", ["Watch live"]),
            ("tomorrow", "names no moment", ["Watch live"]),
            ("", "names no moment", ["Watch live"]),
        ):
            await page.goto(f"{site.base}/stations/s?lang=en&t={t}")
            await expect(page.locator("#card-words")).to_contain_text(words)
            assert await page.locator("#card-acts > *").all_inner_texts() == ways
            await live(page).to_have_attribute("aria-pressed", "false")
            assert await page.locator("[data-state=plays]").count() == 0, (
                "it plays live all the same"
            )
            assert await page.locator("[data-waits]").count() == 0, "it says that it loads"
            await page.get_by_role("button", name="Watch live").click()
            await plays(page)
            await live(page).to_have_attribute("aria-pressed", "true")
            await expect(page.locator("#card")).to_be_hidden()
        old = iso(3 * 3600)
        await page.goto(f"{site.base}/stations/s?lang=en&t={old}")
        href = await page.get_by_role("link", name="Order a copy").get_attribute("href")
        assert href and "from=" in href and "station=s" in href


@pytest.mark.browser
@pytest.mark.slow
async def test_an_embedded_camera_keeps_its_moment_and_covers_no_picture(
    tmp_path: Path, chromium: str
) -> None:
    path = f"/embed/s/d?lang=ru&t={iso(7)}"
    size = {"width": 300, "height": 220}
    async with page_at(tmp_path, chromium, path, viewport=size) as (page, _, site, _):
        await page.wait_for_selector("main[data-state=plays]")
        await live(page).to_have_attribute("aria-pressed", "false")
        href = await page.get_attribute("#station", "href")
        assert href and "angle=d" in href and "t=" in href
        frame = await page.locator(".frame").bounding_box()
        bar = await page.locator("div.bar").bounding_box()
        assert frame and bar and frame["y"] + frame["height"] <= bar["y"] + 1
        for width in (300, 390, 500, 800):
            await page.set_viewport_size({"width": width, "height": 220})
            assert await page.evaluate("document.documentElement.scrollWidth") <= width
            assert await page.evaluate(CUT) == [], width
        await page.click("#live")
        await live(page).to_have_attribute("aria-pressed", "true")
        await page.click("#sound")
        assert await page.get_attribute("#sound", "aria-pressed") == "true"
        await page.wait_for_selector("main[data-state=plays]")
        await page.goto(f"{site.base}/embed/s/d?lang=en&t={iso(3 * 3600)}")
        await expect(page.locator("#notice")).to_contain_text("further back")
        assert await page.locator("main[data-state=plays]").count() == 0


@pytest.mark.browser
@pytest.mark.slow
@pytest.mark.parametrize(("size", "lang"), [(PHONE, "kk"), (DESK, "ru")], ids=["phone", "desk"])
async def test_one_screen_has_all_that_matters_and_nothing_moves(
    tmp_path: Path, chromium: str, size: dict[str, int], lang: str
) -> None:
    path = f"/stations/s?lang={lang}"
    async with page_at(tmp_path, chromium, path, viewport=size) as (page, _, _, _):
        for camera in CAMERAS:
            await plays(page, camera)
        for one in (".lead video", "#now", "#track", *FIVE):
            box = await page.locator(one).bounding_box()
            assert box, one
            assert box["x"] >= 0 and box["x"] + box["width"] <= size["width"] + 1, (one, box)
            assert box["y"] >= 0 and box["y"] + box["height"] <= size["height"], (one, box)
            if one in FIVE:
                assert box["height"] >= 44 and box["width"] >= 44, (one, box)
        assert len(await page.evaluate(ROWS)) == 1, "the controls are broken in lines"
        await becomes(page, "document.querySelector('#track').ariaValueNow > 0")
        recorded = page.locator(f"[data-line={CAMERAS[0]}] .is-recorded").first
        await expect(recorded).to_be_visible()
        assert await page.evaluate("window.shifts") <= 0.02
        assert await axe(page) == []
        tools = await page.context.new_cdp_session(page)
        await tools.send("Emulation.setCPUThrottlingRate", {"rate": 10})
        await page.reload(wait_until="commit")  # a slow machine has a page piece by piece
        await plays(page)
        assert await page.evaluate("window.shifts") <= 0.02


@pytest.mark.browser
@pytest.mark.slow
async def test_before_recording_begins_nothing_is_said_to_be_live(
    tmp_path: Path, chromium: str
) -> None:
    stations = station_yaml("s", "117", {"c": "rtsp://127.0.0.1/c"}, NAMES)
    later = "  windows: [{from: 2089-01-01T00:00, to: 2090-01-01T00:00}]\n"
    async with (
        serving(write_config(tmp_path, stations, later)) as site,
        opened(chromium, f"{site.base}/stations/s?lang=en") as (page, errors),
    ):
        await expect(page.locator("#status")).to_have_text("No picture now")
        await expect(page.locator(".lead .slate")).to_contain_text("Recording begins at")
        await live(page).to_have_attribute("aria-pressed", "false")
        await page.goto(f"{site.base}/embed/s/c?lang=en")
        await expect(page.locator("#why")).to_contain_text("Recording begins at")
        await live(page).to_have_attribute("aria-pressed", "false")
        await expect(page.locator("#late")).to_be_empty()
        assert errors == []


@pytest.mark.browser
@pytest.mark.slow
async def test_the_whole_screen_is_the_picture_and_controls_fade(
    tmp_path: Path, chromium: str
) -> None:
    async with page_at(tmp_path, chromium, viewport=DESK) as (page, _, _, _):
        await plays(page)
        await page.keyboard.press("f")
        await becomes(page, "document.fullscreenElement !== null")
        await becomes(page, FILLS)
        await becomes(page, "document.querySelector('.stage').classList.contains('idle')")
        await becomes(page, "getComputedStyle(document.querySelector('.panel')).opacity === '0'")
        moves = itertools.count()

        async def wakes() -> bool:  # who rests for some seconds sees them fade again
            await page.mouse.move(400 + next(moves) % 9, 300)
            shows = "getComputedStyle(document.querySelector('.panel')).opacity === '1'"
            return bool(await page.evaluate(shows))

        await until(wakes)
        await page.keyboard.press("f")
        await becomes(page, "document.fullscreenElement === null")
        await page.set_viewport_size({"width": 740, "height": 360})  # a phone on its side
        await becomes(page, "document.querySelector('.stage').classList.contains('whole')")
        await becomes(page, FILLS)
        await page.set_viewport_size(PHONE)  # type: ignore[arg-type]
        await becomes(page, "!document.querySelector('.stage').classList.contains('whole')")


@pytest.mark.browser
@pytest.mark.slow
async def test_keys_do_the_same_in_a_russian_layout(tmp_path: Path, chromium: str) -> None:
    async with page_at(tmp_path, chromium, viewport=DESK) as (page, _, _, cameras):
        await plays(page)
        tools = await page.context.new_cdp_session(page)

        async def press(code: str, key: str, shift: bool = False) -> None:
            event = {"code": code, "key": key, "modifiers": 8 if shift else 0}
            await tools.send("Input.dispatchKeyEvent", {"type": "keyDown", **event})
            await tools.send("Input.dispatchKeyEvent", {"type": "keyUp", **event})

        await press("Digit2", "2")
        await page.wait_for_selector(".lead[data-camera=d]")
        await press("KeyK", "л")
        await expect(page.locator("#play")).to_have_attribute("data-icon", "play")
        before = await page.inner_text("#now")
        assert "." in before or "," in before, "fractions of a second, while it stands"
        await press("Period", "ю")
        await expect(page.locator("#now")).not_to_have_text(before)
        await press("Comma", "б")
        await press("Period", "Ю", shift=True)
        await expect(page.locator("#rate")).to_have_value("2")
        await press("Comma", "Б", shift=True)
        await press("KeyG", "п")
        await expect(page.locator("#watch")).to_have_attribute("data-layout", "equal")
        await press("KeyG", "п")
        await press("KeyM", "ь")
        await expect(page.locator("#sound")).to_have_attribute("aria-pressed", "true")
        await press("KeyS", "ы")
        await expect(page.locator("#sharing")).to_be_visible()
        await page.evaluate(PRESSED_AS_IT_CLOSES)
        await expect(page.locator("#keys")).to_be_visible()
        await page.keyboard.press("Escape")
        await expect(page.locator("#keys")).to_be_hidden()  # until then keys are the dialog's
        await press("KeyL", "д")
        await live(page).to_have_attribute("aria-pressed", "true")
        cameras[1].end(GapCause.UNREACHABLE)
        await page.wait_for_selector("[data-camera=d][data-state=gap]")
        await expect(page.locator("#count")).to_have_text("Live: 2 of 3 cameras")
        cameras[1].begin(int(time.time() * 1000), "blue")
        await plays(page, "d")
        await expect(page.locator("#nearest")).to_contain_text("the camera does not answer")
        await press("KeyK", "л")  # so that it is as far from the gap when the next key comes
        await expect(page.locator("#play")).to_have_attribute("data-icon", "play")
        stood = await moment_ms(page)

        async def is_before() -> bool:
            return await moment_ms(page) < stood - 3000

        await press("BracketLeft", "х")  # some seconds before the gap
        await until(is_before)
        await expect(page.locator("#status")).to_contain_text("ago")
        await press("BracketLeft", "х")
        await expect(page.locator("#said")).to_contain_text("no gap before")


@pytest.mark.browser
@pytest.mark.slow
async def test_what_cannot_be_jumped_to_is_said_beside_the_field(
    tmp_path: Path, chromium: str
) -> None:
    async with page_at(tmp_path, chromium, viewport=DESK) as (page, _, _, _):
        await plays(page)
        await page.keyboard.press("t")
        for day, clock, words in (
            ("2999-01-01", "10:00:00", "has not come yet"),
            ("2020-01-01", "10:00:00", "further back"),
        ):
            await page.fill("#day", day)
            await page.fill("#time", clock)
            await page.press("#time", "Enter")
            await expect(page.locator("#jump-wrong")).to_contain_text(words)
            await expect(page.locator("#jump-wrong")).to_be_visible()
            assert await page.get_attribute("#time", "aria-invalid") == "true"
        await live(page).to_have_attribute("aria-pressed", "true")  # nothing has changed


@pytest.mark.browser
@pytest.mark.slow
async def test_the_timeline_shows_pictures_zooms_and_selects_a_stretch(
    tmp_path: Path, chromium: str
) -> None:
    async with page_at(tmp_path, chromium, more=COPIES, viewport=DESK) as (page, _, _, cameras):
        await plays(page)
        written = cameras[0].written
        await until(lambda: cameras[0].written >= written + 8)
        box = await page.locator("#track").bounding_box()
        assert box
        middle = box["y"] + box["height"] / 2
        await page.mouse.move(box["x"] + box["width"] * 0.5, middle)
        for _ in range(12):
            await page.mouse.wheel(0, -100)
        await page.keyboard.press("Escape")

        async def place(of: str) -> float:
            return float(
                await page.evaluate(
                    "of => { const one = [...document.querySelectorAll(of)].at(-1)"
                    ".getBoundingClientRect(); return one.left + one.width / 2; }",
                    of,
                )
            )

        for _ in range(40):  # until what was recorded is wide
            needle = await place("#needle")
            if await page.evaluate(
                "document.querySelector('[data-line=c] .is-recorded')?.clientWidth > 200"
            ):
                break
            await page.mouse.move(needle, middle)
            await page.mouse.wheel(0, -100)
        recorded = await place("[data-line=c] .is-recorded")
        await page.mouse.move(recorded - 30, middle)
        await expect(page.locator("#bubble-words")).to_contain_text(":")
        await becomes(page, "document.querySelector('#bubble video').readyState >= 2")
        await page.mouse.down()
        await page.mouse.move(recorded + 30, middle, steps=5)
        await page.mouse.up()
        words = page.locator("#marked-words")
        await expect(words).to_contain_text("up to")
        href = await page.get_attribute("#marked-order", "href")
        assert href and "from=" in href and "to=" in href
        await page.click("#unmark")
        await expect(page.locator("#marked")).to_be_hidden()


@pytest.mark.browser
@pytest.mark.slow
async def test_a_moment_is_shared_as_a_link_as_code_and_as_a_picture(
    tmp_path: Path, chromium: str
) -> None:
    async with page_at(tmp_path, chromium, viewport=DESK) as (page, _, site, _):
        await plays(page)
        await page.click("#share")
        link = await page.input_value("#address")
        assert link.startswith(f"{site.base}/stations/s?") and "t=" in link
        code = await page.input_value("#code")
        assert f"{site.base}/embed/s/c" in code and "width:100%" in code
        await page.click("[data-copies=code]")
        await expect(page.locator("#shared")).to_have_text("Copied.")
        async with page.expect_download() as file:
            await page.click("#still")
        path = await (await file.value).path()
        assert path.read_bytes()[:2] == b"\xff\xd8"
        assert "117-c-" in (await file.value).suggested_filename


@pytest.mark.browser
@pytest.mark.slow
async def test_whatever_the_browser_throws_away_playback_goes_on(
    tmp_path: Path, chromium: str
) -> None:
    forgets = """
      const buffers = new Set();
      const { addSourceBuffer } = MediaSource.prototype;
      MediaSource.prototype.addSourceBuffer = function add(mime) {
        const made = addSourceBuffer.call(this, mime);
        buffers.add(made);
        return made;
      };
      window.forget = (from, to) => {
        for (const one of buffers) {
          const videos = [...document.querySelectorAll('figure video')];
          const at = videos.find((v) => v.readyState).currentTime;
          try { one.remove(Math.max(0, at + from), at + to); } catch {}
        }
      };
    """
    async with page_at(tmp_path, chromium, "/stations/s?lang=en", viewport=DESK) as (
        page,
        _,
        site,
        _,
    ):
        await page.add_init_script(forgets)
        for path in ("/stations/s?lang=en", f"/stations/s?lang=en&t={iso(8)}"):
            await page.goto(site.base + path)
            await plays(page)
            for start, end in ((-2, 1), (0.2, 1.5), (-30, 60), (-1, 0.1), (0, 30)):
                await page.evaluate(f"window.forget({start}, {end})")
                shown = await moment_ms(page)

                async def moved(shown: float = shown) -> bool:
                    return await moment_ms(page) > shown + 1500

                await until(moved, why=f"it stands after {start} to {end} were thrown away")
                await plays(page)


@pytest.mark.browser
@pytest.mark.slow
async def test_what_stands_is_said_with_a_button(tmp_path: Path, chromium: str) -> None:
    async with page_at(tmp_path, chromium, viewport=DESK) as (page, _, site, _):
        await plays(page)
        await page.context.set_offline(True)
        await expect(page.locator("#card-words")).to_contain_text("There is no connection")
        await expect(page.get_by_role("button", name="Try again")).to_be_visible()
        await live(page).to_have_attribute("aria-pressed", "false")
        await page.evaluate(PRESSED_WHEN_ONLINE, "#card-acts button")
        await page.context.set_offline(False)
        await plays(page)
        await expect(page.locator("#card")).to_be_hidden()
        await live(page).to_have_attribute("aria-pressed", "true")
        await page.goto(f"{site.base}/embed/s/c?lang=en")
        await page.wait_for_selector("main[data-state=plays]")
        await page.context.set_offline(True)
        await expect(page.locator("#again")).to_be_visible()
        await page.evaluate(PRESSED_WHEN_ONLINE, "#again")
        await page.context.set_offline(False)
        await page.wait_for_selector("main[data-state=plays]")
        await expect(page.locator("#slate")).to_be_hidden()


async def moment_ms(page: Page) -> float:
    text = await page.get_attribute("#now", "datetime")
    return float(await page.evaluate("Date.parse", text)) if text else 0.0


async def slowly(page: Page, url: str) -> Callable[[], Awaitable[None]]:
    """Open a page over a link of 12 kB/s and 300 ms; return what makes the link fast."""
    tools = await page.context.new_cdp_session(page)
    await tools.send("Network.enable")

    async def at(speed: int) -> None:
        link = {"offline": False, "latency": 300, "uploadThroughput": 50_000}
        await tools.send("Network.emulateNetworkConditions", link | {"downloadThroughput": speed})

    await at(12_000)
    await page.goto(url, wait_until="commit")
    return lambda: at(-1)


@pytest.mark.browser
@pytest.mark.slow
async def test_a_slow_link_shows_bright_pictures_with_their_own_time(
    tmp_path: Path, chromium: str
) -> None:
    async with page_at(tmp_path, chromium, "/embed/s/c", viewport=PHONE) as (page, _, site, _):
        be_fast = await slowly(page, f"{site.base}/stations/s?lang=en")
        await expect(page.locator("#quality")).to_contain_text("Slow link: picture of")
        await expect(page.locator("#video")).to_contain_text("MB a minute")
        assert await page.get_attribute(".lead", "data-shown") in ("video", "still")
        assert await page.locator(".lead .slate").is_hidden(), "the picture is darkened"
        first = await page.inner_text("#quality")

        async def renewed() -> bool:
            return await page.inner_text("#quality") != first

        await until(renewed, why="the picture is not renewed")
        assert "-" not in await page.inner_text("#status"), "a negative delay"
        await page.click("#video")  # while it is offered: a fast link needs no asking
        await be_fast()
        await expect(page.locator("#quality")).not_to_contain_text("picture of")
        await plays(page)


@pytest.mark.browser
@pytest.mark.slow
async def test_an_embedded_camera_says_on_a_slow_link_what_video_costs(
    tmp_path: Path, chromium: str
) -> None:
    size = {"width": 300, "height": 260}
    async with page_at(tmp_path, chromium, "/embed/s/c", viewport=size) as (page, _, site, _):
        be_fast = await slowly(page, f"{site.base}/embed/s/c?lang=ru")
        await expect(page.locator("#quality")).to_contain_text("Медленная связь: снимок")
        await expect(page.locator("#video")).to_contain_text("МБ")
        for width in (300, 500):
            await page.set_viewport_size({"width": width, "height": 260})
            assert await page.evaluate(CUT) == [], width
        await page.click("#video")
        await be_fast()
        await expect(page.locator("#slow")).to_be_hidden()
        await page.wait_for_selector("main[data-state=plays][data-shown=video]")


@pytest.mark.browser
@pytest.mark.slow
async def test_the_zone_that_a_camera_burns_in_is_told_beside_the_local_time(
    tmp_path: Path, chromium: str
) -> None:
    stations = station_yaml("s", "117", {c: f"rtsp://127.0.0.1/{c}" for c in "cd"}, NAMES)
    stations = stations.replace("id: c,", "id: c, picture_zone: UTC,")
    with live_camera(tmp_path / "spool", "c") as c, live_camera(tmp_path / "spool", "d") as d:
        async with (
            serving(write_config(tmp_path, stations)) as site,
            opened(chromium, f"{site.base}/stations/s?lang=en", viewport=DESK) as (page, errors),
        ):
            task = asyncio.create_task(keep_up([c, d]))
            await plays(page)
            await expect(page.locator("#burned")).to_contain_text("UTC")
            shown, burned = await page.evaluate(
                "['#now', '#burned'].map(one => document.querySelector(one).textContent)"
            )
            hours = [int(found[1]) for text in (shown, burned) if (found := HOUR.search(text))]
            assert (hours[0] - hours[1]) % 24 == 5
            await page.keyboard.press("2")
            await expect(page.locator("#burned")).to_be_empty()
            assert errors == []
            task.cancel()
