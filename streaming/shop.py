"""What pages and API of copies share: who may do what, and the order behind a secret link."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Awaitable
from dataclasses import dataclass, field
from typing import Any, TypeVar
from urllib.parse import urlsplit

import structlog
from aiohttp import web

from config.copies import Copies
from copies import orders as events
from copies.allowance import FreeMinutes, UnpaidOrders
from copies.orders import Refused, key_of, new_secret
from copies.payments import Online, Provider, open_providers
from copies.prices import MINUTE_MS
from copies.quotes import Asked, ask, quote
from copies.settling import Till
from copies.sources import Unreadable
from copies.states import State
from storage.catalogue import Catalogue
from storage.database import CatalogueError
from storage.orders import FootageGone, Order
from streaming.answers import base_url
from streaming.language import language, mark, say
from streaming.limits import Limit, client, too_many
from streaming.views import VIEWS, current_ms

GONE = mark("what was quoted is there no longer: ask for a new quote")
QUOTE_S = 60.0  # to look through a long stretch of several cameras

STATE_WORDS = {
    State.QUOTED: mark("Not ordered yet"),
    State.AWAITING_PAYMENT: mark("Waiting for payment"),
    State.PAID: mark("Paid"),
    State.READY: mark("Paid and checked"),
    State.EXPIRED: mark("Expired"),
    State.CANCELLED: mark("Cancelled"),
    State.REJECTED: mark("Rejected"),
    State.REFUNDED: mark("Refunded"),
}

T = TypeVar("T")
log = structlog.get_logger()


@dataclass(slots=True)
class Shop:
    """What a web process needs to sell copies."""

    settings: Copies
    providers: dict[str, Provider]
    free: FreeMinutes
    unpaid: UnpaidOrders
    placing: asyncio.Lock = field(default_factory=asyncio.Lock)  # what is counted stays so
    quotes: Limit = field(default_factory=lambda: Limit(20, 6.0))
    guesses: Limit = field(default_factory=lambda: Limit(30, 30.0))

    @classmethod
    def open(cls, settings: Copies, time_zone: str) -> Shop:
        """Return the shop that is configured; `time_zone` says when a day of free minutes
        begins."""
        free = FreeMinutes(settings.free_minutes * MINUTE_MS, time_zone)
        unpaid = UnpaidOrders(settings.unpaid_per_client, settings.unpaid_in_all)
        return cls(settings, open_providers(settings), free, unpaid)

    async def close(self) -> None:
        """End the providers' connections."""
        for provider in self.providers.values():
            if isinstance(provider, Online):
                await provider.close_connections()


SHOP = web.AppKey("shop", Shop)


def till(request: web.Request) -> Till:
    """Return the orders with their providers; raises 503 while the catalogue is away."""
    shop = request.app[SHOP]
    return Till(catalogue(request), shop.settings, shop.providers, request.app[VIEWS].clock)


def catalogue(request: web.Request) -> Catalogue:
    """Return the catalogue; raises 503 while it is away."""
    found = request.app[VIEWS].catalogue
    if found is None:
        raise away()
    return found


def away() -> web.HTTPServiceUnavailable:
    """Return the answer while orders cannot be looked at."""
    return web.HTTPServiceUnavailable(
        text="Orders cannot be looked at now; try again in a minute.\n",
        headers={"Retry-After": "30"},
    )


async def answered(work: Awaitable[T]) -> T:
    """Return what the catalogue answers; raises 503 where it or an archive does not."""
    try:
        return await work
    except (CatalogueError, Unreadable, TimeoutError) as error:
        log.error("Orders cannot be worked on now", why=str(error) or type(error).__name__)
        raise away() from None


async def order_of(request: web.Request) -> Order:
    """Return the order of the secret in the address.

    Raises 404, and 429 for who asked for too many that do not exist.
    """
    guesses, who = request.app[SHOP].guesses, client(request)
    if (wait_s := guesses.wait_s(who)) > 0:
        raise too_many(wait_s)
    guesses.take(who)  # before it is looked up, as many may be asked for at once
    key = key_of(request.match_info["secret"])
    order = await answered(catalogue(request).orders.with_key(key)) if key else None
    if order is None:
        raise web.HTTPNotFound(text=say(request, "There is no such order."))
    guesses.give_back(who)
    return order


def refuse_foreign(request: web.Request) -> None:
    """Raise 403 for what a page of another site has a browser send.

    These pages send no Origin (their referrer policy), so an old browser without Sec-Fetch-Site
    is let through unless it names another site; it would need the secret link as well.
    """
    site = request.headers.get("Sec-Fetch-Site", "none")
    origin = request.headers.get("Origin", "null")
    # a proxy may call us by another name than people do
    ours = {request.host, urlsplit(base_url(request)).netloc}
    known = origin == "null" or urlsplit(origin).netloc in ours
    if site not in ("same-origin", "none") or not known:
        raise web.HTTPForbidden(text="This was sent by a page of another site.\n")


async def make_quote(request: web.Request, asked: Asked) -> tuple[str, Order]:
    """Make a quote; returns its secret. Raises Refused, 429, 503."""
    views, shop, who = request.app[VIEWS], request.app[SHOP], client(request)
    if (wait_s := shop.quotes.wait_s(who)) > 0:
        raise too_many(wait_s)
    shop.quotes.take(who)
    store = catalogue(request)
    secret = new_secret()
    key = key_of(secret)
    assert key is not None
    begun = time.monotonic()
    free_ms = shop.free.left_ms(who, views.clock())
    work = quote(
        *(views.config, shop.settings, store, views.archives, asked, language(request)), free_ms
    )
    row, plans = await answered(asyncio.wait_for(work, QUOTE_S))
    pk = await answered(store.orders.create(key, row, plans))
    log.info("A quote was made", order=pk, took_s=round(time.monotonic() - begun, 2))
    return secret, await answered(store.orders.get(pk))


def asked_for(
    request: web.Request, station: str, cameras: list[str], from_ms: int, to_ms: int
) -> Asked:
    """Return what can be quoted; raises Refused."""
    shop = request.app[SHOP]
    config = request.app[VIEWS].config
    return ask(config, shop.settings, station, cameras, from_ms, to_ms, current_ms(request))


async def place(request: web.Request, order: Order, email: str | None) -> Order:
    """Order what was quoted, if all of it is still there; raises Refused, 503."""
    shop, views = request.app[SHOP], request.app[VIEWS]
    cameras = [camera["id"] for camera in order.quote["cameras"]]
    if order.state == State.QUOTED:
        asked = asked_for(request, order.station, cameras, order.from_ms, order.to_ms)
        store, archives = catalogue(request), views.archives
        work = quote(views.config, shop.settings, store, archives, asked, order.language)
        row, plans = await answered(asyncio.wait_for(work, QUOTE_S))
        if not plans:
            raise Refused("nothing of this exists")
        if _etags(row["quote"]) != _etags(order.quote):
            raise Refused(GONE)
    link = f"{base_url(request)}/copies/{request.match_info['secret']}"
    decide = events.place(shop.settings, email, link, views.clock())
    async with shop.placing, _counted(request, order):
        try:
            return await answered(till(request).orders.change(order.order_pk, decide))
        except FootageGone:  # since it was looked for
            raise Refused(GONE) from None


@contextlib.asynccontextmanager
async def _counted(request: web.Request, order: Order) -> AsyncIterator[None]:
    """Count an order as one of its client's if the block places it; raises Refused where he has
    too much that is free or not paid."""
    shop, who, now_ms = request.app[SHOP], client(request), current_ms(request)
    if order.total and order.state == State.QUOTED:
        unpaid = await answered(catalogue(request).orders.bytes_by_order(State.AWAITING_PAYMENT))
        length = sum(camera["bytes"] for camera in order.quote["cameras"])
        shop.unpaid.check(who, length, unpaid)
    lines = order.quote["price"]["lines"] if order.state == State.QUOTED else ()
    free_ms = sum(line["exists_ms"] - line["billed_ms"] for line in lines)
    shop.free.take(who, free_ms, now_ms)
    try:
        yield
    except BaseException:
        shop.free.give_back(who, free_ms, now_ms)
        raise
    shop.unpaid.placed(who, order.order_pk)


def _etags(quoted: dict[str, Any]) -> list[str]:
    return [file["etag"] for camera in quoted["cameras"] for file in camera["files"]]
