"""What may happen to an order, as pure functions: any events in any order."""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from config.copies import Copies, Mail
from copies.balance import applied, owed, owed_since_ms, received, refunds_due
from copies.orders import events
from copies.orders.describe import Standing, standing_of
from copies.orders.events import Refused, key_of, new_secret
from copies.states import DOWNLOADS, ENDED, TRANSITIONS, Event, State
from storage.catalogue.orders import Change, Order, Payment
from tests.support.repository import ROOT

MAIL = {"host": "127.0.0.1", "tls": "none", "from": "k@example.kz"}
SETTINGS = Copies.model_construct(
    currency="KZT", pay_within=100, download_for=1000, forget_after=500
)
LETTERS = SETTINGS.model_copy(update={"mail": Mail.model_validate(MAIL)})
NOW, BIN = 1_800_000_000_000, "123456789012"


def quoted(total: int = 1000) -> Order:
    return Order(
        *(1, None, "e", "s", NOW - 10**6, NOW, State.QUOTED, "en", {"cameras": []}, "KZT"),
        total=total,
        created_ms=NOW,
        until_ms=NOW + 10_000,
    )


def step(order: Order, what: tuple[str, int, str], now: int) -> Order:
    """Do an event as the database would; what is refused changes nothing."""
    name, n, currency = what
    payment = Payment("bank", f"ref-{n}", n * 250, currency, now)
    events_by_name: dict[str, Callable[[], Callable[[Order], Change | None]]] = {
        "order": lambda: events.place(SETTINGS, "a@b.kz", "link", now),
        "pay": lambda: events.pay(SETTINGS, payment, "operator", now),
        "finish": lambda: events.finish(now),
        "cancel": lambda: events.cancel(now),
        "lapse": lambda: events.lapse(now),
        "reject": lambda: events.reject("no", now),
        "refund": lambda: events.refund(returned(order, True, now), True, now),
        "return": lambda: events.refund(returned(order, False, now), False, now),
        "payer": lambda: events.name_payer(f"Firm {n}", BIN, now),
        "address": lambda: events.write_to(LETTERS, "a@b.kz", "link", now),
    }
    decide = events_by_name[name]()
    try:
        change = decide(order)
    except Refused as refused:
        assert str(refused)
        return order
    if change is None:
        return order
    after = order.with_(change)
    for entry in change.entries:
        for known in ("a@b.kz", "Firm", BIN):  # no personal data in what stays for ever
            assert known not in str(entry)
    if after.state != order.state:
        assert change.entries[-1].state == after.state
        path = [order.state, *dict.fromkeys(e.state for e in change.entries)]
        moves = {(a, b) for (a, _), b in TRANSITIONS.items()}
        for a, b in itertools.pairwise(path):
            assert a == b or (a, b) in moves
    assert change.entries or (name == "payer" and order.payer_name)  # named anew, it says no more
    return after


def returned(order: Order, whole: bool, now: int) -> tuple[Payment, ...]:
    return tuple(
        Payment(
            p.provider,
            f"back-{p.reference}-{len(order.payments)}",
            -a,
            p.currency,
            now,
            p.reference,
        )
        for p, a in refunds_due(order, whole)
    )


EVENTS = st.tuples(
    st.sampled_from(
        [
            *("order", "pay", "pay", "pay", "finish", "cancel", "lapse", "reject", "refund"),
            *("return", "payer", "address"),
        ]
    ),
    st.integers(1, 6),
    st.sampled_from(["KZT", "KZT", "KZT", "EUR"]),
)


@given(st.integers(0, 1200), st.lists(st.tuples(EVENTS, st.integers(0, 400_000)), max_size=30))
def test_whatever_happens_money_is_accounted_for(
    total: int, history: list[tuple[tuple[str, int, str], int]]
) -> None:
    order, now, paid = quoted(total), NOW, 0
    for what, later_ms in history:
        now += later_ms
        before = order
        order = step(before, what, now)
        # paid at most once, and never below its price
        if order.paid_ms and not before.paid_ms:
            paid += 1
            assert received(order) >= order.total
        # what came in is either kept for the order, or owed back, or went back
        for currency in ("KZT", "EUR"):
            came = sum(p.amount for p in order.payments if p.currency == currency and p.amount > 0)
            back = -sum(p.amount for p in order.payments if p.currency == currency and p.amount < 0)
            use = applied(order) if currency == "KZT" else 0
            assert came == back + use + owed(order).get(currency, 0)
        # a reference is entered once
        references = [(p.provider, p.reference) for p in order.payments]
        assert len(set(references)) == len(references)
        # nothing that was paid is taken away but by its time or by giving it back
        if before.state in DOWNLOADS and order.state not in DOWNLOADS:
            assert what[0] in ("lapse", "refund")
            assert what[0] == "lapse" or received(order) == 0
        if order.state in ENDED:
            assert order.email is None and order.until_ms is None
            assert order.payer_name is None or order.paid_ms is not None
        # of what was paid, one payer is named, and no other afterwards
        if before.paid_ms and before.payer_name:
            assert order.payer_name == before.payer_name
        # what people are told agrees with the money
        assert (standing_of(order) == Standing.PARTLY_PAID) == (
            order.state == State.AWAITING_PAYMENT and received(order) > 0
        )
    assert paid <= 1


def test_every_state_is_reached_and_the_ended_ones_stay() -> None:
    assert set(TRANSITIONS.values()) | {State.QUOTED} == set(State)
    assert {event for _, event in TRANSITIONS} == set(Event)
    assert {State.EXPIRED, State.CANCELLED, State.REJECTED, State.REFUNDED} == ENDED


def test_docs_show_the_table() -> None:
    section = (ROOT / "docs/payments.md").read_text().split("## An order's states")[1]
    shown = set()
    for row in re.findall(r"^\| ([a-z_, ]+) \| ([a-z]+)[^|]*\| ([a-z_]+) \|$", section, re.M):
        if row[0] != "from":
            shown |= {(State(s), Event(row[1]), State(row[2])) for s in row[0].split(", ")}
    assert shown == {(s, e, to) for (s, e), to in TRANSITIONS.items()}


@pytest.mark.parametrize(
    ("amounts", "state", "back"),
    [
        ([1000], State.PAID, {}),
        ([999], State.AWAITING_PAYMENT, {}),
        ([400, 600], State.PAID, {}),
        ([1001], State.PAID, {"KZT": 1}),
        ([1000, 1000], State.PAID, {"KZT": 1000}),
    ],
)
def test_wrong_amounts(amounts: list[int], state: State, back: dict[str, int]) -> None:
    order = step(quoted(), ("order", 1, "KZT"), NOW)
    for n, amount in enumerate(amounts):
        change = events.pay(SETTINGS, Payment("bank", str(n), amount, "KZT", NOW), "operator", NOW)
        order = order.with_(change(order))  # type: ignore[arg-type]
    assert (order.state, owed(order)) == (state, back)


def test_another_currency_pays_nothing_and_is_owed_back() -> None:
    order = step(quoted(), ("order", 1, "KZT"), NOW)
    order = step(order, ("pay", 4, "EUR"), NOW)
    assert order.state == State.AWAITING_PAYMENT
    assert owed(order) == {"EUR": 1000}


def test_a_late_payment_is_owed_back() -> None:
    order = step(quoted(), ("order", 1, "KZT"), NOW)
    order = step(order, ("lapse", 1, ""), NOW + 100_001)
    assert order.state == State.EXPIRED
    order = step(order, ("pay", 4, "KZT"), NOW + 200_000)
    assert order.state == State.EXPIRED and owed(order) == {"KZT": 1000}
    order = step(order, ("return", 1, ""), NOW + 300_000)
    assert owed(order) == {} and received(order) == 0


def test_each_end_has_a_name_of_its_own() -> None:
    order = step(quoted(), ("order", 1, ""), NOW)
    part = step(order, ("pay", 1, "KZT"), NOW)
    paid = step(part, ("pay", 3, "KZT"), NOW)
    over = NOW + 10**9
    for found, standing in (
        (step(quoted(), ("lapse", 1, ""), over), Standing.NOT_ORDERED),
        (order, Standing.AWAITING_PAYMENT),
        (part, Standing.PARTLY_PAID),
        (step(part, ("lapse", 1, ""), over), Standing.NOT_PAID),
        (paid, Standing.PAID),
        (step(paid, ("finish", 1, ""), NOW), Standing.READY),
        (step(paid, ("lapse", 1, ""), over), Standing.OVER),
        (step(part, ("cancel", 1, ""), NOW), Standing.CANCELLED),
        (step(part, ("reject", 1, ""), NOW), Standing.REJECTED),
        (step(paid, ("refund", 1, ""), NOW), Standing.REFUNDED),
    ):
        assert standing_of(found) == standing
    assert {standing_of(replace(order, state=state)) for state in State} <= set(Standing)


def test_what_was_paid_goes_back_also_when_its_time_is_over() -> None:
    """A transfer takes days, and may be entered after them; of what Stripe gave back, too, a
    process may die before it is entered."""
    paid = step(step(quoted(), ("order", 1, ""), NOW), ("pay", 4, "KZT"), NOW)
    over = step(paid, ("lapse", 1, ""), NOW + 10**9)
    for by_hand in (True, False):
        back = returned(over, True, NOW + 2 * 10**9)
        change = events.refund(back, True, NOW + 2 * 10**9, by_hand=by_hand)(over)
        assert change is not None
        done = over.with_(change)
        assert (done.state, received(done), owed(done)) == (State.REFUNDED, 0, {})
        assert done.ended_ms == NOW + 2 * 10**9
        with pytest.raises(Refused, match="given back already"):
            events.refund((replace(back[0], reference="other"),), True, NOW, by_hand=True)(done)
    unpaid = step(step(quoted(), ("order", 1, ""), NOW), ("lapse", 1, ""), NOW + 10**9)
    late = step(unpaid, ("pay", 4, "KZT"), NOW + 2 * 10**9)
    for order in (unpaid, late):  # what came late is owed back, and the order stays unpaid
        with pytest.raises(Refused, match="expired"):
            events.refund(returned(order, True, NOW), True, NOW)(order)


def test_since_when_money_is_owed_back() -> None:
    part = step(step(quoted(), ("order", 1, ""), NOW), ("pay", 1, "KZT"), NOW + 10)
    assert owed_since_ms(step(part, ("cancel", 1, ""), NOW + 20)) == NOW + 20
    much = step(part, ("pay", 4, "KZT"), NOW + 30)
    over = step(much, ("lapse", 1, ""), NOW + 10**9)
    assert owed_since_ms(much) == owed_since_ms(over) == NOW + 30  # a day that was promised stays
    assert owed_since_ms(step(over, ("return", 1, ""), NOW + 2 * 10**9)) == NOW + 30
    late = step(step(part, ("lapse", 1, ""), NOW + 10**9), ("pay", 2, "KZT"), NOW + 2 * 10**9)
    assert owed_since_ms(late) == NOW + 2 * 10**9


def test_a_payer_is_named_before_it_is_paid_and_once_afterwards() -> None:
    with pytest.raises(Refused, match="no invoice"):
        events.name_payer("Firm", None, NOW)(quoted())
    order = step(quoted(), ("order", 1, ""), NOW)
    for n in (1, 2):
        change = events.name_payer("Firm", None, NOW)(order)
        assert len(change.entries) == (n == 1)  # the audit log does not grow with each
        order = step(order, ("payer", n, ""), NOW)
        assert (order.payer_name, order.payer_bin) == (f"Firm {n}", BIN)
    paid = step(order, ("pay", 4, "KZT"), NOW)
    with pytest.raises(Refused, match="names a payer already"):
        events.name_payer("Firm 3", None, NOW)(paid)
    unnamed = replace(paid, payer_name=None, payer_bin=None)
    assert step(unnamed, ("payer", 3, ""), NOW).payer_name == "Firm 3"
    over = step(paid, ("lapse", 1, ""), NOW + 10**9)
    assert (over.state, over.payer_name) == (State.EXPIRED, "Firm 2")
    with pytest.raises(Refused, match="no invoice"):
        events.name_payer("Firm", None, NOW)(step(quoted(0), ("order", 1, ""), NOW))


def test_the_link_is_sent_to_one_address() -> None:
    order = step(quoted(), ("order", 1, ""), NOW)
    for settings in (SETTINGS, LETTERS):
        unsent = replace(order, email=None)
        decide = events.write_to(settings, "a@b.kz", "link", NOW)
        if settings.mail is None:
            with pytest.raises(Refused, match="no letters"):
                decide(unsent)
            continue
        change = decide(unsent)
        assert change is not None
        assert [(x.kind, x.recipient, x.link) for x in change.letters] == [
            ("placed", "a@b.kz", "link")
        ]
        sent = unsent.with_(change)
        assert sent.forget_ms == NOW + settings.forget_after * 1000
        with pytest.raises(Refused, match="sent already"):
            decide(sent)
    with pytest.raises(Refused, match="not ordered yet"):
        events.write_to(LETTERS, "a@b.kz", "link", NOW)(quoted())


def test_an_order_of_nothing_is_paid_at_once() -> None:
    order = step(quoted(0), ("order", 1, "KZT"), NOW)
    assert order.state == State.PAID and order.paid_ms == NOW


def test_an_old_quote_is_not_ordered() -> None:
    with pytest.raises(Refused):
        events.place(SETTINGS, None, "", NOW + 10_000)(quoted())


def test_secrets() -> None:
    one, other = new_secret(), new_secret()
    assert len(one) == 32 and one != other
    assert key_of(one) != key_of(other)
    for wrong in ("", one[:-1], one + "A", one[:-1] + "/", "é" * 32, one + "\n"):
        assert key_of(wrong) is None


def test_a_frozen_order_is_not_changed_by_what_is_refused() -> None:
    for state in State:
        order = replace(quoted(), state=state, ordered_ms=NOW)
        for name in ("order", "cancel", "reject"):
            fits = (state, Event(name)) in TRANSITIONS
            after = step(order, (name, 1, "KZT"), NOW)
            assert (after is not order) == fits


def test_an_order_can_be_downloaded_as_long_as_its_quote_said() -> None:
    """The operator may change his settings between the order and its payment."""
    for total in (250, 0):
        order = replace(quoted(total), quote={"cameras": [], "download_for_s": 5_000})
        order = step(order, ("order", 1, ""), NOW)
        if total:
            order = step(order, ("pay", 1, "KZT"), NOW + 10)
        assert order.state == State.PAID
        assert order.until_ms == (order.paid_ms or 0) + 5_000_000
