"""The role `orders`: one order, file or page that fails harms itself alone."""

from __future__ import annotations

import asyncio
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from hypothesis import given
from hypothesis import strategies as st
from pydantic import SecretStr
from structlog.testing import capture_logs

from base.backoff import ItemBackoff
from base.clock import now_ms
from base.hostclock import ClockWatch, KernelClock
from config.copies import Stripe as Keys
from copies.balance import owed
from copies.orders.service import OrderService
from copies.orders.worker import OVERDUE_MS, NotNow, OrderWorker
from copies.payments.port import CheckoutGone, ProviderUnavailable
from copies.payments.stripe import Stripe
from copies.states import State
from storage.catalogue.orders import Payment
from storage.catalogue.rows import FileRow
from storage.catalogue.schema import DAY_MS, order_files, orders
from storage.recording_source import Unreadable
from storage.spool.status_records import ORDERS, OrdersStatus
from tests.support.order_work import BRISK, SetClock, change, configured, opened, working
from tests.support.orders import placed, quoted
from tests.support.waiting import until

pytest_plugins = ["tests.support.postgres"]


async def paid(service: OrderService, count: int) -> None:
    """Place so many orders, and enter that each was paid by bank."""
    for _ in range(count):
        order = await placed(service)
        payment = Payment("invoice", f"r{order.number}", 58_000, "KZT", now_ms())
        await service.enter_payment(order.order_pk, payment, "operator")


async def test_an_order_that_cannot_end_holds_up_no_other(tmp_path: Path) -> None:
    config, clock = configured(tmp_path, None), SetClock()
    async with opened(config) as service:
        first, second = await placed(service), await placed(service)
        row = sa.update(orders).where(orders.c.order_pk == first.order_pk)
        await change(service, row.values(state="of another Kuager"))
        with capture_logs() as log:
            async with working(config, service, clock) as desk:
                clock.ahead_ms = service.settings.pay_within * 1000

                async def ended() -> bool:
                    return (await service.orders.get(second.order_pk)).state == State.EXPIRED

                await until(ended)
                assert desk.status.overdue == 0
                clock.ahead_ms += OVERDUE_MS + 1
                await until(lambda: desk.status.overdue == 1)
        (told,) = [entry for entry in log if entry["event"].startswith("A step of an order fails")]
        assert (told["step"], told["order"]) == ("end", 1)


async def test_a_fault_of_ours_is_told_by_its_place_and_not_by_its_words(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of an order, or of all: what an error says may be somebody's address."""
    config, clock = configured(tmp_path, None), SetClock()

    async def fails(*_: object) -> None:
        raise ValueError("voter@example.kz")

    async with opened(config) as service:
        await placed(service)
        monkeypatch.setattr(service.orders, "change", fails)
        monkeypatch.setattr(service.orders, "uneven", fails)
        watch = ClockWatch(clock, clock)
        desk = OrderWorker(config, service.catalogue, [], pauses=BRISK, clock=clock, watch=watch)
        clock.ahead_ms = service.settings.pay_within * 1000
        with capture_logs() as log:
            task = asyncio.create_task(desk.run())
            await until(lambda: len([entry for entry in log if "why" in entry]) == 2)
            task.cancel()
            await asyncio.wait({task})
    whys = {entry["event"].partition(";")[0]: entry["why"] for entry in log if "why" in entry}
    place = r"ValueError at test_order_worker_items\.py:\d+, in fails"
    assert re.fullmatch(place, whys["A step of an order fails"])
    assert re.fullmatch(f"a fault of Kuager: {place}", whys["Work on orders fails"])


async def test_without_the_catalogue_it_says_that_it_runs(tmp_path: Path) -> None:
    """A status file that is old says of its process that it is gone."""
    config = configured(tmp_path, None)

    def told() -> OrdersStatus:
        return OrdersStatus.parse((config.spool / "_status" / ORDERS).read_bytes())

    def is_told(is_away: bool) -> bool:
        failing = told().failing_work
        return "count" in failing if is_away else not failing

    async with opened(config) as service, working(config, service):
        await until((config.spool / "_status" / ORDERS).exists)
        for names in (("orders", "gone"), ("gone", "orders")):
            async with service.catalogue.pool.work() as connection:
                await connection.execute(sa.text("ALTER TABLE {} RENAME TO {}".format(*names)))
            is_away = names[0] == "orders"
            await until(lambda: is_told(is_away))  # noqa: B023
            before_ms = told().written_ms
            await until(lambda: told().written_ms > before_ms)  # noqa: B023


@pytest.mark.parametrize("when", ["meanwhile", "at the start"])
async def test_no_order_ends_on_the_word_of_a_clock_that_leapt(tmp_path: Path, when: str) -> None:
    """Nor is its footage let go: what is paid in time has to be there."""
    config, clock = configured(tmp_path, None), SetClock()
    async with opened(config) as service:
        order = await placed(service)
        if when == "at the start":
            clock.ahead_ms = 400 * DAY_MS
        watch = ClockWatch(clock, lambda: 0.0, lambda: KernelClock(True, 1))
        desk = OrderWorker(config, service.catalogue, [], clock=clock, watch=watch)
        clock.ahead_ms = 400 * DAY_MS
        with pytest.raises(NotNow, match=r"400\.0 days"):
            await desk._end_what_is_over()
        assert (await service.orders.get(order.order_pk)).state == State.AWAITING_PAYMENT
        assert [h.released_ms for h in await service.catalogue.holds.of("e")] == [None]
        watch.heard("archive", clock(), 0.0)  # a server has the same time: it is so late
        await desk._end_what_is_over()
        assert (await service.orders.get(order.order_pk)).state == State.EXPIRED
        assert all(h.released_ms for h in await service.catalogue.holds.of("e"))


@pytest.mark.parametrize("plan", [{}, {"kuager": "copy-plan/1"}, [], {"kuager": "copy-plan/9"}])
async def test_a_file_that_cannot_be_hashed_holds_up_no_other(tmp_path: Path, plan: Any) -> None:
    config = configured(tmp_path, None)
    async with opened(config) as service:
        await paid(service, 2)
        await change(service, sa.update(order_files).values(plan=plan))
        await paid(service, 1)
        await service.catalogue.order_files.hashed(3, 1, "0" * 64, 1, b"", 100)
        async with working(config, service) as desk:

            async def others_went_on() -> bool:
                files = [await service.catalogue.order_files.of(pk) for pk in (1, 2)]
                ready = (await service.orders.get(3)).state == State.READY
                return ready and all(file.failed for (file,) in files)

            await until(others_went_on)
            assert desk.status.hash_failures_total >= 2


async def test_the_next_file_is_read_without_a_pause(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A camera that came and went all day has thousands: a second each would be more than an hour
    for its order, and for all that were paid after it."""
    config = configured(tmp_path, None)

    async def read(desk: OrderWorker, row: FileRow) -> None:
        await desk._files.hashed(row.order_pk, row.file_no, "0" * 64, 1, b"", row.length)

    monkeypatch.setattr(OrderWorker, "_pass_over", read)
    async with opened(config) as service:
        await paid(service, 3)
        async with working(config, service, pauses=replace(BRISK, look_s=86_400)):

            async def ready() -> bool:
                return (await service.orders.count()).get(State.READY) == 3

            await until(ready)


async def test_files_are_listed_once_for_many_of_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A list of ten thousand takes a second, and was made for each of them."""
    config = configured(tmp_path, None)

    async def read(desk: OrderWorker, row: FileRow) -> None:
        if row.order_pk == 2:
            raise Unreadable("away")
        await desk._files.hashed(row.order_pk, row.file_no, "0" * 64, 1, b"", row.length)

    monkeypatch.setattr(OrderWorker, "_pass_over", read)
    async with opened(config) as service:
        await paid(service, 5)
        files = service.catalogue.order_files
        pauses = replace(BRISK, hash_s=86_400.0, again_s=(86_400.0,))
        desk = OrderWorker(config, service.catalogue, [], pauses=pauses)
        assert await files.left(State.PAID) == (5, 500, 0)
        for ready in (1, 4):  # until one fails, which is tried later, and the others go on
            assert await desk._hash()
            assert await service.orders.count() == {State.READY: ready, State.PAID: 5 - ready}
        assert not await desk._hash()
        assert await files.left(State.PAID) == (1, 100, 0)
        assert await files.left(State.READY) == (0, 0, 0)
        await files.progress(2, 1, 0, "away")
        await files.progress(2, 1, 60)  # it is tried once more, and may fail at its end again
        assert await files.left(State.PAID) == (1, 40, 1)
        await files.hashed(2, 1, "0" * 64, 1, b"", 100)
        assert await files.left(State.PAID) == (0, 0, 0)


async def test_only_what_is_paid_is_read_through(tmp_path: Path) -> None:
    config = configured(tmp_path, None)
    async with opened(config) as service:
        await placed(service)
        paid = await placed(service)
        await service.enter_payment(
            paid.order_pk, Payment("invoice", "r", 58_000, "KZT", now_ms()), "operator"
        )
        async with working(config, service):

            async def tried() -> bool:
                return bool((await service.catalogue.order_files.of(paid.order_pk))[0].failed)

            await until(tried)
        (unpaid,) = await service.catalogue.order_files.of(1)
        assert (unpaid.failed, unpaid.hashed) == (None, 0)


async def test_an_order_ends_by_its_date_although_its_provider_is_gone(
    database_url: str, tmp_path: Path
) -> None:
    config, clock = configured(tmp_path, 1, database_url), SetClock()
    async with opened(config) as service:
        by_date, taken_back = [await placed(service, email="voter@example.kz") for _ in range(2)]
        for order in (by_date, taken_back):
            page = (order.order_pk, "stripe", f"cs_{order.number}", "http://k", now_ms())
            await service.catalogue.checkouts.open(*page)
        with pytest.raises(CheckoutGone):
            await service.settle((await service.catalogue.checkouts.all_open())[0])
        after = await service.cancel(taken_back.order_pk)
        assert after.state == State.CANCELLED
        async with working(config, service, clock):
            clock.ahead_ms = service.settings.pay_within * 1000

            async def ended() -> bool:
                return (await service.orders.get(by_date.order_pk)).state == State.EXPIRED

            await until(ended)
            assert (await service.orders.get(by_date.order_pk)).email is None
            assert all(h.released_ms for h in await service.catalogue.holds.of("e"))
            assert len(await service.catalogue.checkouts.all_open()) == 2  # may still be found
            # money that comes after all
            late = Payment("stripe", "pi_1", 58_000, "KZT", now_ms())
            order = await service.enter_payment(by_date.order_pk, late, "stripe")
            assert (order.state, owed(order)) == (State.EXPIRED, {"KZT": 58_000})
            clock.ahead_ms += BRISK.page_kept_s * 1000 + 60_000

            async def given_up() -> bool:
                return await service.catalogue.checkouts.all_open() == []

            await until(given_up)


async def test_a_provider_that_hangs_is_not_waited_for_by_each_order(tmp_path: Path) -> None:
    config, clock = configured(tmp_path, None), SetClock()

    class Hanging(Stripe):
        asked = 0

        async def close(self, reference: str) -> None:
            Hanging.asked += 1
            raise ProviderUnavailable("no answer")

    provider = Hanging(Keys(secret_key=SecretStr("sk"), webhook_secret=SecretStr("wh")))
    async with opened(config, clock) as service:
        for _ in range(5):
            order = await placed(service)
            page = (order.order_pk, "stripe", f"cs_{order.number}", "http://k", now_ms())
            await service.catalogue.checkouts.open(*page)
        watch = ClockWatch(clock, clock)
        desk = OrderWorker(config, service.catalogue, [], clock=clock, watch=watch)
        desk._service = OrderService(config, service.catalogue, {"stripe": provider}, clock=clock)
        clock.ahead_ms = service.settings.pay_within * 1000
        with capture_logs() as log:
            await desk._end_what_is_over()
        assert await service.orders.count() == {State.EXPIRED: 5}
        assert (Hanging.asked, len(log)) == (1, 1)
        assert (
            len(await service.catalogue.checkouts.all_open()) == 5
        )  # what they bring is owed back
        await provider.close_connections()


async def test_quotes_are_deleted_a_day_after_their_end(database_url: str, tmp_path: Path) -> None:
    config, clock = configured(tmp_path, None, database_url), SetClock()
    async with opened(config) as service:
        order = await placed(service)
        plans = [{"plan": {}, "length": 1}]
        made = [
            await service.orders.create(f"{n:064}", quoted(lasts_ms=1000), plans) for n in range(2)
        ]
        await service.cancel(made[1])
        async with working(config, service, clock):
            clock.ahead_ms = 3_600_000

            async def over() -> bool:
                return (await service.orders.get(made[0])).state == State.EXPIRED

            await until(over)  # its page says so
            clock.ahead_ms += BRISK.quote_kept_s * 1000

            async def deleted() -> bool:
                return await service.orders.count() == {State.AWAITING_PAYMENT: 1}

            await until(deleted)
        assert await service.catalogue.order_files.of(made[0]) == []
        log = await service.orders.audit(order.order_pk)
        assert [(r.event, r.state) for r in log] == [
            ("quote", "quoted"),
            ("order", "awaiting_payment"),
        ]
        assert log[0].at_ms == order.created_ms


async def test_what_may_be_owed_is_found_without_reading_every_order(
    database_url: str, tmp_path: Path
) -> None:
    async with opened(configured(tmp_path, None, database_url)) as service:
        made = [await placed(service) for _ in range(9)]
        for n, amounts in enumerate(
            [[], [58_000], [100], [58_001], [58_000], [58_000], [58_000], [100], [58_000]]
        ):
            for m, amount in enumerate(amounts):
                payment = Payment("invoice", f"{n}-{m}", amount, "KZT", now_ms())
                await service.enter_payment(made[n].order_pk, payment, "operator")
        await service.enter_payment(
            made[4].order_pk, Payment("invoice", "eur", 1, "EUR", now_ms()), "operator"
        )
        await service.enter_payment(
            made[5].order_pk, Payment("invoice", "two", 58_000, "KZT", now_ms()), "operator"
        )
        for n in (6, 8):
            order = await service.orders.get(made[n].order_pk)
            await service.refund(order, True, f"back-{n}")
        late = Payment("invoice", "late", 58_000, "KZT", now_ms())  # after all went back
        await service.enter_payment(made[8].order_pk, late, "operator")
        await service.cancel(made[7].order_pk)
        owing = {o.number for o in await service.orders.register("e") if owed(o)}
        found = await service.orders.uneven(State.REFUNDED)
        assert owing == {4, 5, 6, 8, 9} and {o.number for o in found if owed(o)} == owing
        assert {o.number for o in found} == owing | {3}  # a part of the price


@given(st.lists(st.tuples(st.integers(0, 3), st.booleans(), st.floats(0, 100)), max_size=40))
def test_an_item_waits_for_its_own_failures_only(
    history: list[tuple[int, bool, float]],
) -> None:
    now = 0.0
    backoff = ItemBackoff((10.0, 60.0), clock=lambda: now)
    failures, again = [0] * 4, [0.0] * 4
    for item, well, later_s in history:
        now += later_s
        assert backoff.due(item) == (again[item] <= now)
        if not backoff.due(item):
            continue
        if well:
            backoff.succeeded(item)
            failures[item], again[item] = 0, 0.0
        else:
            backoff.failed(item)
            failures[item] += 1
            again[item] = now + (10.0 if failures[item] == 1 else 60.0)
        assert backoff.failures(item) == failures[item]
    backoff.retain(())
    assert all(backoff.due(item) for item in range(4))
