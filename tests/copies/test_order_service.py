"""Quotes and orders through OrderService alone, as pages, API and command line share it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from pathlib import Path

import pytest
import sqlalchemy as sa

from base.clock import now_ms
from copies.footage.plan import CopyPlan
from copies.orders.events import Refused
from copies.orders.service import OrderService
from copies.payments.port import Checkout, CheckoutStatus
from copies.states import State
from storage.catalogue.database import CatalogueError
from storage.catalogue.orders import Order, Payment
from storage.catalogue.schema import order_files
from tests.support.archiving import configure
from tests.support.footage import UTC0, Camera
from tests.support.order_work import configured, opened
from tests.support.orders import placed
from tests.support.tables import open_catalogue

COPIES = """archives: [archive]
web: {public_url: "http://k"}
copies: {free: true, unpaid_per_client: 1M}
"""
STRETCH = (UTC0, UTC0 + 40_000)
LINK, CLIENT = "http://k/copies/secret", "203.0.113.1"


@pytest.fixture
async def service(tmp_path: Path) -> AsyncIterator[OrderService]:
    """Orders of a camera that recorded 40 s."""
    config = configure(tmp_path, f"sqlite:///{tmp_path}/k.db", COPIES)
    camera = Camera(config.spool, size=20_000)
    camera.record(20)
    camera.spool.close()
    catalogue = await open_catalogue(config.database_url)
    yield OrderService(config, catalogue, {}, clock=lambda: UTC0 + 60_000)
    await catalogue.close()


async def test_from_a_quote_to_an_order(service: OrderService) -> None:
    request = service.quotable("s", ["c"], STRETCH)
    secret, order = await service.quote(request, "ru", CLIENT)
    assert len(secret) == 32 and order.state == State.QUOTED and order.language == "ru"
    assert order.quote["cameras"][0]["exists_ms"] == 40_000
    files = service.catalogue.order_files
    assert await files.plans(order.order_pk) == []  # anybody may ask for quotes: they are small
    placed = await service.place(order, None, LINK, CLIENT)
    assert placed.state == State.PAID  # nothing is to be paid
    (file,) = await files.plans(order.order_pk)
    assert CopyPlan.from_dict(file.plan).etag == order.quote["cameras"][0]["files"][0]["etag"]
    assert file.length == order.quote["cameras"][0]["bytes"]
    with pytest.raises(Refused, match="paid already"):
        await service.place(placed, None, LINK, CLIENT)


@pytest.mark.parametrize(
    ("station", "cameras", "stretch", "why"),
    [
        ("x", ["c"], STRETCH, "no such station"),
        ("s", ["x"], STRETCH, "no such camera"),
        ("s", [], STRETCH, "at least one"),
        ("s", ["c"], STRETCH[::-1], "later than the beginning"),
        ("s", ["c"], (UTC0 + 90_000, UTC0 + 99_000), "recorded yet"),
    ],
)
async def test_what_cannot_be_quoted_says_why(
    service: OrderService, station: str, cameras: list[str], stretch: tuple[int, int], why: str
) -> None:
    with pytest.raises(Refused, match=why):
        service.quotable(station, cameras, stretch)


async def test_what_was_quoted_and_is_gone_is_not_ordered(service: OrderService) -> None:
    _, order = await service.quote(service.quotable("s", ["c"], STRETCH), "kk", CLIENT)
    for path in service.config.spool.glob("s/c/*/*"):
        path.unlink()
    with pytest.raises(Refused, match="nothing of this exists"):
        await service.place(order, None, LINK, CLIENT)
    other = Camera(service.config.spool, seed=2)  # other bytes of the same time
    other.record(20)
    other.spool.close()
    with pytest.raises(Refused, match="no longer"):
        await service.place(order, None, LINK, CLIENT)
    assert (await service.orders.get(order.order_pk)).state == State.QUOTED


async def test_files_are_ordered_by_the_names_that_were_quoted(service: OrderService) -> None:
    """They are asked for by them; and a station's time zone, which is in them, may be put right."""
    _, order = await service.quote(service.quotable("s", ["c"], STRETCH), "kk", CLIENT)
    before = service.config
    stations = [s.model_copy(update={"time_zone": "Asia/Tokyo"}) for s in before.stations]
    service.config = before.model_copy(update={"stations": stations})
    with pytest.raises(Refused, match="no longer"):
        await service.place(order, None, LINK, CLIENT)
    service.config = before
    assert (await service.place(order, None, LINK, CLIENT)).state == State.PAID


class Page:
    """A provider whose pages say in their address what they ask for."""

    name = "stripe"

    def __init__(self) -> None:
        self.closed = set[str]()
        self.meanwhile: Callable[[], Awaitable[object]] | None = None

    async def open(
        self, order: Order, amount: int, title: str, back: str, attempt: int
    ) -> Checkout:
        if self.meanwhile is not None:
            await self.meanwhile()
        return Checkout(f"cs_{attempt}", f"http://pay/{amount}")

    async def look(self, reference: str) -> CheckoutStatus:
        return CheckoutStatus(reference not in self.closed)

    async def close(self, reference: str) -> None:
        self.closed.add(reference)

    def parse_webhook(self, body: bytes, headers: Mapping[str, str]) -> str | None:
        raise NotImplementedError

    async def refund(self, payment: Payment, amount: int, key: str) -> str:
        raise NotImplementedError

    async def check_access(self) -> None:
        raise NotImplementedError

    async def close_connections(self) -> None:
        raise NotImplementedError


async def test_a_part_that_comes_while_a_page_is_opened_is_not_asked_for_again(
    tmp_path: Path,
) -> None:
    at_ms, page = now_ms(), Page()

    def clock() -> int:
        nonlocal at_ms
        at_ms += 1
        return at_ms

    async with opened(configured(tmp_path, None), clock) as service:
        order, service.providers = await placed(service), {page.name: page}

        async def part() -> None:
            came = Payment("invoice", "a", 50_000, "KZT", clock())
            await service.enter_payment(order.order_pk, came, "operator")

        page.meanwhile = part
        assert await service.payment_page(order, page, "", "") == "http://pay/58000"
        page.meanwhile = None
        for _ in range(2):  # of the second no third one is made
            assert await service.payment_page(order, page, "", "") == "http://pay/8000"
        assert page.closed == {"cs_0"}


async def test_nobody_orders_more_than_he_may(service: OrderService) -> None:
    request = service.quotable("s", ["c"], STRETCH)
    (_, first), (_, second) = [await service.quote(request, "kk", CLIENT) for _ in range(2)]
    await service.place(first, None, LINK, CLIENT)
    with pytest.raises(Refused, match="still to be checked"):
        await service.place(second, None, LINK, CLIENT)
    assert (await service.place(second, None, LINK, "203.0.113.2")).state == State.PAID


async def test_a_quote_of_an_older_kuager_has_its_plans_once(service: OrderService) -> None:
    _, order = await service.quote(service.quotable("s", ["c"], STRETCH), "kk", CLIENT)
    old = {"plan": {}, "length": 1, "camera": "c", "recordings": None}
    await service.catalogue.pool.execute(
        sa.insert(order_files).values(order_pk=order.order_pk, file_no=1, **old)
    )
    await service.place(order, None, LINK, CLIENT)
    (file,) = await service.catalogue.pool.rows(sa.select(order_files))
    assert file["recordings"] and file["plan"]


async def test_without_a_catalogue_it_says_so(service: OrderService) -> None:
    request = service.quotable("s", ["c"], STRETCH)
    await service.catalogue.close()
    with pytest.raises(CatalogueError):
        await service.quote(request, "kk", CLIENT)
