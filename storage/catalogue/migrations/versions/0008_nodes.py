"""Nodes, and the shards of the cameras that they hold by lease.

Since then a database says which versions may work with it side by side, during an upgrade of
several machines: a migration with which the version before cannot go on raises `oldest`.
"""

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"

SHARDS = 512


def upgrade() -> None:
    op.create_table(
        "nodes",
        sa.Column("spool", sa.String(32), primary_key=True),
        sa.Column("name", sa.String(64), nullable=False),
        sa.Column("address", sa.Text, nullable=False),
        sa.Column("weight", sa.Integer, nullable=False),
        sa.Column("most", sa.Integer),
        sa.Column("version", sa.Text, nullable=False),
        sa.Column("until_ms", sa.BigInteger, nullable=False),
        sa.Column("leaving", sa.Boolean, nullable=False),
        sa.Column("drained", sa.Boolean, nullable=False, server_default=sa.false()),
        sa.Column("given_up_ms", sa.BigInteger),
    )
    shards = op.create_table(
        "shards",
        sa.Column("shard", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("epoch", sa.Integer, nullable=False),
        sa.Column("holder", sa.String(32)),
        sa.Column("before", sa.String(32)),
        sa.Column("handover", sa.String(8)),
        sa.Column("offered", sa.Boolean, nullable=False, server_default=sa.false()),
        sa.Column("taken_ms", sa.BigInteger),
        sa.Column("lost_ms", sa.BigInteger),
    )
    op.add_column("catalogue", sa.Column("oldest", sa.String(8)))
    op.execute("UPDATE catalogue SET oldest = '0008'")
    op.bulk_insert(shards, [{"shard": n, "epoch": 0} for n in range(SHARDS)])


def downgrade() -> None:
    op.drop_column("catalogue", "oldest")
    op.drop_table("shards")
    op.drop_table("nodes")
