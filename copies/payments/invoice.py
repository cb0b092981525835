"""An invoice to be paid at a bank, and the receipt of what was paid: PDFs.

The invoice has the bank's details, a reference, and a QR of them. An operator looks at the bank's
statement and enters what came (`kuager orders confirm`). The QR holds the same details as lines
of text: phones show it, and each line can be copied.
"""

from __future__ import annotations

from functools import partial

from base.currency import format_amount
from base.i18n.format import format_minutes, format_money_with_code, format_percent, format_time
from base.i18n.gettext import gettext, text_in
from base.i18n.in_words import amount_in_words
from config.copies import Bank
from copies.balance import owed, received
from copies.payments.paper import LINE_MM, WIDTH, Paper
from copies.payments.statement import statement
from copies.states import State
from storage.catalogue.orders import Order

QR_MM, DETAILS_MM = 58, 85


class Invoice:
    """Payment by bank transfer."""

    name = "invoice"

    def __init__(self, bank: Bank, currency: str):
        self.bank, self.currency = bank, currency

    def details(self, order: Order) -> list[tuple[str, str]]:
        """Return what a payer writes: names and values, the amount as a bank's form takes it."""
        _, bank = partial(gettext, lang=order.language), self.bank
        return [
            (_("Beneficiary"), bank.beneficiary),
            (_("BIN"), bank.bin),
            (_("IBAN"), bank.iban),
            (_("Beneficiary code (Kbe)"), bank.beneficiary_code),
            (_("Bank"), bank.bank),
            (_("BIC"), bank.bic),
            (_("Purpose code (KNP)"), bank.purpose_code),
            (_("Amount"), f"{format_amount(_missing(order), order.currency)} {order.currency}"),
            (_("Payment reference"), order.reference),
        ]

    def document(self, order: Order, title: str) -> bytes:
        """Return the invoice: with what is still to be paid and how, or marked as paid."""
        _, zone = partial(gettext, lang=order.language), order.quote["station"]["time_zone"]
        ordered_ms = order.ordered_ms or 0
        paper = Paper(_("Invoice %(reference)s", reference=order.reference), ordered_ms)
        if order.paid_ms is not None:
            paper.stamp(_("Refunded") if order.state == State.REFUNDED else _("Paid"))
        paper.text(title, after_mm=4)
        paper.row(_("Date"), format_time(ordered_ms, zone))
        if order.paid_ms is not None:
            paper.row(_("Paid"), format_time(order.paid_ms, zone), bold=True)
        else:
            paper.row(_("To be paid until"), format_time(order.until_ms or 0, zone), bold=True)
        self._write_parties(paper, order)
        paper.space(6)
        self._write_price(paper, order)
        if came := min(order.total, received(order)):
            paper.row(_("Received"), _money(order, came), sum_=True)
        if order.paid_ms is None:
            missing = _money(order, _missing(order))
            paper.row(_("To be paid"), missing, sum_=True, bold=True)
            self._write_payment(paper, order)
        elif order.state == State.REFUNDED:
            paper.row(_("Given back"), format_time(order.ended_ms or 0, zone), sum_=True)
        return paper.done()

    def receipt(self, order: Order, title: str) -> bytes:
        """Return the receipt of an order: each payment that came or went back."""
        _, lang = partial(gettext, lang=order.language), order.language
        zone = order.quote["station"]["time_zone"]
        heading = _("Receipt for the payments of order %(number)s", number=order.number)
        paper = Paper(heading, max([p.at_ms for p in order.payments], default=0))
        paper.text(title, after_mm=4)
        paper.row(_("Payment reference"), order.reference)
        self._write_parties(paper, order)
        paper.space(6)
        for line in statement(order, lang):
            name = f"{format_time(line.at_ms, zone)}  {line.what}  {line.reference}"
            paper.row(name, format_money_with_code(line.amount, line.currency, lang), sum_=True)
        paper.space(4)
        kept = received(order)
        name = _("Received, less what was given back")
        paper.row(name, _money(order, kept), sum_=True, bold=True)
        paper.text(amount_in_words(kept, order.currency, lang), after_mm=4)
        self._write_price(paper, order)
        for currency, amount in owed(order).items():
            back = format_money_with_code(amount, currency, lang)
            paper.row(_("Still to be given back"), back, sum_=True, bold=True)
        return paper.done()

    def _write_parties(self, paper: Paper, order: Order) -> None:
        """Write who sells, and who pays, where that was said."""
        _, bank = partial(gettext, lang=order.language), self.bank
        paper.row(_("Seller"), _party(bank.beneficiary, bank.bin, order.language))
        if bank.address:
            paper.row(_("Seller's address"), bank.address)
        if order.payer_name:
            paper.row(_("Payer"), _party(order.payer_name, order.payer_bin, order.language))

    def _write_price(self, paper: Paper, order: Order) -> None:
        """Write what an order costs."""
        _, lang, price = partial(gettext, lang=order.language), order.language, order.quote["price"]
        titles = {camera["id"]: text_in(camera["title"], lang) for camera in order.quote["cameras"]}
        for line in price["lines"]:
            text = _(
                "%(camera)s: %(minutes)s min at %(price)s",
                camera=titles[line["camera"]],
                minutes=format_minutes(line["billed_ms"]),
                price=_money(order, price["per_minute"]),
            )
            paper.row(text, _money(order, line["net"]), sum_=True)
        if price["minimum"]:
            name = _("Added to reach the minimum order")
            paper.row(name, _money(order, price["minimum"]), sum_=True)
        if price["tax_basis"]:
            name = _("VAT %(rate)s", rate=format_percent(price["tax_basis"], lang))
            paper.row(name, _money(order, price["tax"]), sum_=True)
        paper.keep_together(2 * LINE_MM)  # the sum, and the same in words
        paper.row(_("Total"), _money(order, order.total), sum_=True, bold=True)
        paper.text(amount_in_words(order.total, order.currency, lang))

    def _write_payment(self, paper: Paper, order: Order) -> None:
        """Write how the order is paid: the bank's details, their QR, what a payer should know."""
        _ = partial(gettext, lang=order.language)
        until = format_time(order.until_ms or 0, order.quote["station"]["time_zone"])
        paper.space(8)
        paper.keep_together(DETAILS_MM)  # what is paid by stays on one page
        details, top = self.details(order), paper.at_mm
        for name, value in details:
            shown = _money(order, _missing(order)) if name == _("Amount") else value
            paper.row(name, shown, width=WIDTH - QR_MM - 8, bold=value == order.reference)
        paper.qr("\n".join(f"{n}: {v}" for n, v in details), top, QR_MM)
        paper.go_below(top + QR_MM)
        paper.space(8)
        for text in (
            _(
                "Write the payment reference exactly as it stands: by it your payment is found. "
                "Your files can be downloaded once the payment is entered."
            ),
            _("A bank transfer takes some working days. Pay only once."),
            _("A payment that comes after %(when)s is given back, and the order ends.", when=until),
            _("Your files are on the page of your order. Its link, the only key, is not on here."),
        ):
            paper.text(text)


def _missing(order: Order) -> int:
    return max(0, order.total - received(order))


def _money(order: Order, minor: int) -> str:
    return format_money_with_code(minor, order.currency, order.language)


def _party(name: str, bin_: str | None, lang: str) -> str:
    return gettext("%(name)s, BIN %(bin)s", lang, name=name, bin=bin_) if bin_ else name
