"""What one client may have before anything is paid: free minutes of a day, footage that is held.

Both are counted in the memory of one process, so that with N web processes a client has N times as
much: no address of a client is stored anywhere.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from datetime import date, datetime
from zoneinfo import ZoneInfo

from copies.orders import Refused

CLIENTS = 20_000  # remembered; who did not order for longest is forgotten first


class FreeMinutes:
    """Footage that each client is not billed on one day, in milliseconds."""

    def __init__(self, allowance_ms: int, time_zone: str):
        """`time_zone` says when a day begins."""
        self._allowance_ms, self._zone = allowance_ms, ZoneInfo(time_zone)
        self._taken: OrderedDict[str, tuple[date, int]] = OrderedDict()

    def left_ms(self, who: str, now_ms: int) -> int:
        """Return how much is left of a client's day."""
        day, taken_ms = self._taken.get(who, (None, 0))
        return self._allowance_ms - (taken_ms if day == self._day(now_ms) else 0)

    def take(self, who: str, ms: int, now_ms: int) -> None:
        """Use up a part of a client's day; raises Refused where less is left."""
        left_ms = self.left_ms(who, now_ms)
        if ms > left_ms:
            raise Refused("your free minutes of today are used up: ask for a new quote")
        self._set(who, left_ms - ms, now_ms)

    def give_back(self, who: str, ms: int, now_ms: int) -> None:
        """Undo a taking: nothing was ordered."""
        self._set(who, min(self._allowance_ms, self.left_ms(who, now_ms) + ms), now_ms)

    def _set(self, who: str, left_ms: int, now_ms: int) -> None:
        self._taken[who] = self._day(now_ms), self._allowance_ms - left_ms
        self._taken.move_to_end(who)
        while len(self._taken) > CLIENTS:
            self._taken.popitem(last=False)

    def _day(self, now_ms: int) -> date:
        return datetime.fromtimestamp(now_ms / 1000, self._zone).date()


class UnpaidOrders:
    """Caps on footage that is ordered and not paid, in bytes: it is held from deletion. Who has
    none may always have one order."""

    def __init__(self, per_client: int, in_all: int):
        self._per_client, self._in_all = per_client, in_all
        self._orders: OrderedDict[str, set[int]] = OrderedDict()  # by client, their order_pk

    def check(self, who: str, length: int, unpaid: Mapping[int, int]) -> None:
        """Raise Refused where an order of so many bytes is too much; `unpaid` has the bytes of all
        unpaid orders by order_pk."""
        mine = self._orders.get(who, set())
        mine &= unpaid.keys()
        if mine and sum(unpaid[pk] for pk in mine) + length > self._per_client:
            raise Refused("you have ordered as much as you can without paying: pay or cancel first")
        if unpaid and sum(unpaid.values()) + length > self._in_all:
            raise Refused("too much is ordered and not paid by all together: try again tomorrow")

    def placed(self, who: str, order_pk: int) -> None:
        """Count an order as a client's."""
        self._orders.setdefault(who, set()).add(order_pk)
        self._orders.move_to_end(who)
        while len(self._orders) > CLIENTS:
            self._orders.popitem(last=False)
