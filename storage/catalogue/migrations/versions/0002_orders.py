"""Orders of copies: what was quoted, its files, payments, audit and letters."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"

APPEND_ONLY = ("audit", "payments")
REFUSE = """
CREATE FUNCTION kuager_append_only() RETURNS trigger LANGUAGE plpgsql AS
$$ BEGIN RAISE EXCEPTION '% is only appended to', TG_TABLE_NAME; END $$
"""


def upgrade() -> None:
    op.add_column("holds", sa.Column("order_pk", sa.Integer))
    op.create_index("holds_of_order", "holds", ["order_pk"])
    op.create_table(
        "orders",
        sa.Column("order_pk", sa.Integer, primary_key=True),
        sa.Column("number", sa.Integer, unique=True),
        sa.Column("key_sha256", sa.LargeBinary, nullable=False, unique=True),
        sa.Column("election", sa.String(64), nullable=False),
        sa.Column("station", sa.String(64), nullable=False),
        sa.Column("from_ms", sa.BigInteger, nullable=False),
        sa.Column("to_ms", sa.BigInteger, nullable=False),
        sa.Column("state", sa.String(32), nullable=False),
        sa.Column("language", sa.String(2), nullable=False),
        sa.Column("quote", sa.JSON, nullable=False),
        sa.Column("currency", sa.String(3), nullable=False),
        sa.Column("total", sa.BigInteger, nullable=False),
        sa.Column("created_ms", sa.BigInteger, nullable=False),
        sa.Column("ordered_ms", sa.BigInteger),
        sa.Column("paid_ms", sa.BigInteger),
        sa.Column("ready_ms", sa.BigInteger),
        sa.Column("ended_ms", sa.BigInteger),
        sa.Column("until_ms", sa.BigInteger),
        sa.Column("reason", sa.Text),
        sa.Column("email", sa.Text),
        sa.Column("forget_ms", sa.BigInteger),
    )
    op.create_index("orders_by_state", "orders", ["state", "until_ms"])
    op.create_table(
        "order_files",
        sa.Column("order_pk", sa.Integer, sa.ForeignKey("orders.order_pk"), primary_key=True),
        sa.Column("file_no", sa.Integer, primary_key=True),
        sa.Column("plan", sa.JSON, nullable=False),
        sa.Column("length", sa.BigInteger, nullable=False),
        sa.Column("hashed", sa.BigInteger, nullable=False, server_default="0"),
        sa.Column("sha256", sa.LargeBinary),
        sa.Column("crc32", sa.BigInteger),
        sa.Column("head", sa.LargeBinary),
        sa.Column("failed", sa.Text),
    )
    op.create_table(
        "payments",
        sa.Column("payment_no", sa.Integer, primary_key=True),
        sa.Column("order_pk", sa.Integer, sa.ForeignKey("orders.order_pk"), nullable=False),
        sa.Column("provider", sa.String(32), nullable=False),
        sa.Column("reference", sa.String(255), nullable=False),
        sa.Column("amount", sa.BigInteger, nullable=False),
        sa.Column("currency", sa.String(3), nullable=False),
        sa.Column("returns", sa.String(255)),
        sa.Column("at_ms", sa.BigInteger, nullable=False),
        sa.UniqueConstraint("provider", "reference"),
    )
    op.create_index("payments_of_order", "payments", ["order_pk"])
    op.create_table(
        "checkouts",
        sa.Column("provider", sa.String(32), primary_key=True),
        sa.Column("reference", sa.String(255), primary_key=True),
        sa.Column("order_pk", sa.Integer, sa.ForeignKey("orders.order_pk"), nullable=False),
        sa.Column("url", sa.Text, nullable=False),
        sa.Column("opened_ms", sa.BigInteger, nullable=False),
        sa.Column("looked_ms", sa.BigInteger),
        sa.Column("closed_ms", sa.BigInteger),
    )
    op.create_index("checkouts_of_order", "checkouts", ["order_pk"])
    op.create_table(
        "audit",
        sa.Column("audit_no", sa.Integer, primary_key=True),
        sa.Column("order_pk", sa.Integer, sa.ForeignKey("orders.order_pk"), nullable=False),
        sa.Column("at_ms", sa.BigInteger, nullable=False),
        sa.Column("actor", sa.String(32), nullable=False),
        sa.Column("event", sa.String(32), nullable=False),
        sa.Column("state", sa.String(32), nullable=False),
        sa.Column("detail", sa.JSON, nullable=False),
    )
    op.create_index("audit_of_order", "audit", ["order_pk"])
    op.create_table(
        "outbox",
        sa.Column("letter_no", sa.Integer, primary_key=True),
        sa.Column("order_pk", sa.Integer, sa.ForeignKey("orders.order_pk"), nullable=False),
        sa.Column("kind", sa.String(32), nullable=False),
        sa.Column("recipient", sa.Text),
        sa.Column("link", sa.Text),
        sa.Column("created_ms", sa.BigInteger, nullable=False),
        sa.Column("tries", sa.Integer, nullable=False, server_default="0"),
        sa.Column("next_ms", sa.BigInteger),
        sa.Column("sent_ms", sa.BigInteger),
        sa.Column("error", sa.Text),
    )
    op.create_index("outbox_by_time", "outbox", ["next_ms"])
    if op.get_bind().dialect.name == "postgresql":
        op.execute(REFUSE)
        for table in APPEND_ONLY:
            op.execute(
                f"CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON {table}"
                " FOR EACH STATEMENT EXECUTE FUNCTION kuager_append_only()"
            )
    else:
        for table in APPEND_ONLY:
            for change in ("UPDATE", "DELETE"):
                op.execute(
                    f"CREATE TRIGGER {table}_refuses_{change.lower()} BEFORE {change} ON {table}"
                    f" BEGIN SELECT RAISE(ABORT, '{table} is only appended to'); END"
                )


def downgrade() -> None:
    for table in ("outbox", "audit", "checkouts", "payments", "order_files", "orders"):
        op.drop_table(table)
    if op.get_bind().dialect.name == "postgresql":
        op.execute("DROP FUNCTION kuager_append_only()")
    op.drop_index("holds_of_order", "holds")
    op.drop_column("holds", "order_pk")
