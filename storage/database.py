"""Opening the catalogue's database, bringing its schema up to date, and its partitions.

A migration takes no lock that anyone waits for longer than LOCK_MS: it gives up and is tried
again. One that adds an index to a large table must do so CONCURRENTLY, one that adds a column
without a default that rewrites the table.
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

BUSY_MS = 10_000
LOCK_MS = 5_000
_LOCK = 7482  # of what changes the schema; any number that other programs do not use


class CatalogueError(RuntimeError):
    """The database refuses; the text names it without a password."""


async def open_database(url: str) -> AsyncEngine:
    """Connect and bring the schema up to date.

    `url` is sqlite:///path or postgresql://...; raises CatalogueError, without a password.
    """
    engine = create_async_engine(_with_driver(url), pool_pre_ping=True)
    if engine.dialect.name == "sqlite":
        event.listen(engine.sync_engine, "connect", _set_up_sqlite)
    try:
        async with engine.begin() as connection:
            await connection.run_sync(_migrate)
    except (sa.exc.SQLAlchemyError, OSError) as error:
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
    await _lock(connection)
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
    cause = getattr(error, "orig", None) or error
    return " ".join(str(cause).split()) or type(cause).__name__


async def _lock(connection: AsyncConnection) -> None:
    await connection.execute(sa.text(f"SET LOCAL lock_timeout = {LOCK_MS}"))
    await connection.execute(sa.text(f"SELECT pg_advisory_xact_lock({_LOCK})"))


def _with_driver(url: str) -> sa.URL:
    parsed = make_url(url)
    drivers = {"sqlite": "sqlite+aiosqlite", "postgresql": "postgresql+asyncpg"}
    return parsed.set(drivername=drivers.get(parsed.get_backend_name(), parsed.drivername))


def _set_up_sqlite(connection: Any, _record: object) -> None:
    cursor = connection.cursor()
    # FULL: a row that says 'archived' may cost the only copy in the spool
    for pragma in (
        "journal_mode=WAL",
        "synchronous=FULL",
        "foreign_keys=ON",
        f"busy_timeout={BUSY_MS}",
    ):
        cursor.execute(f"PRAGMA {pragma}")
    cursor.close()


def _migrate(connection: sa.Connection) -> None:
    settings = Alembic()
    settings.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
    settings.attributes["connection"] = connection
    head = ScriptDirectory.from_config(settings).get_current_head()
    if MigrationContext.configure(connection).get_current_revision() == head:
        return
    if connection.dialect.name == "sqlite":
        # the write lock now, so that two processes that start do not both create the tables
        connection.exec_driver_sql("BEGIN IMMEDIATE")
    else:
        connection.exec_driver_sql(f"SET LOCAL lock_timeout = {LOCK_MS}")
        connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({_LOCK})")
    command.upgrade(settings, "head")
