"""Notifications of a payment provider, over real sockets."""

from __future__ import annotations

import json
import re
import time
from pathlib import Path

import aiohttp
import pytest
from pydantic import SecretStr
from stripe import WebhookSignature

from config.copies import Stripe as Keys
from config.model import Config
from copies.balance import owed
from tests.support.orders import pay
from tests.support.s3 import free_port
from tests.support.selling import (
    configured,
    ordered,
    selling,
)
from tests.support.stripe_server import KEY, WEBHOOK_SECRET, running, tell
from tests.support.waiting import until


@pytest.fixture
def config(tmp_path: Path) -> Config:
    return configured(tmp_path)


async def test_stripes_webhooks(config: Config) -> None:
    with running(free_port()) as stripe:
        keys = Keys(
            secret_key=SecretStr(KEY), webhook_secret=SecretStr(WEBHOOK_SECRET), api_base=stripe
        )
        assert config.copies is not None
        copies = config.copies.model_copy(update={"stripe": keys})
        config = config.model_copy(update={"copies": copies})
        async with selling(config) as (base, catalogue), aiohttp.ClientSession(base) as http:
            hook = "/api/v1/copies/payments/stripe"
            await tell(stripe, f"{base}{hook}")
            secret, other = await ordered(http), await ordered(http)
            page = f"/copies/{secret}"
            async with http.post(f"{page}/pay/stripe?lang=en") as answer:
                text = await answer.text()
                assert answer.status == 200
            url = re.findall(r'href="([^"]*/_config/pay/[^"]+)"', text)[0]
            assert secret not in url
            async with http.get(url) as answer:
                at_stripe = await answer.text()
            assert secret not in at_stripe and "8120 kzt" in at_stripe
            async with http.post(f"/copies/{other}/pay/stripe") as answer:
                assert answer.status == 200  # and is left open
            await pay(url)

            async def is_paid() -> bool:
                async with http.get(f"/api/v1/copies/orders/{secret}") as answer:
                    return bool((await answer.json())["state"] == "paid")

            await until(is_paid)
            # what Stripe might send, in any order and again, and what others might
            reference = url.rpartition("/")[2]
            for kind, amount, status in (
                ("completed", 8120, 200),
                ("expired", 8120, 200),
                ("async_payment_failed", 8120, 200),
                ("completed", 1, 200),  # signed, and yet looked up
            ):
                body = event(kind, reference, amount)
                for _ in range(2):
                    async with http.post(hook, data=body, headers=sign(body)) as answer:
                        assert answer.status == status
            body = event("completed", "cs_of_another_shop", 1)
            async with http.post(hook, data=body, headers=sign(body)) as answer:
                assert await answer.json() == {"known": False}
            for headers in ({}, sign(body, "whsec_guessed"), sign(body + b" ")):
                async with http.post(hook, data=body, headers=headers) as answer:
                    assert answer.status == 400
            async with http.post("/api/v1/copies/payments/other", data=body) as answer:
                assert answer.status == 404
            assert await catalogue.orders.count() == {"paid": 1, "awaiting_payment": 1}
            order = await catalogue.orders.with_number(1)
            assert order is not None and len(order.payments) == 1 and not owed(order)
            # a session that is said to be paid, and is not
            (open_one,) = await catalogue.checkouts.all_open()
            body = event("completed", open_one.reference, 8120)
            async with http.post(hook, data=body, headers=sign(body)) as answer:
                assert answer.status == 200
            assert await catalogue.orders.count() == {"paid": 1, "awaiting_payment": 1}


def event(kind: str, reference: str, amount: int) -> bytes:
    session = {"object": "checkout.session", "id": reference, "amount_total": amount}
    session |= {"payment_status": "paid", "currency": "usd", "status": "complete"}
    said = {"object": "event", "id": "evt_1", "type": f"checkout.session.{kind}"}
    return json.dumps(said | {"data": {"object": session}}).encode()


def sign(body: bytes, secret: str = WEBHOOK_SECRET) -> dict[str, str]:
    made = WebhookSignature.generate_signature_header(body.decode(), secret, int(time.time()))
    return {"Stripe-Signature": made}
