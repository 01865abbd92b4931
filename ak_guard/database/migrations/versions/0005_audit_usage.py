"""What administrators did, what requests did, and which key another one was made for."""

import sqlalchemy as sa
from alembic import op

from ak_guard.database.steps import add_column, blob, create_index, create_table, number

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    add_column("ak_keys", sa.Column("replaces", sa.String(64)))
    add_column("ak_keys", sa.Column("replaced_by", sa.String(64)))
    create_table(
        "ak_audit",
        sa.Column("id", number(), primary_key=True, autoincrement=True),
        sa.Column("at", sa.Double, nullable=False),
        sa.Column("actor", sa.String(200), nullable=False),
        sa.Column("action", sa.String(64), nullable=False),
        sa.Column("key_id", sa.String(64)),
        sa.Column("subject", sa.String(200), nullable=False),
        sa.Column("before", sa.JSON, nullable=False),
        sa.Column("after", sa.JSON, nullable=False),
    )
    create_index("ix_ak_audit_key_id_id", "ak_audit", ["key_id", "id"])
    create_index("ix_ak_audit_at", "ak_audit", ["at"])
    create_table(
        "ak_usage",
        sa.Column("id", number(), primary_key=True, autoincrement=True),
        sa.Column("key_id", sa.String(64), nullable=False),
        sa.Column("first_at", sa.Double, nullable=False),
        sa.Column("last_at", sa.Double, nullable=False),
        sa.Column("codes", sa.Text, nullable=False),
        sa.Column("records", blob(), nullable=False),
    )
    create_index("ix_ak_usage_key_id_id", "ak_usage", ["key_id", "id"])
    create_index("ix_ak_usage_last_at", "ak_usage", ["last_at"])
    create_table(
        "ak_usage_hours",
        sa.Column("key_id", sa.String(64), primary_key=True),
        sa.Column("start", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("address", sa.String(64), primary_key=True),
        sa.Column("route", sa.String(200), primary_key=True),
        sa.Column("code", sa.String(40), primary_key=True),
        sa.Column("calls", sa.BigInteger, nullable=False),
        sa.Column("cost", sa.BigInteger, nullable=False),
        sa.Column("first_at", sa.Double, nullable=False),
        sa.Column("last_at", sa.Double, nullable=False),
    )
    create_index("ix_ak_usage_hours_start", "ak_usage_hours", ["start"])
    create_table(
        "ak_usage_days",
        sa.Column("key_id", sa.String(64), primary_key=True),
        sa.Column("start", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("code", sa.String(40), primary_key=True),
        sa.Column("calls", sa.BigInteger, nullable=False),
        sa.Column("cost", sa.BigInteger, nullable=False),
    )
    create_index("ix_ak_usage_days_start", "ak_usage_days", ["start"])
    create_table(
        "ak_last_used",
        sa.Column("key_id", sa.String(64), primary_key=True),
        sa.Column("at", sa.Double, nullable=False),
        sa.Column("address", sa.String(64)),
    )
    create_index("ix_ak_last_used_at", "ak_last_used", ["at"])
    create_table(
        "ak_usage_batches",
        sa.Column("id", sa.String(64), primary_key=True),
        sa.Column("at", sa.Double, nullable=False),
    )
    create_index("ix_ak_usage_batches_at", "ak_usage_batches", ["at"])


def downgrade() -> None:
    for table in ("ak_usage_batches", "ak_last_used", "ak_usage_days", "ak_usage_hours", "ak_usage", "ak_audit"):
        op.drop_table(table)
    op.drop_column("ak_keys", "replaced_by")
    op.drop_column("ak_keys", "replaces")
