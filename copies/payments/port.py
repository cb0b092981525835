"""Ways to pay: a port, and one file for each provider (docs/payments.md).

An order names no provider: each that is configured can be used for it, and money that came twice
is owed back. What a provider reports is entered by copies/orders/service.py, which alone knows
orders; a provider knows its own protocol and nothing of states. An order of nothing to pay needs
none.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from config.copies import Copies
from storage.catalogue.orders import Order, Payment


class ProviderUnavailable(RuntimeError):
    """The provider does not answer or refuses; the text is for a log, without secrets."""


class CheckoutGone(ProviderUnavailable):
    """The provider knows a checkout no longer, or us: nothing can be asked, now or later, until an
    operator configures it again."""


class AmountRefused(ProviderUnavailable):
    """The provider takes no such amount: the least of an order, or the rest of one that was paid in
    part, may be less than it takes."""


class InvalidSignature(ValueError):
    """A notification is not the provider's."""


@dataclass(frozen=True, slots=True)
class Checkout:
    """A page on which an order can be paid."""

    reference: str
    url: str


@dataclass(frozen=True, slots=True)
class CheckoutStatus:
    """What a provider says of a checkout: whether it can still bring money, and what it brought."""

    open: bool
    payment: Payment | None = None


@runtime_checkable
class InvoiceProvider(Protocol):
    """A provider that is paid elsewhere with a document; an operator confirms what came."""

    name: str

    def document(self, order: Order, title: str) -> bytes:
        """Return a PDF to pay an order by, or to show that it is paid; `title` says of what."""

    def receipt(self, order: Order, title: str) -> bytes:
        """Return a PDF of what came for an order and what went back."""


@runtime_checkable
class Online(Protocol):
    """A provider with a page to pay on. Every call but `parse_webhook` raises ProviderUnavailable,
    and CheckoutGone or AmountRefused where asking again changes nothing."""

    name: str

    async def open(
        self, order: Order, amount: int, title: str, back: str, attempt: int
    ) -> Checkout:
        """Have a page on which an amount can be paid; the same attempt gives the same page.

        `back` is where the requester goes afterwards; it must not hold the order's secret.
        """

    async def look(self, reference: str) -> CheckoutStatus:
        """Return how a checkout stands."""

    async def close(self, reference: str) -> None:
        """Have a checkout bring no money any more; one that is paid stays paid."""

    def parse_webhook(self, body: bytes, headers: Mapping[str, str]) -> str | None:
        """Return the checkout that a notification is about, if any; raises InvalidSignature."""

    async def refund(self, payment: Payment, amount: int, key: str) -> str:
        """Give back a part of a payment; returns its reference. The same key gives back once."""

    async def check_access(self) -> None:
        """Have it told whether the provider takes our keys; changes nothing there."""

    async def close_connections(self) -> None:
        """End the provider's connections."""


Provider = InvoiceProvider | Online


def open_providers(settings: Copies) -> dict[str, Provider]:
    """Return the providers that are configured, by name."""
    found: list[Provider] = []
    if settings.stripe:
        from copies.payments.stripe import Stripe  # half a second, for those who need it

        found.append(Stripe(settings.stripe))
    if settings.bank:
        from copies.payments.invoice import Invoice

        found.append(Invoice(settings.bank, settings.currency))
    return {provider.name: provider for provider in found}
