"""A site that sells copies, in the test's own process."""

from __future__ import annotations

import contextlib
import time
from collections.abc import AsyncIterator
from typing import Any

from aiohttp import web

from base.clock import Clock, now_ms
from config.model import Config
from storage.catalogue.catalogue import Catalogue
from storage.records import GapCause
from streaming.app import create_app, make_runner
from tests.support.live_fixture import LiveCamera
from tests.support.s3 import free_port

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


@contextlib.asynccontextmanager
async def selling(config: Config, clock: Clock = now_ms) -> AsyncIterator[tuple[str, Catalogue]]:
    """A web process that sells copies; gives its address."""
    catalogue, port = await Catalogue.open(config.database_url), free_port()
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
