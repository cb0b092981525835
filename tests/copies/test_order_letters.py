"""Letters to requesters: to whom, how many, and that one that fails holds up no other."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from structlog.testing import capture_logs

from base.clock import now_ms
from config.mailaddress import is_address
from copies.orders import events
from copies.orders.mail import MOST_A_DAY, address, compose, mailbox_of
from copies.states import State
from storage.catalogue.orders import Order, Payment
from storage.catalogue.outbox import AT_ONCE
from storage.catalogue.rows import LetterRow
from storage.catalogue.schema import DAY_MS, orders, outbox, usage
from storage.catalogue.usage import count_letter
from tests.support.mailbox import Mailbox, mailbox
from tests.support.order_work import (
    BRISK,
    SetClock,
    change,
    configured,
    letters,
    opened,
    placed_by,
    working,
)
from tests.support.orders import QUOTE, placed
from tests.support.waiting import until

pytest_plugins = ["tests.support.postgres"]

# -- addresses ---------------------------------------------------------------------------------

LETTER = LetterRow(
    order_pk=1, letter_no=1, kind="placed", recipient="", link="http://k", created_ms=0, tries=0,
    next_ms=0, sent_ms=None, error=None,
)  # fmt: skip
ORDER = Order(
    *(1, 17, "e", "s", 0, 60_000, State.AWAITING_PAYMENT, "en", QUOTE, "KZT", 58_000, 0),
    until_ms=604_800_000,
)


def test_money_that_is_owed_back_may_be_of_another_country() -> None:
    letter = replace(LETTER, kind="owed", recipient="a@example.kz", link=None)
    for lang, words in (("en", "in another currency"), ("ru", "в другой валюте")):
        message = compose("copies@example.kz", replace(ORDER, language=lang), letter)
        assert words in message.get_content()


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


@pytest.mark.slow
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


@pytest.mark.slow
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


@pytest.mark.slow
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


@pytest.mark.slow
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
            kept_back = (flood - MOST_A_DAY // 2, None)  # none is old: no fault of the mail server
            await until(
                lambda: (desk.status.letters_waiting, desk.status.oldest_letter_ms) == kept_back
            )
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
