"""The money of an order as a list for people: what came, what went back, when and how."""

from __future__ import annotations

from dataclasses import dataclass

from base.i18n.gettext import N_, gettext
from storage.catalogue.orders import Order, Payment

_CAME = {"invoice": N_("Bank transfer received"), "stripe": N_("Paid by card")}
_WENT_BACK = {"invoice": N_("Returned by bank transfer"), "stripe": N_("Returned to the card")}


@dataclass(frozen=True, slots=True)
class StatementLine:
    """One payment: `amount` is negative where it went back, in the smallest unit of `currency`."""

    at_ms: int
    what: str
    reference: str
    amount: int
    currency: str


def statement(order: Order, lang: str) -> list[StatementLine]:
    """Return the payments of an order in a language, oldest first."""
    return [
        StatementLine(p.at_ms, _what(p, lang), p.reference, p.amount, p.currency)
        for p in order.payments
    ]


def _what(payment: Payment, lang: str) -> str:
    back = payment.returns is not None
    known = (_WENT_BACK if back else _CAME).get(payment.provider)
    if known is not None:
        return gettext(known, lang)
    return gettext("Returned", lang) if back else gettext("Received", lang)
