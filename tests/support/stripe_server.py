"""A Stripe for tests, in a process of its own: localstripe, with what it lacks added.

`python -m tests.support.stripe_server PORT`. Accounts, payment intents, charges, refunds, events
and signed webhooks are localstripe's. Added: Checkout Sessions with their hosted page, idempotency
keys, and an address to have it refuse everything (`/_config/away/1`).
"""

from __future__ import annotations

import contextlib
import html
import subprocess
import sys
import time
from collections.abc import Iterator
from typing import Any

import aiohttp
from aiohttp import web
from localstripe import resources, server
from localstripe.errors import UserError

KEY, WEBHOOK_SECRET = "sk_test_kuager", "whsec_kuager"
CARD = {"number": "4242424242424242", "exp_month": "12", "exp_year": "2040", "cvc": "123"}
resources.Store.dump_to_disk = lambda _: None
_answers: dict[str, tuple[int, bytes]] = {}
_away = False


class Session(resources.StripeObject):  # type: ignore[misc]
    """A Checkout Session."""

    object = "checkout.session"
    _id_prefix = "cs_test_"

    def __init__(
        self,
        mode: str = "",
        line_items: Any = None,
        success_url: str = "",
        cancel_url: str = "",
        expires_at: str = "0",
        metadata: dict[str, str] | None = None,
        client_reference_id: str | None = None,
        **more: Any,
    ):
        if more or mode != "payment" or not line_items:
            raise UserError(400, "Unexpected " + ", ".join(more))
        if not 1800 <= int(expires_at) - time.time() <= 86_400:
            raise UserError(400, "expires_at is not between 30 minutes and 24 hours from now")
        super().__init__()
        price = line_items[0]["price_data"]
        self.amount_total = int(price["unit_amount"]) * int(line_items[0]["quantity"])
        self.currency = price["currency"]
        self._name = price["product_data"]["name"]
        self.mode, self.metadata = mode, metadata or {}
        self.client_reference_id = client_reference_id
        self.success_url, self.cancel_url = success_url, cancel_url
        self.expires_at = int(expires_at)
        self.status, self.payment_status = "open", "unpaid"
        self.payment_intent: str | None = None
        self.url: str | None = f"{BASE}/_config/pay/{self.id}"

    @classmethod
    def _api_expire(cls, id: str, **_: Any) -> Any:
        found = cls._api_retrieve(id)
        if found.status != "open":
            raise UserError(400, "Only Checkout Sessions with a status in [open] can be expired")
        found._end("expired")
        return found

    def _end(self, status: str) -> None:
        self.status, self.url = status, None
        kind = "completed" if status == "complete" else "expired"
        resources.schedule_webhook(resources.Event(f"checkout.session.{kind}", self))

    def _pay(self) -> None:
        method = resources.PaymentMethod(type="card", card=dict(CARD))
        customer = resources.Customer()
        resources.PaymentMethod._api_attach(method.id, customer=customer.id)
        made = resources.PaymentIntent._api_create(
            amount=self.amount_total,
            currency=self.currency,
            customer=customer.id,
            payment_method=method.id,
            confirm=True,
        )
        self.payment_intent, self.payment_status = made.id, "paid"
        self._end("complete")


async def page(request: web.Request) -> web.Response:
    """The hosted page, and what its button does."""
    found = Session._api_retrieve(request.match_info["id"])
    if request.method == "POST":
        if found.status != "open":
            raise UserError(400, "This Checkout Session is not open")
        found._pay()
        raise web.HTTPSeeOther(found.success_url)
    text = (
        f"<!doctype html><title>Checkout</title><h1>{html.escape(found._name)}</h1>"
        f"<p id=amount>{found.amount_total} {found.currency}</p>"
        f"<form method=post><input name=card value={CARD['number']}><button>Pay</button></form>"
        f"<a href='{html.escape(found.cancel_url)}'>Back</a>"
    )
    return web.Response(text=text, content_type="text/html")


async def away(request: web.Request) -> web.Response:
    """Refuse everything, or no longer."""
    global _away
    _away = request.match_info["on"] == "1"
    return web.Response()


async def counts(_: web.Request) -> web.Response:
    """Tell how much was paid and given back so far."""
    every = list(resources.store.values())
    return web.json_response(
        {
            "paid": sum(isinstance(o, Session) and o.payment_status == "paid" for o in every),
            "refunds": sum(isinstance(o, resources.Refund) for o in every),
        }
    )


@web.middleware
async def keyed(request: web.Request, handler: Any) -> web.StreamResponse:
    """Answer the same key the same; refuse while away."""
    if _away and request.path.startswith("/v1/"):
        return web.json_response({"error": {"type": "api_error"}}, status=503)
    key = request.headers.get("Idempotency-Key")
    if key in _answers:
        status, body = _answers[key]
        return web.Response(status=status, body=body, content_type="application/json")
    answer: web.Response = await handler(request)
    if key and answer.status < 400:
        _answers[key] = answer.status, bytes(answer.body)  # type: ignore[arg-type]
    return answer


@contextlib.contextmanager
def running(port: int) -> Iterator[str]:
    """Have the server in its own process; gives its address."""
    command = [sys.executable, "-m", "tests.support.stripe_server", str(port)]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        try:
            assert process.stdout is not None
            assert b"Running" in process.stdout.readline()
            yield f"http://127.0.0.1:{port}"
        finally:
            process.terminate()


async def tell(base: str, hook: str) -> None:
    """Have it send its webhooks to an address."""
    async with aiohttp.ClientSession() as session:
        what = {"url": hook, "secret": WEBHOOK_SECRET}
        async with session.post(f"{base}/_config/webhooks/kuager", json=what) as answer:
            assert answer.status == 200


if __name__ == "__main__":
    BASE = f"http://127.0.0.1:{sys.argv[1]}"
    app = server.app
    app.middlewares.append(keyed)
    routes = ("/v1/checkout/sessions", "/v1/checkout/sessions/{id}")
    app.router.add_post(routes[0], server.api_create(Session, routes[0]))
    app.router.add_get(routes[1], server.api_retrieve(Session, routes[1]))
    expire = "/v1/checkout/sessions/{id}/expire"
    app.router.add_post(expire, server.api_extra(Session._api_expire, expire))
    app.router.add_route("*", "/_config/pay/{id}", page)
    app.router.add_post("/_config/away/{on}", away)
    app.router.add_get("/_config/counts", counts)
    web.run_app(
        app,
        host="127.0.0.1",
        port=int(sys.argv[1]),
        print=lambda *words: print(*words, flush=True),
    )
