"""One pool of connections to the catalogue, and how its statements are sent.

Whatever the database refuses is raised as CatalogueError, in words.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from typing import Any, TypeVar

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite

from storage.catalogue.database import (
    DATABASE_ERRORS,
    CatalogueError,
    Connection,
    Engine,
    error_text,
)
from storage.catalogue.faults import fault_of

BATCH = 500

T = TypeVar("T")
Row = Mapping[str, object]  # to be written


class Pool:
    """The connections of a process; the same statements on SQLite and on PostgreSQL."""

    def __init__(self, engine: Engine):
        self.engine = engine

    @contextlib.asynccontextmanager
    async def work(self) -> AsyncIterator[Connection]:
        """A transaction."""
        with _said():
            async with self.engine.begin() as connection:
                yield connection

    @contextlib.asynccontextmanager
    async def single(self) -> AsyncIterator[Connection]:
        """A connection on which each statement stands for itself, without a transaction."""
        with _said():
            async with self.engine.autocommit() as connection:
                yield connection

    async def rows(self, asked: sa.Select[Any]) -> list[dict[str, Any]]:
        """Return rows by the names of their columns."""
        return await self.rows_as(dict, asked)

    async def rows_as(self, kind: Callable[..., T], asked: sa.Select[Any]) -> list[T]:
        """Return rows as a type whose fields are called as the columns are."""
        async with self.single() as connection:
            found = await connection.execute(asked)
            names = tuple(found.keys())
            return [kind(**dict(zip(names, row, strict=True))) for row in found]

    async def column(self, asked: sa.Select[Any]) -> list[int]:
        """Return the first column of rows."""
        async with self.single() as connection:
            return list((await connection.execute(asked)).scalars())

    async def execute(self, statement: sa.UpdateBase) -> int:
        """Change rows by one statement; returns how many."""
        async with self.single() as connection:
            return (await connection.execute(statement)).rowcount

    def insert(self, table: sa.Table) -> Any:
        """Return an INSERT that knows what to do about a row that is there already."""
        insert = postgresql.insert if self.engine.dialect.name == "postgresql" else sqlite.insert
        return insert(table)

    async def upsert(
        self, table: sa.Table, rows: Sequence[Row], key: list[str], update: list[str]
    ) -> None:
        """Do `put` in transactions of BATCH rows."""
        for n in range(0, len(rows), BATCH):
            async with self.work() as connection:
                await self.put(connection, table, rows[n : n + BATCH], key, update)

    async def put(
        self,
        connection: Connection,
        table: sa.Table,
        rows: Sequence[Row],
        key: list[str],
        update: list[str],
    ) -> None:
        """Insert rows; of one whose `key` is there already only `update` is taken over."""
        if not rows:
            return
        statement = self.insert(table)
        if update:
            taken = {column: statement.excluded[column] for column in update}
            statement = statement.on_conflict_do_update(index_elements=key, set_=taken)
        else:
            statement = statement.on_conflict_do_nothing(index_elements=key)
        await connection.execute(statement, list(rows))


@contextlib.contextmanager
def _said() -> Iterator[None]:
    try:
        yield
    except DATABASE_ERRORS as error:
        raise CatalogueError(error_text(error), fault_of(error)) from None
