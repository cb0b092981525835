"""Opening the catalogue's database, bringing its schema up to date, and its partitions.

No call waits for PostgreSQL longer than COMMAND_S, also when the server hangs or its machine is
gone without a word; migrations alone may take their time. How they keep out of everyone's way:
storage/migrations/env.py.
"""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from alembic import command
from alembic.config import Config as Alembic
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import event
from sqlalchemy.engine import make_url
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

from storage.schema import DAY_MS, PARTITIONED

BUSY_MS, MIGRATING_MS = 10_000, 120_000
CONNECT_S = 5.0
COMMAND_S = 5.0  # each statement, and as long again for the server to say that it was cancelled
LOCK_MS = 2_000  # the longest that others wait behind a migration that waits for a lock
IDLE_MS = 60_000  # a process that hangs in a transaction holds its locks no longer
DISK_FULL = "53100"
MIGRATIONS = Path(__file__).parent / "migrations"
# advisory locks of what changes the schema; any numbers that other programs do not use
_MIGRATION, _PARTITION = 7482, 7483


class CatalogueError(RuntimeError):
    """The database refuses; the text names it without a password."""


async def open_database(url: str) -> AsyncEngine:
    """Connect and bring the schema up to date.

    `url` is sqlite:///path or postgresql://...; raises CatalogueError, without a password.
    """
    engine = _engine(url, COMMAND_S)
    try:
        async with engine.connect() as connection:
            behind = await connection.run_sync(_is_behind)
        if behind:
            await _migrate(url)
    except (sa.exc.SQLAlchemyError, OSError, CatalogueError) as error:
        await engine.dispose()
        shown = make_url(url).render_as_string(hide_password=True)
        raise CatalogueError(f"{shown}: {words(error)}") from None
    return engine


async def make_partitions(connection: AsyncConnection, days: set[int]) -> None:
    """Have a partition for each day (UTC, days since 1970); only PostgreSQL has partitions.

    ATTACH, unlike CREATE ... PARTITION OF, lets everyone else read and write meanwhile.
    """
    if connection.dialect.name != "postgresql":
        return
    await connection.execute(sa.text(f"SET LOCAL lock_timeout = {LOCK_MS}"))
    await connection.execute(sa.text(f"SELECT pg_advisory_xact_lock({_PARTITION})"))
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


def words(error: BaseException) -> str:
    """Return what a database error says, in one line, without the statement."""
    if isinstance(error, TimeoutError):
        return f"no answer within {COMMAND_S:.0f} s"
    cause = getattr(error, "orig", None) or error
    if getattr(cause, "sqlstate", None) == DISK_FULL:
        return "the database's disk is full"  # in other words for each file that it cannot extend
    return " ".join(str(cause).split()) or type(cause).__name__


def _with_driver(url: str) -> sa.URL:
    parsed = make_url(url)
    drivers = {"sqlite": "sqlite+aiosqlite", "postgresql": "postgresql+asyncpg"}
    return parsed.set(drivername=drivers.get(parsed.get_backend_name(), parsed.drivername))


def _set_up_sqlite(connection: Any, _record: object) -> None:
    cursor = connection.cursor()
    # FULL: a row that says 'archived' may cost the only copy in the spool
    for pragma in (
        f"busy_timeout={BUSY_MS}",  # first: the next may have to wait
        "journal_mode=WAL",
        "synchronous=FULL",
        "foreign_keys=ON",
    ):
        cursor.execute(f"PRAGMA {pragma}")
    cursor.close()


def _engine(url: str, command_s: float) -> AsyncEngine:
    """`command_s` 0: each statement may take its time."""
    parsed = _with_driver(url)
    if parsed.get_backend_name() == "sqlite":
        engine = create_async_engine(parsed, hide_parameters=True)
        event.listen(engine.sync_engine, "connect", _set_up_sqlite)
        # A connection whose task is cancelled is closed like any other. SQLAlchemy would close it
        # behind the task's back and stop its thread meanwhile; with aiosqlite 0.22 the close then
        # waits for ever for an answer of that thread, and so does a process that is to stop.
        dialect = engine.sync_engine.dialect
        dialect.has_terminate = False
        dialect.do_terminate = dialect.do_close  # type: ignore[method-assign]
        return engine
    settings = {
        "statement_timeout": str(int(command_s * 1000)),
        "idle_in_transaction_session_timeout": str(IDLE_MS),
    }
    limits = {
        "timeout": CONNECT_S,
        "command_timeout": command_s or None,
        "server_settings": settings,
    }
    engine = create_async_engine(parsed, connect_args=limits, hide_parameters=True)
    event.listen(engine.sync_engine, "checkout", _refuse_closed)
    event.listen(engine.sync_engine, "close", _hang_up)
    return engine


def _refuse_closed(connection: Any, _record: object, _proxy: object) -> None:
    """Have the pool connect anew after a restart; unlike a ping this asks the server nothing."""
    if connection.driver_connection.is_closed():
        raise sa.exc.DisconnectionError


def _hang_up(connection: Any, _record: object) -> None:
    """End a connection that nobody uses without a word: a server that hangs would not answer."""
    connection.driver_connection.terminate()


def _alembic(connection: sa.Connection) -> Alembic:
    settings = Alembic()
    settings.set_main_option("script_location", str(MIGRATIONS))
    settings.attributes["connection"] = connection
    return settings


def _is_behind(connection: sa.Connection) -> bool:
    head = ScriptDirectory.from_config(_alembic(connection)).get_current_head()
    return MigrationContext.configure(connection).get_current_revision() != head


async def _migrate(url: str) -> None:
    """Bring the schema up to date, one process at a time."""
    engine = _engine(url, 0)
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
