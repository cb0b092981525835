"""Notifications of payment providers. None is believed: it says what to look up."""

from __future__ import annotations

from aiohttp import web

from copies.orders.service import OrderService
from copies.payments.port import InvalidSignature, Online, ProviderUnavailable
from streaming.orders_context import ORDERS, work_on_orders

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
    if reference is None:
        return web.json_response({"known": False})

    async def settle(service: OrderService) -> bool:
        checkout = await service.catalogue.checkouts.get(provider.name, reference)
        if checkout is not None:
            await service.settle(checkout)
        return checkout is not None

    try:
        known = await work_on_orders(request, settle)
    except ProviderUnavailable:  # the provider tells it again later, and the role `orders` asks
        raise web.HTTPServiceUnavailable(text="Ask again later.\n") from None
    return web.json_response({"known": known})
