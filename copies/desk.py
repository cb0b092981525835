"""The role `orders`: what happens to orders while nobody looks.

It hashes the files of what is ordered, sends letters, ends what is over, and asks providers about
pages whose notification never came. Every step can be done twice, so it may be killed at any
moment; a trouble of one part holds up no other.
"""

from __future__ import annotations

import asyncio
import fcntl
import os
import time
from collections import defaultdict
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO

import orjson
import structlog

from base.clock import Clock, now_ms
from base.hostclock import ClockWatch
from config.model import Config
from copies import orders as events
from copies.digest import digest
from copies.letters import NotSent, send, write
from copies.orders import Refused
from copies.payments import Online, PaymentAway, open_providers
from copies.plan import CopyPlan
from copies.settling import Till
from copies.sources import Sources, Unreadable
from copies.states import ENDED, State
from copies.virtual import VirtualFile
from copies.words import title_of
from storage.archive import Archive
from storage.catalogue import Catalogue
from storage.database import words
from storage.files import replace_file
from storage.trouble import Trouble

YOUNG_MS = 3_600_000

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Pauses:
    """How long the desk waits, in seconds."""

    look_s: float = 1.0  # between two looks for a file to hash, for a letter to send
    due_s: float = 5.0  # between two looks for what is over, for pages to ask about
    status_s: float = 2.0
    again_s: float = 60.0  # after a pass over a file that ended early
    ask_s: tuple[float, float] = (60.0, 600.0)  # about a page in its first hour, and later
    # before each further try to send a letter; then it is given up
    retry_s: tuple[int, ...] = (
        *(60, 300, 900, 3600, 3 * 3600),
        *(6 * 3600, 12 * 3600, 24 * 3600, 24 * 3600),
    )


@dataclass(slots=True)
class DeskStatus:
    """What `_status/orders.json` says (docs/formats.md)."""

    kuager: str = "orders/1"
    pid: int = 0
    written_ms: int = 0
    states: dict[str, int] = field(default_factory=dict)
    unhashed_files: int = 0
    unhashed_bytes: int = 0
    hash_failures_total: int = 0
    letters_waiting: int = 0
    letters_sent_total: int = 0
    letter_failures_total: int = 0
    refunds_due: int = 0
    checkouts_open: int = 0
    provider_failures_total: int = 0


class Desk:
    """Works on the orders of a catalogue, for ever."""

    def __init__(
        self,
        config: Config,
        catalogue: Catalogue,
        archives: Sequence[Archive],
        translate: Callable[..., str],
        *,
        pauses: Pauses = Pauses(),
        clock: Clock = now_ms,
        watch: ClockWatch | None = None,
    ):
        """`translate` takes a language, a text in English, and its values by name; `watch` judges
        `clock`, by which orders end and letters are due."""
        self._pauses, self._clock = pauses, clock
        self._watch, self._archives = watch or ClockWatch(clock), archives
        assert config.copies is not None
        self._config, self._settings = config, config.copies
        self._catalogue = catalogue
        self._orders, self._files = catalogue.orders, catalogue.order_files
        self._sources = Sources(config.spool, archives, catalogue)
        self._translate = translate
        self._till = Till(catalogue, config.copies, open_providers(config.copies), clock)
        self._troubles: defaultdict[str, Trouble] = defaultdict(
            lambda: Trouble("Work on orders fails; trying again", "Work on orders goes on")
        )
        self._again: dict[tuple[int, int], float] = {}  # files whose pass failed, and until when
        self.status = DeskStatus(pid=os.getpid())

    async def run(self) -> None:
        """Work until cancelled; what goes wrong is told once and tried again."""
        with await self._alone():
            log.info("Desk of orders started")
            pauses = self._pauses
            parts = (
                (self._hash, pauses.look_s),
                (self._post, pauses.look_s),
                (self._end_what_is_over, pauses.due_s),
                (self._ask_providers, pauses.due_s),
                (self._say, pauses.status_s),
            )
            tasks = [asyncio.create_task(self._again_and_again(*part)) for part in parts]
            try:
                await asyncio.gather(*tasks)
            finally:
                await _ended(*tasks)
                for provider in self._till.providers.values():
                    if isinstance(provider, Online):
                        await provider.close_connections()

    async def _alone(self) -> BinaryIO:
        """Return the lock of the spool's desk; waits until another desk has ended, and until
        there is a spool. Two would send letters twice."""
        told = False
        while True:
            try:
                lock = (self._config.spool / "_status" / "orders.lock").open("wb")
            except OSError:  # no recorder has made the spool yet, or its disk is away
                await asyncio.sleep(self._pauses.look_s)
                continue
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return lock
            except BlockingIOError:
                lock.close()
            if not told:
                told = True
                log.warning("Another desk of orders works on this spool; waiting until it ends")
            await asyncio.sleep(self._pauses.look_s)

    async def _again_and_again(self, part: Callable[[], Awaitable[None]], every_s: float) -> None:
        trouble = self._troubles[part.__name__]
        while True:
            try:
                await part()
                trouble.end()
            except Exception as error:  # a database has many ways to say no
                trouble.begin(words(error)[:300])
            await asyncio.sleep(every_s)

    # -- hashing -------------------------------------------------------------------------

    async def _hash(self) -> None:
        """Make the pass over the next file without a SHA-256, of paid orders first."""
        now = time.monotonic()
        for row in await self._files.unhashed((State.PAID, State.AWAITING_PAYMENT)):
            key = row["order_pk"], row["file_no"]
            if self._again.get(key, now) <= now:
                await self._pass_over(*key)
                break
        for pk in await self._files.all_hashed(State.PAID):
            await self._orders.change(pk, events.finish(self._clock()))

    async def _pass_over(self, pk: int, file_no: int) -> None:
        found = await self._files.plans(pk, file_no)
        if not found:
            return  # the order has ended meanwhile
        plan = CopyPlan.from_dict(found[0]["plan"])
        file = VirtualFile(plan, self._sources)
        reached = 0

        def progress(done: int) -> None:
            nonlocal reached
            reached = done

        async def tell() -> None:
            while True:
                await asyncio.sleep(self._pauses.status_s)
                await self._files.progress(pk, file_no, reached)

        telling = asyncio.create_task(tell())
        try:
            made = await digest(file, progress)
        except Unreadable as error:
            self.status.hash_failures_total += 1
            self._again[pk, file_no] = time.monotonic() + self._pauses.again_s
            log.error("A file of an order could not be read", file=plan.file_name, why=str(error))
            await _ended(telling)
            await self._files.progress(pk, file_no, 0, str(error))
            return
        finally:
            await _ended(telling)
        self._again.pop((pk, file_no), None)
        await self._files.hashed(pk, file_no, made.sha256, made.crc32, made.head, plan.length)

    def _judge_clock(self) -> None:
        """Raise RuntimeError, which is told, where the clock is not to be acted on."""
        self._watch.look()
        for archive in self._archives:
            if archive.told:
                self._watch.heard(archive.name, *archive.told)
        if why := self._watch.unlikely():
            raise RuntimeError(why)

    # -- what is over --------------------------------------------------------------------

    async def _end_what_is_over(self) -> None:
        """End orders and quotes whose time is over, and remove addresses whose time has come."""
        if (newest_ms := await self._orders.newest_ms()) is not None:
            self._watch.past(newest_ms, "the newest order")
        self._judge_clock()
        away: PaymentAway | None = None
        for pk in await self._orders.due(self._clock()):
            try:
                order = await self._orders.get(pk)
                over = (order.until_ms or self._clock() + 1) <= self._clock()
                if over and order.state == State.AWAITING_PAYMENT:
                    await self._till.close_pages(pk)  # what was paid a moment ago is not lost
                await self._orders.change(pk, events.lapse(self._clock()))
            except PaymentAway as error:
                away = error  # it ends once that is known
        await self._files.drop(tuple(ENDED))
        if away:
            raise away

    # -- providers -----------------------------------------------------------------------

    async def _ask_providers(self) -> None:
        """Look at pages that may have brought money of which nobody told us."""
        away: Exception | None = None
        for one in await self._catalogue.checkouts.all_open():
            now = self._clock()
            every_s = self._pauses.ask_s[now - one["opened_ms"] > YOUNG_MS]
            if now - (one["looked_ms"] or one["opened_ms"]) < every_s * 1000:
                continue
            try:
                await self._till.settle(one)
            except (PaymentAway, Refused) as error:
                self.status.provider_failures_total += 1
                away = error
            await self._catalogue.checkouts.looked(one["provider"], one["reference"], now)
        if away:
            raise away

    # -- letters -------------------------------------------------------------------------

    async def _post(self) -> None:
        """Send the letters that wait; one that fails waits longer each time."""
        if self._settings.mail is None:
            return
        self._judge_clock()
        for letter in await self._catalogue.outbox.due(self._clock()):
            order = await self._orders.get(letter["order_pk"])
            translate = partial(self._translate, order.language)
            about = title_of(order, translate)
            message = write(self._settings.mail.sender, order, letter, about, translate)
            try:
                await send(self._settings.mail, message)
            except NotSent as failed:
                await self._not_sent(letter, failed)
                if not failed.for_good:
                    raise  # the next letter would fare no better
                continue
            await self._catalogue.outbox.sent(letter["letter_no"], self._clock())
            self.status.letters_sent_total += 1

    async def _not_sent(self, letter: Mapping[str, Any], failed: NotSent) -> None:
        self.status.letter_failures_total += 1
        tries, retry_s = letter["tries"], self._pauses.retry_s
        again_ms = None
        if not failed.for_good and tries < len(retry_s):
            again_ms = self._clock() + retry_s[tries] * 1000
        else:
            log.error("A letter is given up", letter=letter["letter_no"], why=str(failed))
        await self._catalogue.outbox.failed(letter["letter_no"], str(failed), again_ms)

    # -- status --------------------------------------------------------------------------

    async def _say(self) -> None:
        said, store = self.status, self._catalogue
        said.states = await store.orders.count()
        files = await store.order_files.unhashed((State.PAID, State.AWAITING_PAYMENT))
        said.unhashed_files = len(files)
        said.unhashed_bytes = sum(f["length"] - f["hashed"] for f in files)
        said.letters_waiting = await store.outbox.waiting()
        said.refunds_due = sum(bool(events.owed(o)) for o in await store.orders.with_payments())
        said.checkouts_open = len(await store.checkouts.all_open())
        said.written_ms = self._clock()
        path: Path = self._config.spool / "_status" / "orders.json"
        try:
            replace_file(path, orjson.dumps(asdict(said)))
        except OSError as error:
            raise RuntimeError(f"the status cannot be written: {error.strerror}") from None


async def _ended(*tasks: asyncio.Task[None]) -> None:
    """Cancel until all have ended: what waits with a timeout may miss it once (Python 3.11)."""
    while left := [task for task in tasks if not task.done()]:
        for task in left:
            task.cancel()
        await asyncio.wait(left, timeout=1)
