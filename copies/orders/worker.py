"""The role `orders`: what happens to orders while nobody looks.

It hashes the files of what is ordered, sends letters, ends what is over, and asks providers about
pages whose notification never came. Every step can be done twice, so it may be killed at any
moment; an outage of one part holds up no other, nor does that of one order, file, page or letter.
"""

from __future__ import annotations

import asyncio
import os
import time
import traceback
from collections import defaultdict
from collections.abc import Awaitable, Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, fields
from functools import partial
from pathlib import Path
from typing import TypeVar

import structlog

from base.backoff import Backoff, ItemBackoff
from base.clock import Clock, now_ms
from base.durable import replace_file
from base.hostclock import ClockWatch
from base.lock import wait_for_lock
from base.outage import Outage
from config.model import Config
from copies.balance import owed
from copies.files.sha256 import hash_copy
from copies.files.virtual import VirtualFile
from copies.footage.plan import CopyPlan
from copies.orders import events
from copies.orders.events import Refused
from copies.orders.mail import Mailer, ServerAway
from copies.orders.service import OrderService
from copies.payments.port import Online, ProviderUnavailable, open_providers
from copies.states import ENDED, State
from storage.archive.port import Archive
from storage.catalogue.catalogue import Catalogue
from storage.catalogue.database import CatalogueError
from storage.catalogue.orders import Order
from storage.catalogue.rows import CheckoutRow, FileRow, OfOrder
from storage.recording_source import Sources, Store, Unreadable
from storage.spool.lease_file import Holdings
from storage.spool.status_records import ORDERS, WORK, OrdersStatus

OVERDUE_MS = 3_600_000  # beyond the time of an order
YOUNG_MS = 3_600_000
STATUS = "status"  # the work of saying how all other work stands

K = TypeVar("K", bound=Hashable)
W = TypeVar("W", bound=OfOrder)
log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Pauses:
    """How long the worker waits, in seconds."""

    look_s: float = 1.0  # between two looks for a file to hash, for a letter to send
    due_s: float = 5.0  # between two looks for what is over, for pages to ask about
    hash_s: float = 5.0  # files are read by one list of those that are to be
    status_s: float = 2.0
    owed_s: float = 30.0  # between two looks for money that is owed back
    again_s: tuple[float, ...] = (60.0, 300.0, 900.0, 3600.0)  # after failures of one order
    away_s: tuple[float, ...] = (1.0, 5.0, 15.0, 60.0)  # after failures of the catalogue, of mail
    quote_kept_s: int = 86_400  # after its end: its page says so
    letter_kept_s: int = 4 * 86_400  # then it is not sent any more, whatever the reason
    page_kept_s: int = 60 * 86_400  # a provider is asked about, although it does not answer
    ask_s: tuple[float, float] = (60.0, 600.0)  # about a page in its first hour, and later
    # before each further try to send a letter; then it is given up
    retry_s: tuple[int, ...] = (
        *(60, 300, 900, 3600, 3 * 3600),
        *(6 * 3600, 12 * 3600, 24 * 3600, 24 * 3600),
    )


class NotNow(RuntimeError):
    """A part of the work waits for something that is not as it should be: the clock, the disk."""


class OrderWorker:
    """Works on the orders of a catalogue, for ever."""

    def __init__(
        self,
        config: Config,
        catalogue: Catalogue,
        archives: Sequence[Archive],
        *,
        others: Sequence[Store] = (),
        pauses: Pauses = Pauses(),
        clock: Clock = now_ms,
        watch: ClockWatch | None = None,
    ):
        """`others` are spools of other machines. `watch` judges `clock`, by which orders end and
        letters are due."""
        self._pauses, self._clock = pauses, clock
        self._watch, self._archives = watch or ClockWatch(clock), archives
        assert config.copies is not None
        self._config = config
        self._catalogue = catalogue
        self._orders, self._files = catalogue.orders, catalogue.order_files
        self._sources = Sources(config.spool, [*archives, *others], catalogue)
        self._holdings = Holdings(config.spool, config.node is not None)
        mail = config.copies.mail
        self._mailer = Mailer(mail, catalogue, clock, pauses.retry_s) if mail else None
        self._service = OrderService(
            config, catalogue, open_providers(config.copies), self._sources.archives, clock
        )
        self._outages = {
            work: Outage("Work on orders fails; trying again", "Work on orders goes on", work=work)
            for work in (*WORK, STATUS)
        }
        self._backoffs: defaultdict[str, ItemBackoff] = defaultdict(
            lambda: ItemBackoff(pauses.again_s)
        )
        self._providers_away_ms = 0  # until then ending orders do not wait for them
        self.status = OrdersStatus(pid=os.getpid(), written_ms=0)

    async def run(self) -> None:
        """Work until cancelled; what goes wrong is told once and tried again."""
        path = self._config.spool / "_status" / "orders.lock"
        text = "Another desk of orders works on this spool; waiting until it ends"
        # two would send letters twice
        with await wait_for_lock(path, self._pauses.look_s, partial(log.warning, text)):
            log.info("Desk of orders started")
            pauses = self._pauses
            parts = (
                ("hash", self._hash, pauses.look_s),
                ("letter", self._send_letters, pauses.look_s),
                ("end", self._end_what_is_over, pauses.due_s),
                ("tidy", self._tidy, pauses.due_s),
                ("ask", self._ask_providers, pauses.due_s),
                ("owed", self._count_owed, pauses.owed_s),
                ("count", self._count_open, pauses.status_s),
                (STATUS, self._write_status, pauses.status_s),
            )
            tasks = [asyncio.create_task(self._repeat(*part)) for part in parts]
            try:
                await asyncio.gather(*tasks)
            finally:
                await _ended(*tasks)
                for provider in self._service.providers.values():
                    if isinstance(provider, Online):
                        await provider.close_connections()

    async def _repeat(
        self, work: str, part: Callable[[], Awaitable[bool | None]], every_s: float
    ) -> None:
        """Do a part of the work again and again, at once where it tells that there may be more."""
        outage, backoff = self._outages[work], Backoff(self._pauses.away_s)
        while True:
            pause_s = every_s
            try:
                if (self._holdings.has_duty() or work == STATUS) and await part():
                    pause_s = 0.0
                outage.end()
                backoff.succeeded()
            except (CatalogueError, ServerAway, NotNow) as error:
                outage.begin(str(error)[:300])
                pause_s = max(every_s, backoff.failed())
            except Exception as error:  # a fault of Kuager ends no other work
                outage.begin(f"a fault of Kuager: {_describe(error)}")
                pause_s = max(every_s, backoff.failed())
            await asyncio.sleep(pause_s)

    async def _each(
        self,
        part: str,
        items: Mapping[K, W],
        work: Callable[[W], Awaitable[object]],
        for_s: float | None = None,
    ) -> int:
        """Work on the items of a queue that are due, until `for_s` have passed or one fails where
        that is given: one that fails is told by its numbers, is tried later and holds up no other.
        Returns how many did not fail.

        Raises what holds up all of them: the catalogue or the mail server is away.
        """
        begun_s = time.monotonic()
        backoff = self._backoffs[part]
        backoff.retain(items.keys())
        due, done = sorted((key for key in items if backoff.due(key)), key=backoff.failures), 0
        for key in due:
            try:
                await work(items[key])
            except ServerAway:
                raise
            except Exception as error:
                backoff.failed(key)
                if backoff.failures(key) == 1:
                    log.error(
                        "A step of an order fails; it is tried again, and the others go on",
                        step=part,
                        order=items[key].number,
                        item=key,
                        why=_describe(error),
                    )
                if isinstance(error, CatalogueError):  # is it away, or does it refuse this item?
                    raise
                if for_s is not None:
                    break
            else:
                backoff.succeeded(key)
                done += 1
                if for_s is not None and time.monotonic() - begun_s >= for_s:
                    break
        return done

    # -- hashing -------------------------------------------------------------------------

    async def _hash(self) -> bool:
        """Make the pass over the next files of paid orders without a SHA-256; tells whether any was
        made. An order may have thousands, and to list them takes longer than to read one."""
        files = await self._files.unhashed(State.PAID)
        by_key = {(row.order_pk, row.file_no): row for row in files}
        done = await self._each("hash", by_key, self._pass_over, self._pauses.hash_s)
        hashed = await self._files.all_hashed(State.PAID)
        finish = events.finish(self._clock())
        by_pk = {row.order_pk: row for row in hashed}
        await self._each("finish", by_pk, lambda row: self._orders.change(row.order_pk, finish))
        return done > 0

    async def _pass_over(self, row: FileRow) -> None:
        pk, file_no = row.order_pk, row.file_no
        found = await self._files.plans(pk, file_no)
        if not found:
            return  # the order has ended meanwhile
        reached = 0

        def progress(done: int) -> None:
            nonlocal reached
            reached = done

        async def report() -> None:
            while True:
                await asyncio.sleep(self._pauses.status_s)
                await self._files.progress(pk, file_no, reached)

        reporting = asyncio.create_task(report())
        try:
            plan = CopyPlan.from_dict(found[0].plan)
            made = await hash_copy(VirtualFile(plan, self._sources), progress)
        except Exception as error:
            await _ended(reporting)
            await self._files.progress(pk, file_no, 0, _describe(error))
            self.status.hash_failures_total += 1
            raise
        finally:
            await _ended(reporting)
        await self._files.hashed(pk, file_no, made.sha256, made.crc32, made.head, plan.length)

    def _judge_clock(self) -> None:
        """Raise NotNow where the clock is not to be acted on."""
        self._watch.look()
        for archive in self._archives:
            if archive.server_time:
                self._watch.heard(archive.name, *archive.server_time)
        if why := self._watch.unlikely():
            raise NotNow(why)

    # -- what is over --------------------------------------------------------------------

    async def _end_what_is_over(self) -> None:
        """End orders and quotes whose time is over, and remove addresses whose time has come."""
        if (newest_ms := await self._orders.newest_ms()) is not None:
            self._watch.past(newest_ms, "the newest order")
        self._judge_clock()
        due = await self._orders.due(self._clock())
        await self._each("end", {row.order_pk: row for row in due}, self._end)

    async def _end(self, row: OfOrder) -> None:
        """End an order. Its date counts, whatever a provider says or does not say: what was paid a
        moment ago is looked for first, and what is found out later is owed back."""
        pk, now = row.order_pk, self._clock()
        order = await self._orders.get(pk)
        if order.state == State.AWAITING_PAYMENT and (order.until_ms or now + 1) <= now:
            await self._close_checkouts(order)
        await self._orders.change(pk, events.lapse(self._clock()))

    async def _close_checkouts(self, order: Order) -> None:
        """Have an ending order's pages bring nothing more, if that can be had soon: a provider
        that hangs is not waited for once for each order."""
        if self._clock() < self._providers_away_ms:
            return
        try:
            await self._service.close_checkouts(order.order_pk)
        except CatalogueError:
            raise
        except Exception as error:
            self._providers_away_ms = self._clock() + int(self._pauses.ask_s[0] * 1000)
            log.warning(
                "An order ends although it is not known what its payment page brought",
                order=order.number,
                why=_describe(error),
            )

    async def _tidy(self) -> None:
        """Remove what nobody needs any more: plans of what has ended, quotes, old letters."""
        now, pauses = self._clock(), self._pauses
        await self._files.drop(tuple(ENDED))
        self._judge_clock()
        await self._catalogue.usage.forget(now)
        await self._orders.drop_quotes(now - pauses.quote_kept_s * 1000)
        why = f"not sent within {pauses.letter_kept_s // 86_400} days"
        for letter in await self._catalogue.outbox.give_up(now - pauses.letter_kept_s * 1000, why):
            log.error("A letter is given up", letter=letter, why=why)

    # -- providers -----------------------------------------------------------------------

    async def _ask_providers(self) -> None:
        """Look at pages that may have brought money of which nobody told us."""
        open_ = await self._catalogue.checkouts.all_open()
        by_key = {(row.provider, row.reference): row for row in open_}
        await self._each("ask", by_key, self._ask)

    async def _ask(self, page: CheckoutRow) -> None:
        checkouts, pauses, now = self._catalogue.checkouts, self._pauses, self._clock()
        every_s = pauses.ask_s[now - page.opened_ms > YOUNG_MS]
        if now - (page.looked_ms or page.opened_ms) < every_s * 1000:
            return
        try:
            await self._service.settle(page)
        except Exception as error:
            self.status.provider_failures_total += 1
            old = now - page.opened_ms > pauses.page_kept_s * 1000
            if old and isinstance(error, ProviderUnavailable):
                await checkouts.close(page.provider, page.reference, now)
                log.error("A payment page is not asked about any more", order=page.number)
            raise
        finally:
            await checkouts.looked(page.provider, page.reference, now)

    # -- letters -------------------------------------------------------------------------

    async def _send_letters(self) -> None:
        """Send the letters that wait; one that fails waits longer each time."""
        if self._mailer is None:
            return
        self._judge_clock()
        due = await self._catalogue.outbox.due(self._clock())
        await self._each("letter", {row.letter_no: row for row in due}, self._mailer.send)

    # -- status --------------------------------------------------------------------------

    async def _count_owed(self) -> None:
        uneven = await self._orders.uneven(State.REFUNDED)
        self.status.refunds_due = sum(bool(owed(order)) for order in uneven)

    async def _write_status(self) -> None:
        """Say how it stands, as far as it is known: this process runs, also while the catalogue is
        away."""
        if self._mailer:
            self.status.letters_sent_total = self._mailer.sent
            self.status.letter_failures_total = self._mailer.failures
        if not self._holdings.has_duty():
            # another machine says what is open, and each says what it did
            done = [f.name for f in fields(self.status) if f.name.endswith("_total")]
            kept = {name: getattr(self.status, name) for name in done}
            self.status = OrdersStatus(pid=self.status.pid, written_ms=0, **kept)
        self.status.failing_work = [w for w in WORK if self._outages[w].why is not None]
        self.status.failing = len(self.status.failing_work)
        self.status.written_ms = self._clock()
        try:
            replace_file(self._config.spool / "_status" / ORDERS, self.status.to_json())
        except OSError as error:
            raise NotNow(f"the status cannot be written: {error.strerror}") from None

    async def _count_open(self) -> None:
        """Count what is open; all of it is told at once."""
        status, store = self.status, self._catalogue
        states = await store.orders.count()
        left = await store.order_files.left(State.PAID)
        letters = await store.outbox.waiting(self._clock())
        overdue = await store.orders.due(self._clock() - OVERDUE_MS)
        checkouts = await store.checkouts.all_open()
        status.states = states
        status.unhashed_files, status.unhashed_bytes, status.failed_files = left
        status.letters_waiting, status.oldest_letter_ms = letters
        status.overdue, status.checkouts_open = len(overdue), len(checkouts)


async def _ended(*tasks: asyncio.Task[None]) -> None:
    """Cancel until all have ended: what waits with a timeout may miss it once (Python 3.11)."""
    while left := [task for task in tasks if not task.done()]:
        for task in left:
            task.cancel()
        await asyncio.wait(left, timeout=1)


def _describe(error: Exception) -> str:
    """Return why a step failed, for log and catalogue; the words of what is not ours may quote an
    address or a link, so of that only its kind and place are told."""
    if isinstance(error, CatalogueError | ProviderUnavailable | Refused | Unreadable):
        return str(error)[:300]
    last = traceback.extract_tb(error.__traceback__)[-1]
    return f"{type(error).__name__} at {Path(last.filename).name}:{last.lineno}, in {last.name}"
