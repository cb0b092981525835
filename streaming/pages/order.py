"""What the page of an order shows, and what everyone may know of one."""

from __future__ import annotations

from functools import partial
from typing import Any

from aiohttp import web

from copies.orders.describe import in_language, minutes, moment, stretch, title_of
from copies.orders.events import owed, received
from copies.orders.states import DOWNLOADS, ENDED, State
from copies.payments.invoice import money
from copies.payments.port import Online, OnPaper
from storage.catalogue.orders import Order
from storage.records import GapCause
from streaming.context import current_ms
from streaming.http.negotiation import language, say, translate
from streaming.http.responses import base_url
from streaming.orders_context import SHOP, STATE_WORDS, answered, catalogue
from streaming.pages.render import page
from streaming.stations.messages import CAUSES


async def order_page(
    request: web.Request,
    order: Order,
    status: int = 200,
    wrong: str | None = None,
    email: str = "",
) -> web.Response:
    """Return the page of an order; `wrong` says why what was just asked for was not done."""
    lang, shop = language(request), request.app[SHOP]
    secret = request.match_info["secret"]
    files = await answered(catalogue(request).order_files.of(order.order_pk))
    zone = order.quote["station"]["time_zone"]
    online = [p.name for p in shop.providers.values() if isinstance(p, Online)]
    shown = partial(money, currency=order.currency, language=lang)
    return page(
        request,
        "order.html",
        status,
        order=order,
        secret=secret,
        here=f"{base_url(request)}/copies/{secret}",
        wrong=wrong,
        email=email,
        state=State(order.state),
        words=state_words(request),
        title=title_of(order, partial(translate, lang)),
        text=partial(in_language, language=lang),
        stretch=lambda a, b: stretch(a, b, zone),
        when=lambda ms: moment(ms, zone) if ms else "–",
        money=shown,
        price=order.quote["price"],
        files={f["file_no"]: f for f in files},
        hashed=sum(f["hashed"] for f in files),
        bytes=sum(f["length"] for f in files),
        downloads=order.state in DOWNLOADS and (order.until_ms or 0) > current_ms(request),
        missing=order.total - received(order),
        owed=[money(a, c, lang) for c, a in owed(order).items()],
        cause=lambda c: translate(lang, CAUSES[GapCause(c)]),
        online=online,
        invoice=paper_of(request, order) is not None,
        ended=order.state in ENDED,
        letters=shop.settings.mail is not None,
        forget_days=shop.settings.forget_after // 86400,
        size=size,
        minutes=minutes,
    )


def paper_of(request: web.Request, order: Order) -> OnPaper | None:
    """Return who gives the invoice of an order: to pay by, and afterwards to show what was paid;
    None where there is nothing to pay and nothing was."""
    if order.total == 0 or (order.state != State.AWAITING_PAYMENT and order.paid_ms is None):
        return None
    providers = request.app[SHOP].providers.values()
    return next((p for p in providers if isinstance(p, OnPaper)), None)


def public(request: web.Request, order: Order) -> dict[str, Any]:
    """Return what everyone may know of an order."""
    station, lang = order.quote["station"], language(request)
    return {
        "number": order.number,
        "station": order.station,
        "station_number": station["number"],
        "station_name": in_language(station["name"], lang),
        "stretch": stretch(order.from_ms, order.to_ms, station["time_zone"]),
        "cameras": len(order.quote["cameras"]),
        "state": order.state,
        "times": [
            moment(ms, station["time_zone"]) if ms else ""
            for ms in (order.ordered_ms, order.paid_ms, order.ready_ms, order.ended_ms)
        ],
    }


def state_words(request: web.Request) -> dict[str, str]:
    """Return what each state is called."""
    return {state: say(request, text) for state, text in STATE_WORDS.items()}


def size(count: int) -> str:
    """Return a number of bytes for people."""
    return f"{count / 1e9:.2f} GB" if count >= 1e9 else f"{count / 1e6:.1f} MB"
