"""What one client may have: whatever is ordered, by whichever process, nobody has more."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import datetime
from zoneinfo import ZoneInfo

import pytest
import sqlalchemy as sa
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from base.prefixes import SITE_TIMES
from config.copies import Copies
from copies.orders import events
from copies.orders.allowance import claim_of, day_of, refused
from copies.orders.events import key_of, new_secret
from copies.states import State
from storage.catalogue.catalogue import Catalogue
from storage.catalogue.orders import Order
from storage.catalogue.schema import DAY_MS, orders, usage
from storage.catalogue.usage import TooMuch
from tests.support.orders import FILE, QUOTE

pytest_plugins = ["tests.support.postgres"]
ZONE = "Asia/Almaty"
HOUR_MS = 3_600_000
NOW = 1_795_000_000_000
COPIES = Copies.model_construct(
    currency="KZT", free_minutes=10, unpaid_per_client=100, unpaid_in_all=250
)
STEPS = st.lists(
    st.tuples(
        st.sampled_from(["203.0.113.1", "203.0.113.2", "2001:db8::/64"]),
        st.integers(0, 7),  # minutes that are free
        st.integers(0, 90),  # bytes that are to be paid
        st.sampled_from([0, 0, 0, 5, 9]),  # hours later
        st.booleans(),  # paid at once
    ),
    max_size=12,
)


@asynccontextmanager
async def two_processes(url: str) -> AsyncIterator[list[Catalogue]]:
    """Two processes of one catalogue."""
    both = [await Catalogue.open(url), await Catalogue.open(url)]
    try:
        yield both
    finally:
        for one in both:
            await one.close()


@pytest.fixture
async def both(database_url: str) -> AsyncIterator[list[Catalogue]]:
    async with two_processes(database_url) as found:
        yield found


async def quoted(catalogue: Catalogue, minutes: int, length: int, total: int | None = None) -> int:
    line = {"camera": "c", "exists_ms": minutes * 60_000, "billed_ms": 0, "net": 0}
    camera = QUOTE["cameras"][0] | {"bytes": length}  # type: ignore[index]
    row = {
        "election": "e",
        "station": "s",
        "from_ms": 1,
        "to_ms": 60_001,
        "state": State.QUOTED,
        "language": "kk",
        "quote": QUOTE | {"price": {"lines": [line]}, "cameras": [camera]},
        "currency": "KZT",
        "total": min(1, length) if total is None else total,
        "created_ms": NOW,
        "until_ms": NOW + 10**10,
    }
    key = key_of(new_secret())
    assert key is not None
    return await catalogue.orders.create(key, row, [FILE | {"length": length}])


async def place(
    catalogue: Catalogue, pk: int, who: str, now: int = NOW, copies: Copies = COPIES
) -> Order:
    decide = events.place(
        copies, None, "", now, lambda order: claim_of(copies, order, who, ZONE, now)
    )
    return await catalogue.orders.change(pk, decide)


@pytest.mark.slow
@settings(
    deadline=None, max_examples=10, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(STEPS)
async def test_nobody_has_more_than_he_may(
    both: list[Catalogue], steps: list[tuple[str, int, int, int, bool]]
) -> None:
    await both[0].pool.execute(sa.update(orders).values(state=State.CANCELLED))
    await both[0].pool.execute(sa.delete(usage))
    now, free = NOW, dict[tuple[str, str], int]()
    unpaid = list[tuple[str, int, int]]()
    for n, (who, minutes, length, hours, pays) in enumerate(steps):
        now += hours * HOUR_MS
        day = who, f"{datetime.fromtimestamp(now / 1000, ZoneInfo(ZONE)):%d}"
        left_ms = await both[n % 2].usage.free_left_ms(who, day_of(now, ZONE), 600_000)
        assert left_ms == 600_000 - free.get(day, 0) * 60_000
        mine = sum(size for owner, size, at in unpaid if owner == who and at > now - DAY_MS)
        in_all = sum(size for _, size, _ in unpaid)
        why = {
            "free": free.get(day, 0) + minutes > 10,
            "each": length and mine and mine + length > 100,
            "all": length and in_all and in_all + length > 250,
        }
        pk = await quoted(both[0], minutes, length)
        try:
            order = await place(both[n % 2], pk, who, now)
        except TooMuch as refused:
            assert refused.of == next(of for of, is_so in why.items() if is_so)
            assert (await both[0].orders.get(pk)).state == State.QUOTED
            continue
        assert not any(why.values())
        free[day] = free.get(day, 0) + minutes
        if order.state == State.AWAITING_PAYMENT and not pays:
            unpaid.append((who, length, now))
        elif pays:
            paid = sa.update(orders).where(orders.c.order_pk == pk)
            await both[1].pool.execute(paid.values(state=State.PAID, paid_ms=now))


async def test_orders_at_once_are_counted_one_after_the_other(both: list[Catalogue]) -> None:
    made = [await quoted(both[0], 4, 30) for _ in range(8)]
    done = await asyncio.gather(
        *(place(both[n % 2], pk, "203.0.113.1") for n, pk in enumerate(made)),
        return_exceptions=True,
    )
    assert sorted(type(one).__name__ for one in done) == ["Order"] * 2 + ["TooMuch"] * 6, done
    numbers = [one.number for one in done if isinstance(one, Order)]
    assert sorted(n or 0 for n in numbers) == [1, 2]  # what is refused takes no number


async def test_one_order_placed_twice_is_counted_once(both: list[Catalogue]) -> None:
    pk = await quoted(both[0], 4, 30)
    done = await asyncio.gather(
        *(place(both[n % 2], pk, "203.0.113.1") for n in range(4)), return_exceptions=True
    )
    assert sorted(type(one).__name__ for one in done) == ["Order", *["Refused"] * 3], done
    assert await both[0].usage.free_left_ms("203.0.113.1", 0, 600_000) == 6 * 60_000


async def test_what_costs_nothing_is_capped_until_it_ends(both: list[Catalogue]) -> None:
    made = [await quoted(both[0], 0, 60, total=0) for _ in range(3)]
    first = await place(both[0], made[0], "203.0.113.1")
    assert first.state == State.PAID
    paid = await quoted(both[0], 0, 90)
    with pytest.raises(TooMuch, match="each") as refusal:
        await place(both[1], made[1], "203.0.113.1")
    assert "still to be checked" in str(refused(refusal.value, first))
    await place(both[1], paid, "203.0.113.1")  # what is free keeps nobody from buying
    value = {"state": State.PAID, "paid_ms": NOW}
    await both[1].pool.execute(sa.update(orders).values(value).where(orders.c.order_pk == paid))
    # what is paid is read through before what cost nothing, however early that was ordered
    unhashed = await both[0].order_files.unhashed(State.PAID)
    assert [row.order_pk for row in unhashed] == [paid, made[0]]
    await both[0].order_files.hashed(made[0], 1, "0" * 64, 1, b"", 60)
    await both[0].orders.change(made[0], events.finish(NOW))
    with pytest.raises(TooMuch, match="each"):  # it is held as long as it can be downloaded
        await place(both[1], made[1], "203.0.113.1")
    lasted = NOW + COPIES.download_for * 1000
    await both[0].orders.change(made[0], events.lapse(lasted))
    await place(both[1], made[1], "203.0.113.1")
    await place(both[0], await quoted(both[0], 0, 180, total=0), "203.0.113.3")
    with pytest.raises(TooMuch, match="all") as refusal:
        await place(both[1], made[2], "203.0.113.4")
    assert "or kept" in str(refused(refusal.value, first))


async def test_who_has_many_networks_has_not_many_times_as_much(both: list[Catalogue]) -> None:
    homes = [f"2001:db8:1:{n:x}::/64" for n in range(20)]
    minutes = 0
    for home in homes:
        with contextlib.suppress(TooMuch):
            await place(both[0], await quoted(both[0], 10, 1), home)
            minutes += 10
    assert minutes == 10 * SITE_TIMES
    assert await both[1].usage.free_left_ms("2001:db8:1:ffff::/64", 0, 600_000) == 0
    assert await both[1].usage.free_left_ms("2001:db8:2:ffff::/64", 0, 600_000) == 600_000
    taken = 0
    for home in homes:
        with contextlib.suppress(TooMuch):
            await place(both[0], await quoted(both[0], 0, 40), home.replace("db8:1", "db8:2"))
            taken += 40
    assert taken <= min(COPIES.unpaid_per_client * SITE_TIMES, COPIES.unpaid_in_all)


async def test_who_has_no_unpaid_order_may_have_one_of_any_size(both: list[Catalogue]) -> None:
    await place(both[0], await quoted(both[0], 0, 10**15), "203.0.113.1")
    for who, of in (("203.0.113.1", "each"), ("203.0.113.2", "all")):
        with pytest.raises(TooMuch, match=of):
            await place(both[1], await quoted(both[1], 0, 1), who)


async def test_nobody_is_stored_by_his_address_or_longer_than_a_day(both: list[Catalogue]) -> None:
    await place(both[0], await quoted(both[0], 1, 1), "203.0.113.77")
    await both[0].usage.forget(NOW + DAY_MS - 1)
    (row,) = await both[1].pool.rows(sa.select(usage))
    assert "203.0.113.77" not in str(row) and len(row["who"]) == 64
    assert await both[0].usage.free_left_ms("203.0.113.78", 0, 5) == 5
    assert await both[0].usage.next_letter_ms("203.0.113.77", 0, 1, NOW) == 0  # no letter
    await both[0].usage.forget(NOW + DAY_MS)
    assert await both[1].pool.rows(sa.select(usage)) == []


async def test_each_database_hashes_otherwise(
    database_url: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    urls = [database_url, f"sqlite:///{tmp_path_factory.mktemp('other')}/k.db"]
    known = []
    for url in urls:
        async with two_processes(url) as both:
            await place(both[0], await quoted(both[0], 1, 1), "203.0.113.77")
            known += [row["who"] for row in await both[0].pool.rows(sa.select(usage))]
    assert len(set(known)) == 2


def test_a_day_begins_at_midnight_of_the_election() -> None:
    for hours in range(50):
        begun = datetime.fromtimestamp(day_of(NOW + hours * HOUR_MS, ZONE) / 1000, ZoneInfo(ZONE))
        assert (begun.hour, begun.minute) == (0, 0)
        assert 0 <= NOW + hours * HOUR_MS - begun.timestamp() * 1000 < DAY_MS
