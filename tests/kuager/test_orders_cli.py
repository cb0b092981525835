"""`kuager orders`, as an operator types it."""

from __future__ import annotations

import asyncio
import getpass
import json
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from typer.testing import CliRunner

from copies.orders import events
from copies.orders.events import Refused
from copies.orders.service import OrderService
from kuager.cli import app
from kuager.orders import _cell
from storage.catalogue.schema import orders
from tests.support.archiving import configure
from tests.support.orders import configured, placed
from tests.support.tables import open_catalogue


class Operator:
    """A configuration with orders, and somebody who types."""

    def __init__(self, folder: Path, orders: int):
        folder.mkdir(exist_ok=True)  # nobody pays at Stripe here
        self.config = configured(folder, f"sqlite:///{folder}/k.db", "http://127.0.0.1:1", 1)
        asyncio.run(self._place(orders))

    async def _place(self, orders: int) -> None:
        catalogue = await open_catalogue(self.config.database_url)
        assert self.config.copies is not None
        for _ in range(orders):
            await placed(OrderService(self.config, catalogue, {}), email="voter@example.kz")
        await catalogue.close()

    def types(self, *words: str) -> tuple[int, str]:
        """Return exit code and all that was printed."""
        done = CliRunner().invoke(app, ["orders", *words, "--config", str(self.config.path)])
        assert done.exception is None or isinstance(done.exception, SystemExit)
        return done.exit_code, done.output

    def json(self, *words: str) -> Any:
        code, text = self.types(*words, "--json")
        assert code == 0
        return json.loads(text)


@pytest.fixture
def operator(tmp_path: Path) -> Operator:
    return Operator(tmp_path, 2)


def test_a_payment_in_parts_then_too_much_then_all_back(operator: Operator) -> None:
    confirm = ("confirm", "1", "--amount")
    assert operator.types(*confirm, "500", "--reference", "a")[0] == 0
    code, text = operator.types("show", "1")
    assert code == 0 and "received 500.00 KZT" in text and "KUAGER-1" in text
    code, text = operator.types(*confirm, "500", "--reference", "a")
    assert code == 1 and "entered already" in text
    code, text = operator.types("confirm", "2", "--amount", "500", "--reference", "a")
    assert code == 1 and "another order" in text
    code, text = operator.types(*confirm, "100.00", "--reference", "b")
    assert code == 0 and "paid" in text and "owed back: 20.00 KZT" in text
    (back,) = operator.json("list", "--owed")
    assert (back["number"], back["owed"]) == (1, {"KZT": 2000})
    code, text = operator.types("refund", "1")
    assert code == 1 and "--reference" in text
    code, text = operator.types("refund", "1", "--reference", "b")  # that of a payment
    assert code == 1 and "entered already" in text
    assert operator.types("refund", "1", "--reference", "c")[0] == 0
    assert operator.json("list", "--owed") == []
    assert operator.types("refund", "1", "--reference", "d")[0] == 1  # nothing is owed
    assert operator.types("reject", "1", "too late")[0] == 1
    for reference in "ac":
        code, text = operator.types("refund", "1", "--whole", "--reference", reference)
        assert code == 1 and "entered already" in text
    code, text = operator.types("refund", "1", "--whole", "--reference", "d")
    assert code == 0 and "refunded" in text
    shown = operator.json("show", "1")
    assert (shown["state"], shown["received"]) == ("refunded", 0)
    assert [row["event"] for row in shown["audit"]] == [
        *("quote", "order", "payment", "payment", "pay", "returned"),
        *("returned", "returned", "refund"),
    ]
    assert "voter@example.kz" not in json.dumps(shown)


def test_all_goes_back_when_the_time_to_download_is_over(operator: Operator) -> None:
    async def lapse() -> None:
        catalogue = await open_catalogue(operator.config.database_url)
        for number in (1, 2):
            await catalogue.orders.change(number, events.lapse(1 << 50))
        await catalogue.close()

    assert operator.types("confirm", "1", "--amount", "580", "--reference", "a")[0] == 0
    asyncio.run(lapse())
    code, text = operator.types("refund", "1", "--whole")  # how much, is to be looked up first
    assert code == 1 and "transfer it back" in text
    code, text = operator.types("refund", "1", "--whole", "--reference", "b")
    assert code == 0 and "Gave back 580.00 KZT" in text
    shown = operator.json("show", "1")
    assert (shown["state"], shown["received"]) == ("refunded", 0)
    assert operator.types("refund", "1", "--whole", "--reference", "c")[0] == 1
    code, text = operator.types("refund", "2", "--whole")  # which nobody paid
    assert code == 1 and "expired" in text


def test_money_that_is_owed_is_found_when_the_next_election_is_configured(
    operator: Operator,
) -> None:
    async def move_on() -> None:
        catalogue = await open_catalogue(operator.config.database_url)
        await catalogue.pool.execute(sa.update(orders).values(election="the-one-before"))
        await catalogue.close()

    assert operator.types("confirm", "1", "--amount", "600", "--reference", "a")[0] == 0
    asyncio.run(move_on())
    assert operator.json("list") == []
    (back,) = operator.json("list", "--owed")
    assert (back["number"], back["election"]) == (1, "the-one-before")
    assert operator.json("list", "--owed", "--state", "ready") == []
    assert operator.types("refund", "1", "--reference", "b")[0] == 0
    assert operator.json("list", "--owed") == []


def test_whom_the_invoice_names_is_shown_where_the_order_is_looked_at(operator: Operator) -> None:
    async def name() -> None:
        catalogue = await open_catalogue(operator.config.database_url)
        service = OrderService(operator.config, catalogue, {})
        await service.name_payer(1, "Firm [bold]", "123456789012")
        await catalogue.close()

    asyncio.run(name())
    code, text = operator.types("show", "1")
    assert code == 0 and "payer on the invoice: Firm [bold], BIN 123456789012" in text
    assert operator.json("show", "1")["payer"] == {"name": "Firm [bold]", "bin": "123456789012"}
    assert operator.json("show", "2")["payer"] is None
    assert "Firm" not in json.dumps(operator.json("list"))
    assert "Firm" not in json.dumps(operator.json("show", "1")["audit"])


def test_a_reference_is_of_one_catalogue(operator: Operator, tmp_path: Path) -> None:
    """After a catalogue was lost numbers begin at 1 again, and payers still write old ones."""
    other = Operator(tmp_path / "rebuilt", 2)
    ours, theirs = (o.json("show", "1")["reference"] for o in (operator, other))
    assert ours != theirs
    pay = ("--amount", "580", "--reference", "b")
    code, text = other.types("confirm", ours, *pay)
    assert code == 1 and f"order 1 is {theirs}, not {ours}" in " ".join(text.split())
    assert other.json("show", "1")["received"] == 0
    code, text = other.types("confirm", theirs.lower(), *pay)
    assert code == 0 and "Order 1: paid" in text
    for shorter in (theirs.removeprefix("KUAGER-"), theirs.replace("-1-", "-01-")):  # the same
        assert other.types("show", shorter)[0] == 0


def test_the_audit_log_says_who_and_how_much(operator: Operator) -> None:
    pay = ("confirm", "1", "--amount", "580")
    assert operator.types(*pay, "--reference", "a", "--as", "aigerim")[0] == 0
    assert operator.types("refund", "1", "--whole", "--reference", "b")[0] == 0
    told = operator.json("show", "1")["audit"]
    who = {row["event"]: row["actor"] for row in told}
    assert who["payment"] == who["pay"] == "operator aigerim"
    assert who["refund"] == who["returned"] == f"operator {getpass.getuser()}"
    text = " ".join(operator.types("show", "1")[1].split())
    assert "580.00" in text and "58000" not in text


def test_rejection(operator: Operator) -> None:
    assert operator.types("reject", "1", "\x1b[31mred")[0] == 2
    assert operator.types("reject", "1", " ")[0] == 2
    code, text = operator.types("reject", "1", "The station's [b]cameras show minors")
    assert code == 0 and "rejected" in text
    assert operator.types("reject", "1", "again")[0] == 1
    assert "The station's [b]cameras show minors" in operator.types("show", "1")[1]
    code, text = operator.types("confirm", "1", "--amount", "580", "--reference", "late")
    assert code == 0 and "owed back: 580.00 KZT" in text
    assert [o["state"] for o in operator.json("list")] == [*("awaiting_payment", "rejected")]


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (("show", "99"), 1, "no order 99"),
        (("confirm", "99", "--amount", "1", "--reference", "x"), 1, "no order 99"),
        (("confirm", "1", "--amount", "1.234", "--reference", "x"), 2, "at most 2 decimals"),
        (("confirm", "1", "--amount", "-1", "--reference", "x"), 2, "not an amount"),
        (("confirm", "1", "--amount", "0", "--reference", "x"), 1, "more than nothing"),
        (("confirm", "1", "--amount", "1", "--reference", ""), 2, "printable"),
        (("confirm", "1", "--amount", "1", "--reference", "\x1b]0;x\x07"), 2, "printable"),
        (
            ("confirm", "1", "--amount", "1", "--reference", "x", "--currency", "KTZ"),
            2,
            "as KZT",
        ),
        (("list", "--state", "lost"), 2, "there are: quoted"),
        (("refund", "1"), 1, "nothing is owed back"),
        (("refund", "1", "--whole"), 1, "waits for its payment"),
        (("show", "0"), 2, "no order"),
        (("show", "KUAGER-1-5D0A-1"), 2, "no order"),
        (("reject", "1", "no", "--as", "two words"), 2, "write a name"),
    ],
)
def test_mistakes(operator: Operator, words: tuple[str, ...], code: int, said: str) -> None:
    before = operator.json("list")
    found, text = operator.types(*words)
    assert found == code and said in " ".join(text.split())
    assert operator.json("list") == before


def test_without_copies(tmp_path: Path) -> None:
    config = configure(tmp_path, f"sqlite:///{tmp_path}/k.db", "archives: [archive]\n", "2h")
    done = CliRunner().invoke(app, ["orders", "list", "--config", str(config.path)])
    assert done.exit_code == 2 and "copies are off" in done.output


def test_nothing_moves_the_cursor() -> None:
    assert _cell("a\x1b[2Jb\x07\u202e").plain == "a\ufffd[2Jb\ufffd\ufffd"
    assert str(Refused("%(n)s left", n=3)) == "3 left"
