"""What the page of an order shows, and what everyone may know of one."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial

import segno
from aiohttp import web

from base.i18n.causes import describe_cause, describe_removal
from base.i18n.format import (
    format_bytes,
    format_duration,
    format_minutes,
    format_money,
    format_percent,
    format_second,
    format_stretch,
    format_time,
)
from base.i18n.gettext import N_, gettext, text_in
from copies.balance import owed, owed_since_ms, received
from copies.footage.find import told_unscheduled
from copies.orders.describe import Standing, standing_of, title_of
from copies.payments.port import Online
from copies.payments.statement import statement
from copies.states import DOWNLOADS, ENDED, State
from storage.catalogue.orders import Order
from streaming.context import CONTEXT, current_ms
from streaming.http.negotiation import checked_language, language_of
from streaming.orders_context import (
    ORDERS,
    invoice_provider,
    link_of,
    made,
    query_catalogue,
    receipt_provider,
)
from streaming.pages.moment import clip_at
from streaming.pages.render import Fields, page

NAMES = {
    Standing.QUOTED: N_("Not ordered yet"),
    Standing.NOT_ORDERED: N_("Not ordered in time"),
    Standing.AWAITING_PAYMENT: N_("Waiting for payment"),
    Standing.PARTLY_PAID: N_("Partly paid"),
    Standing.NOT_PAID: N_("Not paid in time"),
    Standing.PAID: N_("Paid"),
    Standing.READY: N_("Paid and checked"),
    Standing.OVER: N_("Download period over"),
    Standing.CANCELLED: N_("Cancelled"),
    Standing.REJECTED: N_("Rejected"),
    Standing.REFUNDED: N_("Refunded"),
}


async def order_page(
    request: web.Request,
    order: Order,
    status: int = 200,
    wrong: str | None = None,
    errors: Mapping[str, str] | None = None,
    posted: Mapping[str, str] | None = None,
) -> web.Response:
    """Return the page of an order.

    `wrong` says why something was not done; `errors`, by the name of a field, what is wrong with
    what was `posted`: it is said above all, as an order that changed meanwhile has other fields.
    """
    orders, lang = request.app[ORDERS], checked_language(request)
    if errors:
        wrong = gettext("Nothing was changed: %(why)s.", lang, why="; ".join(errors.values()))
    files = await query_catalogue(
        request, lambda catalogue: catalogue.order_files.of(order.order_pk)
    )
    make = partial(
        page,
        request,
        "order.html",
        status,
        order=order,
        wrong=wrong,
        errors=Fields.of_errors(errors or {}),
        posted=Fields(posted or {}),
        title=title_of(order, lang),
        files={f.file_no: f for f in files},
        hashed=sum(f.hashed for f in files),
        bytes=sum(f["length"] for camera in order.quote["cameras"] for f in camera["files"]),
        letters=orders.settings.mail is not None,
        forget_after=format_duration(orders.settings.forget_after, lang),
        download_for=format_duration(order.quote["download_for_s"], lang),
        price=order.quote["price"],
        exists=any(line["exists_ms"] for line in order.quote["price"]["lines"]),
        ends=_ends(request, order, lang),
        **_where_it_stands(request, order, lang),
        **_link(request, lang),
        **_money(request, order, lang),
        **words_of(order, lang),
    )
    return await made(request, order, make)


def _where_it_stands(request: web.Request, order: Order, lang: str) -> dict[str, object]:
    """Return how an order stands, and when it came to that."""
    standing = standing_of(order)
    open_ = order.state in DOWNLOADS and (order.until_ms or 0) > current_ms(request)
    steps = [
        (N_("Ordered"), order.ordered_ms),
        (N_("To be paid until"), order.until_ms if order.state == State.AWAITING_PAYMENT else None),
        (N_("Paid"), order.paid_ms),
        (N_("Files checked"), order.ready_ms),
        (N_("Files can be downloaded until"), order.until_ms if open_ else None),
        (NAMES[standing], order.ended_ms),
    ]
    zone = order.quote["station"]["time_zone"]
    return {
        "standing": standing,
        "standing_name": gettext(NAMES[standing], lang),
        "steps": [(gettext(name, lang), format_time(ms, zone)) for name, ms in steps if ms],
        "downloads": open_,
        "ended": order.state in ENDED,
    }


def _ends(request: web.Request, order: Order, lang: str) -> list[tuple[str, str]]:
    """Return what is recorded first and last of an order that is not paid: a video and its words;
    nothing where it can only be had as a copy. Of several cameras the first that has both."""
    context = request.app[CONTEXT]
    station = context.stations.get(order.station)
    if station is None or order.state not in (State.QUOTED, State.AWAITING_PAYMENT):
        return []
    cameras = {camera.id: camera for camera in station.cameras}
    for quoted in order.quote["cameras"]:
        if (camera := cameras.get(quoted["id"])) is None or not quoted["files"]:
            continue
        first_ms = max(order.from_ms, min(f["start_ms"] for f in quoted["files"]))
        last_ms = min(order.to_ms, max(f["end_ms"] for f in quoted["files"])) - 1
        clips = {at_ms: clip_at(context, station, camera, at_ms) for at_ms in (first_ms, last_ms)}
        if all(clips.values()):
            title = text_in(quoted["title"], lang)
            when = [format_second(at_ms, station.time_zone) for at_ms in clips]
            return [(src, f"{title} · {at}") for src, at in zip(clips.values(), when, strict=True)]
    return []


def _link(request: web.Request, lang: str) -> dict[str, object]:
    """Return the address of an order, which is its only key, and a QR of it."""
    here = link_of(request)
    qr = segno.make(here, error="m", micro=False)
    return {
        "secret": request.match_info["secret"],
        "here": here,
        "qr": qr.svg_inline(
            title=gettext("The link to your order", lang),
            border=4,
            light="#fff",
            svgclass="qr",
            lineclass=None,
            omitsize=True,
        ),
    }


def _money(request: web.Request, order: Order, lang: str) -> dict[str, object]:
    """Return what came, what is missing, what is to go back, and the documents of it."""
    orders, zone = request.app[ORDERS], order.quote["station"]["time_zone"]
    back, within_s = owed(order), orders.settings.refund_within
    due_ms = owed_since_ms(order) + within_s * 1000 if within_s else None
    providers = orders.providers.values()
    papers = invoice_provider(request, order) is not None
    return {
        "received": received(order),
        "missing": max(0, order.total - received(order)),
        "statement": [
            (format_time(line.at_ms, zone), line, format_money(line.amount, line.currency, lang))
            for line in statement(order, lang)
        ],
        "owed": [format_money(amount, currency, lang) for currency, amount in back.items()],
        "overpaid": order.paid_ms is not None and order.state != State.REFUNDED,
        "back_until": format_time(due_ms, zone) if due_ms else None,
        "online": [p.name for p in providers if isinstance(p, Online)],
        "invoice": papers,
        "receipt": receipt_provider(request, order) is not None,
        "may_name_payer": papers and not (order.paid_ms and order.payer_name),
    }


def words_of(order: Order, lang: str) -> dict[str, object]:
    """Return what the template writes times, lengths, money and sizes with."""
    zone = order.quote["station"]["time_zone"]
    return {
        "text": partial(text_in, lang=lang),
        "stretch": partial(format_stretch, zone=zone),
        "when": lambda ms: format_time(ms, zone) if ms else "–",
        "second": partial(format_second, zone=zone),
        "money": partial(format_money, currency=order.currency, lang=lang),
        "percent": partial(format_percent, lang=lang),
        "cause": partial(describe_cause, lang=lang),
        "reason": partial(describe_removal, lang=lang),
        "size": partial(format_bytes, lang=lang),
        "minutes": format_minutes,
        "unscheduled": told_unscheduled,
    }


def public_order(request: web.Request, order: Order) -> dict[str, object]:
    """Return what everyone may know of an order: not whether a part of its price came."""
    station, lang, standing = order.quote["station"], checked_language(request), standing_of(order)
    if standing == Standing.PARTLY_PAID:
        standing = Standing.AWAITING_PAYMENT
    return {
        "number": order.number,
        "station_number": station["number"],
        "station_name": text_in(station["name"], lang),
        "stretch": format_stretch(order.from_ms, order.to_ms, station["time_zone"]),
        "cameras": len(order.quote["cameras"]),
        "name": gettext(NAMES[standing], language_of(request)),
        "times": [
            format_time(ms, station["time_zone"]) if ms else ""
            for ms in (order.ordered_ms, order.paid_ms, order.ended_ms)
        ],
    }
