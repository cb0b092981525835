"""What is done with orders: the one way for pages, API, command line and the worker.

Whatever comes from a provider is entered before anything else is done with the order, so that
nothing that was paid is lost; and what has to do with payments may be done twice.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Mapping, Sequence

import structlog

from base.clock import Clock, now_ms
from base.i18n.gettext import N_
from config.model import Config
from copies.balance import received, refunds_due
from copies.orders import events
from copies.orders.allowance import claim_of, day_of, free_of, refused
from copies.orders.events import Refused, key_of, new_secret
from copies.orders.quotes import Json, QuoteRequest, make_quote
from copies.payments.port import CheckoutGone, Online, Provider, ProviderUnavailable
from copies.states import ENDED, State
from storage.catalogue.catalogue import Catalogue
from storage.catalogue.order_files import FootageGone
from storage.catalogue.orders import Change, Order, Payment, PaymentTaken
from storage.catalogue.rows import CheckoutRow
from storage.catalogue.usage import Claim, TooMuch
from storage.recording_source import Store

QUOTED_IS_GONE = N_("what was quoted is there no longer: ask for a new quote")

log = structlog.get_logger()


class OrderService:
    """The orders of a catalogue, with the footage that they are of, and the providers that they
    can be paid by. Every call may raise CatalogueError."""

    def __init__(
        self,
        config: Config,
        catalogue: Catalogue,
        providers: Mapping[str, Provider],
        archives: Sequence[Store] = (),
        clock: Clock = now_ms,
    ):
        """`archives` are needed for quotes alone. The configuration has a section of copies."""
        assert config.copies is not None
        self.config, self.settings = config, config.copies
        self.catalogue, self.orders = catalogue, catalogue.orders
        self.providers, self._archives, self._clock = providers, archives, clock

    # -- quotes --------------------------------------------------------------------------

    def quotable(
        self, station: str, cameras: Sequence[str], stretch: tuple[int, int]
    ) -> QuoteRequest:
        """Return what can be quoted; raises Refused."""
        now = self._clock()
        return QuoteRequest.of(self.config, self.settings, station, cameras, stretch, now)

    async def quote(self, request: QuoteRequest, language: str, client: str) -> tuple[str, Order]:
        """Make a quote for a client; returns its secret, too. Raises Refused, Unreadable."""
        begun = time.monotonic()
        row, _ = await self._look_for(request, language, client)
        secret = new_secret()
        key = key_of(secret)
        assert key is not None
        # how its files are made, megabytes for a day of several cameras, is written with the order
        pk = await self.orders.create(key, row, ())
        log.info("A quote was made", order=pk, took_s=round(time.monotonic() - begun, 2))
        return secret, await self.orders.get(pk)

    async def place(self, order: Order, email: str | None, link: str, client: str) -> Order:
        """Order what was quoted, if all of it is still there and the client may have it; raises
        Refused, Unreadable."""
        plans: Sequence[Json] = ()
        if order.state == State.QUOTED:
            cameras = [camera["id"] for camera in order.quote["cameras"]]
            request = self.quotable(order.station, cameras, (order.from_ms, order.to_ms))
            row, plans = await self._look_for(request, order.language, client)
            if not plans:
                raise Refused(N_("nothing of this exists"))
            if _files(row["quote"]) != _files(order.quote):
                raise Refused(QUOTED_IS_GONE)
        now, zone = self._clock(), self.config.election.time_zone

        def claim(order: Order) -> Claim:
            return claim_of(self.settings, order, client, zone, now)

        decide = events.place(self.settings, email, link, now, claim, plans)
        try:
            return await self.orders.change(order.order_pk, decide)
        except FootageGone:  # since it was looked for
            raise Refused(QUOTED_IS_GONE) from None
        except TooMuch as too_much:
            raise refused(too_much, order) from None

    async def _look_for(
        self, request: QuoteRequest, language: str, client: str
    ) -> tuple[Json, list[Json]]:
        """Return row and plans of a quote, with what is left of the client's free footage."""
        day_ms = day_of(self._clock(), self.config.election.time_zone)
        free_ms = await self.catalogue.usage.free_left_ms(client, day_ms, free_of(self.settings))
        return await make_quote(
            self.config, self.settings, self.catalogue, self._archives, request, language, free_ms
        )

    async def send_link(self, order_pk: int, email: str, link: str) -> Order:
        """Have the link of an order sent to an address, once; raises Refused."""
        change = events.write_to(self.settings, email, link, self._clock())
        return await self.orders.change(order_pk, change)

    async def name_payer(self, order_pk: int, name: str, payer_bin: str | None) -> Order:
        """Have the invoice name who pays; raises Refused."""
        return await self.orders.change(order_pk, events.name_payer(name, payer_bin, self._clock()))

    # -- payments ------------------------------------------------------------------------

    async def payment_page(self, order: Order, provider: Online, title: str, back: str) -> str:
        """Return the address of the one page on which an order can be paid, which asks for what
        is missing.

        Raises Refused where nothing is to be paid, ProviderUnavailable.
        """
        earlier = [
            c
            for c in await self.catalogue.checkouts.of(order.order_pk)
            if c.provider == provider.name
        ]
        for one in earlier:
            with contextlib.suppress(CheckoutGone):  # of another account: have a page in this one
                if one.closed_ms is None and await self.settle(one):
                    order = await self.orders.get(order.order_pk)
                    _refuse_unpayable(order)
                    if all(p.at_ms < one.opened_ms for p in order.payments):
                        return one.url
                    await self._close(one)  # since then a part came: it asks for too much
        opened_ms = self._clock()  # what comes from now on is not in what the page asks for
        order = await self.orders.get(order.order_pk)
        _refuse_unpayable(order)
        rest = order.total - received(order)
        made = await provider.open(order, rest, title, back, len(earlier))
        await self.catalogue.checkouts.open(
            order.order_pk, provider.name, made.reference, made.url, opened_ms
        )
        return made.url

    async def settle(self, checkout: CheckoutRow) -> bool:
        """Enter what a page brought; tells whether it can still bring money.

        What cannot be entered, now or later, is told in the log: whoever asks about the page goes
        on without it. Raises ProviderUnavailable.
        """
        name, reference = checkout.provider, checkout.reference
        looked = await self._online(name).look(reference)
        if looked.payment:
            try:
                await self.enter_payment(checkout.order_pk, looked.payment, name)
            except (PaymentTaken, Refused) as why:
                log.error(
                    "What a payment page brought is not entered for its order",
                    order=(await self.orders.get(checkout.order_pk)).number,
                    reference=looked.payment.reference,
                    why=str(why),
                )
        if not looked.open:
            await self.catalogue.checkouts.close(name, reference, self._clock())
        return looked.open

    async def enter_payment(self, order_pk: int, payment: Payment, actor: str) -> Order:
        """Enter money that came, once; raises Refused, PaymentTaken."""
        change = events.pay(self.settings, payment, actor, self._clock())
        return await self.orders.change(order_pk, change)

    async def close_checkouts(self, order_pk: int) -> None:
        """Have an order's pages bring no money any more, and enter what they brought.

        Raises ProviderUnavailable: then it is not known of one of them. Those of a provider that
        knows them no longer are left: what they may bring is owed back.
        """
        away: ProviderUnavailable | None = None
        for one in await self.catalogue.checkouts.of(order_pk):
            if one.closed_ms is None:
                try:
                    await self._close(one)
                except CheckoutGone as gone:
                    log.warning("A page of a provider is left open", order=order_pk, why=str(gone))
                except ProviderUnavailable as error:
                    away = error
        if away:
            raise away

    async def _close(self, checkout: CheckoutRow) -> None:
        """Close a page and enter what it brought; raises ProviderUnavailable where it may bring
        more."""
        await self._online(checkout.provider).close(checkout.reference)
        if await self.settle(checkout):
            raise ProviderUnavailable("a payment is still on its way")

    def _online(self, name: str) -> Online:
        provider = self.providers.get(name)
        if not isinstance(provider, Online):
            raise CheckoutGone(f"'{name}' is no longer configured")
        return provider

    # -- ends ----------------------------------------------------------------------------

    async def cancel(self, order_pk: int) -> Order:
        """Take an order back before it is paid; raises Refused, ProviderUnavailable."""
        return await self._end(order_pk, events.cancel(self._clock()))

    async def reject(self, order_pk: int, reason: str, actor: str) -> Order:
        """Refuse an order that is not paid; raises Refused, ProviderUnavailable."""
        return await self._end(order_pk, events.reject(reason, self._clock(), actor))

    async def _end(self, order_pk: int, decide: Callable[[Order], Change]) -> Order:
        """Do what ends an order, after its pages were closed."""
        order = await self.orders.get(order_pk)
        decide(order)  # what does not fit closes no page
        await self.close_checkouts(order_pk)
        return await self.orders.change(order_pk, decide)

    async def refund(
        self, order: Order, whole: bool, bank_reference: str | None, actor: str = "operator"
    ) -> Order:
        """Give back what is owed, or all that was paid, which ends the order.

        What came by a bank is given back by hand, with the bank's reference for it. Raises
        Refused, ProviderUnavailable, PaymentTaken.
        """
        if whole and not events.may_be_refunded(order):
            raise Refused(events.WHY_NOT[State(order.state)])
        back = refunds_due(order, whole)
        if not back and (not whole or order.state in ENDED):
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
        by_hand = tuple(
            self._returned(p, amount, f"{bank_reference}/{n}" if n > 1 else f"{bank_reference}")
            for n, (p, amount) in enumerate(paper, 1)
        )
        # before anything goes back
        if online and by_hand and await self.orders.any_entered(by_hand):
            raise PaymentTaken
        for n, (provider, payment, amount) in enumerate(online, 1):
            earlier = sum(p.returns == payment.reference for p in order.payments)
            key = f"{order.order_pk}-{payment.reference}-{earlier}"
            gone = self._returned(payment, amount, await provider.refund(payment, amount, key))
            last = whole and not paper and n == len(online)
            change = events.refund((gone,), last, self._clock(), actor=actor)
            order = await self.orders.change(order.order_pk, change)
        if paper or not online:  # all of it at once: several operators may enter it
            change = events.refund(by_hand, whole, self._clock(), by_hand=True, actor=actor)
            order = await self.orders.change(order.order_pk, change)
        return order

    def _returned(self, payment: Payment, amount: int, reference: str) -> Payment:
        return Payment(
            payment.provider, reference, -amount, payment.currency, self._clock(), payment.reference
        )


def _files(quote: Json) -> list[tuple[str, str]]:
    """Return the files of a quote: their bytes, and the names by which they are asked for."""
    return [(f["etag"], f["name"]) for camera in quote["cameras"] for f in camera["files"]]


def _refuse_unpayable(order: Order) -> None:
    if order.state != State.AWAITING_PAYMENT:
        raise Refused(events.WHY_NOT[State(order.state)])
