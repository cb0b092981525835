"""Stripe Checkout: the requester pays on a page of Stripe's; we are told, or ask.

A notification is only a nudge: what it says is not believed, the session is looked up. So a
repeated, late or reordered one changes nothing, and a lost one is made up for by asking.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Awaitable, Mapping
from http import HTTPStatus
from typing import Any, TypeVar

import stripe

from config.copies import Stripe as Keys
from copies.payments.port import (
    AmountRefused,
    Checkout,
    CheckoutGone,
    CheckoutStatus,
    InvalidSignature,
    ProviderUnavailable,
)
from storage.catalogue.orders import Order, Payment

TIMEOUT_S = 20.0
LEAST_S, MOST_S = 31 * 60, 23 * 3600  # how long Stripe keeps a session open: 30 min to 24 h
TOLERANCE_S = 300  # age of a notification

# a body that is none of Stripe's, of any depth; a signature with letters outside ASCII (TypeError)
_FORGED = (
    stripe.SignatureVerificationError,
    ValueError,
    KeyError,
    AttributeError,
    TypeError,
    RecursionError,
)

_CAME_BACK = ("failed", "canceled")  # refunds that did not arrive

T = TypeVar("T")


class Stripe:
    """An account at Stripe."""

    name = "stripe"

    def __init__(self, keys: Keys):
        self._secret = keys.webhook_secret.get_secret_value()
        self._http = stripe.AIOHTTPClient(timeout=TIMEOUT_S)
        self._client = stripe.StripeClient(
            keys.secret_key.get_secret_value(),
            http_client=self._http,
            max_network_retries=2,
            base_addresses={"api": keys.api_base} if keys.api_base else {},
        )

    async def open(
        self, order: Order, amount: int, title: str, back: str, attempt: int
    ) -> Checkout:
        """Have a session; the same attempt gives the same, as Stripe keeps its key for a day."""
        now_s = int(time.time())
        left_s = (order.until_ms or 0) // 1000 - now_s
        ends_s = (now_s + max(LEAST_S, min(MOST_S, left_s))) // 60 * 60 + 60
        # with its moment, as another database may number its orders the same, and with all that
        # may differ in a second try, as Stripe refuses a key that asks for something else
        key = f"kuager-{order.order_pk}-{order.created_ms}-{amount}-{attempt}-{ends_s}"
        session = await _answer_of(
            self._client.v1.checkout.sessions.create_async(
                params={
                    "mode": "payment",
                    "line_items": [
                        {
                            "quantity": 1,
                            "price_data": {
                                "currency": order.currency.lower(),
                                "unit_amount": amount,
                                "product_data": {"name": title},
                            },
                        }
                    ],
                    "client_reference_id": str(order.number),
                    "metadata": {"order": str(order.number)},
                    "success_url": back,
                    "cancel_url": back,
                    "expires_at": ends_s,
                },
                options={"idempotency_key": key},
            )
        )
        return Checkout(session.id, str(session.url))

    async def look(self, reference: str) -> CheckoutStatus:
        """Return how a session stands."""
        session = await _answer_of(self._client.v1.checkout.sessions.retrieve_async(reference))
        payment = None
        if session.payment_status == "paid":
            payment = Payment(
                self.name,
                _id(session.payment_intent) or session.id,
                int(session.amount_total or 0),
                str(session.currency).upper(),
                int(time.time() * 1000),
            )
        ended = session.status == "expired"
        if payment is None and session.status == "complete":  # a bank works on it, for days
            ended = await self._has_failed(_id(session.payment_intent))
        return CheckoutStatus(payment is None and not ended, payment)

    async def _has_failed(self, intent: str | None) -> bool:
        """Tell whether what a bank worked on came to nothing: its session stays complete."""
        if intent is not None:
            with contextlib.suppress(CheckoutGone):  # a key that may not ask
                found = await _answer_of(self._client.v1.payment_intents.retrieve_async(intent))
                return found.status in ("requires_payment_method", "canceled")
        return False

    async def close(self, reference: str) -> None:
        """Expire a session; one that is not open is left as it is."""
        try:
            await _answer_of(self._client.v1.checkout.sessions.expire_async(reference))
        except ProviderUnavailable as error:
            if not isinstance(error.__cause__, stripe.InvalidRequestError):
                raise

    def parse_webhook(self, body: bytes, headers: Mapping[str, str]) -> str | None:
        """Return the session that a signed event is about; raises InvalidSignature."""
        try:
            event = stripe.Webhook.construct_event(
                body, headers.get("Stripe-Signature", ""), self._secret, TOLERANCE_S
            )
            about = event.data.object
            is_session = event.type.startswith("checkout.session.")
            return str(about["id"]) if is_session else None
        except _FORGED as error:
            raise InvalidSignature(type(error).__name__) from None

    async def refund(self, payment: Payment, amount: int, key: str) -> str:
        """Give back a part of a payment.

        Stripe forgets its idempotency keys after some days, so its list is looked through first.
        What did not arrive came back to us: that is given once more.
        """
        known = await _answer_of(
            self._client.v1.refunds.list_async(
                params={"payment_intent": payment.reference, "limit": 100}
            )
        )
        tries = [one for one in known.data if getattr(one.metadata, "kuager", None) == key]
        for one in tries:
            if one.status not in _CAME_BACK:
                if one.amount != amount:  # by somebody else, who has not entered it yet
                    raise ProviderUnavailable(
                        "Stripe: another amount of this payment just went back"
                    )
                return str(one.id)
        made = await _answer_of(
            self._client.v1.refunds.create_async(
                params={
                    "payment_intent": payment.reference,
                    "amount": amount,
                    "metadata": {"kuager": key},
                },
                options={"idempotency_key": f"kuager-{key}" + (f"-{len(tries)}" if tries else "")},
            )
        )
        if made.status in _CAME_BACK:
            raise ProviderUnavailable(f"Stripe: the refund {made.id} did not arrive")
        return str(made.id)

    async def check_access(self) -> None:
        """Ask for a session that there is not: who may not ask is told so instead."""
        try:
            await _answer_of(self._client.v1.checkout.sessions.retrieve_async("cs_kuager_check"))
        except CheckoutGone as gone:
            if isinstance(gone.__cause__, stripe.AuthenticationError | stripe.PermissionError):
                raise

    async def close_connections(self) -> None:
        """End the connections to Stripe."""
        await self._http.close_async()  # type: ignore[no-untyped-call]


def _id(value: Any) -> str | None:
    return value if isinstance(value, str) else getattr(value, "id", None)


async def _answer_of(call: Awaitable[T]) -> T:
    try:
        return await call
    except stripe.StripeError as error:
        # its words may quote what was sent
        code = getattr(error, "code", None) or getattr(error, "http_status", None) or ""
        # another account, or a key that is no longer one
        refused = isinstance(error, stripe.AuthenticationError | stripe.PermissionError)
        kind = ProviderUnavailable
        if refused or error.http_status == HTTPStatus.NOT_FOUND:
            kind = CheckoutGone
        elif code in ("amount_too_small", "amount_too_large"):
            kind = AmountRefused
        raise kind(f"Stripe: {type(error).__name__} {code}".strip()) from error
