"""What Stripe answers seldom, and the server of the other tests never: in words of its API."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from pydantic import SecretStr

from config.copies import Stripe as Keys
from copies.payments.port import CheckoutStatus, ProviderUnavailable
from copies.payments.stripe import Stripe
from storage.catalogue.orders import Payment

Answer = Callable[[web.Request], tuple[int, Mapping[str, Any]]]


@asynccontextmanager
async def answering(answer: Answer) -> AsyncIterator[Stripe]:
    """Give an account at a server that answers so."""

    async def handle(request: web.Request) -> web.Response:
        await request.read()
        status, body = answer(request)
        return web.json_response(body, status=status)

    app = web.Application()
    app.router.add_route("*", "/{path:.*}", handle)
    async with TestServer(app) as server:
        base = str(server.make_url("")).rstrip("/")
        keys = Keys(secret_key=SecretStr("sk"), webhook_secret=SecretStr("wh"), api_base=base)
        account = Stripe(keys)
        try:
            yield account
        finally:
            await account.close_connections()


@pytest.mark.parametrize(
    ("session", "intent", "is_open"),
    [
        ("open", "requires_payment_method", True),  # the first card was declined
        ("complete", "processing", True),
        ("complete", "requires_action", True),
        ("complete", "requires_payment_method", False),
        ("complete", "canceled", False),
        ("complete", None, True),  # the key may not ask: its date ends the order
        ("expired", "canceled", False),
    ],
)
async def test_a_bank_that_works_on_a_payment_may_say_that_it_failed(
    session: str, intent: str | None, is_open: bool
) -> None:
    def answer(request: web.Request) -> tuple[int, Mapping[str, Any]]:
        if request.path == "/v1/checkout/sessions/cs_1":
            about = {"status": session, "payment_status": "unpaid", "payment_intent": "pi_1"}
            return 200, {"id": "cs_1", "object": "checkout.session"} | about
        assert (request.method, request.path) == ("GET", "/v1/payment_intents/pi_1")
        if intent is None:
            return 403, {"error": {"type": "invalid_request_error", "message": "no"}}
        return 200, {"id": "pi_1", "object": "payment_intent", "status": intent}

    async with answering(answer) as account:
        assert await account.look("cs_1") == CheckoutStatus(is_open)


async def test_a_refund_that_did_not_arrive_gave_nothing_back() -> None:
    there: list[dict[str, Any]] = []
    asked: list[str] = []

    def answer(request: web.Request) -> tuple[int, Mapping[str, Any]]:
        if request.method == "GET":
            return 200, {"object": "list", "data": there, "has_more": False}
        key = request.headers["Idempotency-Key"]
        assert key not in asked  # Stripe would answer as before
        asked.append(key)
        return 200, there[-1]

    def refund(n: int, status: str) -> dict[str, Any]:
        about = {"id": f"re_{n}", "object": "refund", "amount": 500, "status": status}
        return about | {"metadata": {"kuager": "1-pi_1-0"}}

    payment = Payment("stripe", "pi_1", 500, "KZT", 0)
    async with answering(answer) as account:
        for n, status in enumerate(("failed", "canceled")):  # at once, or since it was asked for
            there.append(refund(n, status))
            with pytest.raises(ProviderUnavailable, match=f"re_{n} did not arrive"):
                await account.refund(payment, 500, "1-pi_1-0")
        there.append(refund(2, "pending"))
        assert await account.refund(payment, 500, "1-pi_1-0") == "re_2"
    assert len(asked) == 2  # the last was there
