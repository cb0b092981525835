"""Opening the catalogue's database, bringing its schema up to date, and its partitions.

No call waits for PostgreSQL longer than COMMAND_S, also when the server hangs or its machine is
gone without a word; migrations alone may take their time. How they keep out of everyone's way:
storage/catalogue/migrations/env.py.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import sqlalchemy as sa
from alembic import command
from alembic.config import Config as Alembic
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from alembic.util import CommandError
from sqlalchemy import event
from sqlalchemy.engine import make_url
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

from base.durable import nearest
from base.network import connection_words
from storage.catalogue.faults import DatabaseFault, fault_of
from storage.catalogue.schema import DAY_MS, PARTITIONED, catalogue, metadata
from storage.catalogue.sqlite import SqliteConnection, SqliteEngine, sync_engine

BUSY_MS, MIGRATING_MS = 10_000, 120_000
SQLITE_FILE = b"SQLite format 3\0"  # how each of its files begins (sqlite.org/fileformat2.html)
CONNECT_S = 5.0
COMMAND_S = 5.0  # each statement, and as long again for the server to say that it was cancelled
LOCK_MS = 2_000  # the longest that others wait behind a migration that waits for a lock
IDLE_MS = 60_000  # a process that hangs in a transaction holds its locks no longer
DISK_FULL = "53100"
MIGRATIONS = Path(__file__).parent / "migrations"
# advisory locks of what changes the schema; any numbers that other programs do not use
_MIGRATION, _PARTITION, PLACING, HOLDING = 7482, 7483, 7484, 7485

Connection = AsyncConnection | SqliteConnection


class CatalogueError(RuntimeError):
    """The database refuses; the text names it without a password, `fault` is of which kind."""

    def __init__(self, text: str = "", fault: DatabaseFault = DatabaseFault.OTHER):
        super().__init__(text)
        self.fault = fault


# what SQLAlchemy, the drivers' connections and alembic (of tables that a newer Kuager made) raise
DATABASE_ERRORS = (sa.exc.SQLAlchemyError, CommandError, OSError)


class PostgresEngine:
    """Connections to PostgreSQL, each of which comes back whoever is cancelled, and when.

    SQLAlchemy's own context managers give a connection back in a task of its own, and where all
    tasks are cancelled, as at the end of a process, that one is cancelled before it begins.
    """

    def __init__(self, url: sa.URL, command_s: float):
        """`command_s` 0: each statement may take its time."""
        settings = {
            "statement_timeout": str(int(command_s * 1000)),
            "idle_in_transaction_session_timeout": str(IDLE_MS),
        }
        address, more = _for_asyncpg(url)
        limits = {
            "timeout": CONNECT_S,
            "command_timeout": command_s or None,
            "server_settings": settings,
        }
        engine = create_async_engine(address, connect_args=limits | more, hide_parameters=True)
        self.sync_engine = engine.sync_engine
        self.dialect = engine.dialect
        event.listen(self.sync_engine, "checkout", _refuse_closed)
        event.listen(self.sync_engine, "close", lambda connection, _: _terminate(connection))
        # one that is thrown away is not waited for either, as we may be cancelled again
        self.dialect.do_terminate = _terminate  # type: ignore[method-assign]
        self._engine = engine
        self._autocommit = engine.execution_options(isolation_level="AUTOCOMMIT")

    @contextlib.asynccontextmanager
    async def connect(self) -> AsyncIterator[AsyncConnection]:
        """Give a connection; what is not committed when the block ends is rolled back."""
        async with _returned(self._engine) as connection:
            yield connection

    @contextlib.asynccontextmanager
    async def begin(self) -> AsyncIterator[AsyncConnection]:
        """Give a transaction, which ends with the block."""
        async with _returned(self._engine) as connection, connection.begin():
            yield connection

    @contextlib.asynccontextmanager
    async def autocommit(self) -> AsyncIterator[AsyncConnection]:
        """Give a connection on which each statement stands for itself, in one round trip."""
        async with _returned(self._autocommit) as connection:
            yield connection

    async def dispose(self) -> None:
        """Close all connections."""
        await self._engine.dispose()


def _for_asyncpg(url: sa.URL) -> tuple[sa.URL, dict[str, Any]]:
    """Return the address for SQLAlchemy, and for asyncpg what stands after its `?`, which it reads
    as libpq does: `sslmode`, `sslrootcert`, `application_name`, and so on."""
    kept = {key: value for key, value in url.query.items() if key in ("host", "port")}
    rest = {key: value for key, value in url.query.items() if key not in kept}
    more = {"dsn": f"postgresql://?{urlencode(rest, doseq=True)}"} if rest else {}
    return url.set(drivername="postgresql+asyncpg", query=kept), more


@contextlib.asynccontextmanager
async def _returned(engine: AsyncEngine) -> AsyncIterator[AsyncConnection]:
    connection = await engine.connect()
    try:
        yield connection
    finally:
        await connection.close()


def _refuse_closed(connection: Any, _record: object, _proxy: object) -> None:
    """Have the pool connect anew after a restart; unlike a ping this asks the server nothing."""
    if connection.driver_connection.is_closed():
        raise sa.exc.DisconnectionError


def _terminate(dbapi_connection: Any) -> None:
    """End a connection without a word: a server that hangs would not answer."""
    dbapi_connection.driver_connection.terminate()


Engine = PostgresEngine | SqliteEngine


async def open_database(url: str) -> Engine:
    """Connect and bring the schema up to date.

    `url` is sqlite:///path or postgresql://...; raises CatalogueError, without a password.
    """
    with _named(url):
        parsed = make_url(url)
        if parsed.get_backend_name() == "sqlite":
            await asyncio.to_thread(_migrate_sqlite, parsed)  # to its end, also when cancelled
            return SqliteEngine(parsed, BUSY_MS)
        return await _open_postgresql(parsed)


async def describe_database(url: str) -> str:
    """Say what is found at a database's address, changing nothing; raises CatalogueError."""
    with _named(url):
        parsed = make_url(url)
        if parsed.get_backend_name() == "sqlite":
            return await asyncio.to_thread(_examine_sqlite, parsed)
        engine = PostgresEngine(parsed, COMMAND_S)
        try:
            async with engine.connect() as connection:
                await _refuse_unwritable(connection)
                return await connection.run_sync(_state)
        finally:
            await engine.dispose()


async def _refuse_unwritable(connection: AsyncConnection) -> None:
    """Raise CatalogueError where nothing could be written."""
    if await connection.scalar(sa.text("SHOW transaction_read_only")) == "on":
        text = "takes no rows: it is read-only, or a copy of another server's"
        raise CatalogueError(text, DatabaseFault.DISK)
    allowed = "SELECT has_schema_privilege(current_schema(), 'CREATE')"
    if not await connection.scalar(sa.text(allowed)):
        raise CatalogueError("this user may not make tables in its schema")
    for table in metadata.sorted_tables:
        if await connection.scalar(sa.select(sa.func.to_regclass(table.name))) is not None:
            both = [
                sa.func.has_table_privilege(table.name, right) for right in ("INSERT", "UPDATE")
            ]
            if not await connection.scalar(sa.select(sa.and_(*both))):
                raise CatalogueError(f"this user may not write the table {table.name}")


@contextlib.contextmanager
def _named(url: str) -> Iterator[None]:
    """Have what a database refuses told with its address, without login and what follows `?`."""
    try:
        yield
    except (*DATABASE_ERRORS, CatalogueError) as error:
        text = f"{_shown(url)}: {error_text(error)}"
        raise CatalogueError(text, fault_of(error)) from None
    except (TypeError, ValueError) as error:
        # an address, or what follows its `?`, that the drivers do not take
        text = f"{_shown(url)}: its address is not taken: {error}"
        raise CatalogueError(text) from None


def _shown(url: str) -> str:
    try:
        return make_url(url).set(query={}).render_as_string(hide_password=True)
    except (sa.exc.ArgumentError, ValueError):
        return "the database"


def _examine_sqlite(url: sa.URL) -> str:
    path = Path(url.database or "")
    there = nearest(path)
    if there not in (path, path.parent):
        raise CatalogueError(f"there is no directory {path.parent}: make it")
    if not os.access(there, os.F_OK):
        raise CatalogueError(f"{there} is a link that leads nowhere")
    if not path.parent.is_dir():
        raise CatalogueError(f"{path.parent} is no directory")
    for each in {there, path.parent}:  # beside it, files come and go
        if not os.access(each, os.W_OK):
            raise CatalogueError(f"no right to write {each}")
    if there is not path:
        return "is made at the first start"
    _refuse_other_files(path)
    engine = sync_engine(url, BUSY_MS)
    try:
        with engine.connect() as connection:
            return _state(connection)
    finally:
        engine.dispose()


def _state(connection: sa.Connection) -> str:
    if MigrationContext.configure(connection).get_current_revision() is None:
        return "answers; its tables are made at the first start"
    if _is_behind(connection):
        return "answers; its tables are brought up to date at the next start"
    return "answers, with its tables"


async def make_partitions(connection: Connection, days: set[int]) -> None:
    """Have a partition for each day (UTC, days since 1970); only PostgreSQL has partitions.

    ATTACH, unlike CREATE ... PARTITION OF, lets everyone else read and write meanwhile.
    """
    if connection.dialect.name != "postgresql":
        return
    await connection.execute(sa.text(f"SET LOCAL lock_timeout = {LOCK_MS}"))
    await take_lock(connection, _PARTITION)
    for day in sorted(days):
        for table in PARTITIONED:
            name = f"{table.name}_{datetime.fromtimestamp(day * DAY_MS // 1000, UTC):%Y_%m_%d}"
            there = await connection.scalar(sa.select(sa.func.to_regclass(name)))
            if there is None:
                for statement in (
                    f"CREATE TABLE {name} (LIKE {table.name} INCLUDING ALL)",
                    f"ALTER TABLE {table.name} ATTACH PARTITION {name}"
                    f" FOR VALUES FROM ({day}) TO ({day + 1})",
                ):
                    await connection.execute(sa.text(statement))


async def take_lock(connection: Connection, lock: int) -> None:
    """Wait until no other transaction has a lock, and have it until this one ends.

    On SQLite only one transaction writes at a time anyway.
    """
    if connection.dialect.name == "postgresql":
        await connection.execute(sa.select(sa.func.pg_advisory_xact_lock(lock)))


def error_text(error: BaseException) -> str:
    """Return what a database error says, in one line, without the statement."""
    if isinstance(error, TimeoutError):
        return f"no answer within {COMMAND_S:.0f} s"
    cause = getattr(error, "orig", None) or error
    if isinstance(error, sa.exc.IntegrityError):  # what follows may quote the row
        return str(cause).partition("\n")[0]
    if getattr(cause, "sqlstate", None) == DISK_FULL:
        return "the database's disk is full"  # in other words for each file that it cannot extend
    if isinstance(cause, ConnectionError | FileNotFoundError | socket.gaierror) and cause.errno:
        return connection_words(cause)  # Python's own text is for programmers
    return " ".join(str(cause).split()) or type(cause).__name__


def _alembic(connection: sa.Connection) -> Alembic:
    settings = Alembic()
    settings.set_main_option("script_location", str(MIGRATIONS))
    settings.attributes["connection"] = connection
    return settings


@cache
def _revisions(folder: Path) -> list[str]:
    """Return the revisions of the schema that a folder of migrations leads to, newest first."""
    return [script.revision for script in ScriptDirectory(str(folder)).walk_revisions()]


def _is_behind(connection: sa.Connection) -> bool:
    """Tell whether tables are to be made or changed; raises CatalogueError where they are of a
    newer Kuager that no longer works beside this one."""
    head, *older = _revisions(MIGRATIONS)
    current = MigrationContext.configure(connection).get_current_revision()
    if current in (None, head):
        return current is None
    if current in older:
        return True
    oldest = connection.scalar(sa.select(catalogue.c.oldest))
    if oldest is None or head < oldest:
        raise CatalogueError(
            f"its tables are of a newer Kuager (revision {current}, for {oldest} and later; this "
            f"one knows {head}): upgrade this machine, too"
        )
    return False


def _refuse_other_files(path: Path) -> None:
    """Raise CatalogueError for a file that is no database: SQLite would write over a short one."""
    try:
        with path.open("rb") as file:
            begins = file.read(len(SQLITE_FILE))
    except OSError:  # SQLite says why it cannot be read, where it is there
        return
    if begins not in (b"", SQLITE_FILE):
        raise CatalogueError("file is not a database")


def _migrate_sqlite(url: sa.URL) -> None:
    _refuse_other_files(Path(url.database or ""))
    engine = sync_engine(url, BUSY_MS)
    try:
        with engine.connect() as connection:
            if _is_behind(connection):
                connection.rollback()
                _upgrade(connection)
    finally:
        engine.dispose()


async def _open_postgresql(url: sa.URL) -> PostgresEngine:
    engine = PostgresEngine(url, COMMAND_S)
    try:
        async with engine.connect() as connection:
            behind = await connection.run_sync(_is_behind)
        if behind:
            await _migrate_postgresql(url)
    except BaseException:
        await engine.dispose()
        raise
    return engine


async def _migrate_postgresql(url: sa.URL) -> None:
    """Bring the schema up to date, one process at a time."""
    engine = PostgresEngine(url, 0)
    try:
        async with engine.connect() as connection:
            await connection.run_sync(_upgrade)
    finally:
        await engine.dispose()


def _upgrade(connection: sa.Connection) -> None:
    if connection.dialect.name == "sqlite":
        # the write lock now, so that two processes that start do not both create the tables; a
        # slow disk may take long over those of the first
        connection.exec_driver_sql(f"PRAGMA busy_timeout={MIGRATING_MS}")
        connection.exec_driver_sql("BEGIN IMMEDIATE")
    else:
        # of the session, as a migration may need several transactions
        connection.exec_driver_sql(f"SET lock_timeout = {LOCK_MS}")
        try:
            connection.exec_driver_sql(f"SELECT pg_advisory_lock({_MIGRATION})")
        except sa.exc.DBAPIError:
            raise CatalogueError("another process is changing the schema") from None
        connection.commit()
    command.upgrade(_alembic(connection), "head")
    connection.commit()
