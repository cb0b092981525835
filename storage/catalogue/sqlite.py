"""SQLite asked from threads: one thread writes, a few read.

The event loop hands a statement to a thread and awaits its result. A caller that is cancelled
stops waiting, and its statement ends in its thread. What a thread is given it does in order, so
that the roll-back of a cancelled transaction comes before the next transaction of the same thread.
docs/decisions/0010-sqlite-in-threads.md has the reasons.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
from collections.abc import AsyncIterator, Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar, cast

import sqlalchemy as sa
from sqlalchemy import event

READERS = 4

T = TypeVar("T")
_Result = sa.CursorResult[Any]
_Ask = Callable[[sa.Connection], _Result]


def sync_engine(url: sa.URL, busy_ms: int, **settings: Any) -> sa.Engine:
    """Return an engine whose connections wait for another's lock up to `busy_ms`."""

    def set_up(connection: Any, _record: object) -> None:
        cursor = connection.cursor()
        # FULL: a row that says 'archived' may cost the only copy in the spool
        for pragma in (
            f"busy_timeout={busy_ms}",  # first: the next may have to wait
            "journal_mode=WAL",
            "synchronous=FULL",
            "foreign_keys=ON",
            "secure_delete=ON",  # an address that is removed is not to be found in the file
        ):
            cursor.execute(f"PRAGMA {pragma}")
        cursor.close()

    engine = sa.create_engine(url, hide_parameters=True, **settings)
    event.listen(engine, "connect", set_up)
    return engine


class SqliteEngine:
    """What Pool needs of SQLAlchemy's AsyncEngine, for one SQLite file.

    Statements raise sqlalchemy.exc.SQLAlchemyError, after `dispose` ResourceClosedError.
    """

    def __init__(self, url: sa.URL, busy_ms: int):
        # connections leave transactions to us, so that a transaction that is to write has the
        # lock from its start: one that has read first is refused without waiting for others
        self.sync_engine = sync_engine(
            url, busy_ms, isolation_level="AUTOCOMMIT", pool_size=READERS + 1, max_overflow=0
        )
        self.dialect = self.sync_engine.dialect
        self._path = url.database or ""
        self._file = self._file_now()
        self._readers = ThreadPoolExecutor(READERS, "sqlite-reader")
        self._writer = ThreadPoolExecutor(1, "sqlite-writer")
        self._turn = asyncio.Lock()  # held during a transaction
        self._writing: sa.Connection | None = None  # opened and used in the writer's thread
        self._disposing: asyncio.Future[None] | None = None

    @contextlib.asynccontextmanager
    async def begin(self) -> AsyncIterator[SqliteConnection]:
        """Give a transaction, which alone writes; it ends with the block."""
        async with self._turn:
            connection = SqliteConnection(self.dialect, self._write)
            try:
                await self._in(self._writer, self._compare_file)
                await connection.exec_driver_sql("BEGIN IMMEDIATE")
                yield connection
                await self._in(self._writer, lambda: self._connection().commit())
            except BaseException:
                # not awaited, as we may be cancelled: the next transaction waits for it there
                with contextlib.suppress(RuntimeError):  # closed meanwhile: `dispose` rolls back
                    self._writer.submit(lambda: self._connection().rollback())
                raise

    @contextlib.asynccontextmanager
    async def autocommit(self) -> AsyncIterator[SqliteConnection]:
        """Give a connection on which each statement stands for itself, in whichever thread."""
        yield SqliteConnection(self.dialect, self._single)

    async def dispose(self) -> None:
        """Let the threads end what they were given, then close the file; may be called twice."""
        if self._disposing is None:
            for threads in (self._readers, self._writer):
                threads.shutdown(wait=False)  # takes nothing more
            self._disposing = asyncio.ensure_future(asyncio.to_thread(self._dispose))
        await asyncio.shield(self._disposing)

    def _dispose(self) -> None:
        self._readers.shutdown()
        self._writer.shutdown()
        if self._writing is not None:
            self._writing.close()
        self.sync_engine.dispose()

    def _connection(self) -> sa.Connection:
        if self._writing is None:
            self._writing = self.sync_engine.connect()
        return self._writing

    def _file_now(self) -> tuple[int, int] | None:
        try:
            found = Path(self._path).stat()
        except OSError:
            return None
        return found.st_dev, found.st_ino

    def _compare_file(self) -> None:
        """Raise OSError where another file has the name: what is open is found by nobody then, and
        the other one may not be opened beside the `-wal` of this one."""
        if self._file_now() != self._file:
            raise OSError(
                errno.ESTALE,
                f"the file {self._path} was removed or replaced while it was in use: stop Kuager, "
                "put the right file there without -wal and -shm of another, and start it again",
            )

    async def _write(self, ask: _Ask, _writes: bool = True) -> _Result:
        return await self._in(self._writer, lambda: _taken(ask(self._connection())))

    async def _single(self, ask: _Ask, writes: bool) -> _Result:
        if writes:
            async with self.begin():
                return await self._write(ask)

        def read() -> _Result:
            self._compare_file()
            with self.sync_engine.connect() as connection:
                return _taken(ask(connection))

        return await self._in(self._readers, read)

    @staticmethod
    async def _in(threads: ThreadPoolExecutor, work: Callable[[], T]) -> T:
        try:
            future = threads.submit(work)
        except RuntimeError:
            raise sa.exc.ResourceClosedError("the catalogue is closed") from None
        return await asyncio.wrap_future(future)


class SqliteConnection:
    """What is used of SQLAlchemy's AsyncConnection."""

    def __init__(self, dialect: sa.Dialect, ask: Callable[[_Ask, bool], Awaitable[_Result]]):
        self.dialect, self._ask = dialect, ask

    async def execute(self, statement: sa.Executable, parameters: Any = None) -> _Result:
        """Execute a statement, once or, with a list of parameters, for each of them."""
        return await self._ask(lambda c: c.execute(statement, parameters), statement.is_dml)

    async def scalar(self, statement: sa.Executable) -> Any:
        """Return the first column of the first row, None without rows."""
        return (await self.execute(statement)).scalar()

    async def exec_driver_sql(self, statement: str) -> _Result:
        """Execute a statement as it is written; it is taken for one that writes."""
        return await self._ask(lambda c: c.exec_driver_sql(statement), True)


def _taken(result: _Result) -> _Result:
    """Read all rows here, in the connection's thread; what has no rows has its count already."""
    return cast(_Result, result.freeze()()) if result.returns_rows else result
