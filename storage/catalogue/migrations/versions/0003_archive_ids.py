"""The ids of archives."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    op.create_table(
        "archive_ids",
        sa.Column("archive", sa.String(64), primary_key=True),
        sa.Column("archive_id", sa.String(64), nullable=False),
    )
