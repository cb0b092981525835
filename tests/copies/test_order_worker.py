"""The role `orders`: letters, what is over, payments of which nobody told."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from structlog.testing import capture_logs

from base.clock import Clock, now_ms
from base.hostclock import ClockWatch
from config.model import Config
from copies.orders.service import OrderService
from copies.orders.worker import OrderWorker, Pauses
from copies.states import State
from storage.catalogue.catalogue import Catalogue
from storage.catalogue.orders import Payment
from tests.support.mailbox import Mailbox, mailbox
from tests.support.orders import configured, opened, pay, placed
from tests.support.s3 import free_port
from tests.support.stripe_server import running
from tests.support.waiting import until

pytest_plugins = ["tests.support.postgres"]
pytestmark = pytest.mark.slow  # Stripe is a process of its own


@pytest.fixture(scope="module")
def stripe() -> Iterator[str]:
    with running(free_port()) as base:
        yield base


# letters are tried again for as long as a test takes
BRISK = Pauses(
    look_s=0.05,
    due_s=0.05,
    status_s=0.05,
    again_s=(0.05,),
    away_s=(0.05,),
    ask_s=(0.1, 0.1),
    retry_s=(0,) * 10_000,
)


class LaterClock:
    """This machine's clock, which a test may set forward."""

    ahead_ms = 0

    def __call__(self) -> int:
        return now_ms() + self.ahead_ms


@contextlib.asynccontextmanager
async def working(
    config: Config, clock: Clock = now_ms, kind: type[OrderWorker] = OrderWorker
) -> AsyncIterator[OrderService]:
    """A desk that works; gives a service of its orders."""
    catalogue = await Catalogue.open(config.database_url)
    watch = ClockWatch(clock, clock)  # time passes as the clock says: nobody sets it
    desk = kind(config, catalogue, [], pauses=BRISK, clock=clock, watch=watch)
    task = asyncio.create_task(desk.run())
    assert config.copies is not None
    try:
        yield OrderService(config, catalogue, desk._service.providers, clock=clock)
        assert not task.done()
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
        await catalogue.close()


async def all_sent(service: OrderService) -> bool:
    return await service.catalogue.outbox.waiting() == (0, None)


async def failed(service: OrderService) -> bool:
    return bool((await _letter(service, 1))["error"])


async def state_of(service: OrderService, pk: int, state: State) -> None:
    async def moved() -> bool:
        return (await service.orders.get(pk)).state == state

    await until(moved)


async def came(box: Mailbox, count: int) -> None:
    await until(lambda: len(box.letters) >= count)


async def test_letters(database_url: str, tmp_path: Path, stripe: str) -> None:
    with mailbox() as box:
        config = configured(tmp_path, database_url, stripe, box.port)
        async with working(config) as service:
            order = await placed(service, email="voter@example.kz")
            await came(box, 1)
            payment = Payment("invoice", f"r-{order.order_pk}", 58_000, "KZT", now_ms())
            await service.enter_payment(order.order_pk, payment, "operator")
            await came(box, 2)
            first, second = box.letters
            assert box.recipients == ["voter@example.kz"] * 2
            assert "http://k/copies/secret" in box.text(0)
            assert "580,00\N{NO-BREAK SPACE}₸" in box.text(0)  # what, and until when
            assert "http://k/copies/secret" not in box.text(1) and "UTC+5" in box.text(1)
            assert second["In-Reply-To"] == first["Message-ID"]
            assert first["Subject"] == "Kuager: № 1 тапсырыс"
            await until(partial(all_sent, service))
            for n in (1, 2):  # neither address nor link is left where it waited
                row = await _letter(service, n)
                assert (row["recipient"], row["link"]) == (None, None) and row["sent_ms"]


async def _letter(service: OrderService, n: int) -> dict[str, object]:
    from sqlalchemy import select

    from storage.catalogue.schema import outbox

    return (await service.catalogue.pool.rows(select(outbox).where(outbox.c.letter_no == n)))[0]


async def test_a_mail_server_that_is_away_loses_nothing(tmp_path: Path, stripe: str) -> None:
    port = free_port()
    config = configured(tmp_path, f"sqlite:///{tmp_path}/k.db", stripe, port)
    async with working(config) as service:
        order = await placed(service, email="voter@example.kz")
        assert order.state == State.AWAITING_PAYMENT
        await until(partial(failed, service))
        with mailbox(port) as box:
            await came(box, 1)
            assert "http://k/copies/secret" in box.text(0)


async def test_an_address_that_does_not_exist(tmp_path: Path, stripe: str) -> None:
    with mailbox() as box:
        box.refuse = "550 no such user"
        config = configured(tmp_path, f"sqlite:///{tmp_path}/k.db", stripe, box.port)
        async with working(config) as service:
            order = await placed(service, email="nobody@example.kz")
            await until(partial(all_sent, service))
            row = await _letter(service, 1)
            assert row["recipient"] is None and row["sent_ms"] is None
            assert "nobody" not in str(row["error"])  # nor is it in what is kept of the failure
            assert (await service.orders.get(order.order_pk)).state == State.AWAITING_PAYMENT


async def test_a_webhook_that_never_came(database_url: str, tmp_path: Path, stripe: str) -> None:
    config = configured(tmp_path, database_url, stripe, free_port())
    async with working(config) as service:
        order = await placed(service)
        await pay(await opened(service, order))
        await state_of(service, order.order_pk, State.PAID)


async def test_what_is_over_ends_and_what_was_paid_in_the_last_moment_counts(
    database_url: str, tmp_path: Path, stripe: str
) -> None:
    config = configured(tmp_path, database_url, stripe, free_port())
    assert config.copies is not None
    catalogue, clock = await Catalogue.open(config.database_url), LaterClock()
    async with working(config, clock) as service:
        unpaid, paid = await placed(service, email="voter@example.kz"), await placed(service)
        url = await opened(service, unpaid)
        await pay(await opened(service, paid))
        clock.ahead_ms += config.copies.pay_within * 1000
        await state_of(service, unpaid.order_pk, State.EXPIRED)
        await state_of(service, paid.order_pk, State.PAID)
        ended = await service.orders.get(unpaid.order_pk)
        assert (ended.email, ended.forget_ms) == (None, None)
        async with aiohttp.ClientSession() as session, session.post(url) as answer:
            assert answer.status == 400  # its page takes no money any more
        clock.ahead_ms += config.copies.download_for * 1000
        await state_of(service, paid.order_pk, State.EXPIRED)
        assert (await service.orders.get(paid.order_pk)).paid_ms
        assert all(h.released_ms for h in await catalogue.holds.of("e"))

        async def files_are_dropped() -> bool:  # a step later
            return await service.catalogue.order_files.of(paid.order_pk) == []

        await until(files_are_dropped)
    await catalogue.close()


async def test_an_address_is_forgotten_in_time(tmp_path: Path, stripe: str) -> None:
    config = configured(tmp_path, f"sqlite:///{tmp_path}/k.db", stripe, free_port())
    async with working(config) as service:
        order = await placed(service, email="voter@example.kz")
        early = service.settings.model_copy(update={"forget_after": 0})
        again = await placed(
            OrderService(
                config.model_copy(update={"copies": early}), service.catalogue, service.providers
            ),
            email="other@example.kz",
        )
        await opened(service, again)

        async def forgotten() -> bool:
            return (await service.orders.get(again.order_pk)).email is None

        await until(forgotten)
        assert (await service.orders.get(order.order_pk)).email == "voter@example.kz"
        assert (await service.orders.get(again.order_pk)).state == State.AWAITING_PAYMENT
        assert len(await service.catalogue.checkouts.all_open()) == 1  # it can still be paid


async def test_one_desk_at_a_time_that_says_what_it_does(tmp_path: Path, stripe: str) -> None:
    config = configured(tmp_path, f"sqlite:///{tmp_path}/k.db", stripe, free_port())
    async with working(config) as service:
        order = await placed(service)
        paid = Payment("invoice", "r", 58_000, "KZT", now_ms())
        await service.enter_payment(order.order_pk, paid, "operator")
        with capture_logs() as log:
            async with working(config):
                await until(lambda: any("Another desk" in entry["event"] for entry in log))
        path = config.spool / "_status/orders.json"

        def said() -> dict[str, Any]:
            return dict(json.loads(path.read_bytes())) if path.exists() else {}

        await until(lambda: said().get("states") == {"paid": 1})
        before_ms = said()["written_ms"]
        await until(lambda: said()["written_ms"] > before_ms)
        assert said()["kuager"] == "orders/1" and said()["unhashed_files"] == 1


class Deaf(OrderWorker):
    """Misses that it is to end, as `asyncio.wait_for` of Python 3.11 does when its answer comes at
    the same moment."""

    begun = asyncio.Event()

    async def _send_letters(self) -> None:
        self.begun.set()
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.Event().wait()


async def test_it_stops_although_a_part_misses_that_it_is_to(tmp_path: Path, stripe: str) -> None:
    config = configured(tmp_path, f"sqlite:///{tmp_path}/k.db", stripe, free_port())
    async with working(config, kind=Deaf):
        await Deaf.begun.wait()
