"""Free minutes and unpaid footage of clients: whatever is ordered, no client has more."""

from __future__ import annotations

from datetime import datetime
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from copies.allowance import FreeMinutes, UnpaidOrders
from copies.orders import Refused

ZONE = ZoneInfo("Asia/Almaty")
HOUR_MS = 3_600_000
STEPS = st.lists(
    st.tuples(st.sampled_from("ab"), st.integers(0, 700), st.integers(0, 9), st.booleans()),
    max_size=40,
)


@settings(deadline=None)
@given(STEPS)
def test_nobody_has_more_than_his_free_minutes_in_a_day(
    steps: list[tuple[str, int, int, bool]],
) -> None:
    free, now, had = (
        FreeMinutes(600, "Asia/Almaty"),
        1_795_000_000_000,
        dict[tuple[str, str], int](),
    )
    for who, ms, hours, placed in steps:
        now += hours * HOUR_MS
        day = who, f"{datetime.fromtimestamp(now / 1000, ZONE):%d}"
        assert free.left_ms(who, now) == 600 - had.get(day, 0)
        if ms > 600 - had.get(day, 0):
            with pytest.raises(Refused):
                free.take(who, ms, now)
            continue
        free.take(who, ms, now)
        if placed:
            had[day] = had.get(day, 0) + ms
        else:
            free.give_back(who, ms, now)


@settings(deadline=None)
@given(st.lists(st.tuples(st.sampled_from("abc"), st.integers(1, 90), st.booleans()), max_size=30))
def test_nobody_holds_more_unpaid_footage(steps: list[tuple[str, int, bool]]) -> None:
    caps, unpaid, owner = UnpaidOrders(100, 250), dict[int, int](), dict[int, str]()
    for pk, (who, length, pays) in enumerate(steps):
        mine = sum(unpaid[n] for n in unpaid if owner[n] == who)
        fits = (not mine or mine + length <= 100) and sum(unpaid.values()) + length <= 250
        try:
            caps.check(who, length, unpaid)
        except Refused:
            assert not fits
            continue
        assert fits
        unpaid[pk], owner[pk] = length, who
        caps.placed(who, pk)
        if pays:
            del unpaid[min(unpaid)]


def test_who_has_no_unpaid_order_may_have_one_of_any_size() -> None:
    caps = UnpaidOrders(100, 250)
    caps.check("a", 10**15, {})
    caps.placed("a", 1)
    for who in "ab":
        with pytest.raises(Refused):
            caps.check(who, 1, {1: 10**15})
