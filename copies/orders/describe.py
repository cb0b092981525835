"""What orders say of themselves wherever they say it."""

from __future__ import annotations

from enum import StrEnum

from base.i18n.format import format_stretch
from base.i18n.gettext import gettext, text_in
from copies.balance import received
from copies.states import State
from storage.catalogue.orders import Order


class Standing(StrEnum):
    """How an order stands, as people are told: its state, with what that leaves open."""

    QUOTED = "quoted"
    NOT_ORDERED = "not_ordered"  # a quote whose time is over
    AWAITING_PAYMENT = "awaiting_payment"
    PARTLY_PAID = "partly_paid"
    NOT_PAID = "not_paid"  # its time to be paid is over
    PAID = "paid"
    READY = "ready"
    OVER = "over"  # the time to download is over
    CANCELLED = "cancelled"
    REJECTED = "rejected"
    REFUNDED = "refunded"


def standing_of(order: Order) -> Standing:
    """Return how an order stands."""
    if order.state == State.EXPIRED:
        if order.paid_ms is not None:
            return Standing.OVER
        return Standing.NOT_ORDERED if order.ordered_ms is None else Standing.NOT_PAID
    if order.state == State.AWAITING_PAYMENT and received(order) > 0:
        return Standing.PARTLY_PAID
    return Standing(order.state)


def title_of(order: Order, lang: str) -> str:
    """Return of what an order is: the station and the stretch in its local time."""
    station = order.quote["station"]
    return gettext(
        "Station %(number)s, %(name)s: %(stretch)s",
        lang,
        number=station["number"],
        name=text_in(station["name"], lang),
        stretch=format_stretch(order.from_ms, order.to_ms, station["time_zone"]),
    )
