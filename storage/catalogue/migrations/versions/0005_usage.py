"""What clients had and recipients were sent within a day, by a hash with a key of this database."""

import secrets

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    op.add_column("catalogue", sa.Column("usage_key", sa.LargeBinary))
    set_key = sa.text("UPDATE catalogue SET usage_key = :key")
    op.execute(set_key.bindparams(key=secrets.token_bytes(32)))
    op.create_table(
        "usage",
        sa.Column("usage_no", sa.Integer, primary_key=True),
        sa.Column("who", sa.LargeBinary, nullable=False),
        sa.Column("at_ms", sa.BigInteger, nullable=False),
        sa.Column("free_ms", sa.BigInteger, nullable=False, server_default="0"),
        sa.Column("order_pk", sa.Integer, sa.ForeignKey("orders.order_pk")),
    )
    op.create_index("usage_by_who", "usage", ["who", "at_ms"])
    op.create_index("usage_by_time", "usage", ["at_ms"])


def downgrade() -> None:
    op.drop_table("usage")
    op.drop_column("catalogue", "usage_key")
