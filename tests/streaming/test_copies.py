"""Pages and API of copies over real sockets: what is sold, to whom, and what is refused."""

from __future__ import annotations

import asyncio
import hashlib
import io
import json
import re
import time
import zipfile
from functools import partial
from ipaddress import ip_network
from pathlib import Path
from typing import Any

import aiohttp
import jsonschema_rs
import pytest
import sqlalchemy as sa
from aiohttp.test_utils import make_mocked_request
from pydantic import SecretStr
from stripe import WebhookSignature

from base.clock import now_ms
from base.i18n.gettext import gettext
from config.copies import Stripe as Keys
from config.model import Config
from copies.balance import owed
from copies.files.sha256 import sha256_of
from copies.files.virtual import VirtualFile
from copies.footage.plan import CopyPlan
from copies.orders import events
from copies.orders.service import OrderService
from copies.states import State
from storage.catalogue.catalogue import Catalogue
from storage.catalogue.database import CatalogueError
from storage.catalogue.orders import Payment
from storage.catalogue.recordings import Archived, recording_row
from storage.catalogue.schema import order_files, orders
from storage.recording_source import Sources
from storage.spool.reader import SpoolReader
from streaming.api import copies as copies_api
from streaming.app import create_app
from streaming.media import downloads as copies_files
from streaming.orders_context import ORDERS
from tests.support.archiving import configure
from tests.support.live_fixture import LiveCamera
from tests.support.orders import pay
from tests.support.s3 import free_port
from tests.support.selling import BEGIN, COPIES, NOW, record, selling, wanted
from tests.support.stripe_server import KEY, WEBHOOK_SECRET, running, tell
from tests.support.waiting import until


@pytest.fixture
def config(tmp_path: Path) -> Config:
    made = configure(tmp_path, f"sqlite:///{tmp_path}/k.db", "archives: [archive]\n" + COPIES, "2h")
    record(made)
    return made


def proxied(config: Config) -> Config:
    """Return a configuration that believes X-Forwarded-For of this machine."""
    proxy = {"trusted_proxies": (ip_network("127.0.0.0/8"),)}
    return config.model_copy(update={"web": config.web.model_copy(update=proxy)})


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
        (wanted(to=BEGIN), "'to' is not after 'from'"),
        (wanted(to=BEGIN - 1), "'to' is not after 'from'"),
        (wanted(to=BEGIN + 29), "shorter than 5 seconds"),  # ten of them would cost nothing
        (
            wanted() | {"from": "0001-01-01T00:00:00Z", "to": "0001-01-01T01:00:00Z"},
            "nothing is recorded of that time",
        ),
        (
            wanted() | {"from": "1969-12-31T23:59:00Z", "to": "1970-01-01T00:01:00+05:00"},
            "'to' is not after 'from'",
        ),
        (wanted(to=BEGIN + 10 * 365 * 86_400_000), "longer than 24 hours"),
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
        assert "1:10 of 1:30 minutes exist" in text and "the camera does not answer" in text
        assert "KZT" in text and "81.20" in text
        async with http.post(f"{page}/order", data={"email": "no address"}) as answer:
            assert "not an e-mail address" in await answer.text()
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
            assert "Cancelled" in text and "Expired" not in text
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
            assert answer.status == 400 and "write a day and a time" in text
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


async def test_no_copies_without_the_setting(tmp_path: Path) -> None:
    config = configure(tmp_path, f"sqlite:///{tmp_path}/k.db", "archives: [archive]\n", "2h")
    async with selling(config) as (base, _), aiohttp.ClientSession(base) as http:
        for path in ("/copies/", "/copies/new", "/copies/register", "/api/v1/copies/register"):
            async with http.get(path) as answer:
                assert answer.status == 404


async def test_a_database_that_is_away(config: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    async with selling(config) as (base, catalogue), aiohttp.ClientSession(base) as http:

        async def refuse(*_: object) -> None:
            raise CatalogueError("connection refused")

        monkeypatch.setattr(catalogue.orders, "with_key", refuse)
        async with http.get(f"/copies/{'a' * 32}") as answer:
            assert answer.status == 503 and "Retry-After" in answer.headers


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
        plan = CopyPlan.from_dict(row["plan"])
        made = await sha256_of(VirtualFile(plan, Sources(config.spool, [])))
        await catalogue.order_files.hashed(
            order.order_pk, row["file_no"], made.sha256, made.crc32, made.head, plan.length
        )
    await catalogue.orders.change(order.order_pk, events.finish(NOW))


async def test_downloads(config: Config) -> None:
    async with selling(config) as (base, catalogue), aiohttp.ClientSession(base) as http:
        secret = await ordered(http, cameras=["c", "d"])
        order = f"/api/v1/copies/orders/{secret}"
        async with http.get(f"/copies/{secret}/everything.zip") as answer:
            assert answer.status == 403
        await paid(config, catalogue)
        async with http.get(f"/copies/{secret}/invoice.pdf") as answer:
            assert answer.status == 200  # it shows that it is paid
        async with http.get(order) as answer:
            told = await answer.json()
        assert [len(camera["files"]) for camera in told["footage"]] == [2, 2]
        for camera in told["footage"]:
            for file in camera["files"]:
                async with http.get(file["url"]) as answer:
                    whole = await answer.read()
                    assert answer.status == 200 and len(whole) == file["length"]
                    assert answer.headers["ETag"] == file["etag"]
                    assert answer.headers["Referrer-Policy"] == "no-referrer"
                for asked in ({"Range": "bytes=1000-"}, {"Range": "bytes=-500"}):
                    same = asked | {"If-Range": file["etag"]}
                    async with http.get(file["url"], headers=same) as answer:
                        start = int(asked["Range"].strip("bytes=").partition("-")[0] or -500)
                        assert answer.status == 206 and await answer.read() == whole[start:]
                other = {"Range": "bytes=1000-", "If-Range": '"other"'}
                async with http.get(file["url"], headers=other) as answer:
                    assert answer.status == 200 and await answer.read() == whole
                async with http.get(file["url"].replace(file["name"], "x.mp4")) as answer:
                    assert answer.status == 404
        assert told["state"] == "paid" and told["zip"] is None
        async with http.get(f"/copies/{secret}/everything.zip?lang=en") as answer:
            assert answer.status == 503 and answer.headers["Retry-After"] == "30"
            assert "still being read through" in await answer.text()
        await read_through(config, catalogue)
        async with http.get(order) as answer:
            told = await answer.json()
        async with http.get(told["zip"]) as answer:
            data = await answer.read()
            assert len(data) == int(answer.headers["Content-Length"])
        with zipfile.ZipFile(io.BytesIO(data)) as found:
            assert found.testzip() is None
            names = set(found.namelist())
            sums = found.read("SHA256SUMS").decode()
            text = found.read("README.txt").decode("utf-8-sig")
            listed = json.loads(found.read("manifest.json"))
            for line in sums.splitlines():
                digest, name = line.split("  ")
                assert hashlib.sha256(found.read(name)).hexdigest() == digest
        assert {"README.txt", "manifest.json", "SHA256SUMS"} < names and len(names) == 7
        assert gettext("the camera does not answer", "kk") in text
        async with http.get(told["manifest"]) as answer:
            said = await answer.json()
        assert said["cameras"][0]["gaps"] == listed["cameras"][0]["gaps"]
        assert [g["cause"] for g in said["cameras"][0]["gaps"]] == ["unreachable"]
        found_order = await catalogue.orders.with_number(1)
        assert found_order is not None
        end = events.lapse(found_order.until_ms or 0)
        await catalogue.orders.change(found_order.order_pk, end)
        async with http.get(told["zip"]) as answer:
            assert answer.status == 410


async def test_stripes_webhooks(config: Config) -> None:
    with running(free_port()) as stripe:
        keys = Keys(
            secret_key=SecretStr(KEY), webhook_secret=SecretStr(WEBHOOK_SECRET), api_base=stripe
        )
        assert config.copies is not None
        copies = config.copies.model_copy(update={"stripe": keys})
        config = config.model_copy(update={"copies": copies})
        async with selling(config) as (base, catalogue), aiohttp.ClientSession(base) as http:
            hook = "/api/v1/copies/payments/stripe"
            await tell(stripe, f"{base}{hook}")
            secret, other = await ordered(http), await ordered(http)
            page = f"/copies/{secret}"
            async with http.post(f"{page}/pay/stripe?lang=en") as answer:
                text = await answer.text()
                assert answer.status == 200
            url = re.findall(r'href="([^"]*/_config/pay/[^"]+)"', text)[0]
            assert secret not in url
            async with http.get(url) as answer:
                at_stripe = await answer.text()
            assert secret not in at_stripe and "8120 kzt" in at_stripe
            async with http.post(f"/copies/{other}/pay/stripe") as answer:
                assert answer.status == 200  # and is left open
            await pay(url)

            async def is_paid() -> bool:
                async with http.get(f"/api/v1/copies/orders/{secret}") as answer:
                    return bool((await answer.json())["state"] == "paid")

            await until(is_paid)
            # what Stripe might send, in any order and again, and what others might
            reference = url.rpartition("/")[2]
            for kind, amount, status in (
                ("completed", 8120, 200),
                ("expired", 8120, 200),
                ("async_payment_failed", 8120, 200),
                ("completed", 1, 200),  # signed, and yet looked up
            ):
                body = event(kind, reference, amount)
                for _ in range(2):
                    async with http.post(hook, data=body, headers=sign(body)) as answer:
                        assert answer.status == status
            body = event("completed", "cs_of_another_shop", 1)
            async with http.post(hook, data=body, headers=sign(body)) as answer:
                assert await answer.json() == {"known": False}
            for headers in ({}, sign(body, "whsec_guessed"), sign(body + b" ")):
                async with http.post(hook, data=body, headers=headers) as answer:
                    assert answer.status == 400
            async with http.post("/api/v1/copies/payments/other", data=body) as answer:
                assert answer.status == 404
            assert await catalogue.orders.count() == {"paid": 1, "awaiting_payment": 1}
            order = await catalogue.orders.with_number(1)
            assert order is not None and len(order.payments) == 1 and not owed(order)
            # a session that is said to be paid, and is not
            (open_one,) = await catalogue.checkouts.all_open()
            body = event("completed", open_one["reference"], 8120)
            async with http.post(hook, data=body, headers=sign(body)) as answer:
                assert answer.status == 200
            assert await catalogue.orders.count() == {"paid": 1, "awaiting_payment": 1}


def event(kind: str, reference: str, amount: int) -> bytes:
    session = {"object": "checkout.session", "id": reference, "amount_total": amount}
    session |= {"payment_status": "paid", "currency": "usd", "status": "complete"}
    said = {"object": "event", "id": "evt_1", "type": f"checkout.session.{kind}"}
    return json.dumps(said | {"data": {"object": session}}).encode()


def sign(body: bytes, secret: str = WEBHOOK_SECRET) -> dict[str, str]:
    made = WebhookSignature.generate_signature_header(body.decode(), secret, int(time.time()))
    return {"Stripe-Signature": made}


async def test_what_was_removed_is_said_and_not_billed(config: Config) -> None:
    """One recording is gone from spool and archives, as its row says."""
    catalogue = await Catalogue.open(config.database_url)
    view = SpoolReader(config.spool, "s", "c")
    view.refresh()
    every = [index for _, index in view.recordings()]
    await catalogue.writer.put_recordings(every)
    name = ("e", "s", "c")
    for index in every:
        if index.start_ms < BEGIN + 40_000:
            seq = index.header.record_seq
            await catalogue.writer.mark_archived(index, Archived("archive", "", NOW, "read back"))
            await catalogue.writer.mark_removed(name, index.identity, NOW)
            gone = (name, recording_row(index), "archive", NOW, "kept for 365 days")
            assert await catalogue.holds.begin_removal(*gone)
            for path in (config.spool / "s/c").glob(f"*/*-{seq}.*"):
                path.unlink()
    await catalogue.close()
    async with selling(config) as (base, _), aiohttp.ClientSession(base) as http:
        async with http.post("/api/v1/copies/quotes", json=wanted()) as answer:
            told = await answer.json()
            assert answer.status == 201
        (camera,) = told["footage"]
        (removed,) = camera["removed"]
        assert (removed["start_ms"], removed["end_ms"]) == (BEGIN, BEGIN + 40_000)
        assert removed["reason"] == "kept for 365 days"
        assert (camera["exists_ms"], told["price"]["net"]) == (30_000, 3000)
        page = f"/copies/{told['link'].rpartition('/')[2]}?lang=en"
        async with http.get(page) as answer:
            assert "kept for 365 days" in await answer.text()


async def test_what_is_being_recorded_is_not_sold_yet(config: Config) -> None:
    one = LiveCamera(config.spool, "c")
    one.begin(BEGIN + 100_000)
    for _ in range(10):
        one.append()  # its recording is not sealed
    async with selling(config) as (base, _), aiohttp.ClientSession(base) as http:
        body = wanted(cameras=["c", "d"], to=BEGIN + 110_000)
        async with http.post("/api/v1/copies/quotes", json=body) as answer:
            told = await answer.json()
        assert (told["to_ms"], told["asked_to_ms"]) == (BEGIN + 100_000, BEGIN + 110_000)
        body = wanted() | {"from": BEGIN + 101_000, "to": BEGIN + 110_000}
        async with http.post("/api/v1/copies/quotes?lang=en", json=body) as answer:
            assert answer.status == 400
            assert "being recorded now" in (await answer.json())["detail"]
    one.close()


async def test_what_went_since_the_quote_is_not_ordered(config: Config) -> None:
    async with selling(config) as (base, catalogue), aiohttp.ClientSession(base) as http:
        async with http.post("/api/v1/copies/quotes", json=wanted()) as answer:
            place = answer.headers["Location"]
        newest = max((config.spool / "s/c").glob("*/*.mp4"), key=lambda p: p.stat().st_mtime)
        newest.with_suffix(".jsonl").unlink()
        newest.unlink()
        async with http.post(f"{place}/order?lang=en") as answer:
            assert answer.status == 409
            assert "ask for a new quote" in (await answer.json())["detail"]
        nothing = wanted() | {"from": BEGIN + 41_000, "to": BEGIN + 59_000}
        async with http.post("/api/v1/copies/quotes", json=nothing) as answer:
            assert (await answer.json())["price"]["total"] == 0
            place = answer.headers["Location"]
        async with http.post(f"{place}/order?lang=en") as answer:
            assert answer.status == 409
            assert "nothing of this exists" in (await answer.json())["detail"]
        assert await catalogue.orders.count() == {State.QUOTED: 2}
        assert await catalogue.holds.of("e") == []


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


@pytest.mark.parametrize("state", State)
async def test_whatever_is_not_known_of_an_order_its_pages_are_shown(
    config: Config, state: State
) -> None:
    async with selling(config) as (base, catalogue), aiohttp.ClientSession(base) as http:
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


async def test_a_download_lasts_as_long_as_its_order(config: Config) -> None:
    assert config.copies is not None
    ahead_ms = 0
    async with selling(config) as (base, catalogue), aiohttp.ClientSession(base) as http:
        await ordered(http)
        await ordered(http)
        app = create_app(config, catalogue, [], lambda: now_ms() + ahead_ms)
        request = make_mocked_request("GET", "/", app=app)
        lasting, found = [], []
        for number in (1, 2):
            await paid(config, catalogue, number)
            order = await catalogue.orders.with_number(number)
            assert order is not None
            found.append(order)
            lasting.append(partial(copies_files.lasts, request, order))
        assert [await lasts() for lasts in lasting] == [True, True]
        await OrderService(config, catalogue, {}).refund(found[1], True, "back")
        assert [await lasts() for lasts in lasting] == [True, False]
        ahead_ms = config.copies.download_for * 1000
        assert [await lasts() for lasts in lasting] == [False, False]
        await app[ORDERS].close()
