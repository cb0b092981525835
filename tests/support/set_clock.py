"""A PostgreSQL whose clock a test sets: a function of its own stands before the system's."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import asyncpg

CLOCK = """
CREATE TABLE the_clock (now_ms bigint);
INSERT INTO the_clock VALUES (0);
CREATE FUNCTION public.clock_timestamp() RETURNS timestamptz LANGUAGE sql VOLATILE AS
    'SELECT to_timestamp(now_ms / 1000.0) FROM the_clock';
"""


class SetClock:
    """The clock of a database; who connected before it was made does not have it."""

    def __init__(self, connection: asyncpg.Connection, now_ms: int):
        self._connection, self.now_ms = connection, now_ms

    async def set(self, now_ms: int) -> None:
        """Have it say this."""
        self.now_ms = now_ms
        await self._connection.execute("UPDATE the_clock SET now_ms = $1", now_ms)

    async def passes(self, ms: int) -> None:
        """Have it go on."""
        await self.set(self.now_ms + ms)


@asynccontextmanager
async def set_clock(url: str, now_ms: int) -> AsyncIterator[SetClock]:
    """Make the clock of a database."""
    connection = await asyncpg.connect(url)
    try:
        name = await connection.fetchval("SELECT current_database()")
        await connection.execute(CLOCK)
        await connection.execute(f"ALTER DATABASE {name} SET search_path = public, pg_catalog")
        clock = SetClock(connection, now_ms)
        await clock.set(now_ms)
        yield clock
    finally:
        await connection.close()
