"""What happens to an order: for each event a function from the order to a Change.

Pure but for the moment and the secret that are passed in. An event that does not fit the state
raises Refused with words for whoever asked, and changes nothing.
"""

from __future__ import annotations

import hashlib
import re
import secrets
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from base.i18n.gettext import N_, gettext
from config.copies import Copies
from copies.balance import received, refunds_due
from copies.states import DOWNLOADS, TRANSITIONS, Event, State
from storage.catalogue.orders import Change, Entry, Letter, Order, Payment
from storage.catalogue.usage import Claim

SECRET_BYTES = 24  # 192 bits, 32 letters
_SECRET = re.compile(r"[A-Za-z0-9_-]{32}")


class Refused(ValueError):
    """The event does not fit; the sentence says why, to whoever asked, with its values by name.

    `field` is what of a form it is about: `from`, `to`, `cameras`.
    """

    def __init__(self, sentence: str, field: str | None = None, **values: object):
        super().__init__(sentence % values if values else sentence)
        self.field, self._sentence, self._values = field, sentence, values

    def text(self, lang: str) -> str:
        """Return the sentence in a language."""
        return gettext(self._sentence, lang, **self._values)


def new_secret() -> str:
    """Return a new secret: whoever has it has the order."""
    return secrets.token_urlsafe(SECRET_BYTES)


def key_of(secret: str) -> str | None:
    """Return the SHA-256 under which a secret's order is found; None for what is none."""
    if not _SECRET.fullmatch(secret):
        return None
    return hashlib.sha256(secret.encode()).hexdigest()


# -- events ------------------------------------------------------------------------------------


def place(
    settings: Copies,
    email: str | None,
    link: str,
    now_ms: int,
    claim: Callable[[Order], Claim] | None = None,
    files: Sequence[Mapping[str, Any]] = (),
) -> Callable[[Order], Change]:
    """The requester orders what was quoted; where nothing is to be paid, it is paid.

    Where no letters are sent, no address is kept. `claim` tells what it takes of what its client
    may have, `files` how each of its files is made.
    """
    email = email if settings.mail else None

    def decide(order: Order) -> Change:
        if order.state == State.QUOTED and (order.until_ms or 0) <= now_ms:
            raise Refused(N_("the quote is too old: ask for a new one"))
        values: dict[str, Any] = {
            "state": _after(order, Event.ORDER),
            "ordered_ms": now_ms,
            "until_ms": now_ms + settings.pay_within * 1000,
            "email": email,
            "forget_ms": now_ms + settings.forget_after * 1000 if email else None,
        }
        entries = [
            Entry("requester", "quote", order.state, at_ms=order.created_ms),
            Entry("requester", Event.ORDER, values["state"], {"total": order.total}),
        ]
        if order.total == 0:
            values |= _paid(settings, order, now_ms)
            entries.append(Entry("system", Event.PAY, values["state"], {"total": 0}))
        letters = (Letter("placed", email, link),) if email else ()
        return Change(
            now_ms,
            tuple(entries),
            values,
            letters=letters,
            numbered=True,
            claim=claim(order) if claim else None,
            hold=True,
            files=files,
        )

    return decide


def write_to(settings: Copies, email: str, link: str, now_ms: int) -> Callable[[Order], Change]:
    """The requester of an order without an address has its link sent to one, once."""

    def decide(order: Order) -> Change:
        if order.state != State.AWAITING_PAYMENT and order.state not in DOWNLOADS:
            raise Refused(WHY_NOT[State(order.state)])
        if settings.mail is None:
            raise Refused(N_("no letters are sent here"))
        if order.email:
            raise Refused(N_("the link was sent already"))
        values = {"email": email, "forget_ms": now_ms + settings.forget_after * 1000}
        entry = Entry("requester", "address", order.state)
        return Change(now_ms, (entry,), values, letters=(Letter("placed", email, link),))

    return decide


def name_payer(name: str, payer_bin: str | None, now_ms: int) -> Callable[[Order], Change]:
    """The requester says whom the invoice names as its payer: as often as he likes before it is
    paid, and once afterwards if nobody was named. The audit log says that, once, and not whom."""

    def decide(order: Order) -> Change:
        if order.total == 0 or (order.state != State.AWAITING_PAYMENT and order.paid_ms is None):
            raise Refused(N_("there is no invoice for this order"))
        if order.paid_ms is not None and order.payer_name:
            raise Refused(N_("it is paid, and its invoice names a payer already"))
        values = {"payer_name": name, "payer_bin": payer_bin}
        first = () if order.payer_name else (Entry("requester", "payer", order.state),)
        return Change(now_ms, first, values)

    return decide


def pay(
    settings: Copies, payment: Payment, actor: str, now_ms: int
) -> Callable[[Order], Change | None]:
    """Money came. It is always entered, whatever the order's state, and once.

    The order is paid when what came reaches its price. What comes too late, twice, beyond the
    price or in another currency is owed back and changes no state.
    """

    def decide(order: Order) -> Change | None:
        same = (payment.provider, payment.reference)
        if any((p.provider, p.reference) == same for p in order.payments):
            return None
        if payment.amount <= 0:
            raise Refused(N_("a payment is more than nothing"))
        if order.ordered_ms is None:
            raise Refused(N_("it was never ordered"))
        values: dict[str, Any] = {}
        entries = [
            Entry(
                actor,
                "payment",
                order.state,
                {
                    "provider": payment.provider,
                    "reference": payment.reference,
                    "amount": payment.amount,
                    "currency": payment.currency,
                },
            )
        ]
        after = order.with_(Change(now_ms, (), payments=(payment,)))
        letter = None
        if order.state == State.AWAITING_PAYMENT:
            if received(after) >= order.total:
                values = _paid(settings, order, now_ms)
                entries.append(Entry(actor, Event.PAY, values["state"], {"total": order.total}))
                letter = "paid"
            elif payment.currency == order.currency:
                letter = "part"
        return Change(now_ms, tuple(entries), values, (payment,), _letters(order, letter or "owed"))

    return decide


def _paid(settings: Copies, order: Order, now_ms: int) -> dict[str, Any]:
    """Return what an order is from its payment on; it can be downloaded as long as its quote said,
    whatever the settings say since then."""
    lasts_s = order.quote.get("download_for_s", settings.download_for)
    return {
        "state": TRANSITIONS[State.AWAITING_PAYMENT, Event.PAY],
        "paid_ms": now_ms,
        "until_ms": now_ms + lasts_s * 1000,
    }


def finish(now_ms: int) -> Callable[[Order], Change | None]:
    """The SHA-256 of every file is known."""

    def decide(order: Order) -> Change | None:
        if order.state != State.PAID:
            return None
        state = _after(order, Event.FINISH)
        return Change(
            now_ms, (Entry("system", Event.FINISH, state),), {"state": state, "ready_ms": now_ms}
        )

    return decide


def cancel(now_ms: int) -> Callable[[Order], Change]:
    """The requester takes the order back before paying."""

    def decide(order: Order) -> Change:
        return _end(order, Event.CANCEL, "requester", now_ms, None)

    return decide


def lapse(now_ms: int) -> Callable[[Order], Change | None]:
    """Its time is over, or the address is to be removed: whichever is due."""

    def decide(order: Order) -> Change | None:
        if order.until_ms is not None and order.until_ms <= now_ms:
            return _end(order, Event.LAPSE, "system", now_ms, None)
        if order.forget_ms is not None and order.forget_ms <= now_ms:
            entry = Entry("system", "forget", order.state)
            return Change(now_ms, (entry,), {"email": None, "forget_ms": None})
        return None

    return decide


def reject(reason: str, now_ms: int, actor: str = "operator") -> Callable[[Order], Change]:
    """The operator refuses an order that is not paid, with a reason that the requester reads."""

    def decide(order: Order) -> Change:
        if order.state in DOWNLOADS:
            raise Refused(N_("it is paid already: refund it instead"))
        change = _end(order, Event.REJECT, actor, now_ms, reason)
        letters = _letters(order, "rejected")
        return Change(now_ms, change.entries, change.values, letters=letters, hold=change.hold)

    return decide


def may_be_refunded(order: Order) -> bool:
    """Tell whether all that was paid may go back: also when the time to download is over, as a
    transfer back takes days, and files that nobody could read are no reason to keep it."""
    return order.paid_ms is not None and (State(order.state), Event.REFUND) in TRANSITIONS


def refund(
    returned: tuple[Payment, ...],
    whole: bool,
    now_ms: int,
    *,
    by_hand: bool = False,
    actor: str = "operator",
) -> Callable[[Order], Change | None]:
    """Money went back, which is entered once; `whole`: all that was paid, which ends the order.

    `by_hand`: operators say so, of whom several may do it at once, each under a reference of his
    own: more than is to go back is refused, and a reference of something else.
    """

    def decide(order: Order) -> Change | None:
        known = {(p.provider, p.reference) for p in order.payments}
        new = tuple(p for p in returned if (p.provider, p.reference) not in known)
        if by_hand and len(new) < len(returned):
            raise Refused(N_("this reference is entered already: look at the order"))
        left = {(p.provider, p.reference): amount for p, amount in refunds_due(order, whole)}
        if by_hand and any(-p.amount > left.get((p.provider, p.returns or ""), 0) for p in new):
            raise Refused(N_("this was given back already: look at the order"))
        ending = whole and order.state != State.REFUNDED
        if not new and not ending:
            return None
        if ending and not may_be_refunded(order):
            raise Refused(WHY_NOT[State(order.state)])
        entries = tuple(
            Entry(
                actor,
                "returned",
                order.state,
                {
                    "provider": p.provider,
                    "reference": p.reference,
                    "amount": -p.amount,
                    "currency": p.currency,
                },
            )
            for p in new
        )
        if not ending:
            return Change(now_ms, entries, {}, new, _letters(order, "returned"))
        end = _end(order, Event.REFUND, actor, now_ms, None)
        letters = _letters(order, "refunded")
        return Change(now_ms, entries + end.entries, end.values, new, letters, hold=end.hold)

    return decide


def _end(order: Order, event: Event, actor: str, now_ms: int, reason: str | None) -> Change:
    """End an order: nothing is held for it any more, and the address goes; who pays is known from
    then on only where money is in the books under that name."""
    state = _after(order, event)
    values: dict[str, object] = {
        "state": state,
        "ended_ms": now_ms,
        "until_ms": None,
        "reason": reason,
        "email": None,
        "forget_ms": None,
    }
    if order.paid_ms is None:
        values |= {"payer_name": None, "payer_bin": None}
    detail = {"reason": reason} if reason else {}
    return Change(now_ms, (Entry(actor, event, state, detail),), values, hold=False)


def _after(order: Order, event: Event) -> State:
    after = TRANSITIONS.get((State(order.state), event))
    if after is None:
        raise Refused(WHY_NOT[State(order.state)])
    return after


def _letters(order: Order, kind: str) -> tuple[Letter, ...]:
    return (Letter(kind, order.email),) if order.email else ()


WHY_NOT = {
    State.QUOTED: N_("it is not ordered yet"),
    State.AWAITING_PAYMENT: N_("it is ordered already and waits for its payment"),
    State.PAID: N_("it is paid already"),
    State.READY: N_("it is paid already"),
    State.EXPIRED: N_("it has expired"),
    State.CANCELLED: N_("it was cancelled"),
    State.REJECTED: N_("it was rejected"),
    State.REFUNDED: N_("it was refunded"),
}
