"""Pages of copies: what they are, asking for a quote, the page of an order, the register.

Each works without scripts. The address of an order holds its secret: such pages name no referrer,
are kept by no cache, and are found by no search engine.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from datetime import datetime
from functools import partial
from typing import Any
from zoneinfo import ZoneInfo

from aiohttp import web

from base.i18n.format import format_money
from base.i18n.gettext import N_, gettext
from config.model import Station
from copies.orders import events
from copies.orders.describe import title_of
from copies.orders.events import Refused
from copies.orders.mail import address
from copies.payments.port import InvalidSignature, InvoiceProvider, Online, ProviderUnavailable
from storage.catalogue.orders import MOST_NUMBER, Order
from streaming.api.stations import find_stations
from streaming.context import CONTEXT, current_ms, parse_time
from streaming.http.bodies import form
from streaming.http.negotiation import checked_language, language_of
from streaming.http.responses import base_url
from streaming.http.work import WORK
from streaming.orders_context import (
    ORDERS,
    asked_for,
    catalogue,
    count_asked,
    make_quote,
    order_of,
    place,
    query_catalogue,
    refuse_foreign,
    till,
)
from streaming.pages.order import order_page, paper_of, public, state_words
from streaming.pages.render import link, page

REGISTER_PAGE, REGISTER_TOKENS = 50, 3
HOUR_MS = 3_600_000
MOST_INVOICES = 128  # each about 60 kB

routes = web.RouteTableDef()


@routes.get("/copies/")
async def about(request: web.Request) -> web.StreamResponse:
    """Say what copies are, what they cost, and how they are ordered."""
    shop = request.app[ORDERS]
    return page(request, "copies.html", settings=shop.settings, money=_money(request))


@routes.get("/copies/new")
async def new(request: web.Request) -> web.StreamResponse:
    """Ask for a quote: `station`, `cameras` (with commas), `from` and `to` fill the form."""
    views = request.app[CONTEXT]
    station = views.stations.get(request.query.get("station", ""))
    if station is None:
        found = await find_stations(request) if request.query.get("q", "").strip() else None
        return page(
            request,
            "copies_find.html",
            404 if request.query.get("station") else 200,
            query=request.query.get("q", ""),
            stations=found.page if found else None,
        )
    to_ms = parse_time(request, "to") or current_ms(request) // 60_000 * 60_000
    from_ms = parse_time(request, "from") or to_ms - HOUR_MS
    named = request.query.get("cameras", "")
    chosen = [c.strip() for c in named.split(",")] if named else [c.id for c in station.cameras]
    zone = ZoneInfo(station.time_zone)
    local = [
        f"{datetime.fromtimestamp(ms / 1000, zone):%Y-%m-%dT%H:%M:%S}"
        for ms in (_sane(from_ms), _sane(to_ms))
    ]
    return _form(request, station, chosen, *local)


def _form(
    request: web.Request,
    station: Station,
    chosen: list[str],
    begin: str,
    end: str,
    wrong: str | None = None,
) -> web.Response:
    return page(
        request,
        "copies_new.html",
        400 if wrong else 200,
        station=station,
        chosen=chosen,
        begin=begin,
        end=end,
        wrong=wrong,
        hours=request.app[ORDERS].settings.longest / 3600,
    )


@routes.post("/copies/quotes")
async def post_quote(request: web.Request) -> web.StreamResponse:
    """Make a quote from the form, and go to its page."""
    refuse_foreign(request)
    posted = await form(request)
    station = request.app[CONTEXT].stations.get(str(posted.get("station", "")))
    if station is None:
        raise web.HTTPNotFound(text=gettext("There is no such station.", language_of(request)))
    chosen = [str(value) for value in posted.getall("camera", ())]
    begin, end = str(posted.get("from", "")), str(posted.get("to", ""))
    try:
        zone = ZoneInfo(station.time_zone)
        # where clocks are changed, the longest stretch that the two can mean
        from_ms, to_ms = _local_ms(begin, zone, min), _local_ms(end, zone, max)
        secret, _ = await make_quote(
            request, asked_for(request, station.id, chosen, from_ms, to_ms)
        )
    except Refused as refused:
        wrong = refused.text(language_of(request))
        return _form(request, station, chosen, begin, end, wrong)
    raise web.HTTPSeeOther(_link(request, secret))


@routes.get("/copies/register")
async def register(request: web.Request) -> web.StreamResponse:
    """List all orders without personal data, newest first."""
    orders = await register_page(request)
    return page(
        request,
        "register.html",
        orders=[public(request, o) for o in orders[:REGISTER_PAGE]],
        before=orders[REGISTER_PAGE - 1].number if len(orders) > REGISTER_PAGE else None,
        words=state_words(request),
    )


async def register_page(request: web.Request) -> list[Order]:
    """Return a page of the register, and one order more where there is another page.

    Raises 400.
    """
    text = request.query.get("before")
    known = text is None or (text.isascii() and text.isdigit() and len(text) <= 10)
    if not known or int(text or 0) > MOST_NUMBER:
        raise web.HTTPBadRequest(
            text=gettext("'before' is not the number of an order.", language_of(request))
        )
    before = None if text is None else int(text)
    election, work = request.app[CONTEXT].config.election.id, request.app[WORK]
    work.check(request)
    work.count(request, REGISTER_TOKENS)
    return await query_catalogue(
        catalogue(request).orders.register(election, before, REGISTER_PAGE + 1)
    )


@routes.get("/copies/back")
async def back(request: web.Request) -> web.StreamResponse:
    """Come back from a provider's page, which does not know the order's secret."""
    return page(request, "back.html")


@routes.get("/copies/{secret}")
async def show(request: web.Request) -> web.StreamResponse:
    """Show an order: where it stands, what to do now, its files."""
    return await order_page(request, await order_of(request))


@routes.post("/copies/{secret}/order")
async def post_order(request: web.Request) -> web.StreamResponse:
    """Order what was quoted; `email` is optional."""
    refuse_foreign(request)
    order = await order_of(request)
    text = str((await form(request)).get("email", "")).strip()
    email = address(text) if text else None
    if text and email is None:
        wrong = gettext("this is not an e-mail address", language_of(request))
        return await order_page(request, order, wrong=wrong, email=text)
    return await _done(request, order, place(request, order, email))


@routes.post("/copies/{secret}/cancel")
async def post_cancel(request: web.Request) -> web.StreamResponse:
    """Take an order back before it is paid."""
    refuse_foreign(request)
    order = await order_of(request)
    count_asked(request)
    return await _done(
        request, order, till(request).end(order.order_pk, events.cancel(current_ms(request)))
    )


async def _done(request: web.Request, order: Order, work: Any) -> web.StreamResponse:
    try:
        await query_catalogue(work)
    except Refused as refused:
        order = await order_of(request)
        wrong = refused.text(language_of(request))
        return await order_page(request, order, wrong=wrong)
    except ProviderUnavailable:
        wrong = gettext(
            "The payment service does not answer; try again in a minute.", language_of(request)
        )
        return await order_page(request, order, 503, wrong=wrong)
    raise web.HTTPSeeOther(_link(request, request.match_info["secret"]))


@routes.post("/copies/{secret}/pay/{provider}")
async def post_pay(request: web.Request) -> web.StreamResponse:
    """Go to the page of a provider.

    Not by a redirect, which the content security policy of the form's page forbids.
    """
    refuse_foreign(request)
    order = await order_of(request)
    provider = request.app[ORDERS].providers.get(request.match_info["provider"])
    if not isinstance(provider, Online):
        raise web.HTTPNotFound(text=gettext("There is no such way to pay.", language_of(request)))
    count_asked(request)
    title = title_of(order, order.language)
    home = f"{base_url(request)}/copies/back"
    try:
        url = await query_catalogue(till(request).page(order, provider, title, home))
    except Refused:  # paid a moment ago, or ended
        raise web.HTTPSeeOther(_link(request, request.match_info["secret"])) from None
    except ProviderUnavailable:
        wrong = gettext(
            "The payment service does not answer; try again in a minute.", language_of(request)
        )
        return await order_page(request, order, 503, wrong=wrong)
    return page(request, "paying.html", url=url, secret=request.match_info["secret"])


@routes.post("/api/v1/copies/payments/{provider}")
async def parse_webhook(request: web.Request) -> web.StreamResponse:
    """Be told by a provider that something happened to a checkout; it is then looked up."""
    provider = request.app[ORDERS].providers.get(request.match_info["provider"])
    if not isinstance(provider, Online):
        raise web.HTTPNotFound(text="There is no such provider.\n")
    try:
        reference = provider.parse_webhook(await request.read(), request.headers)
    except InvalidSignature:
        raise web.HTTPBadRequest(text="This was not signed by the provider.\n") from None
    desk = till(request)
    known = None
    if reference is not None:
        known = await query_catalogue(desk.catalogue.checkouts.get(provider.name, reference))
    if known:
        try:
            await query_catalogue(desk.settle(known))
        except ProviderUnavailable:  # the provider tells it again later, and the desk asks
            raise web.HTTPServiceUnavailable(text="Ask again later.\n") from None
    return web.json_response({"known": bool(known)})


@routes.get("/copies/{secret}/invoice.pdf")
async def invoice(request: web.Request) -> web.StreamResponse:
    """Give the invoice of an order: to pay by, and once it is paid, to show that it is."""
    order = await order_of(request)
    provider = paper_of(request, order)
    if provider is None:
        raise web.HTTPNotFound(
            text=gettext("There is no invoice for this order.", language_of(request))
        )
    body = await _invoice(request, provider, order)
    name = f'inline; filename="kuager-{order.number}.pdf"'
    return web.Response(
        body=body, content_type="application/pdf", headers={"Content-Disposition": name}
    )


async def _invoice(request: web.Request, provider: InvoiceProvider, order: Order) -> bytes:
    """Return an invoice, made once for each state of an order: it takes some 100 ms."""
    made = request.app[ORDERS].invoices
    state = hashlib.sha256(repr(order).encode()).digest()

    def document() -> bytes:  # one at a time: somebody may have asked a moment before
        return made.get(state) or provider.document(order, title_of(order, order.language))

    if state not in made:
        made[state] = await request.app[WORK].in_thread(request, document)
        while len(made) > MOST_INVOICES:
            made.popitem(last=False)
    made.move_to_end(state)
    return made[state]


def _money(request: web.Request) -> Callable[[int], str]:
    currency = request.app[ORDERS].settings.currency
    return partial(format_money, currency=currency, lang=checked_language(request))


def _link(request: web.Request, secret: str) -> str:
    return link(request, f"/copies/{secret}")


def _local_ms(text: str, zone: ZoneInfo, choose: Callable[[int, int], int]) -> int:
    """Return UTC ms of a local time as a form sends it; raises Refused."""
    try:
        at = datetime.fromisoformat(text)
        if at.tzinfo is not None or not 1970 < at.year < 2900:
            raise ValueError
    except ValueError:
        raise Refused(N_("write a day and a time, as 2026-11-29 14:00")) from None
    both = (round(at.replace(tzinfo=zone, fold=n).timestamp() * 1000) for n in (0, 1))
    return choose(*both)


def _sane(ms: int) -> int:
    return max(0, min(ms, 4_102_444_800_000))
