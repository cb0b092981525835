"""The form of a quote and the page of an order: what they say, and what they take."""

from __future__ import annotations

import html
import re
from datetime import datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote
from xml.etree import ElementTree
from zoneinfo import ZoneInfo

import aiohttp
import pytest
import segno
import sqlalchemy as sa
from hypothesis import given
from hypothesis import strategies as st

from base.i18n.format import format_second
from config.copies import Mail
from config.model import Config
from copies.orders.service import OrderService
from copies.states import State
from storage.catalogue.catalogue import Catalogue
from storage.catalogue.orders import Order, Payment
from storage.catalogue.schema import orders
from streaming.pages.quote_form import read_local
from tests.support.archiving import configure
from tests.support.selling import BEGIN, COPIES, NOW, record, selling, wanted

ZONE = "UTC"  # of the station


@pytest.fixture
def config(tmp_path: Path) -> Config:
    made = unrecorded(tmp_path)
    record(made)
    return made


def unrecorded(folder: Path) -> Config:
    return configure(folder, f"sqlite:///{folder}/k.db", "archives: [archive]\n" + COPIES, "2h")


def with_copies(config: Config, **more: Any) -> Config:
    assert config.copies is not None
    return config.model_copy(update={"copies": config.copies.model_copy(update=more)})


async def text_at(http: aiohttp.ClientSession, path: str, status: int = 200) -> str:
    """Return the text of a page as people read it, without its marks."""
    async with http.get(path) as answer:
        assert answer.status == status, await answer.text()
        return plain(await answer.text())


def plain(page: str) -> str:
    text = html.unescape(re.sub(r"<[^>]+>", " ", page.partition("<main")[2]))
    return " ".join(text.replace("\N{NO-BREAK SPACE}", " ").split())


async def ordered(http: aiohttp.ClientSession, **more: Any) -> str:
    """Order; returns the page of the order."""
    async with http.post("/api/v1/copies/quotes", json=wanted(**more)) as answer:
        place = answer.headers["Location"]
    async with http.post(f"{place}/order") as answer:
        assert answer.status == 200
    return f"/copies/{place.rpartition('/')[2]}"


async def the_order(catalogue: Catalogue) -> Order:
    order = await catalogue.orders.with_number(1)
    assert order is not None
    return order


# -- the form ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    [
        "29.11.2026 14:00:07",
        "  29.11.2026,  14:00:07 ",
        "29/11/2026 14:00:07",
        "2026-11-29 14:00:07",
        "2026-11-29T14:00:07",
        "29.11.2026\N{NO-BREAK SPACE}14:00:07",
    ],
)
def test_a_time_is_taken_as_people_write_it(text: str) -> None:
    assert read_local(text) == datetime(2026, 11, 29, 14, 0, 7)


def test_seconds_may_be_left_out() -> None:
    assert read_local("9.1.2026 9:05") == datetime(2026, 1, 9, 9, 5)


@given(st.text(max_size=40) | st.from_regex(r"[0-9]{1,2}[.][0-9]{1,2}[.][0-9]{4} [0-9:]{4,8}"))
def test_what_is_no_time_is_said_to_be_none(text: str) -> None:
    try:
        found = read_local(text)
    except ValueError:
        return
    assert found.tzinfo is None and 1970 < found.year < 2900


@given(st.integers(0, 4_102_444_800))
def test_a_form_takes_what_it_was_filled_with(seconds: int) -> None:
    written = format_second(seconds * 1000, "Asia/Almaty")
    at = datetime.fromtimestamp(seconds, ZoneInfo("Asia/Almaty")).replace(tzinfo=None)
    try:
        assert read_local(written) == at
    except ValueError:
        assert at.year == 1970


async def test_the_form_says_what_exists_and_what_it_costs(config: Config) -> None:
    config = with_copies(config, minimum=10_000)
    async with (
        selling(config) as (base, _),
        aiohttp.ClientSession(base, headers={"Accept-Language": "ru"}) as http,
    ):
        text = await text_at(http, "/copies/new?station=s")
        begin, end = (format_second(ms, ZONE) for ms in (BEGIN, BEGIN + 90_000))
        assert text.count(f"записано: {begin}–{end.split()[1]}") == 2
        assert "Минута одной камеры стоит 60,00 ₸" in text
        assert "Минимальный заказ без НДС — 100,00 ₸" in text
        async with http.get("/copies/new?station=s") as answer:
            page = await answer.text()
        fields = dict(re.findall(r'name="(from|to)"[^>]*value="([^"]+)"', page))
        assert fields == {"from": begin, "to": end}  # all there is, as it is less than an hour
        assert "datetime-local" not in page


async def test_nothing_can_be_ordered_where_nothing_is_recorded(tmp_path: Path) -> None:
    config = unrecorded(tmp_path)
    async with (
        selling(config) as (base, _),
        aiohttp.ClientSession(base, headers={"Accept-Language": "en"}) as http,
    ):
        async with http.get("/copies/new?station=s") as answer:
            page = await answer.text()
        assert "Nothing of this station is recorded yet" in page and "<button" not in page


async def test_a_quote_of_nothing_offers_no_order(config: Config) -> None:
    async with (
        selling(config) as (base, _),
        aiohttp.ClientSession(base, headers={"Accept-Language": "en"}) as http,
    ):
        gap = wanted() | {"from": BEGIN + 41_000, "to": BEGIN + 59_000}
        async with http.post("/api/v1/copies/quotes", json=gap) as answer:
            path = f"/copies/{answer.headers['Location'].rpartition('/')[2]}"
        async with http.get(path) as answer:
            page = await answer.text()
        assert f'action="{path}/order"' not in page and "Nothing is recorded in this" in page
        assert "/copies/new?station=s" in page


async def test_a_quote_shows_the_first_and_the_last_picture(config: Config) -> None:
    later = NOW
    async with (
        selling(config, lambda: later) as (base, _),
        aiohttp.ClientSession(base, headers={"Accept-Language": "en"}) as http,
    ):
        early = wanted() | {"from": BEGIN - 60_000, "to": BEGIN + 89_500}
        async with http.post("/api/v1/copies/quotes", json=early) as answer:
            path = f"/copies/{answer.headers['Location'].rpartition('/')[2]}"
        async with http.get(path) as answer:
            page = await answer.text()
        clips = re.findall(r'<video [^>]*src="([^"]+)"></video><figcaption[^>]*>([^<]+)<', page)
        first, last = BEGIN, BEGIN + 89_499
        assert [re.findall(r"/c/moment.mp4\?t=(\d+)#t=(.*)", src) for src, _ in clips] == [
            [(str(first), "0.000")],
            [(str(last), "0.499")],
        ]
        for (src, words), at_ms in zip(clips, (first, last), strict=True):
            assert words.endswith(f" · {format_second(at_ms, ZONE)}")
            async with http.get(src) as answer:
                assert answer.status == 200 and answer.content_type == "video/mp4"
        later = NOW + 7_200_000  # it can be had as a copy only
        async with http.get(path) as answer:
            assert answer.status == 200 and "<video" not in await answer.text()


async def test_errors_stand_beside_their_fields(config: Config) -> None:
    right = format_second(BEGIN, ZONE), format_second(BEGIN + 90_000, ZONE)
    async with (
        selling(config) as (base, catalogue),
        aiohttp.ClientSession(base, headers={"Accept-Language": "en"}) as http,
    ):
        for cameras, begin, end, wrong in (
            (["c"], "tomorrow", right[1], {"from": "as 29.11.2026 14:00:00"}),
            (["c"], "x", "<b>", {"from": "Write a day", "to": "Write a day"}),
            (["c"], right[1], right[0], {"to": "must be later than the beginning"}),
            ([], *right, {"cameras": "Choose at least one camera"}),
            (["z"], *right, {"cameras": "no such camera"}),
            (["c"], right[0], right[0][:-1] + "1", {"to": "shorter than 5 s"}),
            (["c"], right[0], "29.11.2099 00:00", {"to": "longer than 24 h"}),
        ):
            form = aiohttp.FormData([("station", "s"), *(("camera", c) for c in cameras)])
            form.add_field("from", begin)
            form.add_field("to", end)
            async with http.post("/copies/quotes", data=form) as answer:
                page = await answer.text()
                assert answer.status == 400
            said = dict(re.findall(r'<p class="error" id="(\w+)-error">([^<]+)</p>', page))
            assert said.keys() == wrong.keys(), (begin, end)
            for field, text in wrong.items():
                assert text in said[field]
                assert f'href="#{field}"' in page  # the list at the top leads there
                assert f"{field}-error" in page.split(f'id="{field}"')[1][:400]
            assert html.escape(begin) in page and "<b>" not in page  # as it was written
        assert await catalogue.orders.count() == {}


# -- the order ---------------------------------------------------------------------------------


async def test_each_state_is_said_by_its_own_name_with_its_date(config: Config) -> None:
    async with (
        selling(config) as (base, catalogue),
        aiohttp.ClientSession(base, headers={"Accept-Language": "en"}) as http,
    ):
        path = await ordered(http)
        for values, name, date in (
            ({"state": State.AWAITING_PAYMENT}, "Waiting for payment", "To be paid until"),
            ({"state": State.CANCELLED, "ended_ms": NOW}, "Cancelled", "Cancelled"),
            ({"state": State.REJECTED, "ended_ms": NOW, "reason": "why"}, "Rejected", "Rejected"),
            ({"state": State.EXPIRED, "ended_ms": NOW}, "Not paid in time", "Not paid in time"),
            (
                {"state": State.EXPIRED, "ended_ms": NOW, "paid_ms": NOW},
                "Download period over",
                "Paid",
            ),
            ({"state": State.REFUNDED, "ended_ms": NOW, "paid_ms": NOW}, "Refunded", "Refunded"),
        ):
            await catalogue.pool.execute(sa.update(orders).values(values))
            async with http.get(path) as answer:
                page = await answer.text()
            assert f'<h2 class="standing">{name}</h2>' in page
            moment = r"\d\d\.\d\d\.\d{4} \d\d:\d\d UTC"
            assert re.search(f"<dt>{date}</dt><dd>{moment}</dd>", page), name
            assert name in await text_at(http, "/copies/register")
            assert (f'action="{path}/cancel"' in page) == ("ended_ms" not in values)


async def test_what_came_in_part_is_listed_and_what_is_missing_asked_for(config: Config) -> None:
    async with (
        selling(config) as (base, catalogue),
        aiohttp.ClientSession(base, headers={"Accept-Language": "en"}) as http,
    ):
        path = await ordered(http)
        service = OrderService(config, catalogue, {})
        part = Payment("invoice", "2026-4711", 5_000, "KZT", NOW)
        await service.enter_payment(1, part, "operator")
        text = await text_at(http, path)
        for said in (
            "Partly paid",
            "Received: 50.00 KZT of 81.20 KZT.",
            "To be paid: 31.20 KZT",
            "Bank transfer received 2026-4711 50.00 KZT",
            "Received, less what was given back 50.00 KZT",
            "What you paid is given back.",  # if it is cancelled
        ):
            assert said in text, said
        register = await text_at(http, "/copies/register")
        assert "Waiting for payment" in register and "Partly" not in register
        async with http.get(f"{path}/receipt.pdf") as answer:
            assert answer.status == 200 and (await answer.read()).startswith(b"%PDF")
            assert 'filename="kuager-1-receipt.pdf"' in answer.headers["Content-Disposition"]
        rest = Payment("invoice", "2026-4712", 3_520, "KZT", NOW)
        await service.enter_payment(1, rest, "operator")
        text = await text_at(http, path)
        assert "You paid 4.00 KZT too much. The operator gives it back the way it came." in text
        assert "Invoice, marked as paid (PDF)" in text and "To be paid" not in text
        async with http.get(f"/api/v1/copies/orders/{path.rpartition('/')[2]}") as answer:
            told = await answer.json()
        assert [p["amount"] for p in told["payments"]] == [5_000, 3_520]
        assert told["receipt"].endswith("/receipt.pdf")


async def test_money_owed_back_has_a_day_where_the_operator_promised_one(config: Config) -> None:
    config = with_copies(config, refund_within=5 * 86_400)
    async with (
        selling(config) as (base, catalogue),
        aiohttp.ClientSession(base, headers={"Accept-Language": "ru"}) as http,
    ):
        path = await ordered(http)
        part = Payment("invoice", "2026-4711", 5_000, "KZT", NOW)
        service = OrderService(config, catalogue, {}, clock=lambda: NOW)
        await service.enter_payment(1, part, "operator")
        await service.cancel(1)
        text = await text_at(http, path)
        due = format_second(NOW + 5 * 86_400_000, ZONE)[:16]
        assert f"Вам вернём 50,00 ₸. Оператор вернёт их тем же способом до {due} UTC." in text
        await service.refund(await the_order(catalogue), False, "2026-4720")
        text = await text_at(http, path)
        assert "Вам вернём" not in text
        assert "Возвращено банковским переводом 2026-4720 -50,00 ₸" in text
        assert "Получено за вычетом возвратов 0,00 ₸" in text


async def test_without_money_there_is_no_receipt(config: Config) -> None:
    async with selling(config) as (base, _), aiohttp.ClientSession(base) as http:
        path = await ordered(http)
        async with http.get(f"{path}/receipt.pdf?lang=en") as answer:
            assert answer.status == 404 and "Nothing was paid" in await answer.text()


async def test_the_payer_is_named_on_the_page(config: Config) -> None:
    async with (
        selling(config) as (base, catalogue),
        aiohttp.ClientSession(base, headers={"Accept-Language": "en"}) as http,
    ):
        path = await ordered(http)
        for name, bin_, field in (
            ("", "123456789012", "payer"),
            ("x" * 201, "", "payer"),
            ("Firm\x00", "", "payer"),
            ("Firm", "12345", "bin"),
            ("Firm", "１２３４５６７８９０１２", "bin"),
        ):
            async with http.post(f"{path}/payer", data={"name": name, "bin": bin_}) as answer:
                page = await answer.text()
                assert answer.status == 400 and f'id="{field}-error"' in page, (name, bin_)
                assert "Nothing was changed: " in page
            assert (await the_order(catalogue)).payer_name is None
        typed = {"name": " ТОО  «Үлгі» <b> ", "bin": "1234 5678 9012"}
        async with http.post(f"{path}/payer", data=typed) as answer:
            page = await answer.text()
            assert answer.status == 200 and "<b>" not in page
        order = await the_order(catalogue)
        assert (order.payer_name, order.payer_bin) == ("ТОО «Үлгі» <b>", "123456789012")
        for listed in ("/copies/register", "/api/v1/copies/register"):
            async with http.get(listed) as answer:
                assert "Үлгі" not in await answer.text()
        paid = Payment("invoice", "1", order.total, "KZT", NOW)
        await OrderService(config, catalogue, {}).enter_payment(1, paid, "operator")
        async with http.post(f"{path}/payer", data={"name": "Other"}) as answer:
            assert "names a payer already" in await answer.text()
        async with http.post(f"{path}/payer", data={"name": ""}) as answer:  # it has no such field
            page = await answer.text()
            assert answer.status == 400 and "Nothing was changed: write a name" in page
        assert (await the_order(catalogue)).payer_name == order.payer_name


async def test_the_link_is_copied_scanned_and_sent(config: Config) -> None:
    async with (
        selling(config) as (base, _),
        aiohttp.ClientSession(base, headers={"Accept-Language": "en"}) as http,
    ):
        path = await ordered(http)
        async with http.get(path) as answer:
            page = await answer.text()
        assert f'id="here" readonly value="{base}{path}"' in page
        letter = f"Kuager%3A%20order%201&amp;body={quote(base + path)}"
        assert f'href="mailto:?subject={letter}"' in page
        qr = re.search(r"<svg.*?</svg>", page, re.S)
        assert qr is not None and " style=" not in qr[0] and "light" not in qr[0]
        ElementTree.fromstring(qr[0])  # it is whole
        assert qr[0] == segno.make(f"{base}{path}", error="m", micro=False).svg_inline(
            title="The link to your order",
            border=4,
            light="#fff",
            svgclass="qr",
            lineclass=None,
            omitsize=True,
        )
        async with http.post(f"{path}/email", data={"email": "a@b.kz"}) as answer:
            assert "no letters are sent here" in await answer.text()


async def test_the_link_is_sent_to_an_address_that_is_given_later(config: Config) -> None:
    mail = Mail.model_validate({"host": "127.0.0.1", "tls": "none", "from": "k@example.kz"})
    async with (
        selling(with_copies(config, mail=mail)) as (base, catalogue),
        aiohttp.ClientSession(base, headers={"Accept-Language": "en"}) as http,
    ):
        path = await ordered(http)
        async with http.post(f"{path}/email", data={"email": "no address"}) as answer:
            page = await answer.text()
            assert answer.status == 400 and 'id="email-error"' in page and "no address" in page
        async with http.post(f"{path}/email", data={"email": "a@b.kz"}) as answer:
            page = await answer.text()
            assert "The link was sent to your e-mail address." in page and "a@b.kz" not in page
        (letter,) = await catalogue.outbox.due(NOW + 10**9)
        assert (letter.recipient, letter.link) == ("a@b.kz", f"{base}{path}")
        async with http.post(f"{path}/email", data={"email": "c@d.kz"}) as answer:
            assert "sent already" in await answer.text()
