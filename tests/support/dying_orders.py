"""The life of an order, in processes that kill themselves (SIGKILL) at a step of it.

What runs is the real thing; only the step is watched.
"""

from __future__ import annotations

import asyncio
import functools
import os
import signal
import sys
from pathlib import Path
from typing import Any

import aiohttp

import copies.orders.mail
import storage.catalogue.orders
from base.clock import now_ms
from config.load import load
from config.model import Config
from copies.orders.events import Refused, key_of
from copies.orders.quotes import QuoteRequest, make_quote
from copies.orders.worker import OrderWorker
from copies.payments.stripe import Stripe
from copies.states import ENDED, State
from storage.catalogue.catalogue import Catalogue
from storage.catalogue.checkouts import Checkouts
from storage.catalogue.order_files import OrderFiles
from storage.catalogue.orders import Order, Orders
from storage.catalogue.outbox import Outbox

# the step, and its how manieth call is the last thing that is done
STEPS: dict[str, tuple[Any, str, int]] = {
    "quote": (Orders, "create", 1),
    "order, half-way": (storage.catalogue.orders, "_log", 1),
    "order": (Orders, "change", 1),
    "first letter": (copies.orders.mail, "submit", 1),
    "first letter noted": (Outbox, "sent", 1),
    "page at Stripe": (Stripe, "open", 1),
    "page": (Checkouts, "open", 1),
    "paid at Stripe": (sys.modules[__name__], "pay", 1),
    "payment, half-way": (storage.catalogue.orders, "_log", 2),
    "payment": (Orders, "change", 2),
    "page closed": (Checkouts, "close", 1),
    "first file hashed": (OrderFiles, "hashed", 1),
    "all files hashed": (OrderFiles, "hashed", 2),
    "finish": (Orders, "change", 3),
    "refund at Stripe": (Stripe, "refund", 1),
    "refund, half-way": (storage.catalogue.orders, "_log", 4),
    "refund": (Orders, "change", 4),
    "files dropped": (OrderFiles, "drop", 1),
}


def _trap(owner: Any, name: str, nth: int) -> None:
    original, seen = getattr(owner, name), 0

    @functools.wraps(original)
    async def trapped(*args: Any, **kwargs: Any) -> Any:
        nonlocal seen
        result = await original(*args, **kwargs)
        seen += 1
        if seen == nth:
            os.kill(os.getpid(), signal.SIGKILL)
        return result

    setattr(owner, name, trapped)


async def pay(url: str) -> None:
    """Pay at Stripe; a page that was paid already refuses."""
    async with aiohttp.ClientSession() as session:
        await session.post(url, allow_redirects=False)


async def live(config: Config, secret: str, stretch: tuple[int, int]) -> Order:
    """Do whatever comes next, as requester, desk and operator would, until the order ends."""
    assert config.copies is not None
    catalogue = await Catalogue.open(config.database_url)
    desk = OrderWorker(config, catalogue, [])
    service, store = desk._service, catalogue.orders
    stripe = service.providers["stripe"]
    assert isinstance(stripe, Stripe)
    key = key_of(secret)
    assert key is not None
    try:
        while True:
            order = await store.with_key(key)
            if order is None:
                asked = QuoteRequest.of(config, config.copies, "s", ("c", "d"), stretch, now_ms())
                row, plans = await make_quote(config, config.copies, catalogue, [], asked, "kk")
                await store.create(key, row, plans)
            elif order.state == State.QUOTED:
                await service.place(
                    order, "voter@example.kz", f"http://k/copies/{secret}", "203.0.113.1"
                )
            elif order.state == State.AWAITING_PAYMENT:
                await desk._send_letters()
                try:
                    url = await service.payment_page(
                        order, stripe, "Station s", "http://k/copies/back"
                    )
                    await pay(url)
                except Refused:
                    continue  # it was paid before
                await service.close_checkouts(order.order_pk)
            elif order.state == State.PAID:
                await service.close_checkouts(order.order_pk)
                await desk._hash()
            elif order.state == State.READY:
                await desk._send_letters()
                await service.refund(order, True, None)
            else:
                await desk._send_letters()
                await catalogue.order_files.drop(tuple(ENDED))
                return order
    finally:
        await stripe.close_connections()
        await catalogue.close()


def main(path: str, secret: str, from_ms: int, to_ms: int, step: str) -> None:
    """Set the trap and live until it snaps."""
    _trap(*STEPS[step])
    asyncio.run(live(load(Path(path), {}), secret, (from_ms, to_ms)))
