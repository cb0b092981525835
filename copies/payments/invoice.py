"""An invoice to be paid at a bank: a PDF with the bank's details, a reference, and a QR of them.

An operator looks at the bank's statement and enters what came (`kuager orders confirm`). The QR
holds the same details as lines of text: phones show it, and each line can be copied.
"""

from __future__ import annotations

from datetime import UTC, datetime
from functools import partial
from itertools import groupby
from typing import TYPE_CHECKING

import fontpkg
import segno

from base.currency import format_amount
from base.i18n.format import format_minutes, format_money, format_time
from base.i18n.gettext import gettext, text_in
from config.copies import Bank
from copies.balance import received
from copies.states import State
from storage.catalogue.orders import Order

if TYPE_CHECKING:
    from fpdf import FPDF

FONT = "PT Sans"  # has all letters of Kazakh
LEFT, WIDTH, QR_MM, DETAILS_MM = 20, 170, 58, 85


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
        """Return the invoice as PDF: with what is missing and how it is paid, or that it is."""
        from fpdf import FPDF  # 40 MB, for those who write invoices

        _, price = partial(gettext, lang=order.language), order.quote["price"]
        pdf = FPDF(format="A4")
        heading = _("Invoice %(reference)s", reference=order.reference)
        pdf.set_title(heading)
        pdf.set_creation_date(datetime.fromtimestamp((order.ordered_ms or 0) / 1000, UTC))
        for style, weight in (("", 400), ("B", 700)):
            pdf.add_font(FONT, style, fontpkg.path(FONT, weight=weight))
        pdf.set_margins(LEFT, LEFT)
        pdf.add_page()
        pdf.set_font(FONT, "B", 20)
        pdf.cell(WIDTH, 12, heading, new_x="LMARGIN", new_y="NEXT")
        pdf.set_font(FONT, "", 11)
        pdf.multi_cell(WIDTH, 6, title, align="L", new_x="LMARGIN", new_y="NEXT")
        pdf.ln(4)
        zone = order.quote["station"]["time_zone"]
        until = format_time(order.until_ms or 0, zone)
        details_width = WIDTH - QR_MM - 8
        _row(pdf, _("Date"), format_time(order.ordered_ms or 0, zone), width=details_width)
        if order.paid_ms is None:
            _row(pdf, _("To be paid until"), until, width=details_width, bold=True)
        else:
            paid = format_time(order.paid_ms, zone)
            _row(pdf, _("Paid"), paid, width=details_width, bold=True)
        pdf.ln(6)

        def shown(minor: int) -> str:
            return format_money(minor, order.currency, order.language)

        titles = {
            camera["id"]: text_in(camera["title"], order.language)
            for camera in order.quote["cameras"]
        }
        for line in price["lines"]:
            text = _(
                "%(camera)s: %(minutes)s min at %(price)s",
                camera=titles[line["camera"]],
                minutes=format_minutes(line["billed_ms"]),
                price=shown(price["per_minute"]),
            )
            _row(pdf, text, shown(line["net"]), right=True)
        if price["minimum"]:
            _row(pdf, _("To the least price of an order"), shown(price["minimum"]), right=True)
        if price["tax_basis"]:
            tax = f"{price['tax_basis'] / 100:g} %"
            _row(pdf, _("Tax, %(rate)s", rate=tax), shown(price["tax"]), right=True)
        _row(pdf, _("Total"), shown(order.total), right=True, bold=True)
        if came := min(order.total, received(order)):
            _row(pdf, _("Received"), shown(came), right=True)
        if order.paid_ms is None:
            _row(pdf, _("To be paid"), shown(_missing(order)), right=True, bold=True)
            self._draw_payment(pdf, order, until, details_width)
        elif order.state == State.REFUNDED:
            _row(pdf, _("Given back"), format_time(order.ended_ms or 0, zone), right=True)
        return bytes(pdf.output())

    def _draw_payment(self, pdf: FPDF, order: Order, until: str, details_width: float) -> None:
        """Draw how the order is paid: the bank's details, their QR, what a payer should know."""
        _ = partial(gettext, lang=order.language)
        pdf.ln(8)
        if pdf.will_page_break(DETAILS_MM):  # what is paid by stays on one page
            pdf.add_page()
        details = self.details(order)
        top = pdf.get_y()
        for name, value in details:
            if name == _("Amount"):
                shown = format_money(_missing(order), order.currency, order.language)
            else:
                shown = value
            _row(pdf, name, shown, width=details_width, bold=value == order.reference)
        code = segno.make("\n".join(f"{n}: {v}" for n, v in details), error="l", micro=False)
        _draw(pdf, [list(row) for row in code.matrix], LEFT + WIDTH - QR_MM, top, QR_MM)
        pdf.set_y(max(pdf.get_y(), top + QR_MM) + 8)
        for text in (
            _(
                "Write the payment reference exactly as it stands: by it your payment is found. "
                "Your files can be downloaded once the payment is entered."
            ),
            _("A bank transfer takes some working days. Pay only once."),
            _(
                "What does not come until %(when)s is too late: the order ends, and the payment is "
                "given back.",
                when=until,
            ),
            _("Your files are on the page of your order. Its link, the only key, is not on here."),
        ):
            pdf.multi_cell(WIDTH, 6, text, align="L", new_x="LMARGIN", new_y="NEXT")
            pdf.ln(2)


def _missing(order: Order) -> int:
    return max(0, order.total - received(order))


def _row(
    pdf: FPDF,
    name: str,
    value: str,
    *,
    width: float = WIDTH,
    right: bool = False,
    bold: bool = False,
) -> None:
    pdf.set_font(FONT, "B" if bold else "", 11)
    split = width * (0.7 if right else 0.42)
    top = pdf.get_y()
    pdf.multi_cell(split, 6, name, align="L", new_x="LMARGIN", new_y="NEXT")
    below = pdf.get_y()
    pdf.set_xy(LEFT + split, top)
    pdf.multi_cell(
        width - split, 6, value, align="R" if right else "L", new_x="LMARGIN", new_y="NEXT"
    )
    pdf.set_y(max(below, pdf.get_y()))
    pdf.set_font(FONT, "", 11)


def _draw(pdf: FPDF, matrix: list[list[int]], x: float, y: float, size: float) -> None:
    """Draw a QR as bars a little too large: sharp at every size, and no seams between them."""
    pdf.set_fill_color(0, 0, 0)
    side = size / len(matrix)
    for n, row in enumerate(matrix):
        m = 0
        for dark, run in groupby(row):
            length = len(list(run))
            if dark:
                more = side / 20
                pdf.rect(x + m * side, y + n * side, length * side + more, side + more, "F")
            m += length
