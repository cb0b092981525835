"""Pages of orders of which something is not known, or was deleted meanwhile."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import sqlalchemy as sa

from config.model import Config
from copies.states import State
from storage.catalogue.database import CatalogueError
from storage.catalogue.schema import order_files, orders
from tests.support.selling import (
    BEGIN,
    NOW,
    configured,
    ordered,
    paid,
    read_through,
    selling,
    wanted,
)


@pytest.fixture
def config(tmp_path: Path) -> Config:
    return configured(tmp_path)


async def test_a_database_that_is_away(config: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    async with selling(config) as (base, catalogue), aiohttp.ClientSession(base) as http:

        async def refuse(*_: object) -> None:
            raise CatalogueError("connection refused")

        monkeypatch.setattr(catalogue.orders, "with_key", refuse)
        async with http.get(f"/copies/{'a' * 32}") as answer:
            assert answer.status == 503 and "Retry-After" in answer.headers


NONE_OR = {
    "ordered_ms": NOW,
    "paid_ms": NOW,
    "ready_ms": NOW,
    "ended_ms": NOW,
    "until_ms": NOW + 10**9,
    "reason": "because",
    "email": "a@b.kz",
    "forget_ms": NOW,
}


@pytest.mark.slow
@pytest.mark.parametrize("state", State)
async def test_whatever_is_not_known_of_an_order_its_pages_are_shown(
    config: Config, state: State
) -> None:
    async with (
        selling(config) as (base, catalogue),
        aiohttp.ClientSession(base, headers={"Accept-Language": "en"}) as http,
    ):
        secret = await ordered(http)
        order = await catalogue.orders.with_number(1)
        assert order is not None
        await read_through(config, catalogue)
        camera = order.quote["cameras"][0]
        camera["removed"] = [
            {"start_ms": BEGIN, "end_ms": BEGIN + 1, "removed_ms": NOW, "reason": "kept for 1 day"},
            {"start_ms": BEGIN, "end_ms": BEGIN + 1, "removed_ms": None, "reason": "is away"},
        ]
        files = [*camera["files"]]
        for known in (set(NONE_OR), set[str](), {"paid_ms", "until_ms"}, {"until_ms"}):
            values = {name: value if name in known else None for name, value in NONE_OR.items()}
            values |= {"state": state, "quote": order.quote}
            await catalogue.pool.execute(sa.update(orders).values(values))
            for path in (
                f"/copies/{secret}?lang=en",
                f"/api/v1/copies/orders/{secret}",
                "/copies/register",
                "/api/v1/copies/register",
            ):
                async with http.get(path) as answer:
                    text = await answer.text()
                    assert answer.status == 200, (path, known, text)
                    if path.startswith("/copies/" + secret):
                        assert "recorded, and cannot be had now (is away)" in text
                        assert "kept for 1 day" in text
            for path in ("invoice.pdf", "manifest.json", f"files/1/{files[0]['name']}"):
                async with http.get(f"/copies/{secret}/{path}?lang=en") as answer:
                    await answer.read()
                    assert answer.status in (200, 403, 404, 410), (path, known)
            async with http.get(f"/copies/{secret}/everything.zip?lang=en") as answer:
                if answer.status == 200:
                    with zipfile.ZipFile(io.BytesIO(await answer.read())) as found:
                        text = found.read("README.txt").decode("utf-8-sig")
                    assert text.count("kept for 1 day") == text.count("is away") == 1
                elif state == State.REFUNDED:
                    assert "given back" in await answer.text()


@pytest.mark.parametrize(
    ("how", "path"),
    [
        ("GET", "/copies/{}"),
        ("POST", "/copies/{}/order"),
        ("POST", "/copies/{}/cancel"),
        ("POST", "/copies/{}/pay/stripe"),
        ("GET", "/copies/{}/invoice.pdf"),
        ("GET", "/api/v1/copies/orders/{}"),
        ("POST", "/api/v1/copies/orders/{}/order"),
        ("POST", "/api/v1/copies/orders/{}/cancel"),
    ],
)
async def test_a_quote_that_is_deleted_meanwhile_is_no_fault(
    config: Config, monkeypatch: pytest.MonkeyPatch, how: str, path: str
) -> None:
    async with selling(config) as (base, catalogue), aiohttp.ClientSession(base) as http:
        async with http.post("/api/v1/copies/quotes", json=wanted()) as answer:
            secret = answer.headers["Location"].rpartition("/")[2]
        found = catalogue.orders.with_key

        async def found_and_deleted(key: str) -> Any:
            order = await found(key)
            await catalogue.pool.execute(sa.delete(order_files))
            await catalogue.pool.execute(sa.delete(orders))
            return order

        monkeypatch.setattr(catalogue.orders, "with_key", found_and_deleted)
        async with http.request(how, path.format(secret), allow_redirects=False) as answer:
            assert answer.status == (404 if how == "POST" or "invoice" in path else 200)


async def test_a_page_is_shown_whose_files_were_dropped_meanwhile(config: Config) -> None:
    async with selling(config) as (base, catalogue), aiohttp.ClientSession(base) as http:
        secret = await ordered(http)
        await paid(config, catalogue)
        await catalogue.pool.execute(sa.delete(order_files))
        for path in ("", "/everything.zip", "/manifest.json"):
            async with http.get(f"/copies/{secret}{path}") as answer:
                await answer.read()
                assert answer.status == 200
