"""What one client may have before anything is paid: free minutes of a day, files that are held."""

from __future__ import annotations

from datetime import datetime
from zoneinfo import ZoneInfo

from base.i18n.gettext import N_
from config.copies import Copies
from copies.orders.events import Refused
from copies.orders.prices import MINUTE_MS
from copies.states import State
from storage.catalogue.orders import Order
from storage.catalogue.usage import Claim, TooMuch

# what is held for orders before anything was paid, and for those that cost nothing: each kind has
# its own part, so that what is free keeps nobody from buying
UNPAID = (State.AWAITING_PAYMENT,)
FREE = (State.PAID, State.READY)
WHY = {
    "free": N_("your free minutes of today are used up: ask for a new quote"),
    "each": N_("you have ordered as much as you can without paying: pay or cancel first"),
    "all": N_("too much is ordered and not paid by all together: try again tomorrow"),
}
WHY_NOT_FREE = N_("too much that cost nothing is still to be checked or kept: try again later")


def day_of(now_ms: int, time_zone: str) -> int:
    """Return when the day of a moment began in a time zone (UTC ms)."""
    at = datetime.fromtimestamp(now_ms / 1000, ZoneInfo(time_zone))
    return round(at.replace(hour=0, minute=0, second=0, microsecond=0).timestamp() * 1000)


def free_of(settings: Copies) -> int:
    """Return the footage that each client is not billed on one day, in milliseconds."""
    return settings.free_minutes * MINUTE_MS


def claim_of(settings: Copies, order: Order, client: str, time_zone: str, now_ms: int) -> Claim:
    """Return what an order takes of what its client may have."""
    lines = order.quote["price"]["lines"]
    return Claim(
        client,
        sum(line["exists_ms"] - line["billed_ms"] for line in lines),
        free_of(settings),
        day_of(now_ms, time_zone),
        UNPAID if order.total else FREE,
        sum(camera["bytes"] for camera in order.quote["cameras"]),
        settings.unpaid_per_client,
        settings.unpaid_in_all,
    )


def refused(too_much: TooMuch, order: Order) -> Refused:
    """Return what is said to who asks for too much."""
    pays = order.total > 0 or too_much.of == "free"
    return Refused(WHY[too_much.of] if pays else WHY_NOT_FREE)
