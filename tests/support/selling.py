"""A site that sells copies, in the test's own process."""

from __future__ import annotations

import contextlib
import time
from collections.abc import AsyncIterator
from ipaddress import ip_network
from pathlib import Path
from typing import Any

import aiohttp
from aiohttp import web

from base.clock import Clock, now_ms
from config.model import Config
from copies.files.sha256 import hash_copy
from copies.files.virtual import VirtualFile
from copies.footage.plan import CopyPlan
from copies.orders import events
from copies.orders.service import OrderService
from storage.catalogue.catalogue import Catalogue
from storage.catalogue.orders import Payment
from storage.recording_source import Sources
from storage.records import GapCause
from streaming.app import create_app, make_runner
from tests.support.archiving import configure
from tests.support.live_fixture import LiveCamera
from tests.support.s3 import free_port
from tests.support.tables import open_catalogue

NOW = int(time.time()) // 60 * 60_000  # a recording ends with the minute
BEGIN = NOW - 600_000
COPIES = """\
web: {public_url: "http://k"}
copies:
  price_per_minute: 60
  tax: 16%
  bank: {beneficiary: B, bin: "123456789012", iban: KZ86125KZT5004100100, bank: B, bic: KZKOKZKX,
         beneficiary_code: "17", purpose_code: "859"}
"""


def record(config: Config) -> None:
    """Record 40 s, a gap of 20 s, 30 s, by two cameras."""
    for camera in ("c", "d"):
        one = LiveCamera(config.spool, camera)
        one.begin(BEGIN)
        for _ in range(40):
            one.append()
        one.end(GapCause.UNREACHABLE)
        one.begin(BEGIN + 60_000, "blue")
        for _ in range(30):
            one.append()
        one.close()


def configured(folder: Path) -> Config:
    """Return a configuration that sells copies of two cameras, which have recorded."""
    made = configure(folder, f"sqlite:///{folder}/k.db", "archives: [archive]\n" + COPIES, "2h")
    record(made)
    return made


def proxied(config: Config) -> Config:
    """Return a configuration that believes X-Forwarded-For of this machine."""
    proxy = {"trusted_proxies": (ip_network("127.0.0.0/8"),)}
    return config.model_copy(update={"web": config.web.model_copy(update=proxy)})


@contextlib.asynccontextmanager
async def selling(config: Config, clock: Clock = now_ms) -> AsyncIterator[tuple[str, Catalogue]]:
    """A web process that sells copies; gives its address."""
    catalogue, port = await open_catalogue(config.database_url), free_port()
    if config.web.public_url == "http://k":
        here = config.web.model_copy(update={"public_url": f"http://127.0.0.1:{port}"})
        config = config.model_copy(update={"web": here})
    runner = make_runner(create_app(config, catalogue, [], clock))
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", port).start()
    try:
        yield f"http://127.0.0.1:{port}", catalogue
    finally:
        await runner.cleanup()
        await catalogue.close()


def wanted(**more: Any) -> dict[str, Any]:
    return {"station": "s", "cameras": ["c"], "from": BEGIN, "to": BEGIN + 90_000} | more


async def ordered(http: aiohttp.ClientSession, **more: Any) -> str:
    """Order; returns the secret."""
    async with http.post("/api/v1/copies/quotes", json=wanted(**more)) as answer:
        place = answer.headers["Location"]
    async with http.post(f"{place}/order") as answer:
        assert answer.status == 200
    return place.rpartition("/")[2]


async def paid(config: Config, catalogue: Catalogue, number: int = 1) -> None:
    """Have the operator enter the payment of an order."""
    assert config.copies is not None
    order = await catalogue.orders.with_number(number)
    assert order is not None
    payment = Payment("invoice", f"bank-{number}", order.total, "KZT", NOW)
    await OrderService(config, catalogue, {}).enter_payment(order.order_pk, payment, "operator")


async def read_through(config: Config, catalogue: Catalogue, number: int = 1) -> None:
    """Read each file of an order once, as the role `orders` does after it is paid."""
    order = await catalogue.orders.with_number(number)
    assert order is not None
    for row in await catalogue.order_files.plans(order.order_pk):
        plan = CopyPlan.from_dict(row.plan)
        made = await hash_copy(VirtualFile(plan, Sources(config.spool, [])))
        await catalogue.order_files.hashed(
            order.order_pk, row.file_no, made.sha256, made.crc32, made.head, plan.length
        )
    await catalogue.orders.change(order.order_pk, events.finish(NOW))
