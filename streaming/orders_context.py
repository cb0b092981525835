"""What pages and API of copies share: who may do what, and the order behind a secret link."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TypeVar
from weakref import WeakValueDictionary

import structlog
from aiohttp import web

from base.i18n.gettext import N_, gettext
from base.prefixes import site_of
from config.copies import Copies
from copies.orders.events import Refused, key_of
from copies.orders.quotes import QuoteRequest
from copies.orders.service import OrderService
from copies.payments.port import (
    InvoiceProvider,
    Online,
    Provider,
    ProviderUnavailable,
    open_providers,
)
from copies.states import State
from storage.catalogue.catalogue import Catalogue
from storage.catalogue.database import CatalogueError
from storage.catalogue.orders import MOST_NUMBER, Order, OrderGone
from storage.recording_source import Unreadable
from streaming.context import CONTEXT
from streaming.http.clients import client
from streaming.http.negotiation import checked_language, language_of
from streaming.http.rate_limit import ConcurrencyLimit, RateLimit
from streaming.http.scheduler import SCHEDULER
from streaming.http.site import base_url

MOST_SENT = 64  # files at once: each takes about 2 MB while its client is slow
MOST_KNOWN = 10_000
MOST_AT_ONCE = 150  # files and gaps of an order that is shown at once, in some 5 ms
ITEMS_A_TOKEN = 600  # files and gaps of an order that its page shows; see `scheduler`
QUOTES_AT_ONCE = 4
REGISTER_PAGE, REGISTER_TOKENS = 50, 3  # orders of a page, and what it costs; see `scheduler`
QUOTE_S = 60.0  # to look through a long stretch of several cameras
TOO_LONG = N_("this takes too long to look through: ask for a shorter stretch, or try again later")

T = TypeVar("T")
log = structlog.get_logger()


@dataclass(slots=True)
class OrdersContext:
    """What a web process needs to sell copies."""

    settings: Copies
    providers: dict[str, Provider]
    quotes: RateLimit = field(default_factory=lambda: RateLimit(20, 6.0))
    asked: RateLimit = field(default_factory=lambda: RateLimit(10, 6.0))  # of providers
    guesses: RateLimit = field(default_factory=lambda: RateLimit(30, 30.0))
    letters: RateLimit = field(default_factory=lambda: RateLimit(8, 60.0))  # to whom one names
    quoting: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(QUOTES_AT_ONCE))
    sending: ConcurrencyLimit = field(default_factory=lambda: ConcurrencyLimit(8, MOST_SENT))
    pdfs: OrderedDict[bytes, bytes] = field(default_factory=OrderedDict)
    asking: WeakValueDictionary[str, asyncio.Lock] = field(default_factory=WeakValueDictionary)
    known: OrderedDict[str, None] = field(default_factory=OrderedDict)  # keys that were right

    @classmethod
    def open(cls, settings: Copies) -> OrdersContext:
        """Return what the configuration asks for."""
        return cls(settings, open_providers(settings))

    async def close(self) -> None:
        """End the providers' connections."""
        for provider in self.providers.values():
            if isinstance(provider, Online):
                await provider.close_connections()


ORDERS = web.AppKey("orders_context", OrdersContext)


async def query_catalogue(request: web.Request, question: Callable[[Catalogue], Awaitable[T]]) -> T:
    """Return what the catalogue answers; raises 503 where it does not, and 404 where a quote was
    deleted a moment ago."""
    with answering():
        return await request.app[CONTEXT].ask(question, within_s=None)


async def work_on_orders(request: web.Request, work: Callable[[OrderService], Awaitable[T]]) -> T:
    """Return what is done with orders; raises what `work` does, 404 and 503."""
    with answering():
        return await _work(request, work)


async def _work(request: web.Request, work: Callable[[OrderService], Awaitable[T]]) -> T:
    context, providers = request.app[CONTEXT], request.app[ORDERS].providers

    async def with_catalogue(catalogue: Catalogue) -> T:
        clock, archives = context.clock, context.archives
        return await work(OrderService(context.config, catalogue, providers, archives, clock))

    return await context.ask(with_catalogue, within_s=None)


@contextmanager
def answering() -> Iterator[None]:
    """Raise 503 where the catalogue or an archive does not answer, 404 for a quote that is gone;
    of a provider that does not answer it is said, and raised, that it does not."""
    try:
        yield
    except ProviderUnavailable as error:
        log.error("A payment provider does not answer", why=str(error))
        raise
    except OrderGone:
        raise web.HTTPNotFound from None
    except (CatalogueError, Unreadable, TimeoutError) as error:
        log.error("Orders cannot be worked on now", why=str(error) or type(error).__name__)
        raise web.HTTPServiceUnavailable(
            text=N_("Orders cannot be looked at now; try again in a minute."),
            headers={"Retry-After": "30"},
        ) from None


def quotable(
    request: web.Request, station: str, cameras: list[str], stretch: tuple[int, int]
) -> QuoteRequest:
    """Return what can be quoted; raises Refused."""
    context, settings = request.app[CONTEXT], request.app[ORDERS].settings
    now_ms = context.clock()
    return QuoteRequest.of(context.config, settings, station, cameras, stretch, now_ms)


async def order_of(request: web.Request) -> Order:
    """Return the order of the secret in the address.

    Raises 404, 503, and 429 for who asked for too many that do not exist: these alone are counted.
    A link that was right before is answered to everybody. Others are looked up one after the other
    for each site, so that no guess is begun before the one before it is counted.
    """
    orders, who = request.app[ORDERS], client(request)
    key = key_of(request.match_info["secret"])
    if key in orders.known:
        return await _look_up(request, key)
    lock = orders.asking.setdefault(site_of(who), asyncio.Lock())
    async with lock:
        if key not in orders.known:
            orders.guesses.check(who)
            return await _look_up(request, key)
    return await _look_up(request, key)


async def _look_up(request: web.Request, key: str | None) -> Order:
    orders, scheduler = request.app[ORDERS], request.app[SCHEDULER]
    scheduler.check(request)
    order = None
    if key is not None:
        order = await query_catalogue(request, lambda catalogue: catalogue.orders.with_key(key))
    if key is None or order is None:
        orders.guesses.take(client(request))
        raise web.HTTPNotFound(text=gettext("There is no such order.", language_of(request)))
    scheduler.count(request, items_of(order) / ITEMS_A_TOKEN)
    orders.known[key] = None
    orders.known.move_to_end(key)
    while len(orders.known) > MOST_KNOWN:
        orders.known.popitem(last=False)
    return order


def items_of(order: Order) -> int:
    """Return how many files and missing stretches an order has."""
    cameras = order.quote["cameras"]
    return sum(len(c["files"]) + len(c["gaps"]) + len(c["removed"]) for c in cameras)


async def made(request: web.Request, order: Order, make: Callable[[], T]) -> T:
    """Return what is made of an order; of one with many files and gaps, as of a camera that came
    and went all day, in a thread: it takes up to a second. Raises what the scheduler does."""
    if items_of(order) < MOST_AT_ONCE:
        return make()
    return await request.app[SCHEDULER].in_thread(request, make)


async def ask_providers(request: web.Request, work: Callable[[OrderService], Awaitable[T]]) -> T:
    """Return what is done with orders for which payment providers are asked, who answer all of us
    no more than so often; raises 429, and as `work_on_orders`."""
    asked, who = request.app[ORDERS].asked, client(request)
    asked.check(who)
    asked.take(who)
    try:
        return await work_on_orders(request, work)
    except web.HTTPServiceUnavailable:  # the catalogue is away, and nobody was asked
        asked.take(who, -1)
        raise


async def make_quote(request: web.Request, wanted: QuoteRequest) -> tuple[str, Order]:
    """Make a quote; returns its secret. Raises Refused, 429, 503."""
    lang, who = checked_language(request), client(request)
    return await _in_turn(request, lambda service: service.quote(wanted, lang, who))


def link_of(request: web.Request) -> str:
    """Return the secret link of the order in the address."""
    return f"{base_url(request)}/copies/{request.match_info['secret']}"


async def place(request: web.Request, order: Order, email: str | None) -> Order:
    """Order what was quoted, if all of it is still there; raises Refused, 429, 503."""
    link, who = link_of(request), client(request)

    def work(service: OrderService) -> Awaitable[Order]:
        return service.place(order, email, link, who)

    if order.state != State.QUOTED:  # it is refused, and nothing is looked for
        return await work_on_orders(request, work)
    if email:
        count_letter(request)
    return await _in_turn(request, work)


def count_letter(request: web.Request) -> None:
    """Count a letter, which goes to whomever somebody names: one client has few sent, whoever gets
    them; raises 429."""
    orders, who = request.app[ORDERS], client(request)
    if orders.settings.mail:
        orders.letters.check(who)
        orders.letters.take(who)


async def _in_turn(request: web.Request, work: Callable[[OrderService], Awaitable[T]]) -> T:
    """Do what has footage looked for, in turn, and as often as a client may; raises 429, 503, and
    Refused where that takes too long: there is much of it, or an archive is slow."""
    orders, who = request.app[ORDERS], client(request)

    async def in_turn(service: OrderService) -> T:
        async with asyncio.timeout(QUOTE_S):  # others are looked for
            await orders.quoting.acquire()
        try:
            async with asyncio.timeout(QUOTE_S) as limit:
                return await work(service)
        except TimeoutError:
            if not limit.expired():
                raise
            log.error("Orders cannot be worked on now", why=f"looking took {QUOTE_S:g} s")
            raise Refused(TOO_LONG, "to") from None
        finally:
            orders.quoting.release()

    orders.quotes.check(who)
    orders.quotes.take(who)
    with answering():
        try:
            return await _work(request, in_turn)
        except CatalogueError:
            orders.quotes.take(who, -1)  # nobody can have it now: that is not the client's doing
            raise


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
    election, scheduler = request.app[CONTEXT].config.election.id, request.app[SCHEDULER]
    scheduler.check(request)
    scheduler.count(request, REGISTER_TOKENS)
    try:
        return await query_catalogue(
            request,
            lambda catalogue: catalogue.orders.register(election, before, REGISTER_PAGE + 1),
        )
    except web.HTTPServiceUnavailable:  # nobody was asked
        scheduler.count(request, -REGISTER_TOKENS)
        raise


def invoice_provider(request: web.Request, order: Order) -> InvoiceProvider | None:
    """Return who gives the invoice of an order: to pay by, and afterwards to show what was paid;
    None where there is nothing to pay and nothing was."""
    if order.total == 0 or (order.state != State.AWAITING_PAYMENT and order.paid_ms is None):
        return None
    return _writer(request)


def receipt_provider(request: web.Request, order: Order) -> InvoiceProvider | None:
    """Return who gives the receipt of an order; None where nothing came."""
    return _writer(request) if order.payments else None


def _writer(request: web.Request) -> InvoiceProvider | None:
    providers = request.app[ORDERS].providers.values()
    return next((p for p in providers if isinstance(p, InvoiceProvider)), None)
