"""What the page of an order shows, and what everyone may know of one."""

from __future__ import annotations

from functools import partial

from aiohttp import web

from base.i18n.causes import describe_cause
from base.i18n.format import format_bytes, format_minutes, format_money, format_stretch, format_time
from base.i18n.gettext import N_, gettext, text_in
from copies.balance import owed, received
from copies.orders.describe import title_of
from copies.payments.port import Online
from copies.states import DOWNLOADS, ENDED, State
from storage.catalogue.orders import Order
from streaming.context import current_ms
from streaming.http.negotiation import checked_language, language_of
from streaming.http.site import base_url
from streaming.orders_context import (
    ORDERS,
    invoice_provider,
    query_catalogue,
)
from streaming.pages.render import page

STATE_NAMES = {
    State.QUOTED: N_("Not ordered yet"),
    State.AWAITING_PAYMENT: N_("Waiting for payment"),
    State.PAID: N_("Paid"),
    State.READY: N_("Paid and checked"),
    State.EXPIRED: N_("Expired"),
    State.CANCELLED: N_("Cancelled"),
    State.REJECTED: N_("Rejected"),
    State.REFUNDED: N_("Refunded"),
}


async def order_page(
    request: web.Request,
    order: Order,
    status: int = 200,
    wrong: str | None = None,
    email: str = "",
) -> web.Response:
    """Return the page of an order; `wrong` says why what was just asked for was not done."""
    lang, orders = checked_language(request), request.app[ORDERS]
    secret = request.match_info["secret"]
    files = await query_catalogue(
        request, lambda catalogue: catalogue.order_files.of(order.order_pk)
    )
    zone = order.quote["station"]["time_zone"]
    online = [p.name for p in orders.providers.values() if isinstance(p, Online)]
    shown = partial(format_money, currency=order.currency, lang=lang)
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
        words=state_names(request),
        title=title_of(order, lang),
        text=partial(text_in, lang=lang),
        stretch=partial(format_stretch, zone=zone),
        when=lambda ms: format_time(ms, zone) if ms else "–",
        money=shown,
        price=order.quote["price"],
        files={f.file_no: f for f in files},
        hashed=sum(f.hashed for f in files),
        bytes=sum(f.length for f in files),
        downloads=order.state in DOWNLOADS and (order.until_ms or 0) > current_ms(request),
        missing=order.total - received(order),
        owed=[format_money(a, c, lang) for c, a in owed(order).items()],
        cause=partial(describe_cause, lang=lang),
        online=online,
        invoice=invoice_provider(request, order) is not None,
        ended=order.state in ENDED,
        letters=orders.settings.mail is not None,
        forget_days=orders.settings.forget_after // 86400,
        size=format_bytes,
        minutes=format_minutes,
    )


def public_order(request: web.Request, order: Order) -> dict[str, object]:
    """Return what everyone may know of an order."""
    station, lang = order.quote["station"], checked_language(request)
    return {
        "number": order.number,
        "station": order.station,
        "station_number": station["number"],
        "station_name": text_in(station["name"], lang),
        "stretch": format_stretch(order.from_ms, order.to_ms, station["time_zone"]),
        "cameras": len(order.quote["cameras"]),
        "state": order.state,
        "times": [
            format_time(ms, station["time_zone"]) if ms else ""
            for ms in (order.ordered_ms, order.paid_ms, order.ready_ms, order.ended_ms)
        ],
    }


def state_names(request: web.Request) -> dict[str, str]:
    """Return what each state is called."""
    return {state: gettext(text, language_of(request)) for state, text in STATE_NAMES.items()}
