"""The tables of the catalogue. All times are UTC milliseconds; `day` is `start_ms` // 86,400,000.

What grows by millions a day, `recordings` and `archived`, is partitioned by `day` on PostgreSQL.
"""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa

from storage.records import Identity

DAY_MS = 86_400_000


class Sha256(sa.TypeDecorator[str]):
    """A SHA-256: 64 hex digits here, 32 bytes in the database."""

    impl = sa.LargeBinary
    cache_ok = True

    def process_bind_param(self, value: str | None, dialect: sa.Dialect) -> bytes | None:
        """Return the bytes of the digits."""
        return None if value is None else bytes.fromhex(value)

    def process_result_value(self, value: Any | None, dialect: sa.Dialect) -> str | None:
        """Return the digits of the bytes."""
        return None if value is None else bytes(value).hex()


metadata = sa.MetaData()
catalogue = sa.Table(  # one row: by it, one database is told from another that took its place
    "catalogue",
    metadata,
    sa.Column("id", sa.String(32), primary_key=True),
    sa.Column("usage_key", sa.LargeBinary),  # by which `usage` knows people
    # the revision of the oldest Kuager that may work with these tables, beside a newer one
    sa.Column("oldest", sa.String(8)),
)
cameras = sa.Table(
    "cameras",
    metadata,
    sa.Column("camera_pk", sa.Integer, primary_key=True),
    sa.Column("election", sa.String(64), nullable=False),
    sa.Column("station", sa.String(64), nullable=False),
    sa.Column("camera", sa.String(64), nullable=False),
    sa.Column("number", sa.Text, nullable=False, server_default=""),
    sa.Column("names", sa.JSON),  # of the station: name, region, district, address; and title
    sa.UniqueConstraint("election", "station", "camera"),
)
runs = sa.Table(
    "runs",
    metadata,
    sa.Column("camera_pk", sa.ForeignKey(cameras.c.camera_pk), primary_key=True),
    sa.Column("run_no", sa.BigInteger, primary_key=True),
    sa.Column("epoch", sa.Integer, nullable=False),
    sa.Column("start_ms", sa.BigInteger, nullable=False),
    sa.Column("end_ms", sa.BigInteger),  # null while it goes on
    sa.Column("end_reason", sa.String(32)),
    sa.Column("init_sha256", sa.String(64), nullable=False),
    sa.Column("tracks", sa.JSON, nullable=False),
)
recordings = sa.Table(
    "recordings",
    metadata,
    sa.Column("camera_pk", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("record_seq", sa.BigInteger, primary_key=True, autoincrement=False),
    sa.Column("day", sa.Integer, primary_key=True, autoincrement=False),
    # 0; else the beginning of its sha256, where other bytes were there before under its number
    sa.Column("collision", sa.Integer, primary_key=True, autoincrement=False, server_default="0"),
    sa.Column("epoch", sa.Integer, nullable=False),
    sa.Column("run_no", sa.BigInteger, nullable=False),
    sa.Column("first_segment_no", sa.BigInteger, nullable=False),
    sa.Column("segments", sa.Integer, nullable=False),
    sa.Column("start_ms", sa.BigInteger, nullable=False),
    sa.Column("end_ms", sa.BigInteger, nullable=False),
    sa.Column("bytes", sa.BigInteger, nullable=False),
    sa.Column("sha256", Sha256, nullable=False),
    sa.Column("overlaps", sa.Boolean, nullable=False),
    sa.Column("removed_ms", sa.BigInteger),  # from the spool
    sa.Column("spool", sa.String(32)),  # the id of the spool that has or had it; null: unknown
    # with all that a timeline shows: a camera's rows lie far apart, its index entries together
    sa.Index("recordings_by_time", "camera_pk", "start_ms", "end_ms", "record_seq", "day"),
    sa.Index("recordings_by_segment", "camera_pk", "first_segment_no"),
)
archived = sa.Table(  # a row once an archive has a recording, verified
    "archived",
    metadata,
    sa.Column("camera_pk", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("record_seq", sa.BigInteger, primary_key=True, autoincrement=False),
    sa.Column("day", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("collision", sa.Integer, primary_key=True, autoincrement=False, server_default="0"),
    sa.Column("archive", sa.String(64), primary_key=True),  # its name in the configuration
    sa.Column("bucket", sa.Text, nullable=False),  # empty for a directory
    sa.Column("archived_ms", sa.BigInteger, nullable=False),
    sa.Column("verified", sa.String(32), nullable=False),  # how
    sa.Column("etags", sa.Text, nullable=False),  # of .mp4 and .json, to be compared
    sa.Column("version_id", sa.Text),  # of the .mp4, where the bucket keeps versions
    sa.Column("locked_until_ms", sa.BigInteger),  # by Object Lock
    sa.Column("removed_ms", sa.BigInteger),  # since then it does not count as there
    sa.Column("removed_reason", sa.Text),
    sa.Column("removal_begun_ms", sa.BigInteger),  # null again once its bytes are gone
)
sa.Index(
    "archived_removed",
    archived.c.camera_pk,
    archived.c.record_seq,
    postgresql_where=archived.c.removed_ms.is_not(None),
    sqlite_where=archived.c.removed_ms.is_not(None),
)
archive_ids = sa.Table(  # what the marker of each archive says
    "archive_ids",
    metadata,
    sa.Column("archive", sa.String(64), primary_key=True),  # its name in the configuration
    sa.Column("archive_id", sa.String(64), nullable=False),
)
gaps = sa.Table(
    "gaps",
    metadata,
    sa.Column("camera_pk", sa.ForeignKey(cameras.c.camera_pk), primary_key=True),
    sa.Column("gap_no", sa.BigInteger, primary_key=True),
    sa.Column("start_ms", sa.BigInteger, primary_key=True),  # two spools may use one number
    sa.Column("end_ms", sa.BigInteger),  # null while it lasts
    sa.Column("cause", sa.String(32), nullable=False),
    sa.Column("detail", sa.Text, nullable=False),
    sa.Index("gaps_by_time", "camera_pk", "start_ms"),
)
packet_loss = sa.Table(  # a row for each recording of which packets are missing
    "packet_loss",
    metadata,
    sa.Column("camera_pk", sa.ForeignKey(cameras.c.camera_pk), primary_key=True),
    sa.Column("start_ms", sa.BigInteger, primary_key=True),  # of the recording
    sa.Column("record_seq", sa.BigInteger, primary_key=True),
    sa.Column("lost", sa.Integer, nullable=False),  # packets
    sa.Column("damaged", sa.Integer, nullable=False),  # pictures
    sa.Column("restarted", sa.Boolean, nullable=False),
)
holds = sa.Table(  # what must not be removed, although its time has come
    "holds",
    metadata,
    sa.Column("hold_no", sa.Integer, primary_key=True),
    sa.Column("election", sa.String(64), nullable=False),
    sa.Column("station", sa.String(64)),  # null: every station
    sa.Column("camera", sa.String(64)),  # null: every camera
    sa.Column("from_ms", sa.BigInteger),  # null: from the first
    sa.Column("to_ms", sa.BigInteger),  # null: to the last
    sa.Column("until_ms", sa.BigInteger),  # null: until it is released
    sa.Column("reason", sa.Text, nullable=False),
    sa.Column("created_ms", sa.BigInteger, nullable=False),
    sa.Column("released_ms", sa.BigInteger),
    sa.Column("order_pk", sa.Integer),  # null: set by an operator
    sa.Index("holds_of_order", "order_pk"),
)
orders = sa.Table(
    "orders",
    metadata,
    sa.Column("order_pk", sa.Integer, primary_key=True),
    sa.Column("number", sa.Integer, unique=True),  # without holes; null until it is ordered
    sa.Column("key_sha256", Sha256, nullable=False, unique=True),  # of the secret in its link
    sa.Column("election", sa.String(64), nullable=False),
    sa.Column("station", sa.String(64), nullable=False),
    sa.Column("from_ms", sa.BigInteger, nullable=False),
    sa.Column("to_ms", sa.BigInteger, nullable=False),
    sa.Column("state", sa.String(32), nullable=False),
    sa.Column("language", sa.String(2), nullable=False),
    sa.Column("quote", sa.JSON, nullable=False),  # what was there, what not and why, the price
    sa.Column("currency", sa.String(3), nullable=False),
    sa.Column("total", sa.BigInteger, nullable=False),  # in its smallest unit, with tax
    sa.Column("created_ms", sa.BigInteger, nullable=False),
    sa.Column("ordered_ms", sa.BigInteger),
    sa.Column("paid_ms", sa.BigInteger),
    sa.Column("ready_ms", sa.BigInteger),
    sa.Column("ended_ms", sa.BigInteger),
    sa.Column("until_ms", sa.BigInteger),  # of the quote, of paying, of downloading; null: ended
    sa.Column("reason", sa.Text),  # why it ended, for the requester
    sa.Column("email", sa.Text),
    sa.Column("forget_ms", sa.BigInteger),  # when the address is removed
    sa.Column("payer_name", sa.Text),  # as the invoice names who pays; null: nobody
    sa.Column("payer_bin", sa.String(12)),  # BIN or IIN, 12 digits
    sa.Index("orders_by_state", "state", "until_ms"),
)
order_files = sa.Table(
    "order_files",
    metadata,
    sa.Column("order_pk", sa.ForeignKey(orders.c.order_pk), primary_key=True),
    sa.Column("file_no", sa.Integer, primary_key=True),  # from 1
    sa.Column("plan", sa.JSON, nullable=False),  # how it is made: what is in it is known in copies
    sa.Column("camera", sa.String(64)),
    sa.Column("recordings", sa.JSON),  # what it is made of: record_seq, start_ms, sha256 of each
    sa.Column("length", sa.BigInteger, nullable=False),
    sa.Column("hashed", sa.BigInteger, nullable=False, server_default="0"),  # bytes, of its pass
    sa.Column("sha256", Sha256),  # with all that follows once the pass is done
    sa.Column("crc32", sa.BigInteger),
    sa.Column("head", sa.LargeBinary),
    sa.Column("failed", sa.Text),  # why the last pass ended early
)
payments = sa.Table(  # money that came or went back; append-only
    "payments",
    metadata,
    sa.Column("payment_no", sa.Integer, primary_key=True),
    sa.Column("order_pk", sa.ForeignKey(orders.c.order_pk), nullable=False),
    sa.Column("provider", sa.String(32), nullable=False),
    sa.Column("reference", sa.String(255), nullable=False),  # the provider's or the bank's
    sa.Column("amount", sa.BigInteger, nullable=False),  # negative: given back
    sa.Column("currency", sa.String(3), nullable=False),
    sa.Column("returns", sa.String(255)),  # the reference of the payment that is given back
    sa.Column("at_ms", sa.BigInteger, nullable=False),
    sa.UniqueConstraint("provider", "reference"),
    sa.Index("payments_of_order", "order_pk"),
)
checkouts = sa.Table(  # pages of a provider on which an order can be paid
    "checkouts",
    metadata,
    sa.Column("provider", sa.String(32), primary_key=True),
    sa.Column("reference", sa.String(255), primary_key=True),
    sa.Column("order_pk", sa.ForeignKey(orders.c.order_pk), nullable=False),
    sa.Column("url", sa.Text, nullable=False),
    sa.Column("opened_ms", sa.BigInteger, nullable=False),
    sa.Column("looked_ms", sa.BigInteger),
    sa.Column("closed_ms", sa.BigInteger),  # can be paid no longer, and what came is entered
    sa.Index("checkouts_of_order", "order_pk"),
)
audit = sa.Table(  # every change of an order; append-only, without personal data
    "audit",
    metadata,
    sa.Column("audit_no", sa.Integer, primary_key=True),
    sa.Column("order_pk", sa.ForeignKey(orders.c.order_pk), nullable=False),
    sa.Column("at_ms", sa.BigInteger, nullable=False),
    sa.Column("actor", sa.String(32), nullable=False),
    sa.Column("event", sa.String(32), nullable=False),
    sa.Column("state", sa.String(32), nullable=False),  # after it
    sa.Column("detail", sa.JSON, nullable=False),
    sa.Index("audit_of_order", "order_pk"),
)
outbox = sa.Table(  # letters; the address goes when they are sent or given up
    "outbox",
    metadata,
    sa.Column("letter_no", sa.Integer, primary_key=True),
    sa.Column("order_pk", sa.ForeignKey(orders.c.order_pk), nullable=False),
    sa.Column("kind", sa.String(32), nullable=False),
    sa.Column("recipient", sa.Text),
    sa.Column("link", sa.Text),  # only in the first letter
    sa.Column("created_ms", sa.BigInteger, nullable=False),
    sa.Column("tries", sa.Integer, nullable=False, server_default="0"),
    sa.Column("next_ms", sa.BigInteger),  # null: sent or given up
    sa.Column("sent_ms", sa.BigInteger),
    sa.Column("error", sa.Text),
    sa.Index("outbox_by_time", "next_ms"),
)
usage = sa.Table(  # what somebody had within a day; older rows are deleted
    "usage",
    metadata,
    sa.Column("usage_no", sa.Integer, primary_key=True),
    sa.Column("who", Sha256, nullable=False),  # a client, its site or a mailbox, by a keyed hash
    sa.Column("at_ms", sa.BigInteger, nullable=False),
    sa.Column("free_ms", sa.BigInteger, nullable=False, server_default="0"),  # of an order
    sa.Column("order_pk", sa.ForeignKey(orders.c.order_pk)),  # that was placed, or told of
    sa.Index("usage_by_who", "who", "at_ms"),
    sa.Index("usage_by_time", "at_ms"),
)
nodes = sa.Table(  # machines that joined; PostgreSQL's clock says until when each is there
    "nodes",
    metadata,
    sa.Column("spool", sa.String(32), primary_key=True),  # the id of its spool
    sa.Column("name", sa.String(64), nullable=False),
    sa.Column("address", sa.Text, nullable=False),
    sa.Column("weight", sa.Integer, nullable=False),
    sa.Column("most", sa.Integer),  # cameras; null: as many as there are
    sa.Column("version", sa.Text, nullable=False),
    sa.Column("until_ms", sa.BigInteger, nullable=False),  # the end of its lease; 0: it left
    sa.Column("leaving", sa.Boolean, nullable=False),
    sa.Column("drained", sa.Boolean, nullable=False, server_default=sa.false()),
    sa.Column("given_up_ms", sa.BigInteger),  # since then nobody waits for it
)
shards = sa.Table(  # who records which part of the cameras, under which epoch
    "shards",
    metadata,
    sa.Column("shard", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("epoch", sa.Integer, nullable=False),
    sa.Column("holder", sa.String(32)),  # a node
    sa.Column("before", sa.String(32)),  # the node that held it before
    sa.Column("handover", sa.String(8)),  # null: the one before has ended
    sa.Column("offered", sa.Boolean, nullable=False, server_default=sa.false()),
    sa.Column("taken_ms", sa.BigInteger),
    sa.Column("lost_ms", sa.BigInteger),  # when the one before was last alive, if it was dead then
)
PARTITIONED = (recordings, archived)
RECORDING_KEY = ["camera_pk", "record_seq", "day", "collision"]
SAME_RECORDING = sa.and_(  # joins `archived` to `recordings`
    *(archived.c[key] == recordings.c[key] for key in RECORDING_KEY)
)


def is_recording(camera_pk: Any, identity: Identity) -> sa.ColumnElement[bool]:
    """Select one recording of a camera, by its bytes, from `recordings`."""
    r = recordings.c
    return sa.and_(
        r.camera_pk == camera_pk,
        r.record_seq == identity.record_seq,
        r.day == identity.start_ms // DAY_MS,
        r.sha256 == identity.sha256,
    )


def is_archived(camera_pk: Any, identity: Identity) -> sa.ColumnElement[bool]:
    """Select what archives have of one recording from `archived`."""
    a, r = archived.c, recordings.c
    return sa.and_(
        a.camera_pk == camera_pk,
        a.record_seq == identity.record_seq,
        a.day == identity.start_ms // DAY_MS,
        a.collision.in_(sa.select(r.collision).where(is_recording(camera_pk, identity))),
    )
