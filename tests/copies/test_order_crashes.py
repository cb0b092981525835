"""A crash between any two steps of an order: nothing paid is lost, or charged twice."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import sqlalchemy as sa

from config.model import Config
from copies.balance import received
from copies.orders.events import new_secret
from copies.states import State
from storage.catalogue.catalogue import Catalogue
from storage.catalogue.schema import usage
from tests.support.archiving import configure
from tests.support.dying_orders import STEPS, live
from tests.support.live_fixture import LiveCamera
from tests.support.mailbox import Mailbox, mailbox
from tests.support.mortals import Mortals
from tests.support.orders import COPIES
from tests.support.s3 import free_port
from tests.support.stripe_server import KEY, WEBHOOK_SECRET, running

pytest_plugins = ["tests.support.postgres"]
pytestmark = pytest.mark.slow  # processes that die, and Stripe
# of a minute, so that each camera has one file
BEGIN = (int(time.time()) // 60 - 5) * 60_000


@pytest.fixture(scope="module")
def stripe() -> Iterator[str]:
    with running(free_port()) as base:
        yield base


@pytest.fixture(scope="module")
def box() -> Iterator[Mailbox]:
    with mailbox() as one:
        yield one


@pytest.fixture(scope="module")
def spool(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("spool")
    for camera in ("c", "d"):
        one = LiveCamera(folder, camera)
        one.begin(BEGIN)
        for _ in range(30):
            one.append()
        one.close()
    return folder


@pytest.fixture(scope="module")
def mortals() -> Iterator[Mortals]:
    with Mortals("tests.support.dying_orders") as mortals:
        yield mortals


def configured(folder: Path, url: str, spool: Path, stripe: str, port: int) -> Config:
    said = COPIES.format(key=KEY, hook=WEBHOOK_SECRET, stripe=stripe, port=port)
    (folder / "spool").symlink_to(spool)
    return configure(folder, url, "archives: [archive]\n" + said, "2h")


async def counted(stripe: str) -> Counter[str]:
    async with (
        aiohttp.ClientSession() as session,
        session.get(f"{stripe}/_config/counts") as answer,
    ):
        return Counter(await answer.json())


@pytest.mark.parametrize("step", STEPS)
async def test_crash_after(
    database_url: str,
    tmp_path: Path,
    spool: Path,
    stripe: str,
    box: Mailbox,
    mortals: Mortals,
    step: str,
) -> None:
    config = configured(tmp_path, database_url, spool, stripe, box.port)
    secret, stretch = new_secret(), (BEGIN, BEGIN + 30_000)
    before, letters = await counted(stripe), len(box.letters)
    mortals.die(str(config.path), secret, *stretch, step)
    order = await live(config, secret, stretch)
    assert (order.state, order.number, received(order)) == (State.REFUNDED, 1, 0)
    assert [p.amount > 0 for p in order.payments] == [True, False]
    assert await counted(stripe) - before == Counter(paid=1, refunds=1)
    catalogue = await Catalogue.open(database_url)
    log = await catalogue.orders.audit(order.order_pk)
    assert [row.event for row in log] == [
        *("quote", "order", "payment", "pay", "finish", "returned", "refund")
    ]
    assert all(h.released_ms for h in await catalogue.holds.of("e"))
    assert len(await catalogue.holds.of("e")) == 2
    assert await catalogue.checkouts.all_open() == []
    assert await catalogue.outbox.waiting() == (0, None)
    assert await catalogue.order_files.of(order.order_pk) == []
    used = Counter(await catalogue.pool.column(sa.select(usage.c.who)))
    assert len(used) == 2 and 2 <= used.total() <= 3  # the client once, the mailbox maybe twice
    await catalogue.close()
    # a letter may come twice, none is lost
    came: Counter[Any] = Counter(m["Message-ID"] for m in box.letters[letters:])
    assert len(came) == 3 and max(came.values()) <= 2 and sum(came.values()) <= 4
