"""Pages and API of copies over real sockets: what is sold, to whom, and what is refused."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import aiohttp
import jsonschema_rs
import pytest

from config.model import Config
from copies.states import State
from streaming.api import copies as copies_api
from tests.support.archiving import configure
from tests.support.selling import (
    BEGIN,
    NOW,
    configured,
    selling,
    wanted,
)


@pytest.fixture
def config(tmp_path: Path) -> Config:
    return configured(tmp_path)


async def test_an_order_by_api(config: Config) -> None:
    async with selling(config) as (base, _), aiohttp.ClientSession(base) as http:
        async with http.post("/api/v1/copies/quotes", json=wanted()) as answer:
            assert answer.status == 201, await answer.text()
            quote = await answer.json()
            place = answer.headers["Location"]
            assert answer.headers["Referrer-Policy"] in ("same-origin", "no-referrer")
        (footage,) = quote["footage"]
        assert footage["exists_ms"] == 70_000
        assert [(g["start_ms"], g["end_ms"], g["cause"]) for g in footage["gaps"]] == [
            (BEGIN + 40_000, BEGIN + 60_000, "unreachable")
        ]
        # 70 s at 60.00 a minute, and 16 %
        assert (quote["price"]["net"], quote["price"]["total"]) == (7000, 8120)
        assert quote["state"] == "quoted" and quote["number"] is None
        async with http.get("/api/v1/copies/register") as answer:
            assert (await answer.json())["orders"] == []
        async with http.post(f"{place}/order", json={"email": "no address"}) as answer:
            assert answer.status == 400  # it is read
        async with http.post(f"{place}/order", json={"email": "a@b.kz"}) as answer:
            order = await answer.json()
            assert (answer.status, order["state"], order["number"]) == (200, "awaiting_payment", 1)
        async with http.get("/api/v1/copies/register") as answer:
            listed = await answer.json()
        async with http.get("/api/v1/openapi.json") as answer:
            description = await answer.json()
        for told, schema in ((quote, "Order"), (order, "Order"), (listed, "Register")):
            parts = {"$ref": f"#/components/schemas/{schema}"}
            jsonschema_rs.validate(parts | {"components": description["components"]}, told)
        described = {path for path in description["paths"] if "/copies/" in path}
        assert described == {route.path for route in copies_api.routes}  # type: ignore[attr-defined]
        async with http.post(f"{place}/order") as answer:  # again
            assert answer.status == 409
            assert answer.content_type == "application/problem+json"
        async with http.get(place) as answer:
            assert answer.headers["Referrer-Policy"] == "no-referrer"
            assert answer.headers["Cache-Control"] == "no-store"
        async with http.get("/api/v1/copies/register") as answer:
            text = await answer.text()
            assert "a@b.kz" not in text and place.rpartition("/")[2] not in text
        async with http.post(f"{place}/cancel") as answer:
            assert (await answer.json())["state"] == "cancelled"
        async with http.post(f"{place}/cancel") as answer:
            assert answer.status == 409


@pytest.mark.parametrize(
    ("body", "why"),
    [
        (wanted(to=BEGIN), "the end must be later than the beginning"),
        (wanted(to=BEGIN - 1), "the end must be later than the beginning"),
        (wanted(to=BEGIN + 29), "shorter than 5 s"),  # ten of them would cost nothing
        (
            wanted() | {"from": "0001-01-01T00:00:00Z", "to": "0001-01-01T01:00:00Z"},
            "nothing is recorded of that time",
        ),
        (
            wanted() | {"from": "1969-12-31T23:59:00Z", "to": "1970-01-01T00:01:00+05:00"},
            "the end must be later than the beginning",
        ),
        (wanted(to=BEGIN + 10 * 365 * 86_400_000), "longer than 24 h"),
        ({**wanted(), "from": NOW + 10**9, "to": NOW + 10**9 + 1000}, "nothing is recorded yet"),
        (wanted(cameras=["e"]), "no such camera"),
        (wanted(cameras=["c", "<script>"]), "no such camera"),
        (wanted(cameras=[]), "at least one camera"),
        (wanted(cameras=[1]), "list of ids"),
        (wanted(cameras="c"), "list of ids"),
        (wanted(station="other"), "no such station"),
        (wanted(station=None), "'station' is an id"),
        (wanted(to="2026-11-29T10:00:00"), "'to' is not a time"),
        (wanted(to=True), "'to' is not a time"),
        (wanted(to=10**20), "'to' is not a time"),
        (wanted(to="9999-99-99T00:00:00Z"), "'to' is not a time"),
        ([], "one JSON object"),
        ("\x00", "one JSON object"),
    ],
)
async def test_what_cannot_be_quoted(config: Config, body: Any, why: str) -> None:
    async with selling(config) as (base, catalogue), aiohttp.ClientSession(base) as http:
        async with http.post("/api/v1/copies/quotes?lang=en", json=body) as answer:
            problem = await answer.json()
            assert (answer.status, answer.content_type) == (400, "application/problem+json")
            assert why in problem["detail"]
        assert await catalogue.orders.count() == {}


async def test_an_order_by_pages_without_scripts(config: Config) -> None:
    english = {"Accept-Language": "en"}
    async with (
        selling(config) as (base, catalogue),
        aiohttp.ClientSession(base, headers=english) as http,
    ):
        for path in (
            "/copies/",
            "/copies/new",
            "/copies/new?q=s",
            "/copies/register",
            "/copies/back",
            "/copies/new?station=s&cameras=c&from=1&to=2",
        ):
            for lang in ("kk", "ru", "en"):
                join = "&" if "?" in path else "?"
                async with http.get(f"{path}{join}lang={lang}") as answer:
                    assert answer.status == 200, await answer.text()
        query = f"station=s&cameras=c&from={BEGIN}&to={BEGIN + 90_000}"
        async with http.get(f"/copies/new?{query}") as answer:
            text = await answer.text()
        fields = dict(re.findall(r'name="(from|to)"[^>]*value="([^"]+)"', text))
        form = aiohttp.FormData([("station", "s"), ("camera", "c"), *fields.items()])
        async with http.post("/copies/quotes", data=form) as answer:
            text = await answer.text()
            assert answer.status == 200, text
            page = str(answer.url)
            assert answer.headers["Referrer-Policy"] == "no-referrer"
        assert "Recorded: 1:10 of 1:30 min" in text and "the camera does not answer" in text
        assert "KZT" in text and "81.20" in text
        async with http.post(f"{page}/order", data={"email": "no address"}) as answer:
            assert answer.status == 400 and "not an e-mail address" in await answer.text()
        async with http.post(f"{page}/order", data={"email": ""}) as answer:
            text = await answer.text()
            assert answer.status == 200 and "Waiting for payment" in text
        async with http.get(f"{page}/invoice.pdf") as answer:
            assert answer.status == 200 and (await answer.read()).startswith(b"%PDF")
        async with http.post(f"{page}/pay/stripe") as answer:
            assert answer.status == 404
        async with http.get(page) as answer:  # taking it back takes two steps
            text = await answer.text()
            assert re.search(r"<details>(?:(?!</details>).)*/cancel", text, re.S)
        async with http.post(f"{page}/cancel") as answer:
            text = await answer.text()
            assert "Cancelled" in text and "Not paid in time" not in text
        async with http.get(f"{page}/manifest.json") as answer:
            assert answer.status == 410 and "was not paid" in await answer.text()
        async with http.get(f"{page}/invoice.pdf") as answer:
            assert answer.status == 404
        async with http.get("/copies/register") as answer:
            assert "Cancelled" in await answer.text()
        assert await catalogue.orders.count() == {State.CANCELLED: 1}
        bad = aiohttp.FormData([("station", "s"), ("camera", "c"), ("from", "x"), ("to", "<b>")])
        async with http.post("/copies/quotes", data=bad) as answer:
            text = await answer.text()
            assert answer.status == 400 and "Write a day and a time" in text
            assert "<b>" not in text and "&lt;b&gt;" in text


async def test_other_sites_may_not_order(config: Config) -> None:
    async with selling(config) as (base, catalogue), aiohttp.ClientSession(base) as http:
        async with http.post("/api/v1/copies/quotes", json=wanted()) as answer:
            place = answer.headers["Location"]
        for headers in (
            {"Sec-Fetch-Site": "cross-site"},
            {"Sec-Fetch-Site": "same-site"},
            {"Origin": "https://evil.example"},
            {"Sec-Fetch-Site": "same-origin", "Origin": "https://evil.example"},
        ):
            for path in (f"{place}/order", f"{place}/cancel", "/api/v1/copies/quotes"):
                async with http.post(path, json=wanted(), headers=headers) as answer:
                    assert answer.status == 403
        async with http.post(
            f"{place}/order", headers={"Sec-Fetch-Site": "same-origin", "Origin": "null"}
        ) as answer:
            assert answer.status == 200
        assert await catalogue.orders.count() == {State.AWAITING_PAYMENT: 1}
    # a proxy in front, which asks for us by the name of this machine
    named = config.web.model_copy(update={"public_url": "https://live.example.kz"})
    config = config.model_copy(update={"web": named})
    async with selling(config) as (base, _), aiohttp.ClientSession(base) as http:
        headers = {"Sec-Fetch-Site": "same-origin", "Origin": "https://live.example.kz"}
        async with http.post("/api/v1/copies/quotes", json=wanted(), headers=headers) as answer:
            assert answer.status == 201


async def test_no_copies_without_the_setting(tmp_path: Path) -> None:
    config = configure(tmp_path, f"sqlite:///{tmp_path}/k.db", "archives: [archive]\n", "2h")
    async with selling(config) as (base, _), aiohttp.ClientSession(base) as http:
        for path in ("/copies/", "/copies/new", "/copies/register", "/api/v1/copies/register"):
            async with http.get(path) as answer:
                assert answer.status == 404


@pytest.mark.parametrize("before", ["2147483647", "999999999", "1", "0"])
async def test_the_register_takes_what_its_description_allows(config: Config, before: str) -> None:
    async with selling(config) as (base, _), aiohttp.ClientSession(base) as http:
        for path in ("/copies/register", "/api/v1/copies/register"):
            async with http.get(f"{path}?before={before}") as answer:
                assert answer.status == 200
        async with http.get("/api/v1/openapi.json") as answer:
            path = (await answer.json())["paths"]["/api/v1/copies/register"]
        (asked,) = [p for p in path["get"]["parameters"] if p.get("name") == "before"]
        largest = asked["schema"]["maximum"]
        async with http.get(f"/api/v1/copies/register?before={largest + 1}") as answer:
            assert answer.status == 400
