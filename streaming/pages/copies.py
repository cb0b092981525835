"""Pages of copies: what they are, asking for a quote, the page of an order, the register.

Each works without scripts. The address of an order holds its secret: such pages name no referrer,
are kept by no cache, and are found by no search engine.
"""

from __future__ import annotations

import hashlib
from collections.abc import Awaitable, Callable
from datetime import datetime
from functools import partial
from zoneinfo import ZoneInfo

from aiohttp import web

from base.i18n.format import format_money
from base.i18n.gettext import N_, gettext
from config.model import Station
from copies.orders.describe import title_of
from copies.orders.events import Refused
from copies.orders.mail import address
from copies.payments.port import InvoiceProvider, Online, ProviderUnavailable
from storage.catalogue.orders import Order
from streaming.api.stations import find_stations
from streaming.context import CONTEXT, current_ms
from streaming.http.bodies import form
from streaming.http.negotiation import checked_language, language_of
from streaming.http.parameters import time_ms
from streaming.http.scheduler import SCHEDULER
from streaming.http.site import base_url, refuse_foreign
from streaming.orders_context import (
    ORDERS,
    REGISTER_PAGE,
    ask_providers,
    invoice_provider,
    make_quote,
    order_of,
    place,
    quotable,
    register_page,
)
from streaming.pages.order import order_page, public_order, state_names
from streaming.pages.render import link, page

HOUR_MS = 3_600_000
MOST_INVOICES = 128  # each about 60 kB

routes = web.RouteTableDef()


@routes.get("/copies/")
async def about(request: web.Request) -> web.StreamResponse:
    """Say what copies are, what they cost, and how they are ordered."""
    orders = request.app[ORDERS]
    return page(request, "copies.html", settings=orders.settings, money=_money(request))


@routes.get("/copies/new")
async def new(request: web.Request) -> web.StreamResponse:
    """Ask for a quote: `station`, `cameras` (with commas), `from` and `to` fill the form."""
    context = request.app[CONTEXT]
    station = context.stations.get(request.query.get("station", ""))
    if station is None:
        found = await find_stations(request) if request.query.get("q", "").strip() else None
        return page(
            request,
            "copies_find.html",
            404 if request.query.get("station") else 200,
            query=request.query.get("q", ""),
            stations=found.page if found else None,
        )
    to_ms = time_ms(request, "to") or current_ms(request) // 60_000 * 60_000
    from_ms = time_ms(request, "from") or to_ms - HOUR_MS
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
            request, quotable(request, station.id, chosen, (from_ms, to_ms))
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
        orders=[public_order(request, o) for o in orders[:REGISTER_PAGE]],
        before=orders[REGISTER_PAGE - 1].number if len(orders) > REGISTER_PAGE else None,
        words=state_names(request),
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
    return await _done(
        request, order, ask_providers(request, lambda service: service.cancel(order.order_pk))
    )


async def _done(request: web.Request, order: Order, work: Awaitable[Order]) -> web.StreamResponse:
    try:
        await work
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
    title = title_of(order, order.language)
    home = f"{base_url(request)}/copies/back"
    try:
        url = await ask_providers(
            request, lambda service: service.payment_page(order, provider, title, home)
        )
    except Refused:  # paid a moment ago, or ended
        raise web.HTTPSeeOther(_link(request, request.match_info["secret"])) from None
    except ProviderUnavailable:
        wrong = gettext(
            "The payment service does not answer; try again in a minute.", language_of(request)
        )
        return await order_page(request, order, 503, wrong=wrong)
    return page(request, "paying.html", url=url, secret=request.match_info["secret"])


@routes.get("/copies/{secret}/invoice.pdf")
async def invoice(request: web.Request) -> web.StreamResponse:
    """Give the invoice of an order: to pay by, and once it is paid, to show that it is."""
    order = await order_of(request)
    provider = invoice_provider(request, order)
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
        made[state] = await request.app[SCHEDULER].in_thread(request, document)
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
