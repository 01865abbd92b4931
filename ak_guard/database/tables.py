"""The tables. What administrators write and what requests write never share one, so no usage write can touch a rule."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    Column,
    Double,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    Text,
)
from sqlalchemy.dialects.mysql import MEDIUMBLOB, VARBINARY

if TYPE_CHECKING:
    from sqlalchemy import Dialect

#: The newest migration; a database at this revision is left alone at start.
HEAD: Final = "0009"

metadata: Final = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s",
        "pk": "pk_%(table_name)s",
    }
)


def _not_sqlite(*_: object, dialect: Dialect, **_rest: Any) -> bool:
    return dialect.name != "sqlite"


# All that a list is narrowed, sorted and counted by: SQLite reads a whole table much slower than an index of these. It
# has no limit to the length of what is indexed; PostgreSQL and MariaDB have, and read tables faster. No other index may
# begin with any of these, or SQLite takes that and looks up half of the table one by one.
_LISTED: Final = (
    "enabled", "expires_at", "group_name", "environment", "owner", "quota", "created_at", "folded", "id",
)  # fmt: skip

# Times are seconds since the epoch.

groups: Final = Table(
    "ak_groups",
    metadata,
    Column("name", String(200), primary_key=True),
    Column("routes", JSON, nullable=False),
    Column("limits", JSON, nullable=False),
    Column("shared_limits", JSON, nullable=False),
    Column("multiplier", Text, nullable=False),
    Column("enabled", Boolean, nullable=False),
)

keys: Final = Table(
    "ak_keys",
    metadata,
    Column("id", String(64), primary_key=True),
    Column("name", String(200), nullable=False),
    # A key may name a group that only the guard's own configuration knows, hence no foreign key.
    Column("group_name", String(200), nullable=False),
    Column("enabled", Boolean, nullable=False),
    Column("created_at", Double, nullable=False),
    Column("updated_at", Double, nullable=False),
    Column("expires_at", Double),
    Column("allow_ips", JSON, nullable=False),
    Column("deny_ips", JSON, nullable=False),
    Column("quota", BigInteger),
    Column("limits", JSON(none_as_null=True)),
    Column("owner", String(200)),
    Column("metadata", JSON, nullable=False),
    Column("hint", String(64), nullable=False),
    # Name, hint and owner without case: databases fold case by rules of their own, some only for ASCII.
    Column("folded", Text, nullable=False),
    # What the name says of it, kept beside it so that lists can be narrowed to one.
    Column("environment", String(16)),
    # No foreign keys: a key may go and its replacement stay.
    Column("replaces", String(64)),
    Column("replaced_by", String(64)),
    Column("max_concurrency", Integer),
    Index(None, "enabled", "expires_at").ddl_if(callable_=_not_sqlite),
    Index(None, "group_name", "enabled", "expires_at").ddl_if(callable_=_not_sqlite),
    Index("ix_ak_keys_listed", *_LISTED).ddl_if(dialect="sqlite"),
    Index(None, "created_at", "id"),
)

secrets: Final = Table(
    "ak_secrets",
    metadata,
    # SHA-256 of the key's text, or HMAC-SHA-256 of that under the pepper named beside it.
    Column("digest", LargeBinary(32).with_variant(VARBINARY(32), "mysql"), primary_key=True),
    Column("pepper_id", String(16)),
    Column("key_id", String(64), ForeignKey("ak_keys.id", ondelete="CASCADE"), nullable=False),
    Column("valid_until", Double),
    Column("created_at", Double, nullable=False),
    Index(None, "key_id"),
)

windows: Final = Table(
    "ak_windows",
    metadata,
    Column("subject", String(255), primary_key=True),
    Column("slot", String(64), primary_key=True),
    Column("generation", BigInteger, nullable=False),
    Column("start", Double, nullable=False),
    # A quota is a window without end.
    Column("end", Double),
    Column("used", BigInteger, nullable=False),
    Column("before", BigInteger, nullable=False),
    # When nobody needs the row any more: at its end, for a sliding window one length later; a quota never.
    Column("keep_until", Double),
    Index(None, "keep_until"),
)

leases: Final = Table(
    "ak_leases",
    metadata,
    Column("id", String(64), primary_key=True),
    Column("subject", String(255), nullable=False),
    Column("worker", String(64), nullable=False),
    Column("deadline", Double, nullable=False),
    # [[slot, units, generation], …]
    Column("units", JSON, nullable=False),
    Index(None, "subject"),
    Index(None, "deadline"),
)

# How many requests of a subject each worker may have running, until the deadline.
slots: Final = Table(
    "ak_slots",
    metadata,
    Column("subject", String(255), primary_key=True),
    Column("worker", String(64), primary_key=True),
    Column("held", Integer, nullable=False),
    Column("want", Integer, nullable=False),
    # That of the call in which the worker said so.
    Column("number", BigInteger, nullable=False),
    Column("deadline", Double, nullable=False),
    Index(None, "deadline"),
)

# One row, raised at the end of each admin transaction: its lock makes the order of commits that of revisions.
revision: Final = Table(
    "ak_revision",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=False),
    Column("revision", BigInteger, nullable=False),
)

changes: Final = Table(
    "ak_changes",
    metadata,
    Column("revision", BigInteger, primary_key=True, autoincrement=False),
    # None: anything may have changed.
    Column("key_id", String(64)),
    Column("at", Double, nullable=False),
)

workers: Final = Table(
    "ak_workers",
    metadata,
    Column("id", String(64), primary_key=True),
    Column("name", String(200), nullable=False),
    Column("started_at", Double, nullable=False),
    Column("beat_at", Double, nullable=False),
    # The newest change it has applied.
    Column("revision", BigInteger, nullable=False),
    # How long it may go on with what it knows while it cannot ask.
    Column("stale_seconds", Double, nullable=False),
    # Which limits storage it counts in.
    Column("counters", Text, nullable=False),
)

# Settlements that were written, so that one sent again after a lost reply is not written twice.
settled: Final = Table(
    "ak_settled",
    metadata,
    Column("id", String(64), primary_key=True),
    Column("at", Double, nullable=False),
    Index(None, "at"),
)

# Who may manage keys, or ask for them. No API key is in here.
admin_tokens: Final = Table(
    "ak_admin_tokens",
    metadata,
    Column("id", String(64), primary_key=True),
    Column("name", String(200), nullable=False),
    Column("role", String(16), nullable=False),
    Column("hint", String(64), nullable=False),
    # As in ak_secrets.
    Column("digest", LargeBinary(32).with_variant(VARBINARY(32), "mysql"), nullable=False),
    Column("pepper_id", String(16)),
    Column("created_at", Double, nullable=False),
    Column("expires_at", Double),
    Index(None, "digest"),
)

# What administrators did. Rows are added and never changed.
audit: Final = Table(
    "ak_audit",
    metadata,
    Column("id", BigInteger().with_variant(Integer, "sqlite"), primary_key=True, autoincrement=True),
    Column("at", Double, nullable=False),
    Column("actor", String(200), nullable=False),
    Column("action", String(64), nullable=False),
    # Stays when the key goes.
    Column("key_id", String(64)),
    Column("subject", String(200), nullable=False),
    Column("before", JSON, nullable=False),
    Column("after", JSON, nullable=False),
    Index(None, "key_id", "id"),
    Index(None, "at"),
)

# What requests did. A key that is gone keeps its usage, so no foreign keys; an empty id is that of unknown keys.

# The records themselves, packed: one row for all of one key that were written together.
usage: Final = Table(
    "ak_usage",
    metadata,
    Column("id", BigInteger().with_variant(Integer, "sqlite"), primary_key=True, autoincrement=True),
    Column("key_id", String(64), nullable=False),
    Column("first_at", Double, nullable=False),
    Column("last_at", Double, nullable=False),
    # "|admitted|insufficient_quota|"
    Column("codes", Text, nullable=False),
    Column("records", LargeBinary().with_variant(MEDIUMBLOB, "mysql", "mariadb"), nullable=False),
    Index(None, "key_id", "id"),
    Index(None, "last_at"),
)

usage_hours: Final = Table(
    "ak_usage_hours",
    metadata,
    Column("key_id", String(64), primary_key=True),
    Column("start", BigInteger, primary_key=True, autoincrement=False),
    Column("address", String(64), primary_key=True),
    Column("route", String(200), primary_key=True),
    Column("code", String(40), primary_key=True),
    Column("calls", BigInteger, nullable=False),
    Column("cost", BigInteger, nullable=False),
    Column("first_at", Double, nullable=False),
    Column("last_at", Double, nullable=False),
    Index(None, "start"),
)

usage_days: Final = Table(
    "ak_usage_days",
    metadata,
    Column("key_id", String(64), primary_key=True),
    Column("start", BigInteger, primary_key=True, autoincrement=False),
    Column("code", String(40), primary_key=True),
    Column("calls", BigInteger, nullable=False),
    Column("cost", BigInteger, nullable=False),
    Index(None, "start"),
)

last_used: Final = Table(
    "ak_last_used",
    metadata,
    Column("key_id", String(64), primary_key=True),
    Column("at", Double, nullable=False),
    Column("address", String(64)),
    Index(None, "at"),
    Index(None, "address"),
)

# Batches of records that were written, so that one sent again after a lost reply counts once.
usage_batches: Final = Table(
    "ak_usage_batches",
    metadata,
    Column("id", String(64), primary_key=True),
    Column("at", Double, nullable=False),
    Index(None, "at"),
)

# Requests that created a key, by a digest of who asked and what it was called.
requests: Final = Table(
    "ak_requests",
    metadata,
    Column("id", String(64), primary_key=True),
    Column("content", String(64), nullable=False),
    Column("key_id", String(64), nullable=False),
    Column("at", Double, nullable=False),
    Index(None, "at"),
)
