"""What the network or a camera lost of recordings."""

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"


def upgrade() -> None:
    op.create_table(
        "packet_loss",
        sa.Column("camera_pk", sa.Integer, sa.ForeignKey("cameras.camera_pk"), primary_key=True),
        sa.Column("start_ms", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("record_seq", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("lost", sa.Integer, nullable=False),
        sa.Column("damaged", sa.Integer, nullable=False),
        sa.Column("restarted", sa.Boolean, nullable=False),
    )


def downgrade() -> None:
    op.drop_table("packet_loss")
