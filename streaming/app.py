"""The web process: what it opens, what it serves, how it ends."""

from __future__ import annotations

import asyncio
import socket
from typing import Any

import structlog
from aiohttp import web

from config.model import Config
from storage.archive import Archive, open_archive
from storage.catalogue import Catalogue, CatalogueError
from streaming import live, pages, status
from streaming.views import VIEWS, Views

STOP_S = 5.0
CSP = (
    "default-src 'self'; media-src 'self' blob:; worker-src 'self' blob:; img-src 'self' data:; "
    "object-src 'none'; base-uri 'none'; form-action 'self'; frame-ancestors 'self'"
)

log = structlog.get_logger()


class PortInUse(RuntimeError):
    """The address is taken; the text says what to do."""


def check_port(host: str, port: int) -> None:
    """Raise PortInUse where another program listens: our processes share a port silently."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            raise PortInUse(
                f"{host}:{port} cannot be listened on ({error.strerror}): "
                "stop the program that uses it, or choose another with web.listen"
            ) from None


def create_app(
    config: Config, catalogue: Catalogue | None, archive: Archive | None
) -> web.Application:
    """Return the application; the caller closes catalogue and archive."""
    app = web.Application(middlewares=[status.measure, _headers])
    app[VIEWS] = Views(config, catalogue, archive)
    app[status.REGISTRY] = status.make_registry(app[VIEWS])
    for part in (live, pages, status):
        app.add_routes(part.routes)
    app.router.add_static("/static/", pages.HERE / "static")
    app.router.add_get("/static/hls.mjs", _hls_js)
    app.router.add_route("OPTIONS", "/{path:(?:live|api)/.*}", _options)
    return app


async def _hls_js(request: web.Request) -> web.StreamResponse:
    return web.FileResponse(pages.HLS_JS, headers={"Content-Type": "text/javascript"})


async def _options(request: web.Request) -> web.StreamResponse:
    return web.Response(
        status=204,
        headers={
            "Access-Control-Allow-Methods": "GET, HEAD, OPTIONS",
            "Access-Control-Allow-Headers": "Range, If-None-Match",
            "Access-Control-Max-Age": "86400",
        },
    )


@web.middleware
async def _headers(request: web.Request, handler: Any) -> web.StreamResponse:
    try:
        response: web.StreamResponse = await handler(request)
    except web.HTTPException as answer:
        _add_headers(request, answer.headers)
        raise
    _add_headers(request, response.headers)
    return response


def _add_headers(request: web.Request, headers: Any) -> None:
    headers["X-Content-Type-Options"] = "nosniff"
    headers["Server"] = "Kuager"
    if request.path.startswith(("/live/", "/api/")):
        headers["Access-Control-Allow-Origin"] = "*"
        headers["Access-Control-Expose-Headers"] = "Date, ETag, Content-Range"
    else:
        headers["Content-Security-Policy"] = CSP
        headers["Referrer-Policy"] = "same-origin"


async def serve(config: Config) -> None:
    """Serve until cancelled; requests in flight are finished. Several processes share the port."""
    try:
        catalogue: Catalogue | None = await Catalogue.open(config.database_url)
    except CatalogueError as error:
        log.error(
            "The catalogue cannot be opened; live and rewind go on without it", why=str(error)
        )
        catalogue = None
    archive = open_archive(config.archive)
    runner = web.AppRunner(
        create_app(config, catalogue, archive), access_log=None, shutdown_timeout=STOP_S
    )
    await runner.setup()
    try:
        site = web.TCPSite(runner, config.web.host, config.web.port, reuse_port=True)
        await site.start()
        log.info("Serving", address=f"http://{config.web.host}:{config.web.port}/")
        await asyncio.Event().wait()
    finally:
        await runner.cleanup()
        await archive.close()
        if catalogue is not None:
            await catalogue.close()
