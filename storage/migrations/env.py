"""Run by alembic with a connection that the catalogue opened, one process at a time.

A migration on PostgreSQL gives up when it waits for a lock longer than storage.database.LOCK_MS,
as everyone else would wait behind it, and is tried again; each is a transaction of its own. For
`recordings` and `archived`, tens of millions of rows a day, this is allowed: a column that may be
null or has a constant default; a new table. An index is made in `autocommit_block()`: CREATE INDEX
ON ONLY the table, then for each partition CREATE INDEX CONCURRENTLY and ALTER INDEX ... ATTACH
PARTITION, each with IF NOT EXISTS; tests/test_migrations.py does it. Rows are never rewritten.
"""

from alembic import context

from storage.schema import metadata

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    transaction_per_migration=True,
)
with context.begin_transaction():
    context.run_migrations()
