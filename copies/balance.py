"""The money of an order: what came, how much of it pays for the order, and what is to go back.

Pure functions over the payments that were entered; a payment that went back is a negative one.
"""

from __future__ import annotations

from collections import defaultdict

from copies.states import State
from storage.catalogue.orders import Order, Payment


def received(order: Order) -> int:
    """Return what came for an order and did not go back, in its currency."""
    return sum(p.amount for p in order.payments if p.currency == order.currency)


def applied(order: Order) -> int:
    """Return how much of it pays for the order: its price from the moment it was paid, and until
    then what came in part."""
    if order.state == State.AWAITING_PAYMENT:
        return received(order)
    return order.total if order.paid_ms and order.state != State.REFUNDED else 0


def owed(order: Order) -> dict[str, int]:
    """Return what is to go back to the requester, by currency: too much, too late, twice, or in
    another currency."""
    balance: defaultdict[str, int] = defaultdict(int)
    for payment in order.payments:
        balance[payment.currency] += payment.amount
    balance[order.currency] -= applied(order)
    return {currency: amount for currency, amount in balance.items() if amount > 0}


def owed_since_ms(order: Order) -> int:
    """Return from when on what is owed is owed: since the last of it came, or since an order that
    was not paid ended with it; that of one that was paid is not owed later because it ends."""
    came = [payment.at_ms for payment in order.payments if payment.returns is None]
    ended_ms = order.ended_ms if order.paid_ms is None else None
    return max([*came, ended_ms or 0])


def refunds_due(order: Order, whole: bool) -> list[tuple[Payment, int]]:
    """Return which payments are to go back, and how much of each, the newest first.

    `whole`: all of it, else what is owed.
    """
    back = owed(order)
    if whole:
        back[order.currency] = received(order)
    gone: defaultdict[tuple[str, str | None], int] = defaultdict(int)
    for payment in order.payments:
        if payment.returns:
            gone[payment.provider, payment.returns] -= payment.amount
    found = []
    for payment in reversed(order.payments):
        left = payment.amount - gone[payment.provider, payment.reference]
        amount = min(left, back.get(payment.currency, 0))
        if payment.returns is None and amount > 0:
            back[payment.currency] -= amount
            found.append((payment, amount))
    return found
