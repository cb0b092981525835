"""Cameras, runs, recordings, what archives have of them, gaps and holds."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None


def upgrade() -> None:
    op.create_table(
        "cameras",
        sa.Column("camera_pk", sa.Integer, primary_key=True),
        sa.Column("election", sa.String(64), nullable=False),
        sa.Column("station", sa.String(64), nullable=False),
        sa.Column("camera", sa.String(64), nullable=False),
        sa.Column("number", sa.Text, nullable=False, server_default=""),
        sa.Column("names", sa.JSON),
        sa.UniqueConstraint("election", "station", "camera"),
    )
    op.create_table(
        "runs",
        sa.Column("camera_pk", sa.Integer, sa.ForeignKey("cameras.camera_pk"), primary_key=True),
        sa.Column("run_no", sa.BigInteger, primary_key=True),
        sa.Column("epoch", sa.Integer, nullable=False),
        sa.Column("start_ms", sa.BigInteger, nullable=False),
        sa.Column("end_ms", sa.BigInteger),
        sa.Column("end_reason", sa.String(32)),
        sa.Column("init_sha256", sa.String(64), nullable=False),
        sa.Column("tracks", sa.JSON, nullable=False),
    )
    op.create_table(
        "recordings",
        sa.Column("camera_pk", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("record_seq", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("day", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("epoch", sa.Integer, nullable=False),
        sa.Column("run_no", sa.BigInteger, nullable=False),
        sa.Column("first_segment_no", sa.BigInteger, nullable=False),
        sa.Column("segments", sa.Integer, nullable=False),
        sa.Column("start_ms", sa.BigInteger, nullable=False),
        sa.Column("end_ms", sa.BigInteger, nullable=False),
        sa.Column("bytes", sa.BigInteger, nullable=False),
        sa.Column("sha256", sa.LargeBinary, nullable=False),
        sa.Column("overlaps", sa.Boolean, nullable=False),
        sa.Column("removed_ms", sa.BigInteger),
        postgresql_partition_by="RANGE (day)",
    )
    timeline = ["camera_pk", "start_ms", "end_ms", "record_seq", "day"]
    op.create_index("recordings_by_time", "recordings", timeline)
    op.create_index("recordings_by_segment", "recordings", ["camera_pk", "first_segment_no"])
    op.create_table(
        "archived",
        sa.Column("camera_pk", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("record_seq", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("day", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("archive", sa.String(64), primary_key=True),
        sa.Column("bucket", sa.Text, nullable=False),
        sa.Column("archived_ms", sa.BigInteger, nullable=False),
        sa.Column("verified", sa.String(32), nullable=False),
        sa.Column("etags", sa.Text, nullable=False),
        sa.Column("version_id", sa.Text),
        sa.Column("locked_until_ms", sa.BigInteger),
        sa.Column("removed_ms", sa.BigInteger),
        sa.Column("removed_reason", sa.Text),
        postgresql_partition_by="RANGE (day)",
    )
    removed = sa.text("removed_ms IS NOT NULL")
    op.create_index(
        "archived_removed",
        "archived",
        ["camera_pk", "record_seq"],
        postgresql_where=removed,
        sqlite_where=removed,
    )
    op.create_table(
        "gaps",
        sa.Column("camera_pk", sa.Integer, sa.ForeignKey("cameras.camera_pk"), primary_key=True),
        sa.Column("gap_no", sa.BigInteger, primary_key=True),
        sa.Column("start_ms", sa.BigInteger, nullable=False),
        sa.Column("end_ms", sa.BigInteger),
        sa.Column("cause", sa.String(32), nullable=False),
        sa.Column("detail", sa.Text, nullable=False),
    )
    op.create_index("gaps_by_time", "gaps", ["camera_pk", "start_ms"])
    op.create_table(
        "holds",
        sa.Column("hold_no", sa.Integer, primary_key=True),
        sa.Column("election", sa.String(64), nullable=False),
        sa.Column("station", sa.String(64)),
        sa.Column("camera", sa.String(64)),
        sa.Column("from_ms", sa.BigInteger),
        sa.Column("to_ms", sa.BigInteger),
        sa.Column("until_ms", sa.BigInteger),
        sa.Column("reason", sa.Text, nullable=False),
        sa.Column("created_ms", sa.BigInteger, nullable=False),
        sa.Column("released_ms", sa.BigInteger),
    )


def downgrade() -> None:
    for table in ("holds", "gaps", "archived", "recordings", "runs", "cameras"):
        op.drop_table(table)
