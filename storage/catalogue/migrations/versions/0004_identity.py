"""A database has an id, and a recording is told by its bytes where a number was used twice.

`collision` joins the keys of `recordings` and `archived`; `spool` says which spool has a recording.
The start of a gap joins the key of `gaps`.
"""

import uuid
from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"

TABLES = ("recordings", "archived")
BEFORE = {
    "recordings": ("camera_pk", "record_seq", "day"),
    "archived": ("camera_pk", "record_seq", "day", "archive"),
}
GAP = ("camera_pk", "gap_no", "start_ms")
PARTITIONS = "SELECT inhrelid::regclass::text FROM pg_inherits WHERE inhparent = '{}'::regclass"


def upgrade() -> None:
    known = sa.inspect(op.get_bind()).get_table_names()
    if "catalogue" not in known:  # an attempt that failed half-way may have made it
        op.create_table("catalogue", sa.Column("id", sa.String(32), primary_key=True))
        op.execute(f"INSERT INTO catalogue (id) VALUES ('{uuid.uuid4().hex}')")
    if op.get_bind().dialect.name == "postgresql":
        for table in TABLES:
            op.execute(
                f"ALTER TABLE {table} ADD COLUMN IF NOT EXISTS collision INTEGER NOT NULL DEFAULT 0"
            )
        op.execute("ALTER TABLE recordings ADD COLUMN IF NOT EXISTS spool VARCHAR(32)")
        for table in TABLES:
            _change_key(table, (*BEFORE[table], "collision"))
        _change_key_of_gaps()
        return
    spool = sa.Column("spool", sa.String(32))
    _rebuild("recordings", (*BEFORE["recordings"], "collision"), _collision(), spool)
    _rebuild("archived", (*BEFORE["archived"], "collision"), _collision())
    _rebuild("gaps", GAP)


def _collision() -> sa.Column[Any]:
    return sa.Column("collision", sa.Integer, nullable=False, server_default="0")


def _rebuild(table: str, key: tuple[str, ...], *more: sa.Column[Any]) -> None:
    """Have another primary key; SQLite can only write such a table anew."""
    found = sa.Table(table, sa.MetaData(), autoload_with=op.get_bind())
    columns = [column.name for column in found.columns]
    same = [sa.Column(c.name, c.type, nullable=c.nullable) for c in found.columns]
    to = [
        sa.ForeignKeyConstraint(k.column_keys, [e.target_fullname for e in k.elements])
        for k in found.foreign_key_constraints
    ]
    op.create_table(f"{table}_new", *same, *more, *to, sa.PrimaryKeyConstraint(*key))
    names = ", ".join(columns)
    op.execute(f"INSERT INTO {table}_new ({names}) SELECT {names} FROM {table}")
    indexes = list(found.indexes)
    op.drop_table(table)
    op.rename_table(f"{table}_new", table)
    for index in indexes:
        where = index.dialect_options["sqlite"].get("where")
        names_of = [str(column.name) for column in index.columns]
        op.create_index(str(index.name), table, names_of, sqlite_where=where)


def _change_key(table: str, key: tuple[str, ...]) -> None:
    """Have another unique index in place of the primary key, of which nobody waits for long."""
    columns = f"({', '.join(key)})"
    with op.get_context().autocommit_block():
        op.execute(f"DROP INDEX IF EXISTS {table}_key")  # what an earlier attempt left
        op.execute(f"CREATE UNIQUE INDEX {table}_key ON ONLY {table} {columns}")
        for name in op.get_bind().execute(sa.text(PARTITIONS.format(table))).scalars().all():
            op.execute("SET lock_timeout = 0")  # these wait for others, and nobody for them
            op.execute(f"DROP INDEX CONCURRENTLY IF EXISTS {name}_key")
            op.execute(f"CREATE UNIQUE INDEX CONCURRENTLY {name}_key ON {name} {columns}")
            op.execute("SET lock_timeout = 2000")
            op.execute(f"ALTER INDEX {table}_key ATTACH PARTITION {name}_key")
        op.execute(f"ALTER TABLE {table} DROP CONSTRAINT IF EXISTS {table}_pkey")


def _change_key_of_gaps() -> None:
    with op.get_context().autocommit_block():
        op.execute("SET lock_timeout = 0")
        op.execute("DROP INDEX CONCURRENTLY IF EXISTS gaps_key")
        op.execute(f"CREATE UNIQUE INDEX CONCURRENTLY gaps_key ON gaps ({', '.join(GAP)})")
        op.execute("SET lock_timeout = 2000")
        op.execute("ALTER TABLE gaps DROP CONSTRAINT IF EXISTS gaps_pkey")


def downgrade() -> None:
    raise NotImplementedError("rows of numbers that were used twice would be lost")
