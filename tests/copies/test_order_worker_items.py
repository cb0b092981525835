"""The role `orders`: one order, letter, file or page that fails harms itself alone."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import SecretStr
from structlog.testing import capture_logs

from base.backoff import ItemBackoff
from base.clock import Clock, now_ms
from base.hostclock import ClockWatch, KernelClock
from config.copies import Stripe as Keys
from config.mailaddress import is_address
from config.model import Config
from copies.balance import owed
from copies.orders import events
from copies.orders.mail import MOST_A_DAY, address, compose, mailbox_of
from copies.orders.service import OrderService
from copies.orders.worker import OVERDUE_MS, OrderWorker, Pauses
from copies.payments.port import CheckoutGone, ProviderUnavailable
from copies.payments.stripe import Stripe
from copies.states import State
from storage.catalogue.catalogue import Catalogue
from storage.catalogue.orders import Order, Payment
from storage.catalogue.outbox import AT_ONCE
from storage.catalogue.rows import LetterRow
from storage.catalogue.schema import DAY_MS, order_files, orders, outbox, usage
from storage.catalogue.usage import Claim, count_letter
from tests.support.archiving import configure
from tests.support.mailbox import Mailbox, mailbox
from tests.support.orders import QUOTE, placed, quoted
from tests.support.waiting import until

pytest_plugins = ["tests.support.postgres"]
COPIES = """\
web: {{public_url: "http://k"}}
copies:
  price_per_minute: 20
  bank: {{beneficiary: B, bin: "123456789012", iban: KZ86125KZT5004100100, bank: B, bic: KZKOKZKX,
         beneficiary_code: "17", purpose_code: "859"}}
"""
MAIL = "  mail: {{host: 127.0.0.1, port: {port}, tls: none, from: copies@example.kz}}\n"
BRISK = Pauses(
    look_s=0.05, due_s=0.05, status_s=0.05, owed_s=0.05, again_s=(0.0,), away_s=(0.05,),
    retry_s=(3600,) * 5,
)  # fmt: skip


class SetClock:
    """This machine's clock, which a test may set forward."""

    ahead_ms = 0

    def __call__(self) -> int:
        return now_ms() + self.ahead_ms


def configured(folder: Path, port: int | None, url: str | None = None) -> Config:
    text = COPIES + (MAIL if port else "")
    url = url or f"sqlite:///{folder}/k.db"
    config = configure(folder, url, "archives: [archive]\n" + text.format(port=port), "2h")
    (config.spool / "_status").mkdir(parents=True, exist_ok=True)
    return config


@contextlib.asynccontextmanager
async def opened(config: Config, clock: Clock = now_ms) -> AsyncIterator[OrderService]:
    """Orders of a catalogue."""
    catalogue = await Catalogue.open(config.database_url)
    assert config.copies is not None
    yield OrderService(config, catalogue, {}, clock=clock)
    await catalogue.close()


@contextlib.asynccontextmanager
async def working(
    config: Config, service: OrderService, clock: Clock = now_ms
) -> AsyncIterator[OrderWorker]:
    """A desk that works."""
    watch = ClockWatch(clock, clock)  # time passes as the clock says: nobody sets it
    desk = OrderWorker(config, service.catalogue, [], pauses=BRISK, clock=clock, watch=watch)
    task = asyncio.create_task(desk.run())
    try:
        yield desk
        assert not task.done()
        held_up = {part: one.why for part, one in desk._outages.items() if one.why}
        assert held_up.keys() <= {"_send_letters"}, held_up
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


async def placed_by(service: OrderService, client: str, email: str) -> int:
    """Place an order as a client's; returns its order_pk."""
    key = events.key_of(events.new_secret())
    assert key is not None
    pk = await service.orders.create(key, quoted(), [])
    asked = Claim(client, 0, 0, 0, (), 0, 0, 0)
    link = "http://k/copies/secret"
    await service.orders.change(
        pk, events.place(service.settings, email, link, now_ms(), lambda _: asked)
    )
    return pk


async def change(service: OrderService, statement: sa.Update) -> None:
    await service.catalogue.pool.execute(statement)


async def letters(service: OrderService) -> list[dict[str, Any]]:
    return await service.catalogue.pool.rows(sa.select(outbox).order_by(outbox.c.letter_no))


# -- addresses ---------------------------------------------------------------------------------

LETTER = LetterRow(
    order_pk=1, letter_no=1, kind="placed", recipient="", link="http://k", created_ms=0, tries=0,
    next_ms=0, sent_ms=None, error=None,
)  # fmt: skip
ORDER = Order(
    *(1, 17, "e", "s", 0, 60_000, State.AWAITING_PAYMENT, "en", QUOTE, "KZT", 58_000, 0),
    until_ms=604_800_000,
)


@pytest.mark.parametrize(
    "text",
    [
        *("a..b@example.kz", ".a@example.kz", "a.@example.kz", "a@example..kz", "a@.example.kz"),
        *("a@-example.kz", "a@example-.kz", "a@example.kz.", "a@kz", "@example.kz", "a@"),
        *("a b@example.kz", '"a"@example.kz', "a@[127.0.0.1]", "ә@example.kz", "a@пошта.kz"),
        *("a@example.kz\nBcc: b@example.kz", "a@b@example.kz", "a,b@example.kz", ""),
        *("a" * 65 + "@example.kz", "a@" + "b" * 64 + ".kz", "a@" + "b." * 130 + "kz"),
    ],
)
def test_what_no_letter_can_be_sent_to_is_no_address(text: str) -> None:
    assert address(text) is None


@settings(deadline=None)
@given(st.emails() | st.text("ab.-+_@'", max_size=20) | st.from_regex(r"[a-z.]+@[a-z.-]+"))
def test_a_letter_can_be_written_to_every_address(text: str) -> None:
    if found := address(text):
        message = compose("copies@example.kz", ORDER, replace(LETTER, recipient=found))
        assert message["To"].addresses[0].addr_spec == found
        assert message.as_bytes()


def test_the_sender_is_an_address_too(tmp_path: Path) -> None:
    assert configured(tmp_path, 25).copies
    for sender in ("a..b@example.kz", "копии@example.kz", "a@b"):
        assert not is_address(sender)


# -- letters -----------------------------------------------------------------------------------


@pytest.fixture
def box() -> Iterator[Mailbox]:
    with mailbox() as one:
        yield one


async def test_a_letter_that_cannot_be_written_holds_up_no_other(
    tmp_path: Path, box: Mailbox
) -> None:
    config = configured(tmp_path, box.port)
    async with opened(config) as service:
        for n in range(4):
            await placed(service, email=f"voter{n}@example.kz")
        # as an older Kuager accepted it; what it does not know; a quote of another form
        b = outbox.c
        await change(
            service, sa.update(outbox).where(b.letter_no == 1).values(recipient="a..b@example.kz")
        )
        await change(service, sa.update(outbox).where(b.letter_no == 2).values(kind="unknown"))
        await change(service, sa.update(orders).where(orders.c.number == 3).values(quote={}))
        with capture_logs() as log:
            async with working(config, service):
                await until(lambda: len(box.letters) == 1)

                async def all_tried() -> bool:
                    return all(row["tries"] == 1 for row in (await letters(service))[:3])

                await until(all_tried)
        assert box.recipients == ["voter3@example.kz"]
        told = [entry for entry in log if entry["event"].startswith("A letter is not sent")]
        assert [(entry["letter"], entry["order"]) for entry in told] == [(1, 1), (2, 2), (3, 3)]
        assert "example.kz" not in str(log)  # an address is in no log
        waiting = (await letters(service))[:3]
        assert all(row["next_ms"] > now_ms() and row["error"] for row in waiting)


async def test_a_recipient_that_the_relay_defers_holds_up_no_other(
    tmp_path: Path, box: Mailbox
) -> None:
    config = configured(tmp_path, box.port)
    full = [f"full{n}@example.kz" for n in range(AT_ONCE + 1)]  # more than are looked at at once
    box.defer |= set(full)
    async with opened(config) as service:
        for email in (*full, "voter@example.kz"):
            await placed(service, email=email)
        async with working(config, service):
            await until(lambda: len(box.letters) == 1)
        assert box.recipients == ["voter@example.kz"]


async def test_a_mail_server_that_is_away_uses_up_no_try(tmp_path: Path) -> None:
    config = configured(tmp_path, 1)  # nobody listens there
    async with opened(config) as service:
        await placed(service, email="voter@example.kz")
        async with working(config, service) as desk:

            async def told() -> bool:
                return bool((await letters(service))[0]["error"])

            await until(told)
            await until(lambda: desk.status.failing == 1)
            assert desk.status.oldest_letter_ms is not None
        (row,) = await letters(service)
        assert (row["tries"], row["recipient"]) == (0, "voter@example.kz")
        assert row["next_ms"] <= now_ms()


async def test_what_waits_too_long_is_given_up_and_forgotten(
    database_url: str, tmp_path: Path
) -> None:
    config, clock = configured(tmp_path, 1, database_url), SetClock()
    async with opened(config) as service:
        await placed(service, email="voter@example.kz")
        async with working(config, service, clock):
            clock.ahead_ms = BRISK.letter_kept_s * 1000 + 60_000

            async def forgotten() -> bool:
                (row,) = await letters(service)
                return (row["recipient"], row["link"], row["next_ms"]) == (None, None, None)

            await until(forgotten)


async def test_nobody_is_flooded_with_letters(
    database_url: str, tmp_path: Path, box: Mailbox
) -> None:
    config, early = configured(tmp_path, box.port, database_url), MOST_A_DAY - 3
    async with opened(config) as service:
        for n in range(early):
            await placed(service, email=f"Victim+{n}@example.kz")
        async with working(config, service):

            async def all_entered() -> bool:  # one that is not might be sent again
                return not [row for row in await letters(service) if row["next_ms"]]

            await until(all_entered)
            assert len(set(box.recipients)) == early
        for n in range(6):
            await placed(service, email=f"v.ictim+{n}@EXAMPLE.kz")
        await placed(service, email="voter@example.kz")
        clock = SetClock()
        async with working(config, service, clock):  # another process, which was sent nothing yet

            async def others_wait() -> bool:
                waiting = [row for row in await letters(service) if row["next_ms"]]
                return len(waiting) == 3 and all(
                    row["next_ms"] > now_ms() + DAY_MS // 2 and row["tries"] == 0 for row in waiting
                )

            await until(others_wait)
            assert len(set(box.recipients)) == MOST_A_DAY + 1
            assert "voter@example.kz" in box.recipients
            known = str(await service.catalogue.pool.rows(sa.select(usage)))
            assert "ictim" not in known.lower() and "voter" not in known
            clock.ahead_ms = DAY_MS + 60_000
            await until(lambda: len(set(box.recipients)) == MOST_A_DAY + 4)


@settings(
    deadline=None, max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    st.lists(
        st.tuples(
            st.sampled_from(["ab@yandex.ru", "A.b+1@ya.ru", "a-b@YANDEX.kz", "b@x.kz"]),
            st.sampled_from(["192.0.2.1", "192.0.2.2", "2001:db8::/64"]),
            st.integers(0, 5),
        ),
        max_size=20,
    ),
    st.booleans(),
)
async def test_no_address_is_sent_more_than_so_many_letters_in_a_day(
    database_url: str, tmp_path: Path, asked: list[tuple[str, str, int]], again: bool
) -> None:
    async with opened(configured(tmp_path, 25, database_url)) as service:
        catalogue = service.catalogue
        await catalogue.pool.execute(sa.delete(usage))
        now, sent = now_ms(), list[tuple[str, str, int]]()
        for recipient, client, quarters in asked:
            now += quarters * DAY_MS // 4
            mailbox, pk = mailbox_of(recipient), await placed_by(service, client, recipient)
            day = [one for one in sent if one[0] == mailbox and one[2] > now - DAY_MS]
            had = max(sum(by == client for _, by, _ in day), 2 if again else 0)
            next_ms = await catalogue.usage.next_letter_ms(mailbox, pk, 4, now, again)
            assert next_ms == (0 if len(day) + had < 4 else day[had - 4][2] + DAY_MS)
            if next_ms <= now:
                async with catalogue.pool.work() as connection:
                    await count_letter(connection, mailbox, pk, now)
                sent.append((mailbox, client, now))
        assert {to for to, _, _ in sent} <= {"ab@yandex.ru", "b@x.kz"}


async def test_orders_in_the_name_of_somebody_delay_no_letter_of_his(
    tmp_path: Path, box: Mailbox
) -> None:
    flood, config = MOST_A_DAY * 2, configured(tmp_path, box.port)
    async with opened(config) as service:
        for n in range(flood):
            await placed_by(service, "192.0.2.66", f"voter+{n}@example.kz")

        async def waiting() -> list[dict[str, Any]]:
            return [row for row in await letters(service) if row["next_ms"]]

        async def looked_at() -> bool:
            return all(row["next_ms"] > now_ms() for row in await waiting())

        clock = SetClock()
        async with working(config, service, clock) as desk:
            await until(looked_at)
            assert len(box.letters) == MOST_A_DAY // 2  # the other half is for others
            await until(lambda: desk.status.letters_waiting == flood - MOST_A_DAY // 2)
            assert desk.status.oldest_letter_ms is None  # no fault of the mail server
            for day in range(3):
                clock.ahead_ms = day * (DAY_MS + 60_000)
                await placed_by(service, f"192.0.2.{day}", f"voter{day}@example.kz")
                pk = await placed_by(service, f"192.0.2.{day}", "voter@example.kz")
                await until(lambda: f"voter{day}@example.kz" in box.recipients)  # noqa: B023
                await until(lambda: "voter@example.kz" in box.recipients)
                box.recipients.remove("voter@example.kz")
            came = Payment("invoice", "4711", 1, "KZT", now_ms())
            for n in range(MOST_A_DAY):  # of what costs money none waits
                came = Payment("invoice", f"{n}", 1, "KZT", now_ms())
                await service.enter_payment(pk, came, "operator x")

            async def told() -> bool:
                return not [row for row in await waiting() if row["kind"] == "part"]

            await until(told)


# -- addresses are kept only with their order ----------------------------------------------------


async def test_without_mail_no_address_is_kept(tmp_path: Path) -> None:
    async with opened(configured(tmp_path, None)) as service:
        order = await placed(service, email="voter@example.kz")
        assert (order.email, order.forget_ms) == (None, None)
        assert await letters(service) == []


@pytest.mark.parametrize("how", ["cancel", "lapse", "forget", "reject"])
async def test_what_waits_is_forgotten_with_the_order(
    database_url: str, tmp_path: Path, how: str
) -> None:
    async with opened(configured(tmp_path, 1, database_url)) as service:
        order = await placed(service, email="voter@example.kz")
        await service.enter_payment(
            order.order_pk, Payment("invoice", "r", 1, "KZT", now_ms()), "operator"
        )
        assert [row["recipient"] for row in await letters(service)] == ["voter@example.kz"] * 2
        later = {"lapse": order.until_ms, "forget": order.forget_ms}.get(how)
        if how == "forget":
            await change(service, sa.update(orders).values(until_ms=(order.forget_ms or 0) + 1))
        await service.orders.change(
            order.order_pk,
            {
                "cancel": events.cancel(now_ms()),
                "reject": events.reject("no", now_ms()),
            }.get(how, events.lapse(later or 0)),
        )
        after = await service.orders.get(order.order_pk)
        assert (after.email, after.forget_ms) == (None, None)
        found = await letters(service)
        assert [(r["recipient"], r["link"], r["next_ms"]) for r in found[:2]] == [(None,) * 3] * 2
        # of a rejection its requester is told, without the link
        assert [(r["kind"], r["link"]) for r in found[2:]] == [("rejected", None)] * (
            how == "reject"
        )


# -- orders, files, pages ------------------------------------------------------------------------


async def test_an_order_that_cannot_end_holds_up_no_other(tmp_path: Path) -> None:
    config, clock = configured(tmp_path, None), SetClock()
    async with opened(config) as service:
        first, second = await placed(service), await placed(service)
        row = sa.update(orders).where(orders.c.order_pk == first.order_pk)
        await change(service, row.values(state="of another Kuager"))
        with capture_logs() as log:
            async with working(config, service, clock) as desk:
                clock.ahead_ms = service.settings.pay_within * 1000

                async def ended() -> bool:
                    return (await service.orders.get(second.order_pk)).state == State.EXPIRED

                await until(ended)
                assert desk.status.overdue == 0
                clock.ahead_ms += OVERDUE_MS + 1
                await until(lambda: desk.status.overdue == 1)
        (told,) = [entry for entry in log if entry["event"].startswith("A step of an order fails")]
        assert (told["step"], told["order"]) == ("end", 1)


@pytest.mark.parametrize("when", ["meanwhile", "at the start"])
async def test_no_order_ends_on_the_word_of_a_clock_that_leapt(tmp_path: Path, when: str) -> None:
    """Nor is its footage let go: what is paid in time has to be there."""
    config, clock = configured(tmp_path, None), SetClock()
    async with opened(config) as service:
        order = await placed(service)
        if when == "at the start":
            clock.ahead_ms = 400 * DAY_MS
        watch = ClockWatch(clock, lambda: 0.0, lambda: KernelClock(True, 1))
        desk = OrderWorker(config, service.catalogue, [], clock=clock, watch=watch)
        clock.ahead_ms = 400 * DAY_MS
        with pytest.raises(RuntimeError, match=r"400\.0 days"):
            await desk._end_what_is_over()
        assert (await service.orders.get(order.order_pk)).state == State.AWAITING_PAYMENT
        assert [h.released_ms for h in await service.catalogue.holds.of("e")] == [None]
        watch.heard("archive", clock(), 0.0)  # a server has the same time: it is so late
        await desk._end_what_is_over()
        assert (await service.orders.get(order.order_pk)).state == State.EXPIRED
        assert all(h.released_ms for h in await service.catalogue.holds.of("e"))


@pytest.mark.parametrize("plan", [{}, {"kuager": "copy-plan/1"}, [], {"kuager": "copy-plan/9"}])
async def test_a_file_that_cannot_be_hashed_holds_up_no_other(tmp_path: Path, plan: Any) -> None:
    config = configured(tmp_path, None)
    async with opened(config) as service:
        for _ in range(2):
            order = await placed(service)
            payment = Payment("invoice", f"r{order.number}", 58_000, "KZT", now_ms())
            await service.enter_payment(order.order_pk, payment, "operator")
        await change(service, sa.update(order_files).values(plan=plan))
        third = await placed(service)
        await service.enter_payment(
            third.order_pk, Payment("invoice", "r3", 58_000, "KZT", now_ms()), "operator"
        )
        await service.catalogue.order_files.hashed(third.order_pk, 1, "0" * 64, 1, b"", 100)
        async with working(config, service) as desk:

            async def others_went_on() -> bool:
                files = [await service.catalogue.order_files.of(pk) for pk in (1, 2)]
                ready = (await service.orders.get(third.order_pk)).state == State.READY
                return ready and all(file.failed for (file,) in files)

            await until(others_went_on)
            assert desk.status.hash_failures_total >= 2


async def test_only_what_is_paid_is_read_through(tmp_path: Path) -> None:
    config = configured(tmp_path, None)
    async with opened(config) as service:
        await placed(service)
        paid = await placed(service)
        await service.enter_payment(
            paid.order_pk, Payment("invoice", "r", 58_000, "KZT", now_ms()), "operator"
        )
        async with working(config, service):

            async def tried() -> bool:
                return bool((await service.catalogue.order_files.of(paid.order_pk))[0].failed)

            await until(tried)
        (unpaid,) = await service.catalogue.order_files.of(1)
        assert (unpaid.failed, unpaid.hashed) == (None, 0)


async def test_an_order_ends_by_its_date_although_its_provider_is_gone(
    database_url: str, tmp_path: Path
) -> None:
    config, clock = configured(tmp_path, 1, database_url), SetClock()
    async with opened(config) as service:
        by_date, taken_back = [await placed(service, email="voter@example.kz") for _ in range(2)]
        for order in (by_date, taken_back):
            page = (order.order_pk, "stripe", f"cs_{order.number}", "http://k", now_ms())
            await service.catalogue.checkouts.open(*page)
        with pytest.raises(CheckoutGone):
            await service.settle((await service.catalogue.checkouts.all_open())[0])
        after = await service.cancel(taken_back.order_pk)
        assert after.state == State.CANCELLED
        async with working(config, service, clock):
            clock.ahead_ms = service.settings.pay_within * 1000

            async def ended() -> bool:
                return (await service.orders.get(by_date.order_pk)).state == State.EXPIRED

            await until(ended)
            assert (await service.orders.get(by_date.order_pk)).email is None
            assert all(h.released_ms for h in await service.catalogue.holds.of("e"))
            assert len(await service.catalogue.checkouts.all_open()) == 2  # may still be found
            # money that comes after all
            late = Payment("stripe", "pi_1", 58_000, "KZT", now_ms())
            order = await service.enter_payment(by_date.order_pk, late, "stripe")
            assert (order.state, owed(order)) == (State.EXPIRED, {"KZT": 58_000})
            clock.ahead_ms += BRISK.page_kept_s * 1000 + 60_000

            async def given_up() -> bool:
                return await service.catalogue.checkouts.all_open() == []

            await until(given_up)


async def test_a_provider_that_hangs_is_not_waited_for_by_each_order(tmp_path: Path) -> None:
    config, clock = configured(tmp_path, None), SetClock()

    class Hanging(Stripe):
        asked = 0

        async def close(self, reference: str) -> None:
            Hanging.asked += 1
            raise ProviderUnavailable("no answer")

    provider = Hanging(Keys(secret_key=SecretStr("sk"), webhook_secret=SecretStr("wh")))
    async with opened(config, clock) as service:
        for _ in range(5):
            order = await placed(service)
            page = (order.order_pk, "stripe", f"cs_{order.number}", "http://k", now_ms())
            await service.catalogue.checkouts.open(*page)
        watch = ClockWatch(clock, clock)
        desk = OrderWorker(config, service.catalogue, [], clock=clock, watch=watch)
        desk._service = OrderService(config, service.catalogue, {"stripe": provider}, clock=clock)
        clock.ahead_ms = service.settings.pay_within * 1000
        with capture_logs() as log:
            await desk._end_what_is_over()
        assert await service.orders.count() == {State.EXPIRED: 5}
        assert (Hanging.asked, len(log)) == (1, 1)
        assert (
            len(await service.catalogue.checkouts.all_open()) == 5
        )  # what they bring is owed back
        await provider.close_connections()


async def test_quotes_are_deleted_a_day_after_their_end(database_url: str, tmp_path: Path) -> None:
    config, clock = configured(tmp_path, None, database_url), SetClock()
    async with opened(config) as service:
        order = await placed(service)
        plans = [{"plan": {}, "length": 1}]
        made = [
            await service.orders.create(f"{n:064}", quoted(lasts_ms=1000), plans) for n in range(2)
        ]
        await service.cancel(made[1])
        async with working(config, service, clock):
            clock.ahead_ms = 3_600_000

            async def over() -> bool:
                return (await service.orders.get(made[0])).state == State.EXPIRED

            await until(over)  # its page says so
            clock.ahead_ms += BRISK.quote_kept_s * 1000

            async def deleted() -> bool:
                return await service.orders.count() == {State.AWAITING_PAYMENT: 1}

            await until(deleted)
        assert await service.catalogue.order_files.of(made[0]) == []
        log = await service.orders.audit(order.order_pk)
        assert [(r.event, r.state) for r in log] == [
            ("quote", "quoted"),
            ("order", "awaiting_payment"),
        ]
        assert log[0].at_ms == order.created_ms


async def test_what_may_be_owed_is_found_without_reading_every_order(
    database_url: str, tmp_path: Path
) -> None:
    async with opened(configured(tmp_path, None, database_url)) as service:
        made = [await placed(service) for _ in range(9)]
        for n, amounts in enumerate(
            [[], [58_000], [100], [58_001], [58_000], [58_000], [58_000], [100], [58_000]]
        ):
            for m, amount in enumerate(amounts):
                payment = Payment("invoice", f"{n}-{m}", amount, "KZT", now_ms())
                await service.enter_payment(made[n].order_pk, payment, "operator")
        await service.enter_payment(
            made[4].order_pk, Payment("invoice", "eur", 1, "EUR", now_ms()), "operator"
        )
        await service.enter_payment(
            made[5].order_pk, Payment("invoice", "two", 58_000, "KZT", now_ms()), "operator"
        )
        for n in (6, 8):
            order = await service.orders.get(made[n].order_pk)
            await service.refund(order, True, f"back-{n}")
        late = Payment("invoice", "late", 58_000, "KZT", now_ms())  # after all went back
        await service.enter_payment(made[8].order_pk, late, "operator")
        await service.cancel(made[7].order_pk)
        owing = {o.number for o in await service.orders.register("e") if owed(o)}
        found = await service.orders.uneven(State.REFUNDED)
        assert owing == {4, 5, 6, 8, 9} and {o.number for o in found if owed(o)} == owing
        assert {o.number for o in found} == owing | {3}  # a part of the price


@given(st.lists(st.tuples(st.integers(0, 3), st.booleans(), st.floats(0, 100)), max_size=40))
def test_an_item_waits_for_its_own_failures_only(
    history: list[tuple[int, bool, float]],
) -> None:
    now = 0.0
    backoff = ItemBackoff((10.0, 60.0), clock=lambda: now)
    failures, again = [0] * 4, [0.0] * 4
    for item, well, later_s in history:
        now += later_s
        assert backoff.due(item) == (again[item] <= now)
        if not backoff.due(item):
            continue
        if well:
            backoff.succeeded(item)
            failures[item], again[item] = 0, 0.0
        else:
            backoff.failed(item)
            failures[item] += 1
            again[item] = now + (10.0 if failures[item] == 1 else 60.0)
        assert backoff.failures(item) == failures[item]
    backoff.retain(())
    assert all(backoff.due(item) for item in range(4))
