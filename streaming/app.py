"""The web process: what it opens, what it serves, how it ends."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import resource
import sys
import time
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack
from functools import partial
from pathlib import Path

import structlog
from aiohttp import web, web_response
from aiohttp.typedefs import Handler

from base.clock import Clock, now_ms
from base.i18n.gettext import LANGUAGES, gettext, ngettext, translations
from config.model import Config
from storage.archive.factory import open_archive
from storage.archive.port import Archive
from storage.catalogue.catalogue import Catalogue
from storage.catalogue.database import CatalogueError
from streaming.api import copies as copies_api
from streaming.api import motion, oembed, openapi, timeline, webhooks
from streaming.api import stations as stations_api
from streaming.context import CONTEXT, AppContext
from streaming.http import assets
from streaming.http.answering import AnsweringConnection
from streaming.http.bodies import MOST_BODY, body_reader
from streaming.http.clients import CLIENTS, Clients
from streaming.http.connections import Caps, Runner
from streaming.http.groups import (
    GROUPS,
    PREFLIGHT,
    Group,
    add_headers,
    group_of,
)
from streaming.http.negotiation import MOST_PARAMETERS, language_of, too_many_parameters
from streaming.http.ports import BACKLOG, PortInUse, claimed
from streaming.http.prepared import PREPARED, PreparedAnswers
from streaming.http.rate_limit import TOO_MANY, ConcurrencyLimit
from streaming.http.responses import problem
from streaming.http.scheduler import SCHEDULER, Scheduler, in_turn
from streaming.http.site import SITE
from streaming.media import (
    archived,
    clip,
    downloads,
    elsewhere,
    for_peers,
    keyframes,
    live,
    pictures,
    variants,
)
from streaming.ops import health, metrics
from streaming.ops.http_counts import HTTP_COUNTS, HttpCounts, counter, measure, written
from streaming.orders_context import ORDERS, OrdersContext
from streaming.pages import about, home, order_actions
from streaming.pages import copies as copies_pages
from streaming.pages import station as station_page
from streaming.pages.render import problem_page
from streaming.stations.featured import FEATURED, Featured

STOP_S = 5.0
SWITCH_S = 0.0002  # the longest that a thread of ours that computes holds up live video
# new objects that have the garbage collector look at the new ones, then at all: it holds up live
# video for 1 ms and, with the index lines of many cameras, for 100 ms
COLLECTED = (20_000, 20, 20)
OPERATORS = Caps(64, 64)
VIDEO = (".m4s", ".mp4", ".m3u8")
# headers of an error that its page or problem has, too
ERROR_HEADERS = ("Allow", "Connection", "Content-Range", "Retry-After")
ADDRESSES = (
    Group("/live/", VIDEO, errors="text", cross_origin=True, tells_states=False, urgent=True),
    Group("/live/", errors="text", cross_origin=True),
    Group("/api/", errors="problem", cross_origin=True),
    Group("/static/", errors="text", tells_states=False),
    Group("/healthz", errors="text", tells_states=False, urgent=True),
    Group("/readyz", errors="text", tells_states=False),
    Group("/embed/", frames="*"),
    Group(""),
)
# each has `routes`; the latter ones are served where the configuration has copies
MODULES = (
    *(live, keyframes, variants, clip, pictures),
    *(stations_api, timeline, motion, oembed, openapi, assets),
    *(home, station_page, about),
    health,
)
COPIES_MODULES = (copies_pages, order_actions, downloads, copies_api, webhooks)
# aiohttp's own answers, to what is not HTTP, name its version otherwise
web_response.SERVER_SOFTWARE = "Kuager"  # type: ignore[attr-defined]

log = structlog.get_logger()


def create_app(
    config: Config,
    catalogue: Catalogue | None,
    archives: Sequence[Archive],
    clock: Clock = now_ms,
    process: str = "web-0",
    elapsed_s: Callable[[], float] = time.monotonic,
) -> web.Application:
    """Return the application; the caller closes catalogue and archives. `process` is what its
    metrics of HTTP are told apart by; `elapsed_s` is a clock that nobody sets."""
    for lang in LANGUAGES:  # a catalogue that cannot be read is seen at the start
        translations(lang)
    assets.version()  # so is a script that is missing
    openapi.description(config.copies is not None)
    app = web.Application(
        middlewares=[measure, in_turn, _errors, body_reader()], client_max_size=MOST_BODY
    )
    clients = app[CLIENTS] = Clients(config.web.trusted_proxies)
    app[SITE] = config.web
    app[GROUPS] = ADDRESSES
    context = app[CONTEXT] = AppContext(config, catalogue, archives, clock, elapsed_s)
    counts = app[HTTP_COUNTS] = HttpCounts(config, process, clock=clock)
    app[metrics.REGISTRY] = metrics.make_registry(context, counts)
    app[health.HEALTH] = health.Health(context)
    app[live.PLAYLISTS] = live.Playlists()
    app[motion.TURNS] = ConcurrencyLimit(motion.MOST_TURNS, motion.MOST_IN_ALL)
    app[archived.INDEXES] = OrderedDict()
    app[elsewhere.LAST_LIVE] = OrderedDict()
    app[archived.ARCHIVE_SCHEDULER] = archived.archive_scheduler()
    scheduler = app[SCHEDULER] = Scheduler()
    prepared = PreparedAnswers(clients, scheduler.video, partial(counter, process))
    app[PREPARED] = prepared
    app[stations_api.SEARCHED] = OrderedDict()
    has_picture = partial(pictures.has_picture, context)
    app[FEATURED] = Featured(context.directory, has_picture)
    for module in MODULES:
        app.add_routes(module.routes)
    if config.copies:
        app[ORDERS] = OrdersContext.open(config.copies)
        app.on_cleanup.append(_close_orders)
        for module in COPIES_MODULES:
            app.add_routes(module.routes)
    app.on_response_prepare.extend((add_headers, prepared.keep))
    app.on_cleanup.append(_close_context)
    return app


def peers_app(public: web.Application) -> web.Application:
    """Return the application that answers other machines: from what the public one knows."""
    app = web.Application(middlewares=[for_peers.known])
    app[CONTEXT], app[live.PLAYLISTS] = public[CONTEXT], public[live.PLAYLISTS]
    app[CLIENTS], app[SCHEDULER] = public[CLIENTS], public[SCHEDULER]
    app.add_routes(for_peers.routes)
    return app


async def _close_context(app: web.Application) -> None:
    app[CONTEXT].files.close()
    await app[CONTEXT].peers.close()


async def _close_orders(app: web.Application) -> None:
    await app[ORDERS].close()


@web.middleware
async def _errors(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Say errors as the group of the address does; a fault of ours is logged, and told without
    its text."""
    group = group_of(request)
    if request.method == "OPTIONS" and group.cross_origin:  # not a route: 405 elsewhere
        return web.Response(status=204, headers=PREFLIGHT)
    if too_many_parameters(request):  # which a page would read, to link to its other languages
        text = ngettext(
            "An address has at most %(count)s parameter.",
            "An address has at most %(count)s parameters.",
            MOST_PARAMETERS,
            language_of(request),
        )
        return problem(400, text)
    try:
        if group.tells_states:
            await request.app[CONTEXT].fresh()
        return await handler(request)
    except web.HTTPException as error:
        if error.status < 400:
            raise
        return _say(request, error, _text_of(request, error))
    except Exception:
        if request.transport is None or request.transport.is_closing():
            return web.Response(status=499)  # the client has gone: nobody hears it
        log.exception("A request failed", route=str(request.match_info.route.resource))
        text = gettext("This is a fault of the server; it has been noted.", language_of(request))
        return _say(request, web.HTTPInternalServerError(), text)


def _say(request: web.Request, error: web.HTTPException, text: str) -> web.Response:
    """Return an error as the group of the address says it."""
    match group_of(request).errors:
        case "page":
            response = problem_page(request, error.status, text)
        case "problem":
            response = problem(error.status, text)
        case "text":
            response = web.Response(status=error.status, text=f"{text.strip()}\n")
    kept = {name: value for name, value in error.headers.items() if name in ERROR_HEADERS}
    response.headers.update(kept)
    return response


def _text_of(request: web.Request, error: web.HTTPException) -> str:
    """Return what an error says; aiohttp's own answers are numbers, not words."""
    if isinstance(error, web.HTTPMethodNotAllowed):
        return gettext("This address answers GET and HEAD only.", language_of(request))
    if not error.text or error.text.startswith(f"{error.status}: "):
        return gettext("There is nothing at this address.", language_of(request))
    if error.status == 429:
        seconds = error.headers.get("Retry-After", "1")
        return gettext(TOO_MANY, language_of(request), seconds=seconds)
    return gettext(error.text.strip(), language_of(request))  # where it is not in a language yet


def make_runner(
    app: web.Application, stop_s: float = STOP_S, caps: Caps | None = None
) -> web.AppRunner:
    """Return what runs the application; requests in flight are finished within `stop_s`."""
    return Runner(
        app,
        stop_s=stop_s,
        caps=caps or Caps.here(),
        is_proxy=app[CLIENTS].is_proxy,
        connection=partial(AnsweringConnection, app[PREPARED]),
    )


def machines_runner(public: web.Application, stop_s: float = STOP_S) -> web.AppRunner:
    """Return what answers other machines, beside the public application."""
    files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return Runner(peers_app(public), stop_s=stop_s, caps=Caps.of_machines(files))


@contextlib.asynccontextmanager
async def serving(
    config: Config, stop_s: float = STOP_S, process: str = "web-0"
) -> AsyncIterator[None]:
    """Serve meanwhile; at the end requests in flight are finished within `stop_s`.

    Several processes share the port. Raises PortInUse.
    """
    archives = [open_archive(a) for a in config.archives]
    app = create_app(config, None, archives, process=process)
    app.cleanup_ctx.append(_catalogue)
    app.cleanup_ctx.append(written)
    sys.setswitchinterval(SWITCH_S)
    gc.set_threshold(*COLLECTED)
    where, operators = config.web, Runner(health.operators_app(app), stop_s=stop_s, caps=OPERATORS)
    async with AsyncExitStack() as stack:
        for archive in archives:
            stack.push_async_callback(archive.close)
        runner = make_runner(app, stop_s)
        public = (where.host, where.port, "web.listen")
        await stack.enter_async_context(_listening(runner, *public, config.spool))
        try:
            apart = (where.operators_host, where.operators_port, "web.operators")
            await stack.enter_async_context(_listening(operators, *apart, config.spool))
        except PortInUse as error:  # the public is served all the same
            log.error("Metrics are not served", why=str(error))
        if (node := config.node) is not None:
            inner = machines_runner(app, stop_s)
            place = (node.host, node.port, "node.address")
            await stack.enter_async_context(_listening(inner, *place, config.spool))
        log.info("Serving", address=f"http://{where.host}:{where.port}/")
        yield


@contextlib.asynccontextmanager
async def _listening(
    runner: web.AppRunner, host: str, port: int, setting: str, spool: Path
) -> AsyncIterator[None]:
    """Serve an address meanwhile; raises PortInUse."""
    with claimed(host, port, setting, spool):
        await runner.setup()
        try:
            try:
                site = web.TCPSite(runner, host, port, reuse_port=True, backlog=BACKLOG)
                await site.start()
            except OSError as error:
                raise PortInUse.of(host, port, setting, error) from None
            yield
        finally:
            await runner.cleanup()


async def _catalogue(app: web.Application) -> AsyncIterator[None]:
    """Keep trying to open the catalogue: live and rewind go on without it."""
    context = app[CONTEXT]
    opening = asyncio.create_task(_open(context))
    yield
    opening.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await opening
    if context.catalogue is not None:
        await context.catalogue.close()


async def _open(context: AppContext) -> None:
    def tell(error: CatalogueError) -> None:
        context.catalogue_fault = error.fault

    context.catalogue = await Catalogue.open_patiently(context.config.database_url, tell)
