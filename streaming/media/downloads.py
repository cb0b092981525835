"""What an order delivers: its files, all of them as one ZIP, and what they are as JSON."""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing, suppress
from functools import partial

import structlog
from aiohttp import web

from base.i18n.causes import describe_cause
from base.i18n.gettext import gettext, text_in
from copies.files.virtual import VirtualFile
from copies.files.zip import Bundle, Item, manifest
from copies.footage.plan import CopyPlan
from copies.states import DOWNLOADS, State
from storage.catalogue.database import CatalogueError
from storage.catalogue.orders import Order
from storage.recording_source import Unreadable
from streaming.context import CONTEXT, current_ms
from streaming.http.clients import client
from streaming.http.negotiation import language_of
from streaming.http.ranges import Content, send
from streaming.http.scheduler import SCHEDULER
from streaming.orders_context import ORDERS, answering, order_of, query_catalogue

LOOK_S = 10.0  # between two looks whether what is sent may still be had
PARTS_A_TOKEN = 1_000  # recordings in a copy; see `scheduler`

log = structlog.get_logger()
routes = web.RouteTableDef()


@routes.get("/copies/{secret}/files/{file:[0-9]{1,6}}/{name}")
async def file(request: web.Request) -> web.StreamResponse:
    """Send a file of an order."""
    order = await _downloadable(request)
    number = int(request.match_info["file"])
    found = await query_catalogue(
        request, lambda catalogue: catalogue.order_files.plans(order.order_pk, number)
    )
    plan = CopyPlan.from_dict(found[0].plan) if found else None
    if plan is None or plan.file_name != request.match_info["name"]:
        raise web.HTTPNotFound(text=gettext("The order has no such file.", language_of(request)))
    copy = VirtualFile(plan, request.app[CONTEXT].sources, found[0].head)
    with request.app[ORDERS].sending.turn(client(request)):
        return await _send(request, order, copy, plan.file_name)


@routes.get("/copies/{secret}/everything.zip")
async def everything(request: web.Request) -> web.StreamResponse:
    """Send all files as one ZIP, with a manifest, the hashes, and a README for people; 503 until
    each of them was read through."""
    order = await _downloadable(request)
    zone = order.quote["station"]["time_zone"]
    with request.app[ORDERS].sending.turn(client(request)):
        items = await _items(request, order)
        if any(item.sha256 is None for item in items):
            text = gettext(
                "The files are still being read through: each can be had now, and the ZIP when it"
                " is done.",
                language_of(request),
            )
            raise web.HTTPServiceUnavailable(text=text, headers={"Retry-After": "30"})
        make = partial(Bundle, _about(order), items, order.language, zone)
        bundle = await request.app[SCHEDULER].in_thread(request, make)
        return await _send(request, order, bundle, f"kuager-{order.number}.zip")


@routes.get("/copies/{secret}/manifest.json")
async def manifest_json(request: web.Request) -> web.StreamResponse:
    """Tell programs what is in the copy and what is missing, as in the ZIP."""
    order = await _downloadable(request)
    make = partial(manifest, _about(order), await _items(request, order))
    body = await request.app[SCHEDULER].in_thread(request, make)
    return web.Response(body=body, content_type="application/json", charset="utf-8")


async def _items(request: web.Request, order: Order) -> list[Item]:
    scheduler = request.app[SCHEDULER]
    scheduler.check(request)
    found = await query_catalogue(
        request, lambda catalogue: catalogue.order_files.plans(order.order_pk)
    )
    scheduler.count(request, sum(len(row.plan["parts"]) for row in found) / PARTS_A_TOKEN)
    sources = request.app[CONTEXT].sources
    return [
        Item(
            VirtualFile(CopyPlan.from_dict(row.plan), sources, row.head),
            row.sha256,
            row.crc32,
        )
        async for row in scheduler.in_steps(request, found)
    ]


def _about(order: Order) -> dict[str, object]:
    """Return what a manifest says of an order beside its files; nothing of who ordered it.

    Names are those of the day of the quote, in the order's language.
    """
    lang, station = order.language, order.quote["station"]
    election = order.quote.get("election", {})  # of quotes of an older Kuager only the id is known
    return {
        "order": order.number,
        "election": order.election,
        "election_name": text_in(election, lang) or order.election,
        "station": order.station,
        "station_number": station["number"],
        "station_name": text_in(station["name"], lang),
        "station_address": text_in(station["address"], lang),
        "from_ms": order.from_ms,
        "to_ms": order.to_ms,
        "cameras": [
            {
                "camera": camera["id"],
                "title": text_in(camera["title"], lang),
                "gaps": [
                    gap | {"words": describe_cause(gap["cause"], lang)} for gap in camera["gaps"]
                ],
                "removed": camera["removed"],
                "unscheduled": camera["unscheduled"],
            }
            for camera in order.quote["cameras"]
        ],
    }


async def _downloadable(request: web.Request) -> Order:
    """Return an order whose files may be fetched; raises 403 and 410 with words."""
    order = await order_of(request)
    if _may_be_fetched(order, current_ms(request)):
        return order
    if order.state in (State.QUOTED, State.AWAITING_PAYMENT):
        raise web.HTTPForbidden(text=gettext("The order is not paid yet.", language_of(request)))
    if order.state == State.REFUNDED:
        raise web.HTTPGone(
            text=gettext(
                "What was paid was given back: there are no files any more.", language_of(request)
            )
        )
    if order.paid_ms is None:
        raise web.HTTPGone(
            text=gettext("The order has ended, and was not paid.", language_of(request))
        )
    raise web.HTTPGone(
        text=gettext("The time to download these files is over.", language_of(request))
    )


def _may_be_fetched(order: Order, now_ms: int) -> bool:
    return order.state in DOWNLOADS and (order.until_ms or 0) > now_ms


async def _send(
    request: web.Request, order: Order, file: VirtualFile | Bundle, name: str
) -> web.StreamResponse:
    """Send a file of an order, to be kept under an ASCII name; raises 503."""
    read = partial(read_while, partial(lasts, request, order), file, name)
    headers = {
        "Cache-Control": "private, no-transform",
        "Content-Disposition": f'attachment; filename="{name}"',
    }
    with answering():
        return await send(request, content_of(file, read), headers)


async def lasts(request: web.Request, order: Order) -> bool:
    """Tell whether an order's files may still be fetched; raises CatalogueError."""
    context = request.app[CONTEXT]
    now = await context.ask(lambda catalogue: catalogue.orders.get(order.order_pk))
    return _may_be_fetched(now, current_ms(request))


def content_of(
    file: VirtualFile | Bundle,
    read: Callable[[int, int], AsyncGenerator[bytes | memoryview, None]],
) -> Content:
    """Return a file of an order as what is sent."""
    modified_s = file.last_modified_ms // 1000
    return Content(file.content_type, file.length, file.etag, read, modified_s)


async def read_while(
    lasts: Callable[[], Awaitable[bool]],
    file: VirtualFile | Bundle,
    name: str,
    start: int,
    stop: int,
    look_s: float = LOOK_S,
) -> AsyncGenerator[bytes | memoryview, None]:
    """Yield the bytes [start, stop) of a file as long as it may be had; raises Unreadable.

    `lasts` is asked every `look_s` seconds; while it raises CatalogueError the reading goes on.
    """
    look_at = time.monotonic() + look_s
    try:
        async with aclosing(file.read(start, stop)) as pieces:
            async for piece in pieces:
                if time.monotonic() >= look_at:
                    look_at = time.monotonic() + look_s
                    await _refuse_ended(lasts)
                yield piece
    except Unreadable as error:
        tell = log.info if isinstance(error, _Ended) else log.error
        tell("A copy could not be sent to its end", file=name, why=str(error))
        raise


class _Ended(Unreadable):
    """What is being sent may be had no longer."""


async def _refuse_ended(lasts: Callable[[], Awaitable[bool]]) -> None:
    with suppress(CatalogueError):
        if not await lasts():
            raise _Ended("its order has ended meanwhile")
