"""What pages and API of copies share: who may do what, and the order behind a secret link."""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from collections.abc import Awaitable, Coroutine
from dataclasses import dataclass, field
from typing import Any, TypeVar
from urllib.parse import urlsplit
from weakref import WeakValueDictionary

import structlog
from aiohttp import web

from base.i18n.gettext import N_, gettext
from config.copies import Copies
from copies.orders import events
from copies.orders.allowance import claim_of, day_of, free_of, refused
from copies.orders.events import Refused, key_of, new_secret
from copies.orders.quotes import QuoteRequest, ask, quote
from copies.orders.service import OrderService
from copies.payments.port import Online, Provider, open_providers
from copies.states import State
from storage.catalogue.catalogue import Catalogue
from storage.catalogue.database import CatalogueError
from storage.catalogue.orders import FootageGone, Order, OrderGone
from storage.catalogue.usage import Claim, TooMuch
from storage.recording_source import Unreadable
from streaming.context import CONTEXT, current_ms
from streaming.http.clients import client
from streaming.http.negotiation import checked_language, language_of
from streaming.http.rate_limit import Limit, Turns
from streaming.http.responses import base_url
from streaming.http.work import WORK

GONE = N_("what was quoted is there no longer: ask for a new quote")
MOST_SENT = 64  # files at once: each takes about 2 MB while its client is slow
MOST_KNOWN = 10_000
ITEMS_A_TOKEN = 600  # files and gaps of an order that its page shows; see `work`
QUOTES_AT_ONCE = 4
QUOTE_S = 60.0  # to look through a long stretch of several cameras

STATE_WORDS = {
    State.QUOTED: N_("Not ordered yet"),
    State.AWAITING_PAYMENT: N_("Waiting for payment"),
    State.PAID: N_("Paid"),
    State.READY: N_("Paid and checked"),
    State.EXPIRED: N_("Expired"),
    State.CANCELLED: N_("Cancelled"),
    State.REJECTED: N_("Rejected"),
    State.REFUNDED: N_("Refunded"),
}

T = TypeVar("T")
log = structlog.get_logger()


@dataclass(slots=True)
class OrdersContext:
    """What a web process needs to sell copies."""

    settings: Copies
    providers: dict[str, Provider]
    quotes: Limit = field(default_factory=lambda: Limit(20, 6.0))
    asked: Limit = field(default_factory=lambda: Limit(10, 6.0))  # of providers
    guesses: Limit = field(default_factory=lambda: Limit(30, 30.0))
    quoting: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(QUOTES_AT_ONCE))
    sending: Turns = field(default_factory=lambda: Turns(8, MOST_SENT))
    invoices: OrderedDict[bytes, bytes] = field(default_factory=OrderedDict)
    asking: WeakValueDictionary[str, asyncio.Lock] = field(default_factory=WeakValueDictionary)
    known: OrderedDict[str, None] = field(default_factory=OrderedDict)  # keys that were right

    @classmethod
    def open(cls, settings: Copies) -> OrdersContext:
        """Return the shop that is configured."""
        return cls(settings, open_providers(settings))

    async def close(self) -> None:
        """End the providers' connections."""
        for provider in self.providers.values():
            if isinstance(provider, Online):
                await provider.close_connections()


ORDERS = web.AppKey("shop", OrdersContext)


def till(request: web.Request) -> OrderService:
    """Return the orders with their providers; raises 503 while the catalogue is away."""
    shop = request.app[ORDERS]
    return OrderService(
        catalogue(request), shop.settings, shop.providers, request.app[CONTEXT].clock
    )


def catalogue(request: web.Request) -> Catalogue:
    """Return the catalogue; raises 503 while it is away."""
    found = request.app[CONTEXT].catalogue
    if found is None:
        raise away()
    return found


def away() -> web.HTTPServiceUnavailable:
    """Return the answer while orders cannot be looked at."""
    return web.HTTPServiceUnavailable(
        text="Orders cannot be looked at now; try again in a minute.\n",
        headers={"Retry-After": "30"},
    )


async def query_catalogue(work: Awaitable[T]) -> T:
    """Return what the catalogue answers; raises 503 where it or an archive does not, and 404 where
    a quote was deleted a moment ago."""
    try:
        return await work
    except OrderGone:
        raise web.HTTPNotFound from None
    except (CatalogueError, Unreadable, TimeoutError) as error:
        raise unanswered(error) from None


def unanswered(error: Exception) -> web.HTTPServiceUnavailable:
    """Return the answer where catalogue or archive gave none, and say why in the log."""
    log.error("Orders cannot be worked on now", why=str(error) or type(error).__name__)
    return away()


async def _quoted(shop: OrdersContext, work: Coroutine[Any, Any, T]) -> T:
    """Return a quote that is made in its turn; raises what `quote` does, and TimeoutError."""
    try:
        async with asyncio.timeout(QUOTE_S), shop.quoting:
            return await work
    finally:
        work.close()  # where its turn did not come


async def order_of(request: web.Request) -> Order:
    """Return the order of the secret in the address.

    Raises 404, 503, and 429 for who asked for too many that do not exist: these alone are counted.
    A link that was right before is answered to everybody. Others are looked up one after the other
    for each client, so that no guess is begun before the one before it is counted.
    """
    shop, who = request.app[ORDERS], client(request)
    key = key_of(request.match_info["secret"])
    if key in shop.known:
        return await _look_up(request, key)
    lock = shop.asking.setdefault(who, asyncio.Lock())
    async with lock:
        if key not in shop.known:
            shop.guesses.check(who)
            return await _look_up(request, key)
    return await _look_up(request, key)


async def _look_up(request: web.Request, key: str | None) -> Order:
    shop, work = request.app[ORDERS], request.app[WORK]
    work.check(request)
    order = await query_catalogue(catalogue(request).orders.with_key(key)) if key else None
    if key is None or order is None:
        shop.guesses.take(client(request))
        raise web.HTTPNotFound(text=gettext("There is no such order.", language_of(request)))
    cameras = order.quote["cameras"]
    items = sum(len(c["files"]) + len(c["gaps"]) + len(c["removed"]) for c in cameras)
    work.count(request, items / ITEMS_A_TOKEN)
    shop.known[key] = None
    shop.known.move_to_end(key)
    while len(shop.known) > MOST_KNOWN:
        shop.known.popitem(last=False)
    return order


def count_asked(request: web.Request) -> None:
    """Count a question to payment providers, who answer all of us no more than so often; raises
    429."""
    asked, who = request.app[ORDERS].asked, client(request)
    asked.check(who)
    asked.take(who)


def refuse_foreign(request: web.Request) -> None:
    """Raise 403 for what a page of another site has a browser send.

    These pages send no Origin (their referrer policy), so an old browser without Sec-Fetch-Site
    is let through unless it names another site; it would need the secret link as well.
    """
    site = request.headers.get("Sec-Fetch-Site", "none")
    origin = request.headers.get("Origin", "null")
    try:
        named = urlsplit(origin).netloc
    except ValueError:
        raise web.HTTPBadRequest(text="The Origin of this request cannot be read.\n") from None
    # a proxy may call us by another name than people do
    known = origin == "null" or named in {request.host, urlsplit(base_url(request)).netloc}
    if site not in ("same-origin", "none") or not known:
        raise web.HTTPForbidden(text="This was sent by a page of another site.\n")


async def make_quote(request: web.Request, asked: QuoteRequest) -> tuple[str, Order]:
    """Make a quote; returns its secret. Raises Refused, 429, 503."""
    store, secret = catalogue(request), new_secret()
    key = key_of(secret)
    assert key is not None
    begun = time.monotonic()
    row, plans = await _look_for(request, asked, checked_language(request))
    pk = await query_catalogue(store.orders.create(key, row, plans))
    log.info("A quote was made", order=pk, took_s=round(time.monotonic() - begun, 2))
    return secret, await query_catalogue(store.orders.get(pk))


async def _look_for(
    request: web.Request, asked: QuoteRequest, lang: str
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Look for what is asked, in turn, and as often as a client may; raises Refused, 429, 503."""
    views, shop, who = request.app[CONTEXT], request.app[ORDERS], client(request)
    store = catalogue(request)
    shop.quotes.check(who)
    shop.quotes.take(who)
    try:
        day_ms = day_of(views.clock(), views.config.election.time_zone)
        free_ms = max(0, free_of(shop.settings) - await store.usage.free_ms(who, day_ms))
        work = quote(views.config, shop.settings, store, views.archives, asked, lang, free_ms)
        return await _quoted(shop, work)
    except CatalogueError as error:
        shop.quotes.take(who, -1)  # nobody can have it now: that is not the client's doing
        raise unanswered(error) from None
    except (Unreadable, TimeoutError) as error:
        raise unanswered(error) from None


def asked_for(
    request: web.Request, station: str, cameras: list[str], from_ms: int, to_ms: int
) -> QuoteRequest:
    """Return what can be quoted; raises Refused."""
    shop = request.app[ORDERS]
    config = request.app[CONTEXT].config
    return ask(config, shop.settings, station, cameras, from_ms, to_ms, current_ms(request))


async def place(request: web.Request, order: Order, email: str | None) -> Order:
    """Order what was quoted, if all of it is still there; raises Refused, 429, 503."""
    shop, views = request.app[ORDERS], request.app[CONTEXT]
    cameras = [camera["id"] for camera in order.quote["cameras"]]
    if order.state == State.QUOTED:
        asked = asked_for(request, order.station, cameras, order.from_ms, order.to_ms)
        row, plans = await _look_for(request, asked, order.language)
        if not plans:
            raise Refused(N_("nothing of this exists"))
        if _etags(row["quote"]) != _etags(order.quote):
            raise Refused(GONE)
    link = f"{base_url(request)}/copies/{request.match_info['secret']}"
    now_ms = views.clock()

    def claim(order: Order) -> Claim:
        zone = views.config.election.time_zone
        return claim_of(shop.settings, order, client(request), zone, now_ms)

    decide = events.place(shop.settings, email, link, now_ms, claim)
    try:
        return await query_catalogue(till(request).orders.change(order.order_pk, decide))
    except FootageGone:  # since it was looked for
        raise Refused(GONE) from None
    except TooMuch as too_much:
        raise refused(too_much, order) from None


def _etags(quoted: dict[str, Any]) -> list[str]:
    return [file["etag"] for camera in quoted["cameras"] for file in camera["files"]]
