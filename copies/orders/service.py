"""Between orders and providers: pages to pay on, what they brought, what goes back.

Whatever comes from a provider is entered before anything else is done with the order, so that
nothing that was paid is lost; and everything here may be done twice.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping
from typing import Any

import structlog

from base.clock import Clock, now_ms
from base.i18n.gettext import N_
from config.copies import Copies
from copies.balance import received, refunds_due
from copies.orders import events
from copies.orders.events import Refused
from copies.payments.port import CheckoutGone, Online, Provider, ProviderUnavailable
from copies.states import TRANSITIONS, Event, State
from storage.catalogue.catalogue import Catalogue
from storage.catalogue.orders import Change, Order, Payment, PaymentTaken

log = structlog.get_logger()


class OrderService:
    """The orders of a catalogue with the providers that they can be paid by."""

    def __init__(
        self,
        catalogue: Catalogue,
        settings: Copies,
        providers: Mapping[str, Provider],
        clock: Clock = now_ms,
    ):
        self.catalogue, self.orders = catalogue, catalogue.orders
        self.settings, self.providers, self._clock = settings, providers, clock

    async def page(self, order: Order, provider: Online, title: str, back: str) -> str:
        """Return the address of the one page on which an order can be paid, which asks for what
        is missing.

        Raises Refused where nothing is to be paid, PaymentAway.
        """
        earlier = [
            c
            for c in await self.catalogue.checkouts.of(order.order_pk)
            if c["provider"] == provider.name
        ]
        for one in earlier:
            with contextlib.suppress(CheckoutGone):  # of another account: have a page in this one
                if one["closed_ms"] is None and await self.settle(one):
                    order = await self.orders.get(order.order_pk)
                    _refuse_unpayable(order)
                    if all(p.at_ms < one["opened_ms"] for p in order.payments):
                        return str(one["url"])
                    await self._close(one)  # since then a part came: it asks for too much
        order = await self.orders.get(order.order_pk)
        _refuse_unpayable(order)
        rest = order.total - received(order)
        made = await provider.open(order, rest, title, back, len(earlier))
        await self.catalogue.checkouts.open(
            order.order_pk, provider.name, made.reference, made.url, self._clock()
        )
        return made.url

    async def settle(self, checkout: Mapping[str, Any]) -> bool:
        """Enter what a page brought; tells whether it can still bring money.

        What cannot be entered, now or later, is told in the log: whoever asks about the page goes
        on without it. Raises PaymentAway.
        """
        name, reference = checkout["provider"], checkout["reference"]
        looked = await self._online(name).look(reference)
        if looked.payment:
            try:
                await self.enter(checkout["order_pk"], looked.payment, name)
            except (PaymentTaken, Refused) as why:
                log.error(
                    "What a payment page brought is not entered for its order",
                    order=(await self.orders.get(checkout["order_pk"])).number,
                    reference=looked.payment.reference,
                    why=str(why),
                )
        if not looked.open:
            await self.catalogue.checkouts.close(name, reference, self._clock())
        return looked.open

    async def enter(self, order_pk: int, payment: Payment, actor: str) -> Order:
        """Enter money that came, once; raises Refused, PaymentTaken."""
        change = events.pay(self.settings, payment, actor, self._clock())
        return await self.orders.change(order_pk, change)

    async def close_pages(self, order_pk: int) -> None:
        """Have an order's pages bring no money any more, and enter what they brought.

        Raises PaymentAway: then it is not known of one of them. Those of a provider that knows
        them no longer are left: what they may bring is owed back.
        """
        away: ProviderUnavailable | None = None
        for one in await self.catalogue.checkouts.of(order_pk):
            if one["closed_ms"] is None:
                try:
                    await self._close(one)
                except CheckoutGone as gone:
                    log.warning("A page of a provider is left open", order=order_pk, why=str(gone))
                except ProviderUnavailable as error:
                    away = error
        if away:
            raise away

    async def _close(self, checkout: Mapping[str, Any]) -> None:
        """Close a page and enter what it brought; raises PaymentAway where it may bring more."""
        await self._online(checkout["provider"]).close(checkout["reference"])
        if await self.settle(checkout):
            raise ProviderUnavailable("a payment is still on its way")

    def _online(self, name: str) -> Online:
        provider = self.providers.get(name)
        if not isinstance(provider, Online):
            raise CheckoutGone(f"'{name}' is no longer configured")
        return provider

    async def end(self, order_pk: int, decide: Callable[[Order], Change | None]) -> Order:
        """Do what ends an order, after its pages were closed; raises Refused, PaymentAway."""
        order = await self.orders.get(order_pk)
        decide(order)  # what does not fit closes no page
        await self.close_pages(order_pk)
        return await self.orders.change(order_pk, decide)

    async def give_back(
        self, order: Order, whole: bool, bank_reference: str | None, actor: str = "operator"
    ) -> Order:
        """Give back what is owed, or all that was paid, which ends the order.

        What came by a bank is given back by hand, with the bank's reference for it. Raises
        Refused, PaymentAway, PaymentTaken.
        """
        if whole and (State(order.state), Event.REFUND) not in TRANSITIONS:
            raise Refused(events.WHY_NOT[State(order.state)])
        back = refunds_due(order, whole)
        if not back and not whole:
            raise Refused(N_("nothing is owed back"))
        online, paper = list[tuple[Online, Payment, int]](), list[tuple[Payment, int]]()
        for payment, amount in back:
            provider = self.providers.get(payment.provider)
            if isinstance(provider, Online):
                online.append((provider, payment, amount))
            else:
                paper.append((payment, amount))
        if paper and bank_reference is None:
            raise Refused(
                N_("a part came by bank: transfer it back, then enter it with --reference")
            )
        if not paper and bank_reference is not None:
            raise Refused(N_("nothing that is to go back came by bank: leave out --reference"))
        for n, (provider, payment, amount) in enumerate(online, 1):
            earlier = sum(p.returns == payment.reference for p in order.payments)
            key = f"{order.order_pk}-{payment.reference}-{earlier}"
            gone = self._returned(payment, amount, await provider.refund(payment, amount, key))
            last = whole and not paper and n == len(online)
            refund = events.refund((gone,), last, self._clock(), actor=actor)
            order = await self.orders.change(order.order_pk, refund)
        if paper or not online:  # all of it at once: several operators may enter it
            returned = tuple(
                self._returned(p, amount, f"{bank_reference}/{n}" if n > 1 else f"{bank_reference}")
                for n, (p, amount) in enumerate(paper, 1)
            )
            refund = events.refund(returned, whole, self._clock(), by_hand=True, actor=actor)
            order = await self.orders.change(order.order_pk, refund)
        return order

    def _returned(self, payment: Payment, amount: int, reference: str) -> Payment:
        return Payment(
            payment.provider,
            reference,
            -amount,
            payment.currency,
            self._clock(),
            payment.reference,
        )


def _refuse_unpayable(order: Order) -> None:
    if order.state != State.AWAITING_PAYMENT:
        raise Refused(events.WHY_NOT[State(order.state)])
