"""Copies for programs: quote, order, read, cancel, the register; errors are problems."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Mapping, Sequence
from functools import partial

import orjson
from aiohttp import web

from base.clock import parse_time
from base.i18n.format import format_bytes
from base.i18n.gettext import gettext, text_in
from copies.balance import owed, received
from copies.orders.events import Refused
from copies.orders.mail import address
from copies.payments.port import Online, ProviderUnavailable
from copies.states import DOWNLOADS, State
from storage.catalogue.orders import Order
from storage.catalogue.rows import FileRow
from streaming.context import current_ms
from streaming.http.negotiation import checked_language, language_of
from streaming.http.site import base_url, refuse_foreign
from streaming.orders_context import (
    ORDERS,
    REGISTER_PAGE,
    ask_providers,
    invoice_provider,
    made,
    make_quote,
    order_of,
    place,
    query_catalogue,
    quotable,
    receipt_provider,
    register_page,
)

UNCACHED = {"Cache-Control": "no-store"}

routes = web.RouteTableDef()


@routes.post("/api/v1/copies/quotes")
async def post_quote(request: web.Request) -> web.StreamResponse:
    """Make a quote of `station`, `cameras`, `from` and `to`; 201 with the secret link."""
    refuse_foreign(request)
    body = await _body(request)
    station, cameras = body.get("station"), body.get("cameras")
    if not isinstance(station, str) or not isinstance(cameras, list):
        raise _bad("'station' is an id, and 'cameras' is a list of ids")
    if not all(isinstance(camera, str) for camera in cameras):
        raise _bad("'cameras' is a list of ids")
    begin, end = (_time_ms(body, name) for name in ("from", "to"))
    try:
        secret, order = await make_quote(request, quotable(request, station, cameras, (begin, end)))
    except Refused as refused:
        raise _bad(refused.text(language_of(request))) from None
    headers = UNCACHED | {"Location": f"/api/v1/copies/orders/{secret}"}
    return await _told(request, order, secret, 201, headers)


@routes.get("/api/v1/copies/orders/{secret}")
async def get_order(request: web.Request) -> web.StreamResponse:
    """Tell of an order."""
    return await _answer(request)


@routes.post("/api/v1/copies/orders/{secret}/order")
async def post_order(request: web.Request) -> web.StreamResponse:
    """Order what was quoted; `email` is optional."""
    refuse_foreign(request)
    order = await order_of(request)
    text = (await _body(request)).get("email") if await request.read() else None
    email = address(text) if isinstance(text, str) else None
    if text is not None and email is None:
        raise _bad("'email' is not an e-mail address")
    return await _done(request, place(request, order, email))


@routes.post("/api/v1/copies/orders/{secret}/cancel")
async def post_cancel(request: web.Request) -> web.StreamResponse:
    """Take an order back before it is paid."""
    refuse_foreign(request)
    order = await order_of(request)
    return await _done(
        request, ask_providers(request, lambda service: service.cancel(order.order_pk))
    )


@routes.get("/api/v1/copies/register")
async def register(request: web.Request) -> web.StreamResponse:
    """List all orders without personal data, newest first: `before` is a number to go on from."""
    found = await register_page(request)
    page = found[:REGISTER_PAGE]
    following = page[-1].number if len(found) > REGISTER_PAGE else None
    return web.json_response(
        {"orders": [_public_json(request, o) for o in page], "next_before": following},
        headers={"Cache-Control": "public, max-age=10"},
    )


async def _done(request: web.Request, work: Awaitable[Order]) -> web.StreamResponse:
    try:
        await work
    except Refused as refused:
        why = refused.text(language_of(request))
        raise web.HTTPConflict(text=why) from None
    except ProviderUnavailable:
        why = gettext(
            "The payment service does not answer; try again in a minute.", language_of(request)
        )
        raise web.HTTPServiceUnavailable(text=why) from None
    return await _answer(request)


async def _answer(request: web.Request) -> web.Response:
    return await _told(request, await order_of(request), request.match_info["secret"])


async def _told(
    request: web.Request,
    order: Order,
    secret: str,
    status: int = 200,
    headers: Mapping[str, str] = UNCACHED,
) -> web.Response:
    """Return the answer that tells of an order."""
    checked_language(request)
    files = await query_catalogue(
        request, lambda catalogue: catalogue.order_files.of(order.order_pk)
    )

    def make() -> web.Response:
        data = _order_json(request, order, secret, files)
        return web.json_response(data, status=status, headers=headers)

    if status == 201:  # its secret is told here alone, and to whoever asked for much besides, too
        return await asyncio.to_thread(make)
    return await made(request, order, make)


def _public_json(request: web.Request, order: Order) -> dict[str, object]:
    """Return what everyone may know of an order."""
    station = order.quote["station"]
    times = ("ordered_ms", "paid_ms", "ready_ms", "ended_ms")
    return {
        "number": order.number,
        "state": order.state,
        "station": order.station,
        "station_number": station["number"],
        "station_name": text_in(station["name"], checked_language(request)),
        "cameras": [camera["id"] for camera in order.quote["cameras"]],
        "from_ms": order.from_ms,
        "to_ms": order.to_ms,
        **{name: getattr(order, name) for name in times},
    }


def _order_json(
    request: web.Request, order: Order, secret: str, known: Sequence[FileRow]
) -> dict[str, object]:
    """Return all of an order that its requester may know; `known` is what is known of its files."""
    home, lang = f"{base_url(request)}/copies/{secret}", checked_language(request)
    files = {f.file_no: f for f in known}
    open_ = order.state in DOWNLOADS and (order.until_ms or 0) > current_ms(request)
    title = partial(text_in, lang=lang)
    hashed = sum(f.hashed for f in files.values())
    total = sum(f["length"] for camera in order.quote["cameras"] for f in camera["files"])
    providers = request.app[ORDERS].providers.values()
    waits = order.state == State.AWAITING_PAYMENT
    return {
        **_public_json(request, order),
        "link": home,
        "asked_to_ms": order.quote["asked_to_ms"],
        "until_ms": order.until_ms,
        "reason": order.reason,
        "price": order.quote["price"],
        "received": received(order),
        "payments": [
            {"at_ms": p.at_ms, "amount": p.amount, "currency": p.currency, "provider": p.provider}
            for p in order.payments
        ],
        "owed_back": [{"amount": a, "currency": c} for c, a in owed(order).items()],
        "invoice": f"{home}/invoice.pdf" if invoice_provider(request, order) else None,
        "receipt": f"{home}/receipt.pdf" if receipt_provider(request, order) else None,
        "pay_online": [p.name for p in providers if waits and isinstance(p, Online)],
        "zip": f"{home}/everything.zip" if open_ and order.state == State.READY else None,
        "manifest": f"{home}/manifest.json" if open_ else None,
        "hashed_bytes": hashed,
        "hashed_words": format_bytes(hashed, lang),
        "bytes": total,
        "bytes_words": format_bytes(total, lang),
        "footage": [
            {
                "camera": camera["id"],
                "title": title(camera["title"]),
                "exists_ms": camera["exists_ms"],
                "gaps": camera["gaps"],
                "removed": camera["removed"],
                "files": [
                    {
                        **{k: f[k] for k in ("name", "start_ms", "end_ms", "length", "etag")},
                        "sha256": files[f["no"]].sha256 if f["no"] in files else None,
                        "url": f"{home}/files/{f['no']}/{f['name']}" if open_ else None,
                    }
                    for f in camera["files"]
                ],
            }
            for camera in order.quote["cameras"]
        ],
    }


async def _body(request: web.Request) -> dict[str, object]:
    try:
        body = orjson.loads(await request.read())
    except orjson.JSONDecodeError:
        body = None
    if not isinstance(body, dict):
        raise _bad("send one JSON object")
    return body


def _time_ms(body: dict[str, object], name: str) -> int:
    """Return a time of a body as UTC ms: a whole number, or RFC 3339 with a zone; raises 400."""
    value = body.get(name)
    if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 10**14:
        return value
    try:
        return parse_time(value if isinstance(value, str) else "")
    except ValueError:
        raise _bad(
            f"'{name}' is not a time: write 2026-11-29T09:40:00Z or milliseconds of UTC"
        ) from None


def _bad(text: str) -> web.HTTPBadRequest:
    return web.HTTPBadRequest(text=f"{text}\n")
