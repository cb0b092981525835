"""`kuager orders`: what operators do with orders of copies."""

from __future__ import annotations

import asyncio
import json
import re
import sys
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import asdict
from typing import Any

from rich import box
from rich.table import Table
from rich.text import Text

from base.clock import now_ms
from base.currency import format_amount
from config.model import Config
from config.money import amount as parsed
from config.money import known_currency
from config.problems import Wrong
from copies.balance import owed, received
from copies.orders.events import Refused
from copies.orders.service import OrderService
from copies.payments.port import Online, open_providers
from copies.states import State
from kuager.extras import ExtraMissing, check_extras
from kuager.terminal import err, format_utc, operator, out, say
from storage.catalogue.catalogue import Catalogue
from storage.catalogue.orders import MOST_NUMBER, PAGE, Order, Payment, PaymentTaken
from storage.records import printable

BANK = "invoice"
MOST_REFERENCE = 100
FILE_FACTS = ("file_no", "length", "hashed", "sha256", "crc32", "failed")
MONEY = ("amount", "total")
ORDER = re.compile(r"(?:KUAGER-)?([0-9]{1,10})(-[0-9A-F]{4})?")
NO_REFERENCE = f"--reference: write 1 to {MOST_REFERENCE} printable characters"


def show_all(config: Config, state: str | None, owed_only: bool, as_json: bool) -> int:
    """Print the orders of the election, or those of any whose requester is owed money, newest
    first; returns the exit code."""
    if state is not None and state not in list(State):
        return _say(f"no state '{state}'; there are: {', '.join(State)}", 2)

    async def work(service: OrderService) -> int:
        if owed_only:  # of all elections: money is owed whatever is recorded now
            found = [o for o in await service.orders.uneven(State.REFUNDED) if owed(o)][::-1]
        else:
            found = await _register(service, config.election.id)
        found = [o for o in found if state in (None, o.state)]
        if as_json:
            _json([_facts(o) for o in found])
        elif not found:
            out.print("There are no such orders.")
        else:
            out.print(_table(found))
        return 0

    return _with(config, work)


async def _register(service: OrderService, election: str) -> list[Order]:
    """Return all orders of an election, newest first."""
    found: list[Order] = []
    before: int | None = None
    while page := await service.orders.register(election, before):
        before = page[-1].number
        found += page
        if len(page) < PAGE:
            break
    return found


def show_one(config: Config, asked: str, as_json: bool) -> int:
    """Print one order with its files, its money and its audit log; returns the exit code."""

    async def work(service: OrderService, order: Order) -> int:
        log = await service.orders.audit(order.order_pk)
        files = await service.catalogue.order_files.of(order.order_pk)
        if as_json:
            payer = {"name": order.payer_name, "bin": order.payer_bin} if order.payer_name else None
            told = [{key: getattr(f, key) for key in FILE_FACTS} for f in files]
            entries = [asdict(entry) for entry in log]
            _json(_facts(order) | {"payer": payer, "files": told, "audit": entries})
            return 0
        out.print(_table([order]))
        for line in (
            f"paid with the reference {order.reference}",
            f"price {_money(order, order.total)}, received {_money(order, received(order))}",
            f"payer on the invoice: {_payer(order)}" if order.payer_name else "",
            f"reason: {order.reason}" if order.reason else "",
            f"asked for: {format_utc(order.from_ms)} to {format_utc(order.to_ms)}",
            f"cameras: {', '.join(c['id'] for c in order.quote['cameras'])}",
            *(f"failed: file {f.file_no}: {f.failed}" for f in files if f.failed),
            f"hashed: {sum(f.sha256 is not None for f in files)} of {len(files)} files",
        ):
            if line:
                say(line)
        table = Table(title="Audit log", title_justify="left")
        for column in ("when", "who", "what", "then", "detail"):
            table.add_column(column, overflow="fold")
        for row in log:
            detail = _detail(order, row.detail)
            cells = (format_utc(row.at_ms), row.actor, row.event, row.state, detail)
            table.add_row(*map(_cell, cells))
        out.print(table)
        return 0

    return _with(config, _of(asked, work))


def confirm(
    config: Config,
    asked: str,
    amount: str,
    currency: str | None,
    reference: str,
    who: str | None = None,
) -> int:
    """Enter a payment that the bank shows; returns the exit code."""
    if not _is_reference(reference):
        return _say(NO_REFERENCE, 2)

    async def work(service: OrderService, order: Order) -> int:
        try:
            code = known_currency(currency or order.currency)
            came = parsed(amount, code)
        except Wrong as wrong:
            return _say(f"--amount {amount}: {wrong.what}; {wrong.fix}", 2)
        payment = Payment(BANK, reference.strip(), came, code, now_ms())
        try:
            after = await service.enter_payment(order.order_pk, payment, operator(who))
        except PaymentTaken:
            return _say(f"reference {reference} is entered already, for another order", 1)
        if len(after.payments) == len(order.payments):
            return _say(f"reference {reference} was entered already; nothing was changed", 1)
        say(f"Order {order.number}: {_words(after)}")
        return 0

    return _with(config, _of(asked, work))


def reject(config: Config, asked: str, reason: str, who: str | None = None) -> int:
    """Refuse an order that is not paid; returns the exit code."""
    reason = " ".join(reason.split())
    if not reason or not reason.isprintable() or len(reason) > 1000:
        return _say("write a reason of at most 1000 characters: the requester reads it", 2)

    async def work(service: OrderService, order: Order) -> int:
        after = await service.reject(order.order_pk, reason, operator(who))
        say(f"Order {order.number}: {_words(after)}")
        return 0

    return _with(config, _of(asked, work))


def refund(
    config: Config, asked: str, whole: bool, reference: str | None, who: str | None = None
) -> int:
    """Give back what is owed, or all of it; returns the exit code."""
    if reference is not None and not _is_reference(reference):
        return _say(NO_REFERENCE, 2)

    async def work(service: OrderService, order: Order) -> int:
        before = len(order.payments)
        try:
            after = await service.refund(
                order, whole, reference and reference.strip(), operator(who)
            )
        except PaymentTaken:
            return _say(f"reference {reference} is entered already", 1)
        for payment in after.payments[before:]:
            text = f"{format_amount(-payment.amount, payment.currency)} {payment.currency}"
            say(f"Gave back {text}: {payment.reference}")
        say(f"Order {order.number}: {_words(after)}")
        return 0

    return _with(config, _of(asked, work))


def _with(config: Config, work: Callable[[OrderService], Awaitable[int]]) -> int:
    if config.copies is None:
        return _say("copies are off: there is no 'copies' section in the configuration", 2)
    try:
        check_extras(config, "orders")
    except ExtraMissing as error:
        return _say(str(error), 2)
    settings = config.copies

    async def run() -> int:
        catalogue = await Catalogue.open(config.database_url)
        service = OrderService(config, catalogue, open_providers(settings))
        try:
            return await work(service)
        finally:
            for provider in service.providers.values():
                if isinstance(provider, Online):
                    await provider.close_connections()
            await catalogue.close()

    return asyncio.run(run())


def _of(
    asked: str, work: Callable[[OrderService, Order], Awaitable[int]]
) -> Callable[[OrderService], Awaitable[int]]:
    """Have the order that is asked for by its number, or by its reference, which must be its own:
    with another database in place of a lost one, another order has that number."""

    async def found(service: OrderService) -> int:
        named = ORDER.fullmatch(asked.strip().upper())
        if named is None or not 0 < int(named[1]) <= MOST_NUMBER:
            return _say(f"'{asked}' is no order: write its number or its reference", 2)
        order = await service.orders.with_number(int(named[1]))
        if order is None:
            return _say(f"there is no order {int(named[1])}", 1)
        if named[2] and not order.reference.endswith(f"-{order.number}{named[2]}"):
            text = f"the reference of order {order.number} is {order.reference}, not {named[0]}"
            return _say(f"{text}: that is of another catalogue, or mistyped", 1)
        try:
            return await work(service, order)
        except Refused as refused:
            return _say(f"order {order.number}: {refused}", 1)

    return found


def _detail(order: Order, detail: Mapping[str, Any]) -> str:
    """Return what the audit log tells of an event, its amounts as people write them."""
    currency = detail.get("currency", order.currency)
    shown = {k: v for k, v in detail.items() if k != "currency"}
    money = {k: f"{format_amount(v, currency)} {currency}" for k, v in shown.items() if k in MONEY}
    return ", ".join(f"{k} {v}" for k, v in (shown | money).items())


def _is_reference(text: str) -> bool:
    return bool(text.strip()) and text.isprintable() and len(text) <= MOST_REFERENCE


def _facts(order: Order) -> dict[str, Any]:
    """Return what programs are told of an order; its address is not among it."""
    names = ("number", "state", "election", "station", "from_ms", "to_ms", "currency", "total")
    times = ("ordered_ms", "paid_ms", "ready_ms", "ended_ms", "until_ms", "reason")
    return (
        {name: getattr(order, name) for name in (*names, *times)}
        | {"cameras": [c["id"] for c in order.quote["cameras"]]}
        | {"received": received(order), "owed": owed(order), "reference": order.reference}
    )


def _table(found: list[Order]) -> Table:
    table = Table(title="Orders", title_justify="left", box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    for column in ("no", "state", "station", "cameras"):
        table.add_column(column, overflow="fold")
    for column in ("ordered", "until"):
        table.add_column(column, min_width=len("2026-11-29"))
    for column in ("price", "received", "owed"):
        table.add_column(column, justify="right", overflow="fold")
    for order in found:
        cells = (
            str(order.number),
            order.state,
            order.station,
            str(len(order.quote["cameras"])),
            format_utc(order.ordered_ms),
            format_utc(order.until_ms),
            _money(order, order.total),
            _money(order, received(order)),
            _back(order),
        )
        table.add_row(*map(_cell, cells))
    return table


def _payer(order: Order) -> str:
    name = order.payer_name or ""
    return f"{name}, BIN {order.payer_bin}" if order.payer_bin else name


def _cell(text: str) -> Text:
    """Return text for a terminal: nothing in it is markup or moves the cursor."""
    return Text(printable(text))


def _words(order: Order) -> str:
    state = f"{order.state}, {_money(order, received(order))} of {_money(order, order.total)}"
    back = _back(order)
    return state + (f"; owed back: {back} (kuager orders refund {order.number})" if back else "")


def _back(order: Order) -> str:
    return ", ".join(f"{format_amount(a, c)} {c}" for c, a in owed(order).items())


def _money(order: Order, minor: int) -> str:
    return f"{format_amount(minor, order.currency)} {order.currency}"


def _json(value: object) -> None:
    json.dump(value, sys.stdout, indent=1)
    print()


def _say(text: str, code: int) -> int:
    say(text, err)
    return code
