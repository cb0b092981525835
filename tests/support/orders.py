"""An order in a catalogue of its own, and what pays it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import aiohttp

from base.clock import now_ms
from config.model import Config
from copies.orders import events
from copies.orders.service import OrderService
from copies.payments.stripe import Stripe
from copies.states import State
from storage.catalogue.orders import Order
from tests.support.archiving import configure
from tests.support.stripe_server import KEY, WEBHOOK_SECRET

PRICE = {
    "currency": "KZT",
    "per_minute": 2000,
    "lines": [{"camera": "c", "exists_ms": 60_000, "billed_ms": 60_000, "net": 2000}],
    "minimum": 48_000,
    "net": 50_000,
    "tax_basis": 1600,
    "tax": 8_000,
    "total": 58_000,
}
TITLE = {"kk": "Сайлау жәшігі", "ru": "Урна", "en": "Ballot box"}
STATION = {
    "number": "117",
    "name": {"kk": "№ 12 мектеп", "ru": "Школа № 12", "en": "School 12"},
    "address": {"kk": "Абай 5", "ru": None, "en": None},
    "time_zone": "Asia/Almaty",
}
QUOTE = {"station": STATION, "cameras": [{"id": "c", "title": TITLE}], "price": PRICE}
MADE_OF = [{"record_seq": 1, "start_ms": 1_000, "sha256": "00" * 32}]
FILE = {"plan": {}, "length": 100, "camera": "c", "recordings": MADE_OF}


def quoted(lasts_ms: int = 60_000) -> dict[str, Any]:
    """Return the row of a quote."""
    return {
        "election": "e",
        "station": "s",
        "from_ms": 1,
        "to_ms": 60_001,
        "state": State.QUOTED,
        "language": "kk",
        "quote": QUOTE,
        "currency": "KZT",
        "total": PRICE["total"],
        "created_ms": now_ms(),
        "until_ms": now_ms() + lasts_ms,
    }


async def placed(service: OrderService, n: int = 1, email: str | None = None) -> Order:
    """Return an order that waits for its payment."""
    row = quoted()
    key = events.key_of(events.new_secret())
    assert key is not None
    pk = await service.orders.create(key, row, [FILE])
    return await service.orders.change(
        pk, events.place(service.settings, email, "http://k/copies/secret", now_ms())
    )


async def opened(service: OrderService, order: Order) -> str:
    provider = service.providers["stripe"]
    assert isinstance(provider, Stripe)
    return await service.payment_page(order, provider, "Station 117", "http://k/copies/back")


async def pay(url: str) -> None:
    async with (
        aiohttp.ClientSession() as session,
        session.post(url, allow_redirects=False) as answer,
    ):
        assert answer.status == 303, await answer.text()


COPIES = """\
web: {{public_url: "http://k"}}
copies:
  price_per_minute: 20
  bank: {{beneficiary: B, bin: "123456789012", iban: KZ86125KZT5004100100, bank: B, bic: KZKOKZKX,
         beneficiary_code: "17", purpose_code: "859"}}
  stripe: {{secret_key: {key}, webhook_secret: {hook}, api_base: "{stripe}"}}
  mail: {{host: 127.0.0.1, port: {port}, tls: none, from: copies@example.kz}}
"""


def configured(folder: Path, url: str, stripe: str, port: int) -> Config:
    said = COPIES.format(key=KEY, hook=WEBHOOK_SECRET, stripe=stripe, port=port)
    config = configure(folder, url, "archives: [archive]\n" + said, "2h")
    (config.spool / "_status").mkdir(parents=True)
    return config
