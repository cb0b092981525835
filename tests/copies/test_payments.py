"""Payments against a real Stripe protocol (localstripe, its own process) and both databases."""

from __future__ import annotations

import asyncio
import io
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import aiohttp
import cv2
import pytest
from pydantic import SecretStr
from pypdf import PdfReader
from structlog.testing import capture_logs

from base.clock import now_ms
from config.copies import Bank, Copies
from config.copies import Stripe as Keys
from copies.balance import owed, received
from copies.orders import events
from copies.orders.events import Refused
from copies.orders.service import OrderService
from copies.payments.invoice import Invoice
from copies.payments.port import CheckoutGone, InvalidSignature, ProviderUnavailable, open_providers
from copies.payments.stripe import Stripe
from copies.states import State
from storage.catalogue.catalogue import Catalogue
from storage.catalogue.orders import Order, OrderGone, Payment, PaymentTaken
from tests.support.archiving import configure
from tests.support.orders import PRICE, QUOTE, STATION, TITLE, opened, pay, placed
from tests.support.programs import need
from tests.support.s3 import free_port
from tests.support.stripe_server import KEY, WEBHOOK_SECRET, running

pytest_plugins = ["tests.support.postgres"]
BANK = Bank.model_validate(
    {
        "beneficiary": "ТОО «Куәгер ӘҒҚҢӨҰҮҺІ әғқңөұүһі Ё»",
        "bin": "123456789012",
        "iban": "KZ86125KZT5004100100",
        "bank": "Үлгі банк",
        "bic": "KZKOKZKX",
        "beneficiary_code": "16",
        "purpose_code": "859",
    }
)


def settings(stripe: str | None = None, **more: Any) -> Copies:
    keys = Keys(
        secret_key=SecretStr(KEY),
        webhook_secret=SecretStr(WEBHOOK_SECRET),
        api_base=stripe or "http://127.0.0.1:1",
    )
    return Copies(price_per_minute="20", bank=BANK, stripe=keys if stripe else None, **more)


@pytest.fixture(scope="module")
def stripe() -> Iterator[str]:
    with running(free_port()) as base:
        yield base


@pytest.fixture
async def service(tmp_path: Path, database_url: str, stripe: str) -> AsyncIterator[OrderService]:
    catalogue = await Catalogue.open(database_url)
    copies = settings(stripe)
    config = configure(tmp_path, database_url, "archives: [archive]\n")
    config = config.model_copy(update={"copies": copies})
    one = OrderService(config, catalogue, open_providers(copies))
    yield one
    provider = one.providers["stripe"]
    assert isinstance(provider, Stripe)
    await provider.close_connections()
    await catalogue.close()


async def test_paid_at_stripe_and_given_back(service: OrderService) -> None:
    order = await placed(service)
    url, again = await opened(service, order), await opened(service, order)
    assert url == again  # one page at a time
    assert len(await service.catalogue.checkouts.all_open()) == 1
    await pay(url)
    (checkout,) = await service.catalogue.checkouts.all_open()
    for _ in range(2):  # a notification that comes twice
        assert not await service.settle(checkout)
    order = await service.orders.get(order.order_pk)
    assert (order.state, received(order), owed(order)) == (State.PAID, 58_000, {})
    assert await service.catalogue.checkouts.all_open() == []
    with pytest.raises(Refused):
        await opened(service, order)
    with pytest.raises(Refused):
        await service.refund(order, False, None)
    done = await service.refund(order, True, None)
    assert (done.state, received(done)) == (State.REFUNDED, 0)
    with pytest.raises(Refused):
        await service.refund(done, True, None)
    log = await service.orders.audit(order.order_pk)
    assert [r.event for r in log] == [
        "quote",
        "order",
        "payment",
        "pay",
        "returned",
        "refund",
    ]


async def test_a_refund_after_a_crash_is_not_made_twice(service: OrderService) -> None:
    order = await placed(service)
    await pay(await opened(service, order))
    await service.close_checkouts(order.order_pk)
    order = await service.orders.get(order.order_pk)
    provider = service.providers["stripe"]
    assert isinstance(provider, Stripe)
    (payment,) = order.payments
    # what a process did before it died, and longer ago than Stripe remembers its keys
    reference = await provider.refund(payment, 58_000, f"{order.order_pk}-{payment.reference}-0")
    done = await service.refund(order, True, None)
    assert [p.reference for p in done.payments if p.returns] == [reference]


async def test_paid_by_bank_and_at_stripe_at_once(service: OrderService) -> None:
    order = await placed(service)
    url = await opened(service, order)
    bank = Payment("invoice", f"bank-{order.order_pk}", 58_000, "KZT", now_ms())

    async def at_stripe() -> None:
        await pay(url)
        (checkout,) = await service.catalogue.checkouts.all_open()
        await service.settle(checkout)

    await asyncio.gather(
        at_stripe(), *(service.enter_payment(order.order_pk, bank, "operator") for _ in range(5))
    )
    order = await service.orders.get(order.order_pk)
    assert order.state == State.PAID and owed(order) == {"KZT": 58_000}
    assert len(order.payments) == 2
    reference = None if order.payments[-1].provider == "stripe" else "back-1"
    order = await service.refund(order, False, reference)
    assert order.state == State.PAID and owed(order) == {}
    log = await service.orders.audit(order.order_pk)
    assert sum(r.event == "pay" for r in log) == 1


async def test_a_reference_that_is_entered_sends_nothing_back_at_stripe(
    service: OrderService,
) -> None:
    order = await placed(service)
    await pay(await opened(service, order))
    await service.close_checkouts(order.order_pk)
    twice = Payment("invoice", f"twice-{order.order_pk}", 58_000, "KZT", now_ms())
    order = await service.enter_payment(order.order_pk, twice, "operator")
    other = await placed(service)
    paid = Payment("invoice", f"other-{other.order_pk}", 58_000, "KZT", now_ms())
    await service.enter_payment(other.order_pk, paid, "operator")
    for entered in (twice, paid):
        with pytest.raises((PaymentTaken, Refused)):
            await service.refund(order, True, entered.reference)
    assert received(await service.orders.get(order.order_pk)) == 2 * 58_000
    done = await service.refund(order, True, f"back-{order.order_pk}")
    assert (done.state, received(done), len(done.payments)) == (State.REFUNDED, 0, 4)


async def test_cancelled_while_the_page_is_open_and_while_it_is_being_paid(
    service: OrderService,
) -> None:
    first, second = await placed(service), await placed(service)
    url = await opened(service, first)
    first = await service.cancel(first.order_pk)
    assert first.state == State.CANCELLED
    async with aiohttp.ClientSession() as session, session.post(url) as answer:
        assert answer.status == 400  # it brings no money any more
    await pay(await opened(service, second))
    with pytest.raises(Refused):  # it is paid; nothing is lost
        await service.cancel(second.order_pk)
    assert (await service.orders.get(second.order_pk)).state == State.PAID


async def test_a_page_asks_for_what_is_missing(service: OrderService) -> None:
    order = await placed(service)
    early = await opened(service, order)  # asks for all of it
    part = Payment("invoice", f"part-{order.order_pk}", 50_000, "KZT", now_ms())
    await service.enter_payment(order.order_pk, part, "operator")
    late = await opened(service, order)
    async with aiohttp.ClientSession() as session:
        async with session.post(early) as answer:
            assert answer.status == 400  # it was closed
        async with session.get(late) as answer:
            assert "<p id=amount>8000 kzt" in await answer.text()
    await pay(late)
    await service.close_checkouts(order.order_pk)
    order = await service.orders.get(order.order_pk)
    assert order.state == State.PAID and owed(order) == {}


async def test_a_page_of_another_account_is_in_nobodys_way(service: OrderService) -> None:
    first, second = await placed(service), await placed(service)
    for order in (first, second):
        page = (order.order_pk, "stripe", f"cs_other_{order.order_pk}", "http://k", now_ms())
        await service.catalogue.checkouts.open(*page)
    with pytest.raises(CheckoutGone):
        await service.settle((await service.catalogue.checkouts.all_open())[0])
    await pay(await opened(service, first))
    second = await service.cancel(second.order_pk)
    assert second.state == State.CANCELLED


async def test_one_transfer_back_is_entered_once_by_several_operators(
    service: OrderService,
) -> None:
    orders = [await placed(service) for _ in range(2)]
    for order in orders:
        paid = Payment("invoice", f"much-{order.order_pk}", 58_020, "KZT", now_ms())
        await service.enter_payment(order.order_pk, paid, "operator")
    for order, whole in zip(orders, (False, True), strict=True):
        seen = await service.orders.get(order.order_pk)  # by all of them, before any entered it
        done = await asyncio.gather(
            *(service.refund(seen, whole, f"back-{order.order_pk}-{n}") for n in range(4)),
            return_exceptions=True,
        )
        assert sorted(isinstance(one, Refused) for one in done) == [False, True, True, True], done
        order = await service.orders.get(order.order_pk)
        (back,) = [p for p in order.payments if p.returns]
        assert -back.amount == (58_020 if whole else 20)
        assert owed(order) == {} and received(order) == (0 if whole else 58_000)


async def test_stripe_away(service: OrderService, stripe: str) -> None:
    order = await placed(service)
    url = await opened(service, order)
    await pay(url)
    async with aiohttp.ClientSession() as session:
        await session.post(f"{stripe}/_config/away/1")
        try:
            for attempt in (
                service.cancel(order.order_pk),
                service.reject(order.order_pk, "no", "operator"),
            ):
                with pytest.raises(ProviderUnavailable):  # perhaps it is paid: nothing is done
                    await attempt
        finally:
            await session.post(f"{stripe}/_config/away/0")
    assert (await service.orders.get(order.order_pk)).state == State.AWAITING_PAYMENT
    await service.close_checkouts(order.order_pk)
    assert (await service.orders.get(order.order_pk)).state == State.PAID


async def test_keys_are_tried_before_anybody_pays(stripe: str) -> None:
    for key, where, wrong in (
        (KEY, stripe, None),
        ("nonsense", stripe, "AuthenticationError"),
        (KEY, f"http://127.0.0.1:{free_port()}", "APIConnectionError"),
    ):
        keys = settings(where).stripe
        assert keys is not None
        provider = Stripe(keys.model_copy(update={"secret_key": SecretStr(key)}))
        if wrong is None:
            await provider.check_access()
        else:
            with pytest.raises(ProviderUnavailable, match=wrong) as refused:
                await provider.check_access()
            assert key not in str(refused.value)
        await provider.close_connections()


async def test_one_reference_pays_one_order(service: OrderService) -> None:
    first, second = await placed(service), await placed(service)
    payment = Payment("invoice", f"ref-{first.order_pk}", 58_000, "KZT", now_ms())
    await service.enter_payment(first.order_pk, payment, "operator")
    with pytest.raises(PaymentTaken):
        await service.enter_payment(second.order_pk, payment, "operator")
    assert (await service.orders.get(second.order_pk)).state == State.AWAITING_PAYMENT


async def test_a_payment_of_another_order_is_in_nobodys_way(service: OrderService) -> None:
    """What a page brought is entered already, for another order: by a mistake, or by a fault."""
    provider = service.providers["stripe"]
    assert isinstance(provider, Stripe)
    first = await placed(service)
    for step in ("pay", "cancel", "reject", "ask", "lapse"):
        order = await placed(service)
        url = await opened(service, order)
        await pay(url)
        (page,) = await service.catalogue.checkouts.all_open()
        payment = (await provider.look(page.reference)).payment
        assert payment is not None
        await service.enter_payment(first.order_pk, payment, "stripe")
        with capture_logs() as log:
            if step == "pay":
                assert await opened(service, order) != url
            elif step == "ask":
                assert not await service.settle(page)
            elif step == "lapse":
                await service.close_checkouts(order.order_pk)
            else:
                if step == "cancel":
                    ended = await service.cancel(order.order_pk)
                else:
                    ended = await service.reject(order.order_pk, "no", "operator")
                assert ended.ended_ms
        (told,) = log
        assert (told["order"], told["reference"]) == (order.number, payment.reference)
        assert (await service.orders.get(order.order_pk)).payments == ()
        await service.close_checkouts(order.order_pk)
    assert len((await service.orders.get(first.order_pk)).payments) == 5


@pytest.mark.parametrize("reference", ["number 17", "orders_number_key", "orders.number"])
async def test_a_reference_is_no_number_of_an_order(service: OrderService, reference: str) -> None:
    first, second = await placed(service), await placed(service)
    payment = Payment("invoice", reference, 58_000, "KZT", now_ms())
    await service.enter_payment(first.order_pk, payment, "operator")
    with pytest.raises(PaymentTaken, match="for another order"):
        await service.enter_payment(second.order_pk, payment, "operator")


async def test_a_quote_that_was_deleted_is_gone(service: OrderService) -> None:
    for work in (service.orders.get(99), service.orders.change(99, events.cancel(now_ms()))):
        with pytest.raises(OrderGone):
            await work
    with pytest.raises(OrderGone):
        await service.cancel(99)


async def test_orders_at_once_are_numbered_without_holes(service: OrderService) -> None:
    made = await asyncio.gather(*(placed(service) for _ in range(8)))
    assert sorted(o.number or 0 for o in made) == list(range(1, 9))
    assert [o.number for o in await service.orders.register("e")] == list(range(8, 0, -1))
    found = await service.orders.register("e", 4, 2)
    assert [o.number for o in found] == [3, 2]
    # of the thousands of gaps and files of a quote a list shows none, and none is read for it
    assert [o.quote for o in found] == [{"station": STATION, "cameras": [{"id": "c"}]}] * 2


async def test_what_is_ordered_is_held_until_it_ends(
    service: OrderService, database_url: str
) -> None:
    catalogue = await Catalogue.open(database_url)
    order = await placed(service)
    (hold,) = await catalogue.holds.of("e")
    assert (hold.station, hold.camera, hold.released_ms) == ("s", "c", None)
    await service.cancel(order.order_pk)
    (hold,) = await catalogue.holds.of("e")
    assert hold.released_ms is not None
    await catalogue.close()


async def test_audit_and_payments_are_only_appended_to(
    service: OrderService, database_url: str
) -> None:
    order = await placed(service)
    await service.enter_payment(order.order_pk, Payment("invoice", "r", 1, "KZT", 1), "operator")
    catalogue = await Catalogue.open(database_url)
    for table in ("audit", "payments"):
        for statement in (f"UPDATE {table} SET order_pk = order_pk", f"DELETE FROM {table}"):
            with pytest.raises(Exception, match="only appended to"):
                async with catalogue.pool.work() as connection:
                    await connection.exec_driver_sql(statement)
    await catalogue.close()


@pytest.fixture
async def signed() -> AsyncIterator[Stripe]:
    provider = Stripe(Keys(secret_key=SecretStr(KEY), webhook_secret=SecretStr(WEBHOOK_SECRET)))
    yield provider
    await provider.close_connections()


async def test_notifications_that_are_not_stripes(signed: Stripe) -> None:
    import stripe as sdk

    body = b'{"object":"event","type":"checkout.session.completed","id":"evt_1",'
    body += b'"data":{"object":{"object":"checkout.session","id":"cs_1","amount_total":1}}}'

    def header(secret: str = WEBHOOK_SECRET, at_s: float = 0, text: bytes = body) -> dict[str, str]:
        made = sdk.WebhookSignature.generate_signature_header(
            text.decode(), secret, timestamp=int(time.time() + at_s)
        )
        return {"Stripe-Signature": made}

    assert signed.parse_webhook(body, header()) == "cs_1"
    other = body.replace(b"checkout.session.completed", b"charge.succeeded")
    assert signed.parse_webhook(other, header(text=other)) is None
    for forged, headers in (
        (body, {}),
        (body, {"Stripe-Signature": "t=1,v1=00"}),
        (body, {"Stripe-Signature": "é" * 3000}),
        (body, header("whsec_other")),
        (body, header(at_s=-301)),  # replayed
        (body.replace(b'"amount_total":1', b'"amount_total":0'), header()),  # altered
        (b"", header(text=b"")),
        (b"[]", header(text=b"[]")),
        (b"{", header(text=b"{")),
        (b"[" * 20_000, header(text=b"[" * 20_000)),
        (b'{"object":"event"}', header(text=b'{"object":"event"}')),
        (b"\xff\xfe", header()),
    ):
        with pytest.raises(InvalidSignature):
            signed.parse_webhook(forged, headers)


@pytest.mark.parametrize("language", ["kk", "ru", "en"])
def test_invoice(language: str) -> None:
    order = Order(
        *(1, 17, "e", "s", 0, 60_000, State.AWAITING_PAYMENT, language, QUOTE, "KZT", 58_000, 0),
        ordered_ms=0,
        until_ms=604_800_000,
    )
    invoice = Invoice(BANK, "KZT")
    text = PdfReader(io.BytesIO(invoice.document(order, "Станция 117"))).pages[0].extract_text()
    flat = " ".join(text.split())
    for part in (
        "KUAGER-17",
        BANK.beneficiary,
        BANK.iban,
        BANK.bank,
        {"kk": "Төлем шоты KUAGER-17", "ru": "Счёт на оплату KUAGER-17"}.get(language, "Invoice"),
        "16",
        "859",
        f"{TITLE[language]}: 1:00",
        "Станция 117",
    ):
        assert part in flat, part
    amount = "580.00 KZT" if language == "en" else "580,00 KZT"
    assert flat.replace("\u00a0", " ").count(amount) == 3  # in all, to be paid, to the bank
    assert flat.count("08.01.1970 06:00 UTC+6") == 2  # when it is to be paid, and what comes then


def text_of(pdf: bytes) -> str:
    pages = PdfReader(io.BytesIO(pdf)).pages
    return " ".join(" ".join(p.extract_text().split()) for p in pages).replace("\u00a0", " ")


def said_by(order: Order, bank: Bank = BANK) -> tuple[str, dict[str, str]]:
    """Return the text of an invoice in English, and what its QR says."""
    invoice = Invoice(bank, "KZT")
    return text_of(invoice.document(order, "Station 117")), dict(invoice.details(order))


def test_an_invoice_asks_for_what_is_missing() -> None:
    order = Order(
        *(1, 17, "e", "s", 0, 60_000, State.AWAITING_PAYMENT, "en", QUOTE, "KZT", 58_000, 0),
        ordered_ms=0,
        until_ms=604_800_000,
        payments=(
            Payment("invoice", "a", 50_000, "KZT", 1),
            Payment("invoice", "b", 70_000, "EUR", 1),  # pays nothing
        ),
    )
    text, details = said_by(order)
    assert details["Amount"] == "80.00 KZT"
    in_words = "Five hundred and eighty tenge 00 tiyn"
    assert f"Total 580.00 KZT {in_words} Received 500.00 KZT To be paid 80.00 KZT" in text
    assert "VAT 16% 80.00 KZT" in text
    assert "Amount 80.00 KZT" in text and text.count("580.00") == 1


@pytest.mark.parametrize("state", [State.PAID, State.READY, State.EXPIRED, State.REFUNDED])
def test_an_invoice_of_what_was_paid_asks_for_nothing(state: State) -> None:
    order = Order(
        *(1, 17, "e", "s", 0, 60_000, state, "en", QUOTE, "KZT", 58_000, 0),
        ordered_ms=0,
        paid_ms=3_600_000,
        ended_ms=7_200_000,
        payments=(Payment("invoice", "a", 60_000, "KZT", 1),),
    )
    text, _ = said_by(order)
    assert "Paid 01.01.1970 07:00 UTC+6" in text and "Received 580.00 KZT" in text
    assert BANK.iban not in text and "To be paid" not in text
    assert ("Given back" in text) == (state == State.REFUNDED)
    assert text.startswith("Invoice KUAGER-17-")
    assert (" Refunded Station 117" if state == State.REFUNDED else " Paid Station 117") in text


def test_an_invoice_names_who_sells_and_who_pays() -> None:
    order = Order(
        *(1, 17, "e", "s", 0, 60_000, State.AWAITING_PAYMENT, "en", QUOTE, "KZT", 58_000, 0),
        ordered_ms=0,
        until_ms=604_800_000,
    )
    text, details = said_by(order)
    assert f"Seller {BANK.beneficiary}, BIN {BANK.bin}" in text
    assert "Payer" not in text and "Seller's address" not in text
    bank = BANK.model_copy(update={"address": "050000, Алматы, Абай 1"})
    named = replace(order, payer_name="ТОО «Үлгі»", payer_bin="210987654321")
    text, after = said_by(named, bank)
    assert "Seller's address 050000, Алматы, Абай 1" in text
    assert "Payer ТОО «Үлгі», BIN 210987654321" in text
    assert after == details  # what is transferred is the same
    assert "Payer ТОО «Үлгі»" in said_by(replace(named, payer_bin=None))[0]


@pytest.mark.parametrize("language", ["kk", "ru", "en"])
def test_a_receipt_lists_what_came_and_what_went_back(language: str) -> None:
    order = Order(
        *(1, 17, "e", "s", 0, 60_000, State.PAID, language, QUOTE, "KZT", 58_000, 0),
        ordered_ms=0,
        paid_ms=3_600_000,
        payments=(
            Payment("invoice", "2026-4711", 50_000, "KZT", 1_800_000),
            Payment("stripe", "pi_1", 10_000, "KZT", 3_600_000),
            Payment("stripe", "re_1", -500, "KZT", 7_200_000, "pi_1"),
            Payment("gone", "x", 70_000, "EUR", 7_200_000),  # by a way that is offered no more
        ),
        payer_name="Firm",
    )
    text = text_of(Invoice(BANK, "KZT").receipt(order, "Station 117"))
    assert "2026-4711" in text and "pi_1" in text and BANK.beneficiary in text and "Firm" in text
    point = "." if language == "en" else ","
    for amount in ("500", "100", "-5", "700", "580", "595", "15"):  # the last: still owed back
        assert f"{amount}{point}00 " in text, amount
    words = {"kk": "Бес жүз тоқсан бес теңге", "ru": "Пятьсот девяносто пять тенге"}
    assert words.get(language, "Five hundred and ninety-five tenge") in text
    if language == "en":
        assert "01.01.1970 08:00 UTC+6 Returned to the card re_1 -5.00 KZT" in text
        assert text.count("Still to be given back") == 2


@pytest.mark.slow
def test_a_row_of_an_invoice_stays_on_one_page() -> None:
    title = {"en": "Ballot box at the entrance of the hall on the second floor near the window"}
    for cameras in range(20, 24):
        quote = QUOTE | {
            "price": PRICE | {"lines": PRICE["lines"] * cameras},  # type: ignore[operator]
            "cameras": [{"id": "c", "title": title}],
        }
        order = Order(
            *(1, 17, "e", "s", 0, 60_000, State.AWAITING_PAYMENT, "en", quote, "KZT", 58_000, 0),
            ordered_ms=0,
            until_ms=604_800_000,
        )
        pages = PdfReader(io.BytesIO(Invoice(BANK, "KZT").document(order, "117"))).pages
        texts = [" ".join(page.extract_text().split()) for page in pages]
        named = [text.count("Ballot box") for text in texts]
        assert sum(named) == cameras and named[0] and named[1]
        assert named == [text.count("20.00 KZT") - text.count("at 20.00 KZT") for text in texts]


@pytest.mark.slow
@pytest.mark.parametrize("cameras", [1, 30])
def test_the_qr_of_an_invoice_is_read_from_its_page(tmp_path: Path, cameras: int) -> None:
    """As a phone would, also of long names, and where the details need a second page."""
    pdftoppm = need("pdftoppm", "apt-get install poppler-utils")
    long = {"beneficiary": "Товарищество с ограниченной ответственностью «" + "Куәгер " * 8 + "»"}
    bank = BANK.model_copy(
        update=long | {"bank": "Акционерное общество «" + "Үлгі банк " * 6 + "»"}
    )
    price = PRICE | {"lines": PRICE["lines"] * cameras}  # type: ignore[operator]
    order = Order(
        *(1, 17, "e", "s", 0, 60_000, State.AWAITING_PAYMENT, "kk"),
        *(QUOTE | {"price": price}, "KZT", 58_000, 0),
        ordered_ms=0,
        until_ms=604_800_000,
    )
    invoice = Invoice(bank, "KZT")
    data = invoice.document(order, "117")
    assert data.startswith(b"%PDF") and len(data) < 200_000
    for page in PdfReader(io.BytesIO(data)).pages:  # the sum in words stays with the sum
        text = page.extract_text()
        assert ("Барлығы" in text) == ("Бес жүз сексен теңге" in text)
    (tmp_path / "invoice.pdf").write_bytes(data)
    subprocess.run([pdftoppm, "-r", "200", "-png", "invoice.pdf", "page"], cwd=tmp_path, check=True)
    pages = sorted(tmp_path.glob("page*.png"))
    assert len(pages) == (1 if cameras == 1 else 2)
    image = cv2.imread(str(pages[-1]), cv2.IMREAD_GRAYSCALE)
    assert image is not None
    found, _, _ = cv2.QRCodeDetectorAruco().detectAndDecode(image)
    assert found == "\n".join(f"{n}: {v}" for n, v in invoice.details(order))


@pytest.mark.slow
def test_what_draws_invoices_is_loaded_with_the_first() -> None:
    """It takes 40 MB, and there are several processes."""
    loaded = "import sys, kuager.run, streaming.app; print('fpdf' in sys.modules)"
    run = subprocess.run([sys.executable, "-c", loaded], capture_output=True, text=True, check=True)
    assert run.stdout == "False\n"
