"""How many guesses at order links get through from one address, and the odds that one is right.

`python -m benchmarks.bench_guess` starts a web process with copies and guesses at it.
"""

from __future__ import annotations

import argparse
import asyncio
import tempfile
import time
from collections import Counter
from pathlib import Path

import aiohttp
from aiohttp import web

from config.load import load
from copies.orders.events import SECRET_BYTES, new_secret
from storage.catalogue.catalogue import Catalogue
from streaming.app import create_app, make_runner
from tests.support.config_files import KUAGER, write
from tests.support.s3 import free_port

AT_ONCE = 32
ORDERS = 1_000_000
YEAR_S = 365.25 * 86_400


async def measure(seconds: float) -> Counter[int]:
    """Return how often each status was answered to guesses."""
    found: Counter[int] = Counter()
    with tempfile.TemporaryDirectory() as folder:
        path = write(
            Path(folder), kuager_yaml=KUAGER + "web: {public_url: http://k}\ncopies: {free: true}\n"
        )
        config = load(path, {})
        catalogue = await Catalogue.open(config.database_url)
        runner = make_runner(create_app(config, catalogue, []))
        await runner.setup()
        port = free_port()
        await web.TCPSite(runner, "127.0.0.1", port).start()
        end = time.monotonic() + seconds

        async def guess(session: aiohttp.ClientSession) -> None:
            while time.monotonic() < end:
                url = f"http://127.0.0.1:{port}/copies/{new_secret()}"
                async with session.get(url) as answer:
                    found[answer.status] += 1

        async with aiohttp.ClientSession() as session:
            await asyncio.gather(*(guess(session) for _ in range(AT_ONCE)))
        await runner.cleanup()
        await catalogue.close()
    return found


def main() -> None:
    """Guess, and print what came of it."""
    arguments = argparse.ArgumentParser()
    arguments.add_argument("--seconds", type=float, default=60)
    seconds = arguments.parse_args().seconds
    found = asyncio.run(measure(seconds))
    through, refused = found[404], found[429]
    bits = SECRET_BYTES * 8
    print(f"{sum(found.values()) / seconds:,.0f} guesses a second were sent from one address.")
    print(f"{through} of {through + refused} were looked up ({through / seconds:.2f} a second).")
    years = 2**bits / ORDERS / (through / seconds) / YEAR_S
    print(f"One in 2^{bits} is an order's: with {ORDERS:,} orders, {years:.0e} years for a hit;")
    print(f"from a million addresses at once {years / 1e6:.0e} years.")


if __name__ == "__main__":
    main()
