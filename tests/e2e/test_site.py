"""The pages: found, read, heard and steered by everybody; and what bad input gets."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from urllib.parse import quote

import aiohttp
import pytest
from playwright.async_api import Browser, Route, async_playwright, expect

from config.model import Config
from storage.records import GapCause
from streaming.http.assets import imported
from tests.support.live_fixture import LiveCamera, live_camera
from tests.support.pages import axe, becomes
from tests.support.site_stack import (
    CHROMIUM,
    Site,
    opened,
    patient_page,
    serving,
    station_yaml,
    write_config,
)
from tests.support.waiting import until

WIDTHS = (320, 390, 820, 1440)  # 320 is what a phone of 640 has at 200 %
EVIL = "<script>alert(1)</script>"
NAMES = f"""\
    name: {{kk: "№ 12 мектеп", ru: "Школа № 12", en: "School {EVIL}"}}
    region: {{kk: Алматы қаласы, ru: город Алматы, en: Almaty city}}
    district: {{kk: Медеу ауданы, ru: Медеуский район, en: Medeu district}}
    latitude: 43.2389
    longitude: 76.8897
    address: {{kk: Абай даңғылы 5, ru: пр. Абая 5, en: 5 Abai Avenue}}"""


def configured(folder: Path) -> Config:
    """Two stations: s with two cameras, and t with none that answers."""
    url = "rtsp://127.0.0.1/x"
    stations = station_yaml("s", "117", {"c": url, "d": url}, NAMES)
    return write_config(folder, stations + station_yaml("t", "204", {"c": url}))


@pytest.fixture
def cameras(tmp_path: Path) -> Iterator[list[LiveCamera]]:
    """Two cameras of station s that record."""
    with ExitStack() as stack:
        yield [stack.enter_context(live_camera(tmp_path / "spool", c)) for c in ("c", "d")]


async def keep_up(cameras: list[LiveCamera]) -> None:
    while True:
        for one in cameras:
            one.keep_up()
        await asyncio.sleep(0.2)


async def look(browser: Browser, site: Site, path: str, theme: str, wait: str = "main") -> None:
    """Open a page; see that it is clean for axe and fits every width."""
    context = await browser.new_context(color_scheme=theme, reduced_motion="reduce")  # type: ignore[arg-type]
    page = await patient_page(context)
    try:
        await page.goto(site.base + path)
        await page.wait_for_selector(wait)
        for width in WIDTHS:
            await page.set_viewport_size({"width": width, "height": 800})
            over = await page.evaluate("document.documentElement.scrollWidth")
            assert over <= width, f"{path} is {over} wide at {width}"
        assert await axe(page) == [], f"{path} {theme}"
        assert await context.cookies() == []
    finally:
        await context.close()


@pytest.mark.browser
@pytest.mark.slow
async def test_every_page_is_clean_for_axe_in_both_themes_and_fits_every_width(
    tmp_path: Path, chromium: str, cameras: list[LiveCamera]
) -> None:
    async with serving(configured(tmp_path)) as site, async_playwright() as play:
        task = asyncio.create_task(keep_up(cameras))
        browser = await play.chromium.launch(executable_path=chromium, args=CHROMIUM)
        try:
            for path, wait, themes in (
                ("/?lang=en", "#regions", "light dark"),
                ("/?lang=ru&q=117", "#results", "light dark"),
                ("/?lang=kk&q=zzzzzzz", "#results", "light dark"),
                ("/?lang=ru&mine=s,t", "#mine:not([hidden])", "light dark"),
                ("/about?lang=kk", "#kept", "light dark"),
                ("/help?lang=ru", "#gaps", "light dark"),
                ("/stations/s?lang=en", '[data-state="plays"]', "light dark"),
                ("/stations/s?lang=kk&t=2999-01-01T00:00:00Z", "#card", "light dark"),
                ("/stations/t?lang=ru", "#state", "light dark"),
                ("/stations/118?lang=en", "main", "light dark"),
                ("/embed/s/c?lang=en", "video", "light dark"),
                ("/nothing?lang=kk", "main", "light dark"),
            ):
                for theme in themes.split():
                    await look(browser, site, path, theme, wait)
            await _without_scripts(browser, site)
        finally:
            task.cancel()
            await browser.close()


async def _without_scripts(browser: Browser, site: Site) -> None:
    """Find a station and get at its video without JavaScript."""
    context = await browser.new_context(java_script_enabled=False, locale="ru-RU")
    page = await patient_page(context)
    await page.goto(site.base)
    await page.fill("#q", "школа 12")
    await page.press("#q", "Enter")
    await page.wait_for_url("**/?*q=*")
    await page.click("#stations a")
    await page.wait_for_url("**/stations/s")  # all of it
    assert await page.locator("h1").inner_text() == "Участок № 117 · Школа № 12"
    assert await page.locator(".still").count() == 2
    assert not await page.locator("#play").is_visible()
    assert await page.locator(".told noscript .notice").is_visible()
    sizes = "all => all.map(one => `${one.clientWidth} x ${one.clientHeight}`)"
    assert len(set(await page.locator(".frame").evaluate_all(sizes))) == 1
    href = await page.locator(".plain").first.get_attribute("href")
    assert href == "/live/s/c/index.m3u8" and await page.locator(".plain").first.is_visible()
    await page.goto(f"{site.base}/embed/s/c")  # it has a picture, and no dead buttons
    assert await page.locator(".still").is_visible() and await page.locator("#station").is_visible()
    assert await page.get_by_role("button").count() == 0
    await context.close()


@pytest.mark.browser
@pytest.mark.slow
async def test_a_station_is_found_and_watched_with_the_keyboard_alone(
    tmp_path: Path, chromium: str, cameras: list[LiveCamera]
) -> None:
    async with (
        serving(configured(tmp_path)) as site,
        opened(chromium, f"{site.base}/?lang=en", viewport={"width": 820, "height": 900}) as (
            page,
            errors,
        ),
    ):
        task = asyncio.create_task(keep_up(cameras))
        walked = []
        for _ in range(6):
            await page.keyboard.press("Tab")
            walked.append(await page.evaluate("document.activeElement.textContent.trim()"))
        assert walked == ["To the content", "Kuager", "ҚАЗ", "РУС", "ENG", ""]
        await page.keyboard.type("shkola 99")
        await expect(page.locator("#count")).to_contain_text("Nothing was found")
        said = await page.locator("#count").bounding_box()
        assert said and said["height"] > 10  # all see it
        await page.fill("#q", "")
        await page.keyboard.type("shkola 1")
        await expect(page.locator("#found li")).to_have_count(1)
        chosen = asyncio.Event()

        async def late(route: Route) -> None:
            await chosen.wait()
            await route.continue_()

        await page.route("**/api/v1/stations?*", late)
        await page.keyboard.type("2")
        await page.keyboard.press("ArrowDown")
        await page.evaluate("document.querySelector('#found li').dataset.old = ''")
        chosen.set()
        await becomes(page, "!document.querySelector('#found [data-old]')")
        await expect(page.locator("#found-0")).to_have_attribute("aria-selected", "true")
        await expect(page.locator("#q")).to_have_attribute("aria-activedescendant", "found-0")
        await page.keyboard.press("Enter")
        await page.wait_for_selector('[data-camera=c][data-state="plays"]')
        assert await page.locator("h1").inner_text() == f"Station 117 · School {EVIL}"

        await page.keyboard.press("2")
        await page.wait_for_selector(".lead[data-camera=d]")
        assert "angle=d" in page.url
        await page.keyboard.press("ArrowLeft")
        await becomes(page, "location.search.includes('t=')")
        await page.keyboard.press("ArrowLeft")  # so far back that one step on is not live
        await page.wait_for_selector('[data-camera=d][data-state="plays"]')
        await page.keyboard.press("Space")
        await expect(page.locator("#play")).to_have_attribute("data-icon", "play")
        stood = await page.get_attribute("#now", "datetime")
        await page.keyboard.press("?")
        assert await page.locator("#keys").is_visible()
        await page.keyboard.press("Escape")
        await expect(page.locator("#keys")).to_be_hidden()  # until then the focus is the dialog's
        await page.focus("#track")
        before = float(await page.get_attribute("#track", "aria-valuenow") or 0)
        await page.keyboard.press("ArrowRight")
        await becomes(page, f"document.querySelector('#track').ariaValueNow >= {before + 4}")
        text = await page.get_attribute("#track", "aria-valuetext")
        assert text and re.fullmatch(r"\d\d:\d\d:\d\d UTC\+5", text)
        assert stood != await page.get_attribute("#now", "datetime")

        moment = await page.evaluate("new URLSearchParams(location.search).get('t')")
        await page.click('.languages a[lang="ru"]')  # the moment and the angle stay
        await page.wait_for_selector("html[lang=ru] .lead[data-camera=d]")
        assert await page.get_attribute('[data-camera="d"]', "class") == "angle lead"
        shown = await page.evaluate("new URLSearchParams(location.search).get('t')")
        assert abs(_seconds(shown) - _seconds(moment)) < 15
        await page.wait_for_selector('[data-camera=d][data-state="plays"]')
        await page.keyboard.press("l")
        await becomes(page, "!location.search.includes('t=')")
        assert errors == []
        task.cancel()


@pytest.mark.browser
@pytest.mark.slow
async def test_counts_on_the_home_page_renew_by_themselves(
    tmp_path: Path, chromium: str, cameras: list[LiveCamera]
) -> None:
    async with (
        serving(configured(tmp_path)) as site,
        opened(chromium, "about:blank") as (page, errors),
    ):
        task = asyncio.create_task(keep_up(cameras))
        await page.clock.install()
        await page.goto(f"{site.base}/?lang=en")
        assert await page.inner_text("#tally") == "Live: 1 of 2 stations, 2 of 3 cameras"
        assert "Live: 2 of 2 cameras" in await page.inner_text("[data-station=s]")
        for one in cameras:
            one.end(GapCause.NO_DATA)

        async def renewed() -> bool:
            await page.clock.fast_forward(15_000)
            return "0 of 2 stations" in await page.inner_text("#tally")

        await until(renewed)
        assert await page.inner_text("#tally") == "Live: 0 of 2 stations, 0 of 3 cameras"
        counts = await page.locator("[data-area]").all_inner_texts()
        assert counts == ["Live: 0 of 1 station"] * 2 and errors == []
        assert "Live: 0 of 2 cameras" in await page.inner_text("[data-station=s]")

        async def recording_ends(route: Route) -> None:
            answer = await route.fetch()
            page_of_then = (await answer.text()).replace('id="state" hidden>', 'id="state">Ended.')
            await route.fulfill(response=answer, body=page_of_then)

        await page.route(re.compile(r"/\?"), recording_ends)

        async def says_so() -> bool:
            await page.clock.fast_forward(15_000)
            return await page.locator("#state").is_visible()

        await until(says_so)
        assert await page.inner_text("#state") == "Ended."
        task.cancel()


@pytest.mark.browser
@pytest.mark.slow
async def test_stations_of_ones_own_and_near_ones(
    tmp_path: Path, chromium: str, cameras: list[LiveCamera]
) -> None:
    """A star keeps a station in the browser; the device's place finds the nearest."""
    async with (
        serving(configured(tmp_path)) as site,
        opened(
            chromium,
            f"{site.base}/?lang=en",
            geolocation={"latitude": 43.2391, "longitude": 76.8899},
            permissions=["geolocation"],
        ) as (page, errors),
    ):
        task = asyncio.create_task(keep_up(cameras))
        assert not await page.is_visible("#mine")
        await page.get_by_role("button", name=re.compile("Add to my stations: 204")).click()
        await page.wait_for_selector("#mine [data-station=t]")
        await page.reload()
        await page.wait_for_selector("#mine [data-station=t]")
        assert await page.context.cookies() == []
        remove = page.get_by_role("button", name=re.compile("Remove from my stations: 204"))
        assert await remove.count() == 2  # of both lists
        await page.locator("#mine .star").click()
        await page.wait_for_selector("#mine", state="hidden")
        assert await remove.count() == 0
        await page.get_by_role("button", name="Near me").click()
        await page.wait_for_url("**/?*near=43.239%2C76.890*")
        assert "Near you" in await page.inner_text("#results")
        assert " m" in await page.inner_text("#stations [data-station=s]")
        await page.click("#still")
        assert await page.get_attribute("#still", "aria-pressed") == "true"
        assert errors == []
        task.cancel()


@pytest.mark.browser
@pytest.mark.slow
async def test_a_desk_has_regions_beside_the_list_and_a_phone_below(
    tmp_path: Path, chromium: str, cameras: list[LiveCamera]
) -> None:
    async with (
        serving(configured(tmp_path)) as site,
        opened(chromium, f"{site.base}/?lang=ru") as (page, errors),
    ):
        for width, beside in ((1440, True), (360, False)):
            await page.set_viewport_size({"width": width, "height": 900})
            regions = await page.locator(".regions").bounding_box()
            results = await page.locator(".results").bounding_box()
            assert regions and results
            assert (regions["x"] + regions["width"] <= results["x"]) == beside
            assert (regions["y"] >= results["y"] + results["height"]) == (not beside)
        assert errors == []


def _seconds(text: str) -> float:
    return time.mktime(time.strptime(text, "%Y-%m-%dT%H:%M:%SZ"))


@pytest.mark.browser
@pytest.mark.slow
async def test_a_slow_link_plays_one_angle_and_says_so(
    tmp_path: Path, chromium: str, cameras: list[LiveCamera]
) -> None:
    async with (
        serving(configured(tmp_path)) as site,
        opened(chromium, "about:blank") as (page, errors),
    ):
        task = asyncio.create_task(keep_up(cameras))
        tools = await page.context.new_cdp_session(page)
        await tools.send("Network.enable")
        link = {"offline": False, "latency": 40, "uploadThroughput": 50_000}
        await tools.send("Network.emulateNetworkConditions", link | {"downloadThroughput": 50_000})
        await page.goto(f"{site.base}/stations/s?lang=en", wait_until="commit")
        await expect(page.locator("#quality")).to_contain_text("one camera plays")
        await page.wait_for_selector('[data-camera=d][data-state="off"]')
        assert await page.evaluate("document.querySelector('[data-camera=d] video').src") == ""
        await tools.send("Network.emulateNetworkConditions", link | {"downloadThroughput": -1})
        await page.wait_for_selector('[data-camera=d][data-state="plays"]')  # when it is faster
        await expect(page.locator("#quality")).to_be_hidden()
        assert errors == []
        task.cancel()


async def test_bad_input_gets_a_page_that_helps(tmp_path: Path) -> None:
    now = int(time.time() * 1000)
    hostile = "en;q=" + "9" * 3000 + ",<script>," + "x-" * 900
    async with serving(configured(tmp_path)) as site, aiohttp.ClientSession(site.base) as session:
        for path, status, words in (
            ("/stations/118?lang=en", 404, "There is no such station"),
            (f"/stations/{quote(EVIL, '')}?lang=en", 404, "There is no such station"),
            ("/stations/s?lang=en&t=2999-01-01T00:00:00Z", 404, "has not come yet"),
            ("/stations/s?lang=en&t=1999-01-01T00:00:00Z", 404, "Nothing was recorded then"),
            (f"/stations/s?lang=en&t={now - 3 * 3_600_000}", 404, "further back than the 2 h"),
            ("/stations/s?lang=en&t=tomorrow", 400, "cannot be read"),
            ("/stations/s?lang=en&angle=z", 404, "no such angle"),
            ("/stations/s?lang=xx", 400, "not a language"),
            ("/embed/s/z?lang=en", 404, "no such camera"),
            ("/?lang=en&q=" + "я" * 5000, 400, "at most"),
            ("/?lang=en&region=atlantis", 404, "no such region"),
            ("/nothing?lang=en", 404, "nothing at this address"),
        ):
            async with session.get(path, headers={"Accept-Language": "en"}) as answer:
                text = await answer.text()
                assert answer.status == status, path[:80]
                assert answer.content_type == "text/html" and words in text, path[:80]
                assert EVIL not in text and "Traceback" not in text
        async with session.get("/stations/s", headers={"Accept-Language": hostile}) as answer:
            assert answer.status == 200 and answer.headers["Content-Language"] == "kk"
        async with session.get("/stations/117?lang=en") as answer:
            assert 'href="/stations/s?lang=en"' in await answer.text(), "no near one is named"


async def test_a_page_is_light_sets_no_cookie_and_lets_nobody_else_in(tmp_path: Path) -> None:
    async with serving(configured(tmp_path)) as site, aiohttp.ClientSession(site.base) as session:
        for path, most, framed in (
            ("/", 10_000, "'self'"),
            ("/stations/s", 80_000, "'self'"),
            ("/embed/s/c", 60_000, "*"),
        ):
            bytes_, text = await _weight(session, path)
            files = set(re.findall(r'(?:href|src)="(/static/[^"]+)"', text))
            scripts = [f.rpartition("/")[2] for f in files if f.endswith(".mjs")]
            assert all(files.issuperset(imported(one)) for one in scripts), "it asks again"
            total = bytes_ + sum([(await _weight(session, name))[0] for name in files])
            assert total < most, f"{path}: {total} bytes"
            async with session.get(path) as answer:
                policy = answer.headers["Content-Security-Policy"]
                assert "unsafe" not in policy and "script-src" not in policy
                assert policy.startswith("default-src 'self'")
                assert policy.endswith(f"frame-ancestors {framed}")
                assert "Set-Cookie" not in answer.headers
                assert not re.search(r"<style|<script(?! type=)| style=| on\w+=", text)
                assert not re.findall(r'(?:src|href)="(?:https?:)?//(?!127)', text)


async def _weight(session: aiohttp.ClientSession, path: str) -> tuple[int, str]:
    """Return the bytes of an answer as they are sent, and its text."""
    async with (
        aiohttp.ClientSession(session._base_url, auto_decompress=False) as raw,
        raw.get(path, headers={"Accept-Encoding": "gzip"}) as answer,
    ):
        assert answer.headers["Content-Encoding"] == "gzip"
        size = len(await answer.read())
    async with session.get(path) as answer:
        return size, await answer.text()
