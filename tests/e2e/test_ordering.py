"""In Chromium, from a form to a played file: by invoice and the command line, and at Stripe."""

from __future__ import annotations

import asyncio
import contextlib
import re
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import AbstractAsyncContextManager
from datetime import UTC, datetime
from pathlib import Path

import cv2
import numpy as np
import pytest
from aiohttp import web
from playwright.async_api import Page, expect

from config.model import Config
from copies.orders.service import OrderService
from copies.orders.worker import OrderWorker
from storage.catalogue.catalogue import Catalogue
from storage.catalogue.orders import Payment
from streaming.app import create_app, make_runner
from tests.support.archiving import configure
from tests.support.mailbox import Mailbox, mailbox
from tests.support.orders import COPIES
from tests.support.pages import axe, becomes
from tests.support.repository import ROOT
from tests.support.s3 import free_port
from tests.support.selling import BEGIN, record
from tests.support.site_stack import opened
from tests.support.stripe_server import KEY, WEBHOOK_SECRET, running, tell
from tests.support.waiting import until

# In the page: fetch a file, let go of it after some bytes, go on where it ended; play the whole.
RESUMED = """async (url) => {
  const gone = new AbortController();
  const first = await fetch(url, { signal: gone.signal });
  const etag = first.headers.get("ETag");
  const reader = first.body.getReader();
  const pieces = [];
  let have = 0;
  while (have < 50000) {
    const { value } = await reader.read();
    const part = value.subarray(0, 50000 - have);
    pieces.push(part);
    have += part.length;
  }
  gone.abort();
  const headers = { Range: `bytes=${have}-`, "If-Range": etag };
  const rest = await fetch(url, { headers, cache: "no-store" });
  pieces.push(new Uint8Array(await rest.arrayBuffer()));
  const blob = new Blob(pieces, { type: "video/mp4" });
  const digest = await crypto.subtle.digest("SHA-256", await blob.arrayBuffer());
  const sha256 = [...new Uint8Array(digest)].map((b) => b.toString(16).padStart(2, "0")).join("");
  const video = document.createElement("video");
  video.muted = true;
  video.src = URL.createObjectURL(blob);
  document.body.append(video);
  await new Promise((done, failed) => {
    video.onerror = () => failed(new Error(video.error.message));
    video.ontimeupdate = () => video.currentTime > 0.5 && done();
    video.play();
  });
  return { status: rest.status, sha256, duration: video.duration, width: video.videoWidth };
}"""


@pytest.fixture(scope="module")
def stripe() -> Iterator[str]:
    with running(free_port()) as base:
        yield base


@contextlib.asynccontextmanager
async def shop(folder: Path, stripe: str, box: Mailbox) -> AsyncIterator[tuple[str, Config]]:
    """A web process and a desk; gives the address."""
    said = COPIES.format(key=KEY, hook=WEBHOOK_SECRET, stripe=stripe, port=box.port)
    config = configure(folder, f"sqlite:///{folder}/k.db", "archives: [archive]\n" + said, "2h")
    port = free_port()
    base = f"http://127.0.0.1:{port}"
    here = config.web.model_copy(update={"public_url": base})
    config = config.model_copy(update={"web": here})
    record(config)
    (config.spool / "_status").mkdir(exist_ok=True)
    catalogue = await Catalogue.open(config.database_url)
    runner = make_runner(create_app(config, catalogue, []))
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", port).start()
    await tell(stripe, f"{base}/api/v1/copies/payments/stripe")
    desk = asyncio.create_task(OrderWorker(config, catalogue, []).run())
    try:
        yield base, config
        assert not desk.done()
    finally:
        desk.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await desk
        await runner.cleanup()
        await catalogue.close()


def page_of(chromium: str, width: int) -> AbstractAsyncContextManager[tuple[Page, list[str]]]:
    return opened(
        chromium,
        "about:blank",
        viewport={"width": width, "height": 800},
        locale="en-GB",
        accept_downloads=True,
    )


async def order(page: Page, base: str, email: str = "") -> None:
    """Go from the station to an order that waits for its payment; a gap is seen on the way."""
    await page.goto(f"{base}/stations/s")
    await page.get_by_role("link", name="Copy of the recording").click()
    await page.get_by_role("checkbox", name=re.compile("^d\\b")).uncheck()
    for label, ms in (("From", BEGIN), ("To", BEGIN + 90_000)):
        at = datetime.fromtimestamp(ms / 1000, UTC)  # the station's zone
        await page.get_by_label(label, exact=True).fill(f"{at:%Y-%m-%dT%H:%M:%S}")
    await page.get_by_role("button", name="See recordings and price").click()
    await expect(page.locator(".gaps")).to_contain_text("the camera does not answer")
    await expect(page.locator("main")).to_contain_text("Recorded: 1:10 of 1:30 min")
    # 70 s at 20.00 a minute
    await expect(page.get_by_role("button", name="Order for")).to_contain_text("23.33 KZT")
    if email:
        await page.get_by_label("E-mail").fill(email)
    await page.get_by_role("button", name="Order for").click()
    await expect(page.locator("#state")).to_contain_text("Waiting for payment")


async def fetched(page: Page) -> None:
    """Download in two parts, and play."""
    links = page.locator(".files a")
    for n, seconds in enumerate((40, 30)):
        url = await links.nth(n).get_attribute("href")
        found = await page.evaluate(RESUMED, url)
        assert found["status"] == 206
        assert found["duration"] == pytest.approx(seconds, abs=0.05)
        assert found["width"] == 320
        shown = await page.locator(".files code").nth(n).inner_text()
        assert found["sha256"] == shown


@pytest.mark.slow
@pytest.mark.browser
async def test_by_invoice(chromium: str, tmp_path: Path, stripe: str) -> None:
    with mailbox() as box:
        async with (
            shop(tmp_path, stripe, box) as (base, config),
            page_of(chromium, 390) as (page, errors),
        ):
            await order(page, base, "voter@example.kz")
            await until(lambda: len(box.letters) == 1)
            assert page.url.partition("?")[0] in box.text(0)
            async with page.expect_download() as invoice:
                await page.evaluate(
                    "document.querySelector('.due ~ .row a[href$=\"invoice.pdf\"]').download = ''"
                )
                await page.get_by_role("link", name="Invoice for a bank transfer").click()
            path = await (await invoice.value).path()
            assert path.read_bytes().startswith(b"%PDF")
            done = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "kuager", "orders", "confirm", "1", "--amount", "23.33"),
                *("--reference", "2026-1", "--config", str(config.path)),
                cwd=ROOT,
                stdout=subprocess.PIPE,
            )
            said, _ = await done.communicate()
            assert done.returncode == 0 and b"paid" in said
            # the page finds out by itself
            await expect(page.locator("#state")).to_contain_text("Paid and checked")
            await fetched(page)
            async with page.expect_download() as everything:
                await page.get_by_role("link", name="Download everything as a ZIP").click()
            assert (await everything.value).suggested_filename == "kuager-1.zip"
            await until(lambda: len(box.letters) == 2)
            await page.goto(f"{base}/copies/register")
            await expect(page.locator("tbody")).to_contain_text("Paid and checked")
            assert errors == []


@pytest.mark.slow
@pytest.mark.browser
async def test_at_stripe(chromium: str, tmp_path: Path, stripe: str) -> None:
    with mailbox() as box:
        async with (
            shop(tmp_path, stripe, box) as (base, _),
            page_of(chromium, 1440) as (page, errors),
        ):
            referers: list[str] = []
            page.on("request", lambda r: referers.append(r.headers.get("referer", "")))
            await order(page, base)
            secret = page.url.rpartition("/")[2].partition("?")[0]
            await page.get_by_role("button", name="Pay by card").click()
            await page.wait_for_url(re.compile(r"_config/pay"))  # by itself
            assert secret not in await page.content()
            await page.get_by_role("button", name="Pay").click()
            await page.wait_for_url(re.compile(secret))  # back, through a page without the secret
            await expect(page.locator("#state")).to_contain_text("Paid and checked")
            await fetched(page)
            assert not any(secret in referer for referer in referers)
            assert errors == []


@pytest.mark.slow
@pytest.mark.browser
async def test_the_pages_of_an_order_in_each_state(
    chromium: str, tmp_path: Path, stripe: str
) -> None:
    """As a voter sees them: at 360 px and on a desk, in both themes, in three languages."""
    with mailbox() as box:
        async with (
            shop(tmp_path, stripe, box) as (base, config),
            page_of(chromium, 360) as (page, errors),
        ):
            await order(page, base)
            service = await _service(config)
            here = page.url

            async def seen(name: str, *languages: str) -> None:
                for lang in languages or ("ru",):
                    for theme in ("light", "dark"):
                        await page.emulate_media(color_scheme=theme)
                        await page.goto(f"{here.partition('?')[0]}?lang={lang}")
                        await expect(page.locator(".standing")).to_contain_text(name)
                        for width in (360, 1440):
                            await page.set_viewport_size({"width": width, "height": 800})
                            over = await page.evaluate("document.documentElement.scrollWidth")
                            assert over <= width, f"{name} is {over} wide at {width}"
                        assert await axe(page) == [], f"{name} {lang} {theme}"

            await seen("Ожидает оплаты")
            # the link: copied, and read from its QR
            await page.context.grant_permissions(["clipboard-read", "clipboard-write"])
            await page.get_by_role("button", name="Скопировать ссылку").click()
            await expect(page.locator("#copied")).to_have_text("Скопировано")
            link = await page.locator("#here").input_value()
            assert await page.evaluate("navigator.clipboard.readText()") == link
            await page.get_by_text("QR-код для телефона").click()
            picture = await page.locator("svg.qr").screenshot()
            image = cv2.imdecode(np.frombuffer(picture, np.uint8), cv2.IMREAD_GRAYSCALE)
            assert image is not None
            found, _, _ = cv2.QRCodeDetectorAruco().detectAndDecode(image)
            assert found == link
            # an invoice for a firm; what is wrong is said beside the field
            await page.get_by_text("Счёт для юридического лица").click()
            await page.get_by_label("Название или имя плательщика").fill("ТОО «Үлгі»")
            await page.get_by_label("БИН или ИИН").fill("123")
            await page.get_by_role("button", name="Указать плательщика").click()
            await expect(page.locator("#bin-error")).to_contain_text("12 цифр")
            await page.get_by_label("БИН или ИИН").fill("123456789012")
            await page.get_by_role("button", name="Указать плательщика").click()
            await expect(page.locator("main")).to_contain_text("Плательщик в счёте: ТОО «Үлгі»")
            # a part comes, and the page finds out by itself
            await service.enter_payment(1, Payment("invoice", "1", 1_000, "KZT", BEGIN), "operator")
            await expect(page.locator(".standing")).to_have_text("Оплачен частично")
            await seen("Ішінара төленді", "kk")
            # cancelling asks first
            await page.get_by_text("Тапсырыстан бас тарту").first.click()
            await page.get_by_role("button", name="Иә, тапсырыстан бас тарту").click()
            await seen("Cancelled", "en")
            await expect(page.locator("main")).to_contain_text("You will be given back 10.00 KZT")
            assert await page.get_by_role("button").count() == 0  # nothing is left to do
            await service.catalogue.close()
            assert errors == []


async def _service(config: Config) -> OrderService:
    return OrderService(config, await Catalogue.open(config.database_url), {})


@pytest.mark.slow
@pytest.mark.browser
async def test_the_form_takes_times_as_people_write_them(
    chromium: str, tmp_path: Path, stripe: str
) -> None:
    """Whatever the language of the browser; errors stand beside the fields and have the focus."""
    with mailbox() as box:
        async with (
            shop(tmp_path, stripe, box) as (base, _),
            opened(
                chromium,
                "about:blank",
                viewport={"width": 360, "height": 740},
                locale="en-US",
            ) as (page, errors),
        ):
            for path in ("?lang=ru", "register?lang=kk", "new?station=s&lang=ru"):
                await page.goto(f"{base}/copies/{path}")
                assert await page.evaluate("document.documentElement.scrollWidth") <= 360, path
            begin = f"{datetime.fromtimestamp(BEGIN / 1000, UTC):%d.%m.%Y %H:%M:%S}"
            assert await page.get_by_label("Начало").input_value() == begin
            await page.get_by_label("Конец").fill("вчера")
            await page.get_by_role("button", name="Посмотреть записи и стоимость").click()
            await expect(page.locator("#to-error")).to_contain_text("например 29.11.2026 14:00:00")
            assert await page.get_by_label("Конец").input_value() == "вчера"
            assert await axe(page) == []
            await page.locator(".notice a").click()
            await becomes(page, "document.activeElement.id === 'to'")
            await page.get_by_label("Конец").fill(begin[:-2] + "45")
            await page.get_by_role("button", name="Посмотреть записи и стоимость").click()
            await expect(page.get_by_role("button", name="Заказать за")).to_be_visible()
            assert errors == []
