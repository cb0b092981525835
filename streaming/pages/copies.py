"""Pages of copies: what they are, asking for a quote, the register.

Each works without scripts. What is done with an order is in `order_actions`.
"""

from __future__ import annotations

from functools import partial

from aiohttp import web

from base.i18n.format import format_duration, format_money, format_percent
from base.i18n.gettext import gettext
from copies.orders.events import Refused
from streaming.api.stations import find_stations
from streaming.context import CONTEXT
from streaming.http.bodies import form
from streaming.http.negotiation import checked_language, language_of
from streaming.http.site import refuse_foreign
from streaming.orders_context import ORDERS, REGISTER_PAGE, make_quote, quotable, register_page
from streaming.pages.order import public_order
from streaming.pages.quote_form import empty_form, read_stretch, wrong_form
from streaming.pages.render import link, page

routes = web.RouteTableDef()


@routes.get("/copies/")
async def about(request: web.Request) -> web.StreamResponse:
    """Say what copies are, what they cost, and how they are ordered."""
    settings, lang = request.app[ORDERS].settings, checked_language(request)
    return page(
        request,
        "copies.html",
        settings=settings,
        money=partial(format_money, currency=settings.currency, lang=lang),
        percent=partial(format_percent, lang=lang),
        duration=partial(format_duration, lang=lang),
    )


@routes.get("/copies/new")
async def new(request: web.Request) -> web.StreamResponse:
    """Ask for a quote: `station`, `cameras` (with commas), `from` and `to` fill the form."""
    station = request.app[CONTEXT].stations.get(request.query.get("station", ""))
    if station is not None:
        return await empty_form(request, station)
    found = await find_stations(request) if request.query.get("q", "").strip() else None
    return page(
        request,
        "copies_find.html",
        404 if request.query.get("station") else 200,
        query=request.query.get("q", ""),
        stations=found.page if found else None,
        suggestions=found.suggestions if found else [],
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
    written = str(posted.get("from", "")), str(posted.get("to", ""))
    wrong = list[Refused]()
    stretch = read_stretch(written, station, wrong)
    try:
        if stretch is not None:
            wanted = quotable(request, station.id, chosen, stretch)
            secret, _ = await make_quote(request, wanted)
            raise web.HTTPSeeOther(link(request, f"/copies/{secret}"))
    except Refused as refused:
        wrong.append(refused)
    return await wrong_form(request, station, chosen, written, wrong)


@routes.get("/copies/register")
async def register(request: web.Request) -> web.StreamResponse:
    """List all orders without personal data, newest first."""
    orders = await register_page(request)
    return page(
        request,
        "register.html",
        orders=[public_order(request, o) for o in orders[:REGISTER_PAGE]],
        before=orders[REGISTER_PAGE - 1].number if len(orders) > REGISTER_PAGE else None,
    )


@routes.get("/copies/back")
async def back(request: web.Request) -> web.StreamResponse:
    """Come back from a provider's page, which does not know the order's secret."""
    return page(request, "back.html")
