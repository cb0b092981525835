"""How much one client may ask, guess and have of copies before it is paid."""

from __future__ import annotations

import asyncio
from pathlib import Path

import aiohttp
import pytest
import sqlalchemy as sa

from base.clock import now_ms
from config.copies import Mail
from config.model import Config
from copies.states import State
from storage.catalogue.database import CatalogueError
from storage.catalogue.schema import orders
from streaming.http.rate_limit import RateLimit
from tests.support.selling import (
    BEGIN,
    NOW,
    configured,
    ordered,
    paid,
    proxied,
    selling,
    wanted,
)


@pytest.fixture
def config(tmp_path: Path) -> Config:
    return configured(tmp_path)


@pytest.fixture(autouse=True)
def time_stands(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let no time pass for limits: a busy machine takes longer than what they give back."""
    monkeypatch.setattr(RateLimit.__init__, "__defaults__", (lambda: 0.0,))


async def test_guesses_are_few(config: Config) -> None:
    async with selling(config) as (base, _), aiohttp.ClientSession(base) as http:
        async with http.post("/api/v1/copies/quotes", json=wanted()) as answer:
            place = answer.headers["Location"]

        async def guess(n: int) -> int:
            async with http.get(f"/copies/{n:032}") as answer:
                return answer.status

        statuses = await asyncio.gather(*(guess(n) for n in range(100)))
        assert statuses.count(404) == 30 and statuses.count(429) == 70
        # who guesses waits for one that he never asked for before, too, whatever he says he is
        for headers in ({}, {"X-Forwarded-For": "9.9.9.9"}):
            async with http.get(place, headers=headers) as answer:
                assert answer.status == 429 and int(answer.headers["Retry-After"]) <= 31


async def test_a_right_link_is_always_answered(config: Config) -> None:
    async with selling(config) as (base, _), aiohttp.ClientSession(base) as http:
        async with http.post("/api/v1/copies/quotes", json=wanted()) as answer:
            place = answer.headers["Location"]

        async def ask(path: str) -> int:
            async with http.get(path) as answer:
                return answer.status

        assert set(await asyncio.gather(*(ask(place) for _ in range(60)))) == {200}
        assert 429 in await asyncio.gather(*(ask(f"/copies/{n:032}") for n in range(40)))
        assert await ask(place) == 200


async def test_a_proxy_that_is_configured_says_who_guesses(config: Config) -> None:
    async with selling(proxied(config)) as (base, _), aiohttp.ClientSession(base) as http:

        async def guess(n: int, *said: str) -> int:
            headers = [("X-Forwarded-For", line) for line in said]
            async with http.get(f"/copies/{n:032}", headers=headers) as answer:
                return answer.status

        for n in range(31):  # the first line is the guesser's invention, another each time
            found = await guess(n, f"7.7.7.{n}", f"8.8.8.{n}, 203.0.113.9:{1000 + n}")
        assert found == 429
        assert await guess(32, "203.0.113.9, 198.51.100.4") == 404
        assert await guess(33, "[2001:db8::1]:443") == 404


async def test_quotes_are_limited(config: Config) -> None:
    async with selling(config) as (base, catalogue), aiohttp.ClientSession(base) as http:

        async def ask() -> int:
            async with http.post("/api/v1/copies/quotes", json=wanted()) as answer:
                return answer.status

        statuses = await asyncio.gather(*(ask() for _ in range(25)))
        assert statuses.count(201) == 20 and statuses.count(429) == 5
        assert await catalogue.orders.count() == {State.QUOTED: 20}


async def test_what_asks_archives_and_providers_is_limited(config: Config) -> None:
    """An order that is refused each time, looks for its footage each time."""
    async with selling(config) as (base, catalogue), aiohttp.ClientSession(base) as http:
        nothing = wanted() | {"from": BEGIN + 41_000, "to": BEGIN + 59_000}
        async with http.post("/api/v1/copies/quotes", json=nothing) as answer:
            place = answer.headers["Location"]
        page = f"/copies/{place.rpartition('/')[2]}"

        async def tried(path: str, count: int) -> list[int]:
            found = []
            for _ in range(count):
                async with http.post(path) as answer:
                    found.append(answer.status)
            return found

        found = await tried(f"{place}/order", 22)
        assert found[:19] == [409] * 19 and set(found[19:]) <= {409, 429} and 429 in found
        found = await tried(f"{place}/cancel", 6) + await tried(f"{page}/cancel", 8)
        assert found[0] == 200 and 429 in found
        assert await catalogue.orders.count() == {State.CANCELLED: 1}


@pytest.mark.slow
async def test_pages_that_show_much_are_limited(config: Config) -> None:
    async with selling(config) as (base, catalogue), aiohttp.ClientSession(base) as http:
        secret = await ordered(http)
        order = await catalogue.orders.with_number(1)
        assert order is not None
        camera = order.quote["cameras"][0]
        camera["gaps"] = [{"start_ms": NOW, "end_ms": NOW + 1, "cause": "unreachable"}] * 20_000
        await catalogue.pool.execute(sa.update(orders).values(quote=order.quote))

        async def asked(path: str, count: int) -> list[int]:
            found = []
            for _ in range(count):
                async with http.get(path) as answer:
                    found.append(answer.status)
            return found

        found = await asked(f"/api/v1/copies/orders/{secret}", 40)
        assert found[:10] == [200] * 10 and 429 in found
        assert 429 in await asked("/copies/register", 1) + await asked(f"/copies/{secret}", 1)
        async with http.get("/live/s/c/index.m3u8") as answer:
            assert answer.status == 200


async def test_nobody_is_refused_for_what_a_database_did_not_do(
    config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with selling(config) as (base, catalogue), aiohttp.ClientSession(base) as http:
        secret = await ordered(http)

        async def refuse(*_: object) -> None:
            raise CatalogueError("connection refused")

        with monkeypatch.context() as away:
            away.setattr(catalogue.orders, "change", refuse)
            for _ in range(25):
                async with http.post(f"/api/v1/copies/orders/{secret}/cancel") as answer:
                    assert answer.status == 503
        async with http.post(f"/api/v1/copies/orders/{secret}/cancel") as answer:
            assert answer.status == 200


@pytest.mark.slow
async def test_nobody_has_letters_sent_to_many(config: Config) -> None:
    assert config.copies is not None
    mail = Mail.model_validate({"host": "127.0.0.1", "from": "copies@example.kz"})
    selling_by_mail = config.copies.model_copy(update={"mail": mail})
    config = config.model_copy(update={"copies": selling_by_mail})
    async with selling(config) as (base, catalogue), aiohttp.ClientSession(base) as http:
        places, found = [], []
        for _ in range(9):  # before: what is counted has to come within a minute
            async with http.post("/api/v1/copies/quotes", json=wanted()) as answer:
                places.append(answer.headers["Location"])
        for n, place in enumerate(places):
            email = {"email": f"somebody-{n}@example-{n}.kz"}
            async with http.post(f"{place}/order", json=email) as answer:
                found.append(answer.status)
        assert found == [200] * 8 + [429]
        async with http.post(f"{place}/order") as answer:
            assert answer.status == 200  # without a letter
        assert (await catalogue.outbox.waiting())[0] == 8


async def test_free_minutes_are_of_a_client_and_day(config: Config) -> None:
    assert config.copies is not None
    day_ms, copies = 86_400_000, config.copies.model_copy(update={"free_minutes": 1})
    config = config.model_copy(update={"copies": copies})
    ahead_ms = 0
    async with (
        selling(proxied(config), lambda: now_ms() + ahead_ms) as (base, _),
        selling(proxied(config), lambda: now_ms() + ahead_ms) as (other, _),
        aiohttp.ClientSession(base) as http,
        aiohttp.ClientSession(other) as beside,  # another process, or the next one
    ):

        async def quoted(**headers: str) -> tuple[str, int]:
            begin = {"from": BEGIN, "to": BEGIN + 30_000}
            named = {key.replace("_", "-"): value for key, value in headers.items()}
            async with http.post(
                "/api/v1/copies/quotes", json=wanted() | begin, headers=named
            ) as answer:
                return answer.headers["Location"], (await answer.json())["price"]["total"]

        async def place(where: str, http: aiohttp.ClientSession = http) -> tuple[int, str]:
            async with http.post(f"{where}/order?lang=en") as answer:
                return answer.status, await answer.text()

        # all before any is ordered
        made = [await quoted() for _ in range(4)]
        assert [total for _, total in made] == [0] * 4
        assert [(await place(where))[0] for where, _ in made[:2]] == [200, 200]
        status, text = await place(made[2][0], beside)
        assert status == 409 and "free minutes of today are used up" in text
        assert (await place(made[0][0]))[0] == 409  # again: nothing is counted for it
        where, total = await quoted()
        assert total == 3480 and (await place(where))[0] == 200  # 30 s at 60.00, and 16 %
        _, total = await quoted(X_Forwarded_For="203.0.113.7")
        assert total == 0  # somebody else's day
        ahead_ms = day_ms
        _, total = await quoted()
        assert total == 0
        async with http.get("/copies/?lang=en") as answer:
            assert "Free for each visitor, each day" in await answer.text()


async def test_what_is_not_paid_is_capped(config: Config) -> None:
    assert config.copies is not None
    async with (
        selling(config) as (base, _),
        aiohttp.ClientSession(base) as http,
        http.post("/api/v1/copies/quotes", json=wanted()) as answer,
    ):
        length = sum(f["length"] for c in (await answer.json())["footage"] for f in c["files"])
    caps = {"unpaid_per_client": 2 * length, "unpaid_in_all": 4 * length}
    copies = config.copies.model_copy(update=caps)
    config = proxied(config.model_copy(update={"copies": copies}))
    async with (
        selling(config) as (base, catalogue),
        selling(config) as (other, _),
        aiohttp.ClientSession() as http,
    ):

        async def order(who: str, base: str = base) -> tuple[int, str]:
            named, quotes = {"X-Forwarded-For": who}, f"{base}/api/v1/copies/quotes"
            async with http.post(quotes, json=wanted(), headers=named) as answer:
                place = base + answer.headers["Location"]
            async with http.post(f"{place}/order?lang=en", headers=named) as answer:
                return answer.status, await answer.text()

        at_once = await asyncio.gather(
            *(order("203.0.113.1", (base, other)[n % 2]) for n in range(5))
        )
        assert sorted(status for status, _ in at_once) == [200, 200, 409, 409, 409]
        assert any("pay or cancel first" in text for _, text in at_once)
        await paid(config, catalogue)
        assert (await order("203.0.113.1"))[0] == 200
        assert [(await order("203.0.113.2"))[0] for _ in range(3)] == [200, 200, 409]
        status, text = await order("203.0.113.3")
        assert status == 409 and "by all together" in text
        assert (await catalogue.orders.count())[State.AWAITING_PAYMENT] == 4
