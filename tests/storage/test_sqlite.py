"""SQLite in threads: whoever is cancelled or closes, nothing is lost and nothing leaks."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import sqlalchemy as sa
from sqlalchemy import event

from storage.catalogue.catalogue import Catalogue
from storage.catalogue.database import CatalogueError
from storage.catalogue.schema import holds
from storage.catalogue.sqlite import READERS
from tests.support.waiting import BOUND_S

COUNT = sa.select(sa.func.count()).select_from(holds)


def hold(reason: str) -> sa.Insert:
    return sa.insert(holds).values(election="e", reason=reason, created_ms=1)


@asynccontextmanager
async def opened(folder: Path) -> AsyncIterator[Catalogue]:
    """A catalogue in a file; afterwards no thread and no descriptor of it is left."""
    path = folder / "k.db"
    catalogue = await Catalogue.open(f"sqlite:///{path}")
    try:
        async with asyncio.timeout(BOUND_S):
            yield catalogue
    finally:
        await catalogue.close()
    assert not [t for t in threading.enumerate() if t.name.startswith("sqlite-")]
    assert descriptors(path) == 0


def descriptors(path: Path) -> int:
    """Return how many descriptors this process has on a database and its WAL."""
    found = 0
    for link in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(OSError):
            found += str(link.readlink()).startswith(str(path))
    return found


class Gate:
    """Stops statements with a word in their threads until it is opened."""

    def __init__(self, catalogue: Catalogue, word: str):
        self._word, self._open = word, threading.Event()
        self.arrived = threading.Semaphore(0)
        self._engine = catalogue.pool.engine.sync_engine
        event.listen(self._engine, "before_cursor_execute", self._stop)

    def _stop(self, _connection: object, _cursor: object, statement: str, *_: object) -> None:
        if self._word in statement:
            self.arrived.release()
            assert self._open.wait(BOUND_S)

    def open(self) -> None:
        self._open.set()

    async def reached(self, count: int = 1) -> None:
        """Wait until so many statements stand before it."""
        for _ in range(count):
            assert await asyncio.to_thread(self.arrived.acquire, timeout=BOUND_S)


async def two_rows(catalogue: Catalogue, reason: str) -> None:
    async with catalogue.pool.work() as connection:
        await connection.execute(hold(reason))
        await connection.execute(hold(reason))


async def count_of(catalogue: Catalogue, reason: str) -> int:
    return (await catalogue.pool.column(COUNT.where(holds.c.reason == reason)))[0]


async def test_a_transaction_that_is_cancelled_is_done_whole_or_not_at_all(tmp_path: Path) -> None:
    """Cancelled after more turns of the event loop each time, until it is done before."""
    async with opened(tmp_path) as catalogue:
        turns, cancelled = 0, True
        while cancelled:
            task = asyncio.create_task(two_rows(catalogue, f"cancelled {turns}"))
            for _ in range(turns):
                await asyncio.sleep(0)
            task.cancel()
            await asyncio.wait([task])
            cancelled = task.cancelled()
            await two_rows(catalogue, f"after {turns}")
            assert await count_of(catalogue, f"cancelled {turns}") in (0, 2)
            assert await count_of(catalogue, f"after {turns}") == 2
            turns += 1 + turns // 8  # a busy machine takes thousands
        assert turns > 3


@pytest.mark.parametrize("word", ["BEGIN", "INSERT", "SELECT"])
async def test_a_caller_that_is_cancelled_leaves_its_statement_to_its_thread(
    tmp_path: Path, word: str
) -> None:
    async with opened(tmp_path) as catalogue:
        await two_rows(catalogue, "before")  # all threads of the writer are there
        gate = Gate(catalogue, word)
        ask = catalogue.pool.column(COUNT) if word == "SELECT" else two_rows(catalogue, "cancelled")
        task = asyncio.create_task(ask)
        await gate.reached()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        following = asyncio.create_task(two_rows(catalogue, "after"))
        await asyncio.sleep(0)
        gate.open()
        await following
        assert await count_of(catalogue, "cancelled") == 0
        assert await count_of(catalogue, "after") == 2


async def test_a_reader_does_not_hold_up_a_writer_nor_a_writer_readers(tmp_path: Path) -> None:
    async with opened(tmp_path) as catalogue:
        reading = Gate(catalogue, "SELECT")
        readers = [asyncio.create_task(catalogue.pool.column(COUNT)) for _ in range(READERS)]
        await reading.reached(READERS)
        await two_rows(catalogue, "beside readers")
        reading.open()
        assert await asyncio.gather(*readers) == [[2]] * READERS
        writing = Gate(catalogue, "INSERT")
        writer = asyncio.create_task(two_rows(catalogue, "slow"))
        await writing.reached()
        many = await asyncio.gather(*(catalogue.pool.column(COUNT) for _ in range(200)))
        assert many == [[2]] * 200
        writing.open()
        await writer
        assert await catalogue.pool.column(COUNT) == [4]


async def test_writers_take_turns(tmp_path: Path) -> None:
    """Each reads before it writes, which SQLite refuses where another writes meanwhile."""
    async with opened(tmp_path) as first:
        second = await Catalogue.open(f"sqlite:///{tmp_path}/k.db")

        async def number(catalogue: Catalogue) -> None:
            async with catalogue.pool.work() as connection:
                last = await connection.scalar(COUNT)
                await connection.execute(hold(str(last)))

        await asyncio.gather(*(number(c) for c in (first, second) for _ in range(20)))
        await second.close()
        assert await first.pool.column(sa.select(sa.func.count(holds.c.reason.distinct()))) == [40]


async def test_one_statement_waits_for_the_transaction_of_another_task(tmp_path: Path) -> None:
    async with opened(tmp_path) as catalogue:
        with pytest.raises(ZeroDivisionError):
            async with catalogue.pool.work() as connection:
                await connection.execute(hold("taken back"))
                single = asyncio.create_task(catalogue.pool.execute(hold("stays")))
                for _ in range(20):
                    await asyncio.sleep(0)
                raise ZeroDivisionError
        assert await single == 1
        assert await catalogue.pool.column(COUNT) == [1]


async def test_closing_waits_for_what_was_begun_and_refuses_the_rest(tmp_path: Path) -> None:
    async with opened(tmp_path) as catalogue:
        gate = Gate(catalogue, "SELECT")
        reader = asyncio.create_task(catalogue.pool.column(COUNT))
        await gate.reached()
        wrote = asyncio.Event()

        async def half() -> None:
            async with catalogue.pool.work() as connection:
                await connection.execute(hold("half"))
                wrote.set()
                await asyncio.wait([reader])
                await connection.execute(hold("refused"))

        writer = asyncio.create_task(half())
        await wrote.wait()
        closing = asyncio.create_task(catalogue.close())
        await asyncio.sleep(0)
        with pytest.raises(CatalogueError, match="closed"):
            await catalogue.pool.column(COUNT)
        gate.open()
        assert await reader == [0]
        await closing
        with pytest.raises(CatalogueError, match="closed"):
            await writer
    async with opened(tmp_path) as catalogue:
        assert await catalogue.pool.column(COUNT) == [0]


async def test_closing_that_is_cancelled_closes(tmp_path: Path) -> None:
    async with opened(tmp_path) as catalogue:
        await two_rows(catalogue, "before")
        closing = asyncio.create_task(catalogue.close())
        await asyncio.sleep(0)
        closing.cancel()
        await asyncio.wait([closing])


async def test_opening_that_is_cancelled_leaves_a_whole_schema(tmp_path: Path) -> None:
    loop, threads = asyncio.get_running_loop(), ThreadPoolExecutor()
    loop.set_default_executor(threads)
    for turns in range(6):
        task = asyncio.create_task(Catalogue.open(f"sqlite:///{tmp_path}/k.db"))
        for _ in range(turns):
            await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    threads.shutdown()  # as the end of a loop does: it waits
    loop.set_default_executor(ThreadPoolExecutor())
    async with opened(tmp_path) as catalogue:
        assert await catalogue.pool.column(COUNT) == [0]


async def test_a_file_that_was_replaced_is_noticed(tmp_path: Path) -> None:
    """What is written to the one that is open would be found by nobody."""
    path = tmp_path / "k.db"
    async with opened(tmp_path) as catalogue:
        await catalogue.pool.execute(hold("first"))
        path.rename(tmp_path / "elsewhere.db")
        for there in (False, True):
            if there:
                path.write_bytes((tmp_path / "elsewhere.db").read_bytes())
            for ask in (catalogue.id(), catalogue.pool.execute(hold("second"))):
                with pytest.raises(CatalogueError, match="replaced while it was in use"):
                    await ask
        path.unlink()
        (tmp_path / "elsewhere.db").rename(path)  # it is the right one again
        await catalogue.pool.execute(hold("third"))
        assert await catalogue.pool.column(COUNT) == [2]


async def test_what_is_removed_is_not_in_the_file(tmp_path: Path) -> None:
    async with opened(tmp_path) as catalogue:
        for n in range(300):
            await catalogue.pool.execute(hold(f"voter{n}@example.kz"))
        await catalogue.pool.execute(sa.update(holds).values(reason=""))
        async with catalogue.pool.single() as connection:
            assert await connection.scalar(sa.text("PRAGMA secure_delete")) == 1
    assert b"@example.kz" not in (tmp_path / "k.db").read_bytes()
