"""Whom the invoice of an order names as its payer."""

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"


def upgrade() -> None:
    op.add_column("orders", sa.Column("payer_name", sa.Text))
    op.add_column("orders", sa.Column("payer_bin", sa.String(12)))


def downgrade() -> None:
    op.drop_column("orders", "payer_bin")
    op.drop_column("orders", "payer_name")
