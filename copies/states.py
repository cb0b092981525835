"""Where an order stands, and the one table of what moves it."""

from __future__ import annotations

from enum import StrEnum


class State(StrEnum):
    """Where an order stands."""

    QUOTED = "quoted"
    AWAITING_PAYMENT = "awaiting_payment"
    PAID = "paid"
    READY = "ready"
    EXPIRED = "expired"
    CANCELLED = "cancelled"
    REJECTED = "rejected"
    REFUNDED = "refunded"


class Event(StrEnum):
    """What moves an order from one state to another."""

    ORDER = "order"  # the requester orders what was quoted
    PAY = "pay"  # what was paid reaches the price; at once where there is none
    FINISH = "finish"  # the SHA-256 of every file is known
    CANCEL = "cancel"  # the requester takes it back before paying
    LAPSE = "lapse"  # its time is over
    REJECT = "reject"  # the operator refuses it, with a reason
    REFUND = "refund"  # what was paid went back


TRANSITIONS: dict[tuple[State, Event], State] = {
    (State.QUOTED, Event.ORDER): State.AWAITING_PAYMENT,
    (State.QUOTED, Event.CANCEL): State.CANCELLED,
    (State.QUOTED, Event.LAPSE): State.EXPIRED,
    (State.AWAITING_PAYMENT, Event.PAY): State.PAID,
    (State.AWAITING_PAYMENT, Event.CANCEL): State.CANCELLED,
    (State.AWAITING_PAYMENT, Event.LAPSE): State.EXPIRED,
    (State.AWAITING_PAYMENT, Event.REJECT): State.REJECTED,
    (State.PAID, Event.FINISH): State.READY,
    (State.PAID, Event.LAPSE): State.EXPIRED,
    (State.PAID, Event.REFUND): State.REFUNDED,
    (State.READY, Event.LAPSE): State.EXPIRED,
    (State.READY, Event.REFUND): State.REFUNDED,
    (State.EXPIRED, Event.REFUND): State.REFUNDED,  # one that was paid (copies/orders/events.py)
}
# of these nothing is kept: nothing but money moves any more
ENDED = frozenset(State) - {state for state, event in TRANSITIONS if event != Event.REFUND}
DOWNLOADS = frozenset({State.PAID, State.READY})  # files may be fetched
