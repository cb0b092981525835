"""A removal that has begun is a column of `archived`, and an order's file names its recordings.

Until now the word "removing" stood in `etags` while bytes were on their way out, and what a file is
made of stood in its plan alone. This changes rows of `archived`, unlike any other migration: those
whose removal is under way, a few. On PostgreSQL the column is added in a transaction of its own, so
that nobody waits while they are looked for.
"""

from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"

FILES = sa.table(
    "order_files",
    sa.column("order_pk", sa.Integer),
    sa.column("file_no", sa.Integer),
    sa.column("plan", sa.JSON),
    sa.column("camera", sa.String),
    sa.column("recordings", sa.JSON),
)


def upgrade() -> None:
    if op.get_bind().dialect.name == "postgresql":
        with op.get_context().autocommit_block():
            op.execute("ALTER TABLE archived ADD COLUMN IF NOT EXISTS removal_begun_ms BIGINT")
    else:
        op.add_column("archived", sa.Column("removal_begun_ms", sa.BigInteger))
    op.execute(
        "UPDATE archived SET removal_begun_ms = removed_ms, etags = ''"
        " WHERE removed_ms IS NOT NULL AND etags = 'removing'"
    )
    op.add_column("order_files", sa.Column("camera", sa.String(64)))
    op.add_column("order_files", sa.Column("recordings", sa.JSON))
    _name_recordings(op.get_bind())


def _name_recordings(connection: sa.Connection) -> None:
    """Write what each file is made of beside its plan; one that cannot be read stays without."""
    f = FILES.c
    keys = connection.execute(sa.select(f.order_pk, f.file_no)).all()
    for order_pk, file_no in keys:  # one by one, as each plan may be large
        same = sa.and_(f.order_pk == order_pk, f.file_no == file_no)
        plan = connection.execute(sa.select(f.plan).where(same)).scalar_one()
        if (named := _named(plan)) is not None:
            connection.execute(sa.update(FILES).where(same).values(named))


def _named(plan: Any) -> dict[str, Any] | None:
    try:
        parts = [part[:3] for part in plan["parts"]]
        return {
            "camera": str(plan["camera"]),
            "recordings": [
                {"record_seq": int(seq), "start_ms": int(start_ms), "sha256": str(sha256)}
                for seq, start_ms, sha256 in parts
            ],
        }
    except (KeyError, TypeError, ValueError):
        return None


def downgrade() -> None:
    op.drop_column("order_files", "recordings")
    op.drop_column("order_files", "camera")
    op.execute("UPDATE archived SET etags = 'removing' WHERE removal_begun_ms IS NOT NULL")
    op.drop_column("archived", "removal_begun_ms")
