"""Whether this process answers, and can read what it serves; metrics, for operators alone.

/healthz and /readyz are public and tell nothing but yes or no. What is wrong, and /metrics, are
served on an address of their own (`web.operators`), which the public cannot reach.
"""

from __future__ import annotations

import asyncio
import os
import time
from dataclasses import dataclass, field

from aiohttp import web

from base.outage import Outage
from storage.catalogue.database import CatalogueError
from streaming.context import CONTEXT, AppContext
from streaming.ops.metrics import REGISTRY, exposition

CACHE_S = 1.0  # what was found out is good for so long, however many ask

routes = web.RouteTableDef()
operators_routes = web.RouteTableDef()


@dataclass(slots=True)
class Health:
    """What keeps this process from serving all, looked at once a second at most."""

    context: AppContext
    _looked_s: float = float("-inf")
    _wrong: list[str] = field(default_factory=list)
    _turn: asyncio.Lock = field(default_factory=asyncio.Lock)
    _spool: Outage = field(
        default_factory=lambda: Outage(
            "The spool cannot be read: nothing is shown but what archives have",
            "The spool can be read again",
        )
    )

    async def wrong(self) -> list[str]:
        """Return what is wrong, in words; nothing where all is well."""
        async with self._turn:
            if time.monotonic() - self._looked_s > CACHE_S:
                self._wrong = await self._look()
                self._looked_s = time.monotonic()
        return self._wrong

    async def _look(self) -> list[str]:
        wrong = []
        try:
            os.scandir(self.context.config.spool).close()
            self._spool.end()
        except OSError as error:
            self._spool.begin(error.strerror or str(error))
            wrong.append(f"the spool cannot be read: {error.strerror}")
        try:
            await self.context.ask(lambda catalogue: catalogue.id())
        except CatalogueError as error:
            wrong.append(f"the catalogue does not answer: {error}")
        return wrong


HEALTH = web.AppKey("health", Health)


@routes.get("/healthz")
@operators_routes.get("/healthz")
async def healthz(request: web.Request) -> web.StreamResponse:
    """This process answers."""
    return web.Response(text="ok\n")


@routes.get("/readyz")
async def readyz(request: web.Request) -> web.StreamResponse:
    """Spool and catalogue can be read; 503 where not."""
    wrong = await request.app[HEALTH].wrong()
    return web.Response(status=503 if wrong else 200, text="not ready\n" if wrong else "ready\n")


@operators_routes.get("/readyz")
async def readyz_in_detail(request: web.Request) -> web.StreamResponse:
    """Spool and catalogue can be read; 503 with what is wrong where not. What is wrong with the
    clock is said, too, and is no reason to send people elsewhere."""
    context, wrong = request.app[CONTEXT], await request.app[HEALTH].wrong()
    await context.fresh()
    lines = [*(wrong or ["ready"]), *context.status.clock_warnings()]
    return web.Response(status=503 if wrong else 200, text="\n".join(lines) + "\n")


@operators_routes.get("/metrics")
async def metrics(request: web.Request) -> web.StreamResponse:
    """All metrics in the Prometheus text format."""
    context = request.app[CONTEXT]
    await request.app[HEALTH].wrong()  # which asks the catalogue
    await context.fresh()
    response = web.StreamResponse(headers={"Content-Type": "text/plain; version=0.0.4"})
    await response.prepare(request)
    if request.method != "HEAD":
        for piece in exposition(request.app[REGISTRY], context):
            await response.write(piece)
            await asyncio.sleep(0)
    await response.write_eof()
    return response


def operators_app(public: web.Application) -> web.Application:
    """Return the application of operators: what it tells is of the public one."""
    app = web.Application()
    app[CONTEXT], app[REGISTRY], app[HEALTH] = public[CONTEXT], public[REGISTRY], public[HEALTH]
    app.add_routes(operators_routes)
    return app
