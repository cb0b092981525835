"""Run by alembic with a connection that the catalogue opened, one process at a time.

A migration on PostgreSQL gives up when it waits for a lock longer than storage.database.LOCK_MS, as
everyone else would wait behind it, and is tried again; each is a transaction of its own. On
`recordings` and `archived`, tens of millions of rows a day, a migration may add a column that is
null or has a constant default, or, alone in its migration, an index: made in `autocommit_block()`
with CREATE INDEX CONCURRENTLY on each partition, as tests/storage/test_migrations.py does it. What
it leaves when it fails half-way it removes when it is tried again. Rows are never rewritten, but
for the few of 0006.
"""

from alembic import context

from storage.catalogue.schema import metadata

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    transaction_per_migration=True,
)
with context.begin_transaction():
    context.run_migrations()
