"""What pages of orders are made of, without a site."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Awaitable, Callable
from types import SimpleNamespace
from typing import Any

import pytest
import stripe
from aiohttp import web
from aiohttp.test_utils import make_mocked_request
from pydantic import SecretStr
from structlog.testing import capture_logs

from base.clock import parse_time
from base.i18n.format import format_second
from config.copies import Copies
from config.copies import Stripe as Keys
from config.model import Web
from copies.orders.events import Refused
from copies.payments.stripe import Stripe, _answer_of
from copies.states import State
from storage.catalogue.orders import Order
from streaming import orders_context
from streaming.api import copies as copies_api
from streaming.http.clients import CLIENTS, Clients
from streaming.http.scheduler import SCHEDULER, Scheduler
from streaming.http.site import SITE
from streaming.orders_context import ORDERS, QUOTES_AT_ONCE, OrdersContext
from streaming.pages import order_actions, quote_form
from streaming.pages.order import words_of
from streaming.pages.render import templates

BEGIN, ZONE = 1_796_000_040_000, "UTC"


def test_the_form_tells_the_offset_of_what_is_recorded(monkeypatch: pytest.MonkeyPatch) -> None:
    """In a winter of Sofia somebody asks for what was recorded in its summer."""
    said: dict[str, Any] = {}
    monkeypatch.setattr(quote_form, "page", lambda *_, **values: said.update(values))
    monkeypatch.setattr(quote_form, "language_of", lambda _: "en")
    monkeypatch.setattr(quote_form, "current_ms", lambda _: parse_time("2026-12-01T10:00:00Z"))
    summer_ms = parse_time("2026-07-05T10:00:00Z")
    request: Any = SimpleNamespace(app={ORDERS: SimpleNamespace(settings=Copies(free=True))})
    station: Any = SimpleNamespace(time_zone="Europe/Sofia")
    known = {"c": (summer_ms - 1000, summer_ms)}
    quote_form._form(request, station, known, ["c"], ("", ""), {})
    assert said["offset"] == "UTC+3"
    quote_form._form(request, station, {}, [], ("", ""), {})
    assert said["offset"] == "UTC+2"


async def test_an_order_of_many_files_holds_up_no_live_video(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def no_files(*_: object) -> list[object]:
        return []

    def told(*_: object) -> dict[str, object]:
        return {"at once": threading.current_thread() is threading.main_thread()}

    monkeypatch.setattr(copies_api, "query_catalogue", no_files)
    monkeypatch.setattr(copies_api, "_order_json", told)
    app = web.Application()
    app[SCHEDULER], app[CLIENTS] = Scheduler(), Clients(())
    request = make_mocked_request("GET", "/", app=app)
    for count, at_once in ((10, True), (3_000, False)):
        camera: dict[str, Any] = {"files": [{}] * count, "gaps": [{}] * count, "removed": []}
        order = Order(*(1, 1, "e", "s", 0, 1, "paid", "en"), {"cameras": [camera]}, "KZT", 0, 0)
        here = await orders_context.made(request, order, threading.current_thread)
        assert (here is threading.current_thread()) is at_once
        answer = await copies_api._told(request, order, "secret")
        assert json.loads(answer.text or "") == {"at once": at_once}
    # who asks for too much is told the secret of the quote that was made for him all the same
    app[SCHEDULER].count(request, 100_000)
    answer = await copies_api._told(request, order, "secret", 201)
    assert (answer.status, json.loads(answer.text or "")) == (201, {"at once": False})
    with pytest.raises(web.HTTPTooManyRequests):
        await copies_api._told(request, order, "secret")


async def test_what_takes_too_long_to_look_for_may_be_too_much_or_in_a_slow_archive(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def with_service(_: object, work: Callable[[Any], Awaitable[None]]) -> None:
        await work(None)

    async def endless(_: object) -> None:
        await asyncio.Event().wait()

    monkeypatch.setattr(orders_context, "_work", with_service)
    monkeypatch.setattr(orders_context, "QUOTE_S", 0.01)
    app, orders = web.Application(), OrdersContext(Copies(free=True), {})
    app[ORDERS], app[CLIENTS] = orders, Clients(())
    request = make_mocked_request("POST", "/", app=app)
    for _ in range(QUOTES_AT_ONCE + 1):
        with (
            capture_logs() as logs,
            pytest.raises(Refused, match="shorter stretch, or try again later"),
        ):
            await orders_context._in_turn(request, endless)
        assert [(one["event"], one["why"]) for one in logs] == [
            ("Orders cannot be worked on now", "looking took 0.01 s")
        ]
    for _ in range(QUOTES_AT_ONCE):  # others are before this one: it may be answered later
        await orders.quoting.acquire()
    with pytest.raises(web.HTTPServiceUnavailable):
        await orders_context._in_turn(request, endless)


@pytest.mark.parametrize(
    ("code", "status", "words"),
    [
        ("amount_too_small", 409, "This amount cannot be paid by card"),
        ("api_key_expired", 503, "The payment service does not answer"),
    ],
)
async def test_a_rest_that_no_card_pays_is_said_to_be_one(
    monkeypatch: pytest.MonkeyPatch, code: str, status: int, words: str
) -> None:
    """Of a transfer its bank kept some tenge: less than Stripe takes."""

    async def refused() -> None:
        refusal: Any = stripe.InvalidRequestError
        raise refusal("50 cents at least", None, code, http_status=400)

    async def order_of(_: object) -> Order:
        return Order(
            *(1, 1, "e", "s", BEGIN, BEGIN + 60_000, State.AWAITING_PAYMENT, "en"),
            {"station": {"number": "1", "name": {"en": "School"}, "time_zone": ZONE}},
            *("KZT", 100, BEGIN),
        )

    async def order_page(*more: Any, wrong: str) -> tuple[int, str]:
        return more[-1], wrong

    monkeypatch.setattr(order_actions, "order_of", order_of)
    monkeypatch.setattr(order_actions, "order_page", order_page)
    monkeypatch.setattr(order_actions, "ask_providers", lambda *_: _answer_of(refused()))
    provider = Stripe(Keys(secret_key=SecretStr("k"), webhook_secret=SecretStr("w")))
    app = web.Application()
    app[ORDERS] = OrdersContext(Copies(free=True), {"stripe": provider})
    app[SITE] = Web(public_url="http://k")
    request = make_mocked_request(
        "POST", "/?lang=en", app=app, match_info={"provider": "stripe", "secret": "x"}
    )
    said: Any = await order_actions.post_pay(request)
    assert said[0] == status and words in said[1]
    await provider.close_connections()


def test_time_that_nobody_was_to_record_is_no_time_of_which_all_is_there() -> None:
    camera: dict[str, Any] = {"title": {"en": "Box"}, "exists_ms": 60_000, "bytes": 1}
    outside = [[BEGIN + 60_000, BEGIN + 120_000], [BEGIN, BEGIN + 1]]
    camera |= {"files": [], "gaps": [], "removed": [], "unscheduled": outside}
    order = Order(
        *(1, 1, "e", "s", BEGIN, BEGIN + 120_000, State.QUOTED, "en"),
        {"asked_to_ms": BEGIN + 130_000, "cameras": [camera], "station": {"time_zone": ZONE}},
        *("KZT", 0, BEGIN),
    )
    page, words = templates("en").get_template("order_footage.html"), words_of(order, "en")
    text = page.render(order=order, downloads=False, ends=[], files={}, **words)
    assert text.count("outside the hours of recording") == 1
    assert f"The copy ends at {format_second(BEGIN + 120_000, ZONE)}." in text
    end = format_second(BEGIN + 120_000, ZONE).split()[1]
    assert f"{format_second(BEGIN + 60_000, ZONE)}–{end} UTC: outside the hours" in text
