"""The web process: what it opens, what it serves, how it ends."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import sys
from collections import OrderedDict
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import structlog
from aiohttp import web, web_response

from base.clock import Clock, now_ms
from base.i18n.gettext import LANGUAGES, gettext, translations
from config.model import Config
from storage.archive.factory import open_archive
from storage.archive.port import Archive
from storage.catalogue.catalogue import Catalogue
from streaming.api import copies as copies_api
from streaming.api import oembed as share
from streaming.api import openapi, timeline
from streaming.api import stations as api
from streaming.context import CONTEXT, AppContext
from streaming.http import assets
from streaming.http.bodies import MOST_BODY, body_reader
from streaming.http.clients import CLIENTS, Clients
from streaming.http.connections import Caps, Runner
from streaming.http.negotiation import (
    MOST_PARAMETERS,
    language_headers,
    language_of,
    language_vary,
    too_many_parameters,
)
from streaming.http.ports import BACKLOG, PortInUse, claimed
from streaming.http.responses import HOST_IN_ANSWER, problem
from streaming.http.work import WORK, Work, in_turn
from streaming.media import archived, live, pictures
from streaming.media import downloads as copies_files
from streaming.ops import health
from streaming.ops import metrics as status
from streaming.orders_context import ORDERS, OrdersContext
from streaming.pages import copies, home
from streaming.pages import render as pages
from streaming.pages import station as watch
from streaming.pages.render import KEPT
from streaming.stations.featured import FEATURED, Featured

STOP_S = 5.0
SWITCH_S = 0.0002  # the longest that a thread of ours that computes holds up live video
# new objects that have the garbage collector look at the new ones, then at all: it holds up live
# video for 1 ms and, with the index lines of many cameras, for 100 ms
COLLECTED = (20_000, 20, 20)
OPERATORS = Caps(64, 64)
CSP = (
    "default-src 'self'; media-src 'self' blob:; object-src 'none'; base-uri 'none'; "
    "form-action 'self'; frame-ancestors "
)
PLAIN = ("/static/", "/healthz", "/readyz")  # errors there are read by programs
OPEN = ("/live/", "/api/")  # to scripts of every site
PREFLIGHT = {
    "Access-Control-Allow-Methods": "GET, HEAD, OPTIONS",
    "Access-Control-Allow-Headers": "Range, If-None-Match",
    "Access-Control-Max-Age": "86400",
}
PARTS = (live, pictures, api, timeline, share, openapi, assets, home, watch, health)
COPIES = (copies, copies_files, copies_api)  # served where the configuration has copies
# aiohttp's own answers, to what is not HTTP, name its version otherwise
web_response.SERVER_SOFTWARE = "Kuager"  # type: ignore[attr-defined]

log = structlog.get_logger()


def create_app(
    config: Config,
    catalogue: Catalogue | None,
    archives: Sequence[Archive],
    clock: Clock = now_ms,
    process: str = "web-0",
) -> web.Application:
    """Return the application; the caller closes catalogue and archives. `process` is what its
    metrics of HTTP are told apart by."""
    for lang in LANGUAGES:  # a catalogue that cannot be read is seen at the start
        translations(lang)
    assets.version()  # so is a script that is missing
    app = web.Application(
        middlewares=[status.measure, in_turn, _errors, body_reader()], client_max_size=MOST_BODY
    )
    app[CLIENTS] = Clients(config.web.trusted_proxies)
    app[CONTEXT] = AppContext(config, catalogue, archives, clock)
    app[status.PROCESS] = process
    app[status.REGISTRY] = status.make_registry(app[CONTEXT])
    app[health.HEALTH] = health.Health(app[CONTEXT])
    app[live.PLAYLISTS] = live.Playlists()
    app[archived.INDEXES] = OrderedDict()
    app[archived.ASKED] = archived.asking()
    app[WORK] = Work()
    app[api.SEARCHED] = OrderedDict()
    app[FEATURED] = Featured()
    for part in PARTS:
        app.add_routes(part.routes)
    if config.copies:
        app[ORDERS] = OrdersContext.open(config.copies)
        app.on_cleanup.append(_close_shop)
        for part in COPIES:
            app.add_routes(part.routes)
    app.on_response_prepare.append(_headers)
    return app


async def _close_shop(app: web.Application) -> None:
    await app[ORDERS].close()


@web.middleware
async def _errors(request: web.Request, handler: Any) -> web.StreamResponse:
    """Say errors of the API as problems; a fault of ours is logged and told without its text."""
    if request.method == "OPTIONS" and request.path.startswith(OPEN):  # not a route: 405 elsewhere
        return web.Response(status=204, headers=PREFLIGHT)
    if too_many_parameters(request):
        return problem(
            400,
            gettext(
                "An address has at most %(most)s parameters.",
                language_of(request),
                most=MOST_PARAMETERS,
            ),
        )
    try:
        if _tells_what_is_live(request.path):
            await request.app[CONTEXT].fresh()
        response: web.StreamResponse = await handler(request)
        return response
    except web.HTTPException as answer:
        if request.path.startswith("/api/") and answer.status >= 400:
            said = problem(answer.status, _words(request, answer))
            said.headers.update({k: v for k, v in answer.headers.items() if k in KEPT})
            return said
        if answer.status >= 400 and not request.path.startswith((*OPEN, *PLAIN)):
            return pages.problem_page(request, answer, _words(request, answer))
        if answer.text and not answer.text.endswith("\n"):
            answer.text += "\n"
        raise
    except Exception:
        if request.transport is None or request.transport.is_closing():
            return web.Response(status=499)  # the client has gone: nobody hears it
        log.exception("A request failed", route=str(request.match_info.route.resource))
        text = gettext("This is a fault of the server; it has been noted.", language_of(request))
        if request.path.startswith("/api/"):
            return problem(500, text)
        return pages.problem_page(request, web.HTTPInternalServerError(), text)


def _tells_what_is_live(path: str) -> bool:
    """Tell whether an answer says what recorders do; video and health must not wait for that."""
    if path.startswith("/live/"):
        return path.endswith(".jpg")
    return not path.startswith(("/static/", "/healthz", "/readyz"))


def _words(request: web.Request, answer: web.HTTPException) -> str:
    """Return what an error says; aiohttp's own answers are numbers, not words."""
    if isinstance(answer, web.HTTPMethodNotAllowed):
        return gettext("This address answers GET and HEAD only.", language_of(request))
    if not answer.text or answer.text.startswith(f"{answer.status}: "):
        return gettext("There is nothing at this address.", language_of(request))
    return answer.text


async def _headers(request: web.Request, response: web.StreamResponse) -> None:
    headers = response.headers
    headers.update(language_headers(request))
    if vary := {*headers.popall("Vary", []), *language_vary(request)}:
        headers["Vary"] = ", ".join(sorted(vary))
    headers["X-Content-Type-Options"] = "nosniff"
    headers["Referrer-Policy"] = "same-origin"
    if "secret" in request.match_info:  # the address is a key: nobody else hears or keeps it
        headers["Referrer-Policy"] = "no-referrer"
        headers["X-Robots-Tag"] = "noindex"
        headers.setdefault("Cache-Control", "no-store")
    if request.get(HOST_IN_ANSWER):  # whoever named a host of his own would fill the cache with it
        headers["Cache-Control"] = "no-store"
    if response.status >= 400:  # a segment that is not there yet will be
        headers.setdefault("Cache-Control", "no-store")
    if request.path.startswith(OPEN):
        headers["Access-Control-Allow-Origin"] = "*"
        headers["Access-Control-Expose-Headers"] = "Date, ETag, Content-Range"
        headers["Cross-Origin-Resource-Policy"] = "cross-origin"
        headers["Content-Security-Policy"] = "default-src 'none'; frame-ancestors 'none'"
    else:
        anywhere = request.path.startswith("/embed/")
        headers["Content-Security-Policy"] = CSP + ("*" if anywhere else "'self'")
        headers.setdefault("Cache-Control", "no-cache")


def make_runner(
    app: web.Application, stop_s: float = STOP_S, caps: Caps | None = None
) -> web.AppRunner:
    """Return what runs the application; requests in flight are finished within `stop_s`."""
    return Runner(app, stop_s=stop_s, caps=caps or Caps.here(), is_proxy=app[CLIENTS].is_proxy)


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
    views = app[CONTEXT]
    views.away = "it is being opened"
    opening = asyncio.create_task(_open(views))
    yield
    opening.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await opening
    if views.catalogue is not None:
        await views.catalogue.close()


async def _open(views: AppContext) -> None:
    views.catalogue = await Catalogue.open_patiently(views.config.database_url)
    views.away = None
