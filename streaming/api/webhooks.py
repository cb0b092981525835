"""Notifications of payment providers. None is believed: it says what to look up."""

from __future__ import annotations

from aiohttp import web

from copies.payments.port import InvalidSignature, Online, ProviderUnavailable
from streaming.orders_context import ORDERS, order_service, query_catalogue

routes = web.RouteTableDef()


@routes.post("/api/v1/copies/payments/{provider}")
async def webhook(request: web.Request) -> web.StreamResponse:
    """Be told by a provider that something happened to a checkout; it is then looked up."""
    provider = request.app[ORDERS].providers.get(request.match_info["provider"])
    if not isinstance(provider, Online):
        raise web.HTTPNotFound(text="There is no such provider.\n")
    try:
        reference = provider.parse_webhook(await request.read(), request.headers)
    except InvalidSignature:
        raise web.HTTPBadRequest(text="This was not signed by the provider.\n") from None
    orders = order_service(request)
    known = None
    if reference is not None:
        known = await query_catalogue(orders.catalogue.checkouts.get(provider.name, reference))
    if known:
        try:
            await query_catalogue(orders.settle(known))
        except ProviderUnavailable:  # the provider tells it again later, and the role `orders` asks
            raise web.HTTPServiceUnavailable(text="Ask again later.\n") from None
    return web.json_response({"known": bool(known)})
