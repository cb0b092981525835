"""What an order delivers: its files, all of them as one ZIP, and what they are as JSON."""

from __future__ import annotations

from aiohttp import web

from copies.plan import CopyPlan
from copies.settling import now_ms
from copies.sources import Sources
from copies.states import DOWNLOADS
from copies.virtual import VirtualFile
from storage.orders import Order
from streaming.delivery import send
from streaming.language import say
from streaming.shop import answered, catalogue, order_of
from streaming.views import VIEWS

routes = web.RouteTableDef()


@routes.get("/copies/{secret}/files/{file:[0-9]{1,6}}/{name}")
async def file(request: web.Request) -> web.StreamResponse:
    """Send a file of an order."""
    order = await _downloadable(request)
    number = int(request.match_info["file"])
    found = await answered(catalogue(request).orders.plans(order.order_pk, number))
    plan = CopyPlan.from_dict(found[0]["plan"]) if found else None
    if plan is None or plan.file_name != request.match_info["name"]:
        raise web.HTTPNotFound(text=say(request, "The order has no such file."))
    return await send(
        request, VirtualFile(plan, sources(request), found[0]["head"]), plan.file_name
    )


async def _downloadable(request: web.Request) -> Order:
    """Return an order whose files may be fetched; raises 403 and 410 with words."""
    order = await order_of(request)
    if order.state in DOWNLOADS and (order.until_ms or 0) > now_ms():
        return order
    if order.paid_ms is None:
        raise web.HTTPForbidden(text=say(request, "The order is not paid yet."))
    raise web.HTTPGone(text=say(request, "The time to download these files is over."))


def sources(request: web.Request) -> Sources:
    """Return where the bytes of recordings are."""
    views = request.app[VIEWS]
    return Sources(views.config.spool, views.archives, views.catalogue)
