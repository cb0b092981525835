"""The role `orders` at work on a catalogue, by a clock that a test may set."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from base.clock import Clock, now_ms
from base.hostclock import ClockWatch
from config.model import Config
from copies.orders import events
from copies.orders.service import OrderService
from copies.orders.worker import OrderWorker, Pauses
from storage.catalogue.schema import outbox
from storage.catalogue.usage import Claim
from tests.support.archiving import configure
from tests.support.orders import quoted
from tests.support.tables import open_catalogue

COPIES = """\
web: {{public_url: "http://k"}}
copies:
  price_per_minute: 20
  bank: {{beneficiary: B, bin: "123456789012", iban: KZ86125KZT5004100100, bank: B, bic: KZKOKZKX,
         beneficiary_code: "17", purpose_code: "859"}}
"""
MAIL = "  mail: {{host: 127.0.0.1, port: {port}, tls: none, from: copies@example.kz}}\n"
BRISK = Pauses(
    look_s=0.05, due_s=0.05, status_s=0.05, owed_s=0.05, again_s=(0.0,), away_s=(0.05,),
    retry_s=(3600,) * 5,
)  # fmt: skip


class SetClock:
    """This machine's clock, which a test may set forward."""

    ahead_ms = 0

    def __call__(self) -> int:
        return now_ms() + self.ahead_ms


def configured(folder: Path, port: int | None, url: str | None = None) -> Config:
    text = COPIES + (MAIL if port else "")
    url = url or f"sqlite:///{folder}/k.db"
    config = configure(folder, url, "archives: [archive]\n" + text.format(port=port), "2h")
    (config.spool / "_status").mkdir(parents=True, exist_ok=True)
    return config


@contextlib.asynccontextmanager
async def opened(config: Config, clock: Clock = now_ms) -> AsyncIterator[OrderService]:
    """Orders of a catalogue."""
    catalogue = await open_catalogue(config.database_url)
    assert config.copies is not None
    yield OrderService(config, catalogue, {}, clock=clock)
    await catalogue.close()


@contextlib.asynccontextmanager
async def working(
    config: Config, service: OrderService, clock: Clock = now_ms, pauses: Pauses = BRISK
) -> AsyncIterator[OrderWorker]:
    """A desk that works."""
    watch = ClockWatch(clock, clock)  # time passes as the clock says: nobody sets it
    desk = OrderWorker(config, service.catalogue, [], pauses=pauses, clock=clock, watch=watch)
    task = asyncio.create_task(desk.run())
    try:
        yield desk
        assert not task.done()
        held_up = {part: one.why for part, one in desk._outages.items() if one.why}
        assert held_up.keys() <= {"letter"}, held_up
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


async def placed_by(service: OrderService, client: str, email: str) -> int:
    """Place an order as a client's; returns its order_pk."""
    key = events.key_of(events.new_secret())
    assert key is not None
    pk = await service.orders.create(key, quoted(), [])
    asked = Claim(client, 0, 0, 0, (), 0, 0, 0)
    link = "http://k/copies/secret"
    await service.orders.change(
        pk, events.place(service.settings, email, link, now_ms(), lambda _: asked)
    )
    return pk


async def change(service: OrderService, statement: sa.Update) -> None:
    await service.catalogue.pool.execute(statement)


async def letters(service: OrderService) -> list[dict[str, Any]]:
    return await service.catalogue.pool.rows(sa.select(outbox).order_by(outbox.c.letter_no))
